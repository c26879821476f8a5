"""Queries that wait in front of a door, or until it is known whose door it is. The law kept here is F51: however many wait for one
database, the node is asked once at a time; they are bounded in number and in time, and each ends in a passage, in the gateways of
those who serve the database, or in a cause. What came from another gateway never ends in gateways (F93).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from attrs import define, field

from runtime.gateway.doors import Doors, Passage
from runtime.gateway.frames import Answer, Ask, Hop, ListNames, Names, Request, Routed, request_of
from runtime.gateway.hops import Routes
from runtime.gateway.problems import Refusal
from runtime.gateway.worker_config import WorkerConfig

_FIRST_PAUSE_S: Final = 0.02
_LONGEST_PAUSE_S: Final = 0.25
"""Between two questions for one query: the node may say *open* of an rqlited that has just died, until it sees the exit."""


_Key = tuple[str, str, bool]
"""Application, name, and whether the query came from another gateway."""


@define(eq=False)
class _Queue:
    """All queries of one worker that wait for one database, and the question that was asked for them."""

    asked: Request | None = None
    waiters: set[asyncio.Future[None]] = field(factory=set[asyncio.Future[None]])


class Waiting:
    """One worker's waiting queries. ``send`` takes frames for the node."""

    def __init__(
        self, config: WorkerConfig, doors: Doors, routes: Routes, send: Callable[[Ask | ListNames], None]
    ) -> None:
        self._config = config
        self._doors = doors
        self._routes = routes
        self._send = send
        self._asked = 0
        self._waiting = 0
        self._queues: dict[_Key, _Queue] = {}
        self._questions: dict[Request, _Key] = {}
        self._lists: dict[Request, asyncio.Future[tuple[str, ...]]] = {}

    async def way(
        self, app: str, name: str, deadline: float, *, forwarded: bool, refused: int = 0
    ) -> Passage | tuple[Hop, ...]:
        """Wait for a passage, until ``deadline`` (loop time), or for the gateways of those who serve the database. ``forwarded``: the
        query came from another gateway, and gets a passage alone. ``refused``: how many ways led nowhere; after one the node is asked
        even if the door looks open, and each further one waits longer. Raises :class:`Refusal`: the node's cause, or ``wake-timeout``, ``busy``, ``stopping``."""
        if not refused and (way := self._known_way(app, name, forwarded)):
            return way
        deadline = min(deadline, asyncio.get_running_loop().time() + self._config.wait_timeout_s)
        pause = min(_FIRST_PAUSE_S * 2 ** min(refused - 1, 8), _LONGEST_PAUSE_S) if refused else 0.0
        while True:
            if pause:
                await self._pause(pause, deadline)
            await self._one_turn((app, name, forwarded), deadline)
            if way := self._known_way(app, name, forwarded):
                return way
            # Closed again before we ran, or of another mind than the node: never ask in a tight loop.
            pause = min(2 * pause, _LONGEST_PAUSE_S) or _FIRST_PAUSE_S

    def _known_way(self, app: str, name: str, forwarded: bool) -> Passage | tuple[Hop, ...] | None:
        passage = self._doors.enter(app, name)
        if passage is not None or forwarded or not self._doors.serving:
            return passage
        return self._routes.get(app, name)

    async def _pause(self, seconds: float, deadline: float) -> None:
        left = deadline - asyncio.get_running_loop().time()
        if left <= seconds:
            raise Refusal("wake-timeout", "the database did not stay open")
        await asyncio.sleep(seconds)

    async def _one_turn(self, key: _Key, deadline: float) -> None:
        """Until the door opens or the node answers; raises the node's cause."""
        if not self._doors.serving:
            raise Refusal("stopping", "this gateway has lost its node")
        config = self._config
        queue = self._queues.get(key)
        if self._waiting >= config.waiting or (queue is None and len(self._queues) >= config.waiting):
            raise Refusal("busy", f"{self._waiting} queries wait for databases to open")
        if queue is None:
            queue = self._queues[key] = _Queue()
        if len(queue.waiters) >= config.waiting_per_database:
            raise Refusal("busy", f"{len(queue.waiters)} queries wait for this database to open")
        if queue.asked is None:
            queue.asked = self._next()
            self._questions[queue.asked] = key
            self._send(Ask(config.worker, queue.asked, *key))
        waiter = asyncio.get_running_loop().create_future()
        queue.waiters.add(waiter)
        self._waiting += 1
        try:
            async with asyncio.timeout_at(deadline):
                await waiter
        except TimeoutError:
            raise Refusal("wake-timeout", "the database did not open in time; it may yet: try again") from None
        finally:
            self._waiting -= 1
            queue.waiters.discard(waiter)
            self._drop_if_over(key, queue)

    async def names(self, app: str, deadline: float) -> tuple[str, ...]:
        """The application's databases, from the node. Raises :class:`Refusal`."""
        if not self._doors.serving:
            raise Refusal("stopping", "this gateway has lost its node")
        if len(self._lists) >= self._config.waiting:
            raise Refusal("busy", "too many requests wait for the node")
        request = self._next()
        answer = self._lists[request] = asyncio.get_running_loop().create_future()
        self._send(ListNames(self._config.worker, request, app))
        try:
            async with asyncio.timeout_at(deadline):
                return await answer
        except TimeoutError:
            raise Refusal("query-timeout", "the node did not answer") from None
        finally:
            del self._lists[request]

    def opened(self, app: str, name: str) -> None:
        """The door of this database has opened."""
        for forwarded in (False, True):
            queue = self._queues.get((app, name, forwarded))
            for waiter in queue.waiters if queue else ():
                if not waiter.done():
                    waiter.set_result(None)

    def answered(self, answer: Answer) -> None:
        """The node has answered a question; a late or unknown answer changes nothing."""
        refusal = Refusal(answer.type, answer.detail) if answer.type else None
        self._end_question(self._questions.pop(answer.request, None), refusal)

    def routed(self, routed: Routed) -> None:
        """The node has answered that others serve the database."""
        key = self._questions.pop(routed.request, None)
        if key is not None and key[2]:
            self._end_question(key, Refusal("not-a-member", "this node does not serve the database"))
        else:
            self._routes.learn(routed.app, routed.name, routed.hops)
            self._end_question(key, None)

    def _end_question(self, key: _Key | None, refusal: Refusal | None) -> None:
        queue = self._queues.get(key) if key is not None else None
        if key is None or queue is None:
            return
        queue.asked = None
        for waiter in queue.waiters:
            if waiter.done():
                continue
            if refusal is not None:
                waiter.set_exception(refusal)
            else:
                waiter.set_result(None)
        self._drop_if_over(key, queue)

    def listed(self, names: Names) -> None:
        """The node has answered a :class:`ListNames`."""
        answer = self._lists.get(names.request)
        if answer is not None and not answer.done():
            answer.set_result(names.names)

    def shut(self) -> None:
        """The node is gone: nobody waits any longer."""
        for queue in self._queues.values():
            for waiter in queue.waiters:
                if not waiter.done():
                    waiter.set_exception(Refusal("stopping", "this gateway has lost its node"))
        for answer in self._lists.values():
            if not answer.done():
                answer.set_exception(Refusal("stopping", "this gateway has lost its node"))

    def _drop_if_over(self, key: _Key, queue: _Queue) -> None:
        if not queue.waiters and queue.asked is None and self._queues.get(key) is queue:
            del self._queues[key]

    def _next(self) -> Request:
        self._asked += 1
        return request_of(self._config.worker, self._asked)
