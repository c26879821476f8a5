"""One call from its vetted statements to its answer: through the door, to rqlited, again where that is safe; or to the gateway of
another node that serves its database.

The laws kept here: what has passed a door stays counted until rqlited is done with it, also when its client or its deadline is
gone (P30, F89); a write is sent again only when it is certain that nobody has taken it in, or when its idempotency key makes its effect
one (F86), a read whenever rqlited could not answer it, so that a change of the Raft leader is nothing that clients see (F50); every call ends by its
timeout (R37); who was sent to a node that does not serve the database asks this node once more (F14).
"""

from __future__ import annotations

import asyncio
import functools
from typing import Final, TypeVar

from attrs import define, evolve, frozen

from runtime.gateway.calls import Call
from runtime.gateway.doors import Doors, Passage
from runtime.gateway.forwarding import Forwarding, NotEntered
from runtime.gateway.frames import Hop
from runtime.gateway.group_commit import GroupCommit
from runtime.gateway.hops import Routes
from runtime.gateway.problems import Refusal
from runtime.gateway.sealed import Copies
from runtime.gateway.statements import Question, ReadOne, WriteOne
from runtime.gateway.upstream import Upstream
from runtime.gateway.upstream_connection import Attempt, Broken, NotSent, TooLarge
from runtime.gateway.waiting import Waiting
from runtime.gateway.worker_config import WorkerConfig

T = TypeVar("T")

_LAST_WORD_S: Final = 0.5
"""Before its deadline a query is not tried again: its client shall hear what rqlited said, not that time is up."""
_GRACE_S: Final = 1.0
"""Beyond a read's own timeout, for rqlited to say that it ended it."""


@frozen
class Elsewhere:
    """Another node serves the database, and has answered the whole call: the JSON body of its answer."""

    body: bytes


def _joins(question: Question[object]) -> bool:
    return isinstance(question, WriteOne) and question.joins


@define
class _Tries:
    """The tries of one question. ``refused``: how many led nowhere. ``until``: loop time until when rqlited may be asked again after it said
    that it cannot answer now; as long as a query waits for a door. An election takes a tenth of a second, a lost quorum is for ever.
    ``doubt``: one of them may have been taken in. ``broke``: a read's connection has ended before its answer."""

    refused: int = 0
    until: float = 0.0
    doubt: bool = False
    broke: bool = False

    def again(self, refusal: Refusal, patience_s: float) -> None:
        """Raises ``refusal`` when that has been so for too long, or is not about now."""
        now = asyncio.get_running_loop().time()
        self.until = self.until or now + patience_s
        if refusal.type not in ("unavailable", "may-have-committed") or now >= self.until:
            raise refusal
        self.refused += 1


class Queries:
    """All calls of one worker that are about a database."""

    def __init__(
        self,
        config: WorkerConfig,
        doors: Doors,
        waiting: Waiting,
        upstream: Upstream,
        routes: Routes,
        forwarding: Forwarding,
        copies: Copies,
    ) -> None:
        self._config = config
        self._doors = doors
        self._waiting = waiting
        self._upstream = upstream
        self._commits = GroupCommit(upstream, config.result_bytes)
        self._routes = routes
        self._forwarding = forwarding
        self._copies = copies

    async def read(self, call: Call, name: str, question: Question[T]) -> T | Elsewhere:
        """What the question's answer says, of a question that changes nothing. Raises :class:`Refusal`."""
        body = question.body
        tries = _Tries()
        clock = asyncio.get_running_loop().time
        while True:
            passage = await self._enter(call, name, tries)
            if isinstance(passage, Elsewhere):
                return passage
            try:
                target = question.target(call.deadline - clock())
                response = await self._upstream.post(
                    passage.url, target, body, self._config.result_bytes, Attempt(), until=call.deadline + _GRACE_S
                )
                return question.answer(response)
            except NotSent:
                tries.refused += 1
            except Broken as error:
                # It changes nothing, so it is tried again, at the same or another rqlited; but only once: one that kills its rqlited
                # must not go on to the next (F85).
                if tries.broke:
                    detail = (
                        f"{error}, twice in a row: a query that is too much for it, or rqlited ends again and again"
                    )
                    raise Refusal("unavailable", detail) from None
                tries.broke = True
                tries.refused += 1
            except Refusal as refusal:
                tries.again(refusal, self._patience(call))
            except TooLarge:
                raise self._too_large() from None
            except TimeoutError:
                raise Refusal("query-timeout", call.too_late) from None
            finally:
                self._doors.leave(passage)

    async def read_sealed(self, call: Call, name: str, question: ReadOne, max_stale_s: float) -> bytes | None:
        """The JSON body of an answer out of a sleeping database's copy, which is not woken; None: it has to be read as any other. Raises
        :class:`Refusal`."""
        found = await self._copies.read(call, name, question.statement, question.rows, max_stale_s)
        return None if found is None else question.aged(*found)

    async def write(self, call: Call, name: str, question: Question[T]) -> T | Elsewhere:
        """The same of a question that writes. Raises :class:`Refusal`."""
        tries = _Tries()
        try:
            return await self._write(call, name, question, tries)
        except Refusal as refusal:
            if tries.doubt and not refusal.may_have_committed:
                raise evolve(refusal, may_have_committed=True) from None
            raise

    async def _write(self, call: Call, name: str, question: Question[T], tries: _Tries) -> T | Elsewhere:
        body = question.body
        joins = _joins(question)
        clock = asyncio.get_running_loop().time
        while True:
            passage = await self._enter(call, name, tries)
            if isinstance(passage, Elsewhere):
                return passage
            attempt = Attempt()
            # When the deadline ends this request, the write goes on in rqlited and must stay counted.
            done = functools.partial(self._doors.leave, passage)
            try:
                if joins and not tries.refused:
                    response = await self._commits.post(passage.url, body, attempt, call.deadline, done)
                else:
                    response = await self._upstream.post(
                        passage.url,
                        question.target(call.deadline - clock()),
                        body,
                        self._config.result_bytes,
                        attempt,
                        content_type=call.content_type,
                        until=call.deadline,
                        done=done,
                    )
                return question.answer(response)
            except TimeoutError:
                raise Refusal("query-timeout", call.too_late, may_have_committed=attempt.sent) from None
            except NotSent:
                tries.refused += 1
            except Refusal as refusal:
                if refusal.type == "may-have-committed":
                    if not call.repeatable:
                        raise
                    tries.doubt = True
                tries.again(refusal, self._patience(call))
            except Broken as error:
                if not call.repeatable:
                    raise Refusal("may-have-committed", f"{error}; look before you repeat it", True) from None
                tries.doubt = True
                tries.refused += 1
            except TooLarge:
                raise Refusal("result-too-large", "the rows returned are too large", True) from None
            finally:
                if not attempt.sent:
                    self._doors.leave(passage)

    async def _enter(self, call: Call, name: str, tries: _Tries) -> Passage | Elsewhere:
        """A passage; or the whole answer, where another node serves the database."""
        if not tries.refused and self._room() and (passage := self._doors.enter(call.app, name)) is not None:
            return passage  # the door is open
        asked_again = False
        while True:
            way = await self.way(call, name, tries.refused)
            if isinstance(way, Passage):
                return way
            try:
                return Elsewhere(await self._forwarding.send(way, call))
            except NotEntered as error:
                self._routes.drop(call.app, name)
                tries.doubt = tries.doubt or error.doubt
                if asked_again:
                    raise error.refusal from None
                asked_again = True
                tries.refused += 1
            except Refusal as refusal:
                if refusal.status >= 500:  # not the statement's fault: look for a better member next time
                    self._routes.drop(call.app, name)
                raise

    async def way(self, call: Call, name: str, refused: int) -> Passage | tuple[Hop, ...]:
        """A passage, or where others serve the database. ``refused``: how many ways led nowhere."""
        if not self._room():
            raise Refusal("busy", f"{self._in_flight} queries are in flight")
        return await self._waiting.way(call.app, name, call.deadline, forwarded=call.caller.forwarded, refused=refused)

    @property
    def _in_flight(self) -> int:
        return self._doors.in_flight + self._forwarding.in_flight

    def _room(self) -> bool:
        return self._in_flight < self._config.in_flight

    def _patience(self, call: Call) -> float:
        """Seconds for which rqlited may say that it cannot answer, some of the query's own left for the last word."""
        left = call.deadline - asyncio.get_running_loop().time()
        return min(self._config.wait_timeout_s, left - _LAST_WORD_S)

    def _too_large(self) -> Refusal:
        return Refusal("result-too-large", f"more than {self._config.result_bytes} bytes: use LIMIT")
