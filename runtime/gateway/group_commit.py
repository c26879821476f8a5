"""Writes that come while others of the same database are under way go to rqlited together: one request, one entry of its Raft log,
one commit on each member's disk, and an answer for each of them (group commit). Who comes alone waits for nobody.

The laws kept here:

- Each statement is a transaction of its own, as it would be in a request of its own: it fails alone, and none is acknowledged that rqlited
  has not answered for (F86).
- What is known of a request that failed is known of each of its statements: never sent, or nothing is known. None is sent twice here.
- What has passed a door stays counted until rqlited is done with the request that it went in (P30), and a call ends by its own deadline (R37).
- Requests that hang, at a leader that is frozen say, hold up who comes later for twice ``STALLED_S`` at most (F50).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Final

import orjson
from attrs import Factory, define

from runtime.gateway.statements import EXECUTE
from runtime.gateway.upstream import Upstream
from runtime.gateway.upstream_connection import Attempt, Broken, NotSent, Response

STALLED_S: Final = 0.25
"""When nothing was sent for so long, and nothing answered, another request goes."""
TOGETHER: Final = 64
"""Statements in one request: they are one entry of the log, and commit one after the other."""
BYTES: Final = 1 << 18
"""Of one request; a longer statement goes alone."""


@define(eq=False)
class _Write:
    """One statement that waits, as JSON; then on its way."""

    statement: bytes
    attempt: Attempt
    done: Callable[[], None]
    answer: asyncio.Future[Response]


@define(eq=False)
class _Together(Attempt):
    """Several at once."""

    writes: list[_Write] = Factory(list[_Write])

    def begin(self) -> None:
        self.sent = True
        for write in self.writes:
            write.attempt.begin()

    def done(self) -> None:
        for write in self.writes:
            write.done()


@define
class _Lane:
    """One rqlited. ``begun``: loop time at which the newest request was sent."""

    under_way: int = 0
    begun: float = 0.0
    waiting: deque[_Write] = Factory(deque[_Write])

    def take(self) -> list[_Write]:
        """Those that go next, in their order."""
        taken: list[_Write] = []
        room = BYTES
        while self.waiting and len(taken) < TOGETHER and (room := room - len(self.waiting[0].statement)) >= 0:
            taken.append(self.waiting.popleft())
        return taken or [self.waiting.popleft()]


class GroupCommit:
    """The writes of one worker, on their way to every rqlited. ``max_bytes``: of one answer."""

    def __init__(self, upstream: Upstream, max_bytes: int) -> None:
        self._upstream = upstream
        self._max_bytes = max_bytes
        self._loop = asyncio.get_running_loop()
        self._lanes: dict[str, _Lane] = {}
        self._requests: set[asyncio.Task[None]] = set()
        self._looking: asyncio.TimerHandle | None = None

    async def post(self, url: str, body: bytes, attempt: Attempt, until: float, done: Callable[[], None]) -> Response:
        """Carry out the one statement of ``body`` (a JSON array) at the rqlited of ``url``; its answer as if it had been sent alone. ``done`` is
        called, once it was sent, when rqlited is done with it.

        Raises what :meth:`Upstream.post` does: TimeoutError at the loop time ``until``, or a moment later."""
        lane = self._lanes.get(url)
        if lane is None:
            lane = self._lanes[url] = _Lane()
        if not lane.under_way and not lane.waiting:
            self._begin(lane)
            try:
                return await self._upstream.post(url, EXECUTE, body, self._max_bytes, attempt, until=until, done=done)
            finally:
                self._over(url, lane)
        write = _Write(body[1:-1], attempt, done, self._loop.create_future())
        lane.waiting.append(write)
        if self._looking is None:
            self._looking = self._loop.call_later(STALLED_S, self._look)
        try:
            async with asyncio.timeout_at(until):
                return await write.answer
        finally:
            if not attempt.sent and write in lane.waiting:
                lane.waiting.remove(write)

    def _begin(self, lane: _Lane) -> None:
        lane.under_way += 1
        lane.begun = self._loop.time()

    def _over(self, url: str, lane: _Lane) -> None:
        lane.under_way -= 1
        if lane.waiting:
            self._next(url, lane)
        elif not lane.under_way:
            self._lanes.pop(url, None)

    def _next(self, url: str, lane: _Lane) -> None:
        self._begin(lane)
        request = self._loop.create_task(self._send(url, lane, _Together(writes=lane.take())))
        self._requests.add(request)
        request.add_done_callback(self._requests.discard)

    async def _send(self, url: str, lane: _Lane, together: _Together) -> None:
        writes = together.writes
        body = b"[" + b",".join([write.statement for write in writes]) + b"]"
        answers: list[Response] | Exception
        try:
            response = await self._upstream.post(url, EXECUTE, body, self._max_bytes, together, done=together.done)
            answers = _parted(response, len(writes))
        except Exception as error:  # noqa: BLE001 (whatever it is: somebody waits)
            answers = error
        finally:
            self._over(url, lane)
        for number, write in enumerate(writes):
            if write.answer.done():
                continue  # its time was over, or its client has gone
            if isinstance(answers, Exception):
                write.answer.set_exception(answers)
            else:
                write.answer.set_result(answers[number])

    def _look(self) -> None:
        """Let who waits go where everything before them hangs."""
        self._looking = None
        now = self._loop.time()
        for url, lane in tuple(self._lanes.items()):
            if lane.waiting and now - lane.begun >= STALLED_S:
                self._next(url, lane)
        if any(lane.waiting for lane in self._lanes.values()):
            self._looking = self._loop.call_later(STALLED_S, self._look)


def _parted(response: Response, count: int) -> list[Response]:
    """The answer to each of ``count`` statements. Raises :class:`NotSent` where rqlited did not take the request for one, :class:`Broken`
    where it does not say what became of each."""
    if count == 1:
        return [response]
    if response.status == 400:
        raise NotSent("rqlited does not understand one of several statements")
    if response.status != 200:
        return [response] * count
    try:
        answer = orjson.loads(response.body)
        if answer.get("error"):
            return [response] * count
        results = list[Any](answer["results"])
    except (ValueError, LookupError, AttributeError, TypeError):
        results = []
    if len(results) != count:
        raise Broken(f"rqlited answered for {len(results)} of {count} writes")
    return [Response(200, b'{"results":[' + orjson.dumps(result) + b"]}") for result in results]
