"""One query from its vetted statement to its answer: through the door, to rqlited, again where that is safe; or to the gateway of
another node that serves its database.

The laws kept here: what has passed a door stays counted until rqlited is done with it, also when its client or its deadline is
gone (P30, F89); a write is sent again only when it is certain that nobody has taken it in (F86), a read whenever rqlited could not answer it, so that
a change of the Raft leader is nothing that clients see (F50); every query ends by its timeout (R37); who was sent to a node that does not serve the
database asks this node once more (F14).
"""

from __future__ import annotations

import asyncio
from typing import Final

from attrs import define

from runtime.gateway import statements
from runtime.gateway.doors import Doors, Passage
from runtime.gateway.forwarding import Call, Forwarding, NotEntered
from runtime.gateway.frames import WorkerConfig
from runtime.gateway.hops import Routes
from runtime.gateway.problems import Refusal
from runtime.gateway.upstream import Attempt, Broken, NotSent, Response, TooLarge, Upstream
from runtime.gateway.vetting import Read, Write
from runtime.gateway.waiting import Waiting

_LAST_WORD_S: Final = 0.5
"""Before its deadline a query is not tried again: its client shall hear what rqlited said, not that time is up."""
_GRACE_S: Final = 1.0
"""Beyond a read's own timeout, for rqlited to say that it ended it."""


@define
class _Tries:
    """The tries of one query. ``refused``: how many led nowhere. ``until``: loop time until when rqlited may be asked again after it said
    that it cannot answer now; as long as a query waits for a door. An election takes a tenth of a second, a lost quorum is for ever."""

    refused: int = 0
    until: float = 0.0

    def again(self, refusal: Refusal, patience_s: float) -> None:
        """Rqlited has taken nothing in. Raises ``refusal`` when that has been so for too long."""
        now = asyncio.get_running_loop().time()
        self.until = self.until or now + patience_s
        if refusal.type != "unavailable" or now >= self.until:
            raise refusal
        self.refused += 1


class Queries:
    """All queries of one worker."""

    def __init__(
        self,
        config: WorkerConfig,
        doors: Doors,
        waiting: Waiting,
        upstream: Upstream,
        routes: Routes,
        forwarding: Forwarding,
    ) -> None:
        self._config = config
        self._doors = doors
        self._waiting = waiting
        self._upstream = upstream
        self._routes = routes
        self._forwarding = forwarding
        self._unfinished: set[asyncio.Task[Response]] = set()

    async def read(self, call: Call, name: str, statement: Read, args: statements.Arguments) -> bytes:
        """The JSON body of a query's answer (R31). Raises :class:`Refusal`."""
        body = statements.body_of(statement.sql, args)
        deadline = _deadline(call)
        tries = _Tries()
        while True:
            passage = await self._enter(call, name, statement, args, deadline, tries)
            if isinstance(passage, bytes):
                return passage
            left = deadline - asyncio.get_running_loop().time()
            try:
                async with asyncio.timeout_at(deadline + _GRACE_S):
                    target = statements.query_target(left)
                    response = await self._upstream.post(
                        passage.url, target, body, self._config.result_bytes, Attempt()
                    )
                return statements.items_of(response, self._config)
            except (NotSent, Broken):
                tries.refused += (
                    1  # a read changes nothing: try again at the same or another rqlited, within the deadline
                )
            except Refusal as refusal:
                tries.again(refusal, self._patience(deadline))
            except TooLarge:
                raise self._too_large() from None
            except TimeoutError:
                raise Refusal("query-timeout", _timeout_detail(call)) from None
            finally:
                self._doors.leave(passage)

    async def write(self, call: Call, name: str, statement: Write, args: statements.Arguments) -> bytes:
        """The JSON body of an exec's answer (R30). Raises :class:`Refusal`."""
        body = statements.body_of(statement.sql, args)
        deadline = _deadline(call)
        tries = _Tries()
        while True:
            passage = await self._enter(call, name, statement, args, deadline, tries)
            if isinstance(passage, bytes):
                return passage
            attempt = Attempt()
            # A task of its own: when the deadline ends this request, the write goes on in rqlited and must stay counted.
            task = asyncio.get_running_loop().create_task(self._post_write(passage, body, attempt))
            self._unfinished.add(task)
            task.add_done_callback(self._finished)
            left = deadline - asyncio.get_running_loop().time()
            await asyncio.wait((task,), timeout=left)
            if not task.done():
                if not attempt.sent:
                    task.cancel()
                raise Refusal("query-timeout", _timeout_detail(call), may_have_committed=attempt.sent)
            try:
                return statements.counts_of(task.result(), statement)
            except NotSent:
                tries.refused += 1
            except Refusal as refusal:
                tries.again(refusal, self._patience(deadline))
            except Broken as error:
                raise Refusal("may-have-committed", f"{error}; look before you repeat it", True) from None
            except TooLarge:
                raise Refusal("result-too-large", "the rows returned are too large", True) from None

    async def _post_write(self, passage: Passage, body: bytes, attempt: Attempt) -> Response:
        try:
            return await self._upstream.post(passage.url, statements.EXECUTE, body, self._config.result_bytes, attempt)
        finally:
            self._doors.leave(passage)

    def _finished(self, task: asyncio.Task[Response]) -> None:
        self._unfinished.discard(task)
        if not task.cancelled():
            task.exception()  # told to the client, or to nobody: the client has had its 504

    async def _enter(
        self,
        call: Call,
        name: str,
        statement: Read | Write,
        args: statements.Arguments,
        deadline: float,
        tries: _Tries,
    ) -> Passage | bytes:
        """A passage; or the whole answer, where another node serves the database."""
        asked_again = False
        while True:
            in_flight = self._doors.in_flight + self._forwarding.in_flight
            if in_flight >= self._config.in_flight:
                raise Refusal("busy", f"{in_flight} queries are in flight")
            way = await self._waiting.way(call.app, name, deadline, forwarded=call.forwarded, refused=tries.refused)
            if isinstance(way, Passage):
                return way
            try:
                return await self._forwarding.send(way, call, name, statement, args, deadline)
            except NotEntered as error:
                self._routes.drop(call.app, name)
                if asked_again:
                    raise error.refusal from None
                asked_again = True
                tries.refused += 1
            except Refusal as refusal:
                if refusal.status >= 500:  # not the statement's fault: look for a better member next time
                    self._routes.drop(call.app, name)
                raise

    def _patience(self, deadline: float) -> float:
        """Seconds for which rqlited may say that it cannot answer, some of the query's own left for the last word."""
        left = deadline - asyncio.get_running_loop().time()
        return min(self._config.wait_timeout_s, left - _LAST_WORD_S)

    def _too_large(self) -> Refusal:
        return Refusal("result-too-large", f"more than {self._config.result_bytes} bytes: use LIMIT")


def _deadline(call: Call) -> float:
    return asyncio.get_running_loop().time() + call.timeout_s


def _timeout_detail(call: Call) -> str:
    return f"the query did not end within {call.timeout_s:g} s"
