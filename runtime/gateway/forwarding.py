"""A call that other nodes serve: to a member's gateway and back. The laws kept here:

- One hop (F93): it says on arrival that it was forwarded, by where it arrives.
- A write that was sent is never sent again (F86), unless its idempotency key makes its effect one: when its connection ends, it may have
  happened. A read is, once.
- It takes no longer than it may (R37): the member is told how much of its time is left.

What the member answers is told on as it is, a failure with its type and cause; both logs have one request id.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

import orjson
from attrs import define, field, frozen

from runtime.gateway.calls import MEMBERS, Call
from runtime.gateway.frames import Hop
from runtime.gateway.hops import Hops, Unreached
from runtime.gateway.problems import PREFIX, Refusal
from runtime.gateway.upstream_connection import Attempt, Broken, Response, TooLarge
from runtime.gateway.worker_config import WorkerConfig

_NOT_ENTERED: Final = ("not-a-member", "stopping")
"""Failures of a member's gateway that say: the query has passed no door."""
_WIDER: Final = 4
"""An answer names each column in each row; what rqlited gave, and is bounded, names them once."""
_GRACE_S: Final = 1.0
"""Beyond the query's time, for the member to say that it ended it."""


@frozen
class NotEntered(Exception):
    """The call has passed no door anywhere, or may be sent again all the same: it may be sent elsewhere. ``refusal``: what to say when there
    is nowhere else. ``doubt``: it may have been taken in."""

    refusal: Refusal
    doubt: bool = False


@define
class Forwarding:
    """The calls that one worker has sent to other gateways. ``in_flight``: how many now."""

    config: WorkerConfig
    hops: Hops
    in_flight: int = field(default=0, init=False)

    async def send(self, hops: tuple[Hop, ...], call: Call) -> bytes:
        """The JSON body of the answer, by the call's deadline. A member that lets nothing in, since it stops or has lost its
        replica, is not the last word: the next one is tried. Raises :class:`Refusal` and :class:`NotEntered`."""
        left = list(hops)
        while True:
            hop, response = await self._post(left, call)
            if response.status == 200:
                return response.body
            refusal = refusal_of(response, hop, writes=call.writes)
            entered = refusal.type not in _NOT_ENTERED
            if refusal.status >= 500 or not entered:
                self.hops.avoid(hop)
            if entered:
                raise refusal
            left.remove(hop)
            if not left:
                raise NotEntered(refusal)

    async def _post(self, hops: list[Hop], call: Call) -> tuple[Hop, Response]:
        """To the first of ``hops`` that can be reached, and what it says."""
        clock = asyncio.get_running_loop().time
        attempt = Attempt()

        def headers() -> str:
            return call.hop_headers(call.deadline - clock())

        target = MEMBERS + call.endpoint
        self.in_flight += 1
        try:
            async with asyncio.timeout_at(call.deadline + _GRACE_S):
                return await self.hops.post(
                    hops, target, headers, call.body, _WIDER * self.config.result_bytes, attempt, call.content_type
                )
        except Unreached as error:
            raise NotEntered(Refusal("unavailable", f"no member can be reached: {error.causes}")) from None
        except Broken as error:
            if not call.repeatable:
                raise Refusal("may-have-committed", f"{error}; look before you repeat it", True) from None
            raise NotEntered(Refusal("unavailable", str(error)), doubt=call.writes) from None
        except TooLarge:
            raise Refusal("result-too-large", "the answer is too large: use LIMIT", call.writes) from None
        except TimeoutError:
            raise Refusal("query-timeout", call.too_late, call.writes and attempt.sent) from None
        finally:
            self.in_flight -= 1


def refusal_of(response: Response, hop: Hop, *, writes: bool) -> Refusal:
    """The member's problem document, as it is."""
    try:
        document: Any = orjson.loads(response.body)
        kind, detail = str(document["type"]), str(document["detail"])
        return Refusal(kind.removeprefix(PREFIX), detail, document.get("may_have_committed") is True)
    except (ValueError, LookupError, TypeError, AttributeError):
        detail = f"the gateway of {hop.peer} answered with status {response.status} and no reason"
        return Refusal("may-have-committed" if writes else "unavailable", detail, writes)
