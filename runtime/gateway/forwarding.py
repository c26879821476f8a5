"""A query that other nodes serve: to a member's gateway and back. The laws kept here:

- One hop (F93): it says on arrival that it was forwarded, by where it arrives.
- A write that was sent is never sent again (F86): when its connection ends, it may have happened. A read is, once.
- It takes no longer than it may (R37): the member is told how much of its time is left.

What the member answers is told on as it is, a failure with its type and cause; both logs have one request id.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

import orjson
from attrs import define, field, frozen

from runtime.gateway.frames import Hop, WorkerConfig
from runtime.gateway.hops import Hops, Unreached
from runtime.gateway.problems import PREFIX, Refusal
from runtime.gateway.statements import Arguments
from runtime.gateway.upstream import Attempt, Broken, Response, TooLarge
from runtime.gateway.vetting import Read, Write

READ: Final = "/v1/member/query"
WRITE: Final = "/v1/member/exec"
APPLICATION: Final = b"x-torpor-application"
MILLISECONDS: Final = b"x-torpor-milliseconds-left"
REQUEST_ID: Final = b"x-request-id"

_NOT_ENTERED: Final = ("not-a-member", "stopping")
"""Failures of a member's gateway that say: the query has passed no door."""
_WIDER: Final = 4
"""An answer names each column in each row; what rqlited gave, and is bounded, names them once."""
_GRACE_S: Final = 1.0
"""Beyond the query's time, for the member to say that it ended it."""


@frozen
class Call:
    """Whose query it is. ``forwarded``: another gateway sent it. ``timeout_s``: what it may take."""

    app: str
    request_id: str
    forwarded: bool
    timeout_s: float


@frozen
class NotEntered(Exception):
    """The query has passed no door anywhere, or it only reads: it may be sent elsewhere. ``refusal``: what to say when there is nowhere else."""

    refusal: Refusal


@define
class Forwarding:
    """The queries that one worker has sent to other gateways. ``in_flight``: how many now."""

    config: WorkerConfig
    hops: Hops
    in_flight: int = field(default=0, init=False)

    async def send(
        self, hops: tuple[Hop, ...], call: Call, name: str, statement: Read | Write, args: Arguments, deadline: float
    ) -> bytes:
        """The JSON body of the answer, by ``deadline`` (loop time). A member that lets nothing in, since it stops or has lost its
        replica, is not the last word: the next one is tried. Raises :class:`Refusal` and :class:`NotEntered`."""
        left = list(hops)
        while True:
            hop, response = await self._post(left, call, name, statement, args, deadline)
            if response.status == 200:
                return response.body
            refusal = _refusal(response, hop, isinstance(statement, Write))
            entered = refusal.type not in _NOT_ENTERED
            if refusal.status >= 500 or not entered:
                self.hops.avoid(hop)
            if entered:
                raise refusal
            left.remove(hop)
            if not left:
                raise NotEntered(refusal)

    async def _post(
        self, hops: list[Hop], call: Call, name: str, statement: Read | Write, args: Arguments, deadline: float
    ) -> tuple[Hop, Response]:
        """To the first of ``hops`` that can be reached, and what it says."""
        writes = isinstance(statement, Write)
        clock = asyncio.get_running_loop().time
        attempt = Attempt()

        def headers() -> str:
            return (
                f"{APPLICATION.decode()}: {call.app}\r\n{REQUEST_ID.decode()}: {call.request_id}\r\n"
                f"{MILLISECONDS.decode()}: {max(1, int((deadline - clock()) * 1000))}\r\n"
            )

        target = WRITE if writes else READ
        body = orjson.dumps({"database": name, "sql": statement.sql, "args": args})
        self.in_flight += 1
        try:
            async with asyncio.timeout_at(deadline + _GRACE_S):
                return await self.hops.post(hops, target, headers, body, _WIDER * self.config.result_bytes, attempt)
        except Unreached as error:
            raise NotEntered(Refusal("unavailable", f"no member can be reached: {error.causes}")) from None
        except Broken as error:
            if writes:
                raise Refusal("may-have-committed", f"{error}; look before you repeat it", True) from None
            raise NotEntered(Refusal("unavailable", str(error))) from None
        except TooLarge:
            raise Refusal("result-too-large", "the answer is too large: use LIMIT", writes) from None
        except TimeoutError:
            detail = f"the query did not end within {call.timeout_s:g} s"
            raise Refusal("query-timeout", detail, may_have_committed=writes and attempt.sent) from None
        finally:
            self.in_flight -= 1


def _refusal(response: Response, hop: Hop, writes: bool) -> Refusal:
    """The member's problem document, as it is."""
    try:
        document: Any = orjson.loads(response.body)
        kind, detail = str(document["type"]), str(document["detail"])
        return Refusal(kind.removeprefix(PREFIX), detail, document.get("may_have_committed") is True)
    except (ValueError, LookupError, TypeError, AttributeError):
        detail = f"the gateway of {hop.peer} answered with status {response.status} and no reason"
        return Refusal("may-have-committed" if writes else "unavailable", detail, writes)
