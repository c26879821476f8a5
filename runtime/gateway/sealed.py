"""Reads of databases that sleep, without waking them. The laws kept here are P34 and F53:

- A copy is read only between the node's word that it may be and its word that it may no more. That word cuts every reader off at once: what
  it still says is never told to anybody, its query goes the ordinary way, and the node hears how many have not ended yet.
- A reader that SQLite does not end within :data:`GIVEN_UP_S` is not waited for: its answer is void, it holds no lock and writes nothing.
- The age is that of the answer when it is told; one that is older than the client accepts is not told.
- Without a lease nothing is read: who does not hear the node would not hear that a start is wanted.
- Where the node hosts nothing, it names those who may have a copy, and the query goes to one of them the ordinary way (F93): it is the
  member that answers it from its copy, or wakes. Only when none of them can be reached the node itself is asked to wake (F14).

Whatever is not answered here is answered by rqlited, so there is no failure of its own but the query's time and size.
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import apsw
from attrs import define, field

from runtime import since_boot
from runtime.gateway.arguments import Bound
from runtime.gateway.calls import Call
from runtime.gateway.doors import Doors
from runtime.gateway.frames import ReadSealed, SealedAck, SealedCopy
from runtime.gateway.hops import Routes
from runtime.gateway.problems import Refusal
from runtime.gateway.sealed_file import HEAP_BYTES, Bounds, Reader, Stamp, TooLarge, TooLate, TooMany, Unreadable
from runtime.gateway.worker_config import WorkerConfig

THREADS: Final = 4
"""Readers of one worker at a time."""
READERS: Final = 200
"""Readers of one worker at a time, and those that wait for a thread; beyond it, `busy`."""
PATIENCE_S: Final = 0.5
"""How long the node's word is waited for before a query goes the ordinary way."""
GIVEN_UP_S: Final = 0.02
"""A reader that was cut off usually ends within a millisecond; on a busy machine a start shall not wait for its next turn."""

_Name = tuple[str, str]


@define(eq=False)
class _Reading:
    """One reader, and whoever waits for it."""

    incarnation: str
    reader: Reader
    over: asyncio.Future[None]
    """Done when its answer can be told to nobody any more."""


@define(eq=False)
class Copies:
    """All sealed copies that one worker may read. ``routes``: learns of those elsewhere. ``send`` takes frames for the node."""

    config: WorkerConfig
    doors: Doors
    routes: Routes
    send: Callable[[ReadSealed | SealedAck], None]
    _open: dict[_Name, SealedCopy] = field(factory=dict[_Name, SealedCopy], init=False)
    _closed: dict[str, SealedCopy] = field(factory=dict[str, SealedCopy], init=False)
    """Incarnation → the word that closed it, while there are readers in it."""
    _asked: dict[_Name, asyncio.Future[None]] = field(factory=dict[_Name, asyncio.Future[None]], init=False)
    _readings: set[_Reading] = field(factory=set[_Reading], init=False)
    _threads: ThreadPoolExecutor | None = field(default=None, init=False)

    # What the node says.

    def told(self, copy: SealedCopy) -> None:
        """Carry out the node's word, and acknowledge that a copy is closed."""
        name = (copy.app, copy.name)
        if copy.open:
            self._open[name] = copy
        elif copy.incarnation:
            self._close(name, copy)
        elif copy.hops:
            self.routes.learn(*name, copy.hops)
        asked = self._asked.pop(name, None)
        if asked is not None and not asked.done():
            asked.set_result(None)

    def _close(self, name: _Name, copy: SealedCopy) -> None:
        known = self._open.get(name)
        if known is not None and known.incarnation == copy.incarnation:
            del self._open[name]
        inside = [one for one in self._readings if one.incarnation == copy.incarnation]
        for reading in inside:
            reading.reader.cut()
            if not reading.over.done():
                reading.over.set_result(None)
        if inside:
            self._closed[copy.incarnation] = copy
            asyncio.get_running_loop().call_later(GIVEN_UP_S, self._give_up, inside)
        self._acknowledge(copy, len(inside))

    def _acknowledge(self, copy: SealedCopy, in_flight: int) -> None:
        self.send(SealedAck(self.config.worker, copy.incarnation, copy.generation, in_flight))

    def _give_up(self, readings: list[_Reading]) -> None:
        for reading in readings:
            self._ended(reading)

    def _ended(self, reading: _Reading) -> None:
        if reading not in self._readings:
            return
        self._readings.discard(reading)
        closed = self._closed.get(reading.incarnation)
        if closed is not None and not any(one.incarnation == reading.incarnation for one in self._readings):
            del self._closed[reading.incarnation]
            self._acknowledge(closed, 0)

    # What clients want.

    async def read(
        self, call: Call, name: str, statement: Bound, rows: int, max_stale_s: float
    ) -> tuple[dict[str, Any], float] | None:
        """The statement's result as rqlited would have it, and its age in seconds; None: rqlited has to be asked. Raises :class:`Refusal`: too
        late, too large, or too busy."""
        copy = await self._copy(call, name)
        if copy is None or not self._fresh(copy, max_stale_s):
            return None
        if len(self._readings) >= READERS:
            raise Refusal("busy", f"{len(self._readings)} reads of sleeping databases are under way")
        loop = asyncio.get_running_loop()
        left = call.deadline - loop.time()
        bounds = Bounds(rows, self.config.result_bytes, time.monotonic() + left)
        reader = Reader(copy.path, Stamp(*copy.stamp))
        reading = _Reading(copy.incarnation, reader, loop.create_future())
        self._readings.add(reading)
        done = loop.run_in_executor(self._pool(), reader.read, statement.sql, statement.args, bounds)
        done.add_done_callback(functools.partial(self._finished, reading))
        try:
            ended, _ = await asyncio.wait((done, reading.over), timeout=left, return_when=asyncio.FIRST_COMPLETED)
            if not ended:
                raise TooLate
            if reading.over.done() or not self._fresh(copy, max_stale_s):
                return None
            return done.result(), self._age(copy) / 1e6
        except Unreadable:
            return None
        except TooLate:
            raise Refusal("query-timeout", call.too_late) from None
        except TooLarge as error:
            raise Refusal("result-too-large", str(error)) from None
        except TooMany as error:
            raise Refusal("too-many-rows", str(error)) from None
        finally:
            reader.cut()

    def _finished(self, reading: _Reading, done: asyncio.Future[dict[str, Any]]) -> None:
        if not done.cancelled():
            done.exception()  # told to the client, or to nobody
        self._ended(reading)

    def shut(self) -> None:
        """The process ends: nobody is waited for."""
        for reading in self._readings:
            reading.reader.cut()

    async def _copy(self, call: Call, name: str) -> SealedCopy | None:
        key = (call.app, name)
        known = self._open.get(key)
        elsewhere = not call.caller.forwarded and self.routes.get(*key)
        if known is not None or self.doors.is_open(*key) or elsewhere or not self.doors.serving:
            return known
        asked = self._asked.get(key)
        if asked is None:
            if len(self._asked) >= self.config.waiting:
                raise Refusal("busy", f"{len(self._asked)} sleeping databases are asked for")
            asked = self._asked[key] = asyncio.get_running_loop().create_future()
            self.send(ReadSealed(self.config.worker, *key))
        await asyncio.wait((asked,), timeout=PATIENCE_S)
        if not asked.done() and self._asked.get(key) is asked:
            del self._asked[key]
        return self._open.get(key)

    def _fresh(self, copy: SealedCopy, max_stale_s: float) -> bool:
        return self.doors.serving and self._age(copy) <= max_stale_s * 1e6

    @staticmethod
    def _age(copy: SealedCopy) -> int:
        return since_boot.microseconds() - copy.current_at

    def _pool(self) -> ThreadPoolExecutor:
        if self._threads is None:
            apsw.hard_heap_limit(HEAP_BYTES)
            self._threads = ThreadPoolExecutor(THREADS, "sealed")
        return self._threads
