"""One query from its vetted statement to its answer: through the door, to rqlited, again where that is safe.

The laws kept here: what has passed a door stays counted until rqlited is done with it, also when its client or its deadline is
gone (P30, F89); a write is sent at most once (F86); every query ends by its timeout (R37).
"""

from __future__ import annotations

import asyncio
from typing import Final

from runtime.gateway import statements
from runtime.gateway.doors import Doors, Passage
from runtime.gateway.frames import WorkerConfig
from runtime.gateway.problems import Refusal
from runtime.gateway.upstream import Attempt, Broken, NotSent, Response, TooLarge, Upstream
from runtime.gateway.vetting import Read, Write
from runtime.gateway.waiting import Waiting

_GRACE_S: Final = 1.0
"""Beyond a read's own timeout, for rqlited to say that it ended it."""


class Queries:
    """All queries of one worker."""

    def __init__(self, config: WorkerConfig, doors: Doors, waiting: Waiting, upstream: Upstream) -> None:
        self._config = config
        self._doors = doors
        self._waiting = waiting
        self._upstream = upstream
        self._unfinished: set[asyncio.Task[Response]] = set()

    async def read(self, app: str, name: str, statement: Read, args: statements.Arguments) -> bytes:
        """The JSON body of a query's answer (R31). Raises :class:`Refusal`."""
        body = statements.body_of(statement.sql, args)
        deadline = self._deadline()
        refused = False
        while True:
            passage = await self._enter(app, name, deadline, refused)
            left = deadline - asyncio.get_running_loop().time()
            try:
                async with asyncio.timeout_at(deadline + _GRACE_S):
                    target = statements.query_target(left)
                    response = await self._upstream.post(
                        passage.url, target, body, self._config.result_bytes, Attempt()
                    )
                return statements.items_of(response, self._config)
            except (NotSent, Broken):
                refused = True  # a read changes nothing: try again at the same or another rqlited, within the deadline
            except TooLarge:
                raise self._too_large() from None
            except TimeoutError:
                raise Refusal("query-timeout", self._timeout_detail()) from None
            finally:
                self._doors.leave(passage)

    async def write(self, app: str, name: str, statement: Write, args: statements.Arguments) -> bytes:
        """The JSON body of an exec's answer (R30). Raises :class:`Refusal`."""
        body = statements.body_of(statement.sql, args)
        deadline = self._deadline()
        refused = False
        while True:
            passage = await self._enter(app, name, deadline, refused)
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
                raise Refusal("query-timeout", self._timeout_detail(), may_have_committed=attempt.sent)
            try:
                return statements.counts_of(task.result(), statement)
            except NotSent:
                refused = True
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

    async def _enter(self, app: str, name: str, deadline: float, refused: bool) -> Passage:
        if self._doors.in_flight >= self._config.in_flight:
            raise Refusal("busy", f"{self._doors.in_flight} queries are in flight")
        return await self._waiting.passage(app, name, deadline, refused=refused)

    def _deadline(self) -> float:
        return asyncio.get_running_loop().time() + self._config.query_timeout_s

    def _timeout_detail(self) -> str:
        return f"the query did not end within {self._config.query_timeout_s:g} s"

    def _too_large(self) -> Refusal:
        return Refusal("result-too-large", f"more than {self._config.result_bytes} bytes: use LIMIT")
