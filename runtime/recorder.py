"""The flight recorder: every step of the engine on a bounded ring of files, so that whatever happened replays in the simulator, byte
for byte (``python -m sim replay``). Laws: recording never stops the node, neither by a slow disk nor by a full one; no secret is in
it, since none is in an input or an effect; the ring never grows beyond its bound.

The driver's part is to make a step's bytes and to queue them (:meth:`Recorder.record`). A task writes what is queued once a second, in a
thread; when the node ends, also by an engine's failure, the rest is written. A killed node loses its last second, a
machine without power what the system had not written yet: nothing waits for an fsync. When steps had to be left out, the next segment
says that it follows none.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from importlib import metadata
from pathlib import Path
from typing import Final

import structlog
import trio

from protocol import recording
from protocol.effects import Effects
from protocol.inputs import Input
from protocol.node import Node
from runtime.driver import monotonic

DIRECTORY: Final = "recorder"
"""In the data directory."""
FLUSH_EVERY: Final = 1.0
"""Seconds: what a killed node may lose."""
LAST_FLUSH: Final = 2.0
"""Seconds that the end of a node waits for a disk that hangs."""
WAITING: Final = 32 << 20
"""Bytes that may wait for a disk that hangs; then steps are left out."""
FILES: Final = 1_000
"""Segments kept, however small they are: a node that is restarted again and again makes one each time."""
PAUSE: Final = 60_000_000
"""Microseconds until recording is tried again after it failed."""

log = structlog.stdlib.get_logger("recorder")


class Ring:
    """The files: ``NNNNNN.rec``, the oldest deleted so that all together never exceed ``most`` bytes. What is given is written in
    order, by whichever thread drains."""

    def __init__(self, directory: Path, most: int) -> None:
        self._directory = directory
        self._most = most
        self._sizes: dict[int, int] = {}
        self._number = 0
        self._descriptor = -1
        self._given: deque[tuple[int, bytes]] = deque()
        self._draining = threading.Lock()
        self.written = 0
        self.failure: OSError | None = None
        """Set by a thread that could not write: nothing is written until :meth:`forgive`."""

    def prepare(self) -> int:
        """Look at what earlier processes left; gives the newest number, or 0. Touches nothing."""
        found = [(int(path.stem), path.stat().st_size) for path in self._directory.glob("*.rec") if path.stem.isdigit()]
        self._sizes = dict(sorted(found))
        return max(self._sizes, default=0)

    def path(self, number: int) -> Path:
        return self._directory / f"{number:06d}.rec"

    def give(self, number: int, data: bytes) -> None:
        """Bytes for the end of a segment; the first ones make it."""
        self._given.append((number, data))

    def drain(self) -> None:
        """Write all that was given. Raises nothing: see :attr:`failure`."""
        with self._draining:
            try:
                while self._given and self.failure is None:
                    number, data = self._given.popleft()
                    self._write(number, data)
                    self.written += len(data)
            except OSError as error:
                self.failure = error
                self.close()

    def forgive(self) -> None:
        """Give up what could not be written; try again with the next segment."""
        self._given.clear()
        self.failure = None

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _write(self, number: int, data: bytes) -> None:
        if self._descriptor < 0 or self._number != number:
            self.close()
            self._directory.mkdir(mode=0o700, exist_ok=True)
            self._make_room(len(data), FILES - 1)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
            self._descriptor, self._number = os.open(self.path(number), flags, 0o600), number
            self._sizes[number] = 0
        self._make_room(len(data), FILES)
        rest = memoryview(data)
        while rest:
            count = os.write(self._descriptor, rest)
            self._sizes[number] += count
            rest = rest[count:]

    def _make_room(self, size: int, files: int) -> None:
        for number in list(self._sizes):
            if len(self._sizes) <= files and sum(self._sizes.values()) + size <= self._most:
                break
            if self._descriptor < 0 or number != self._number:
                self.path(number).unlink(missing_ok=True)
                del self._sizes[number]


class Recorder:
    """``engine``: what is recorded, and asked for its state where a segment begins. ``segment_bytes`` × ``segments`` is the bound. One
    thread calls everything here, the driver's."""

    def __init__(
        self,
        directory: Path,
        engine: Node,
        *,
        segment_bytes: int,
        segments: int,
        clock: Callable[[], int] = monotonic,
    ) -> None:
        self._engine = engine
        self._segment_bytes = segment_bytes
        self._most = segment_bytes * segments
        self._ring = Ring(directory, self._most)
        self._clock = clock
        self._version = _version()
        self._writer: recording.Writer | None = None
        self._number = 0
        self._size = 0
        self._limit = segment_bytes
        self._queue: list[bytes] = []
        """Of the segment ``_number``, not yet given to the ring."""
        self._queued = 0
        self._resume_at = 0
        self.steps = 0
        self.left_out = 0
        self.spent = 0
        """Nanoseconds of the driver's time."""

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Record while this lasts, which begins before the engine's first step. Nothing is touched before that step was."""
        self._number = self._ring.prepare()
        self._begin(follows=0)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._now_and_then)
                yield
                nursery.cancel_scope.cancel()
        finally:
            self._give()
            with trio.move_on_after(LAST_FLUSH, shield=True) as patience:
                await trio.to_thread.run_sync(self._ring.drain, abandon_on_cancel=True)
            if patience.cancelled_caught:
                log.warning("flight recorder lost its end", because=f"the disk took nothing within {LAST_FLUSH:g} s")
            else:
                self._ring.close()
            if self._ring.failure is not None:
                self._stop(str(self._ring.failure))
            if self.steps:
                each = round(self.spent / self.steps / 1e3, 1)
                left_out, written = self.left_out, self._ring.written
                log.info("recorded", steps=self.steps, left_out=left_out, bytes=written, us_a_step=each)

    def record(self, given: Input, outcome: Effects | Exception) -> None:
        """One step of the engine, just after it. Never waits for the disk."""
        began = time.perf_counter_ns()
        if self._ring.failure is not None:
            self._stop(str(self._ring.failure))
        if self._writer is None:
            self.left_out += 1
            if self._clock() >= self._resume_at and not isinstance(outcome, Exception):
                self._begin(follows=0)
            return
        if not self._append(self._writer.step(given, outcome)):
            self.left_out += 1
            return
        self.steps += 1
        if self._size >= self._limit and not isinstance(outcome, Exception):
            self._begin(follows=self._number)
        self.spent += time.perf_counter_ns() - began

    def flush(self) -> None:
        """Write everything now, however long the disk takes."""
        self._give()
        self._ring.drain()

    async def _now_and_then(self) -> None:
        while True:
            self._give()
            await trio.to_thread.run_sync(self._ring.drain, abandon_on_cancel=True)
            await trio.sleep(FLUSH_EVERY)

    def _begin(self, *, follows: int) -> None:
        state = recording.checkpoint(self._engine)
        # At most half of a segment is its checkpoint, and at most half of the ring is one segment.
        self._limit = min(max(self._segment_bytes, 2 * len(state)), self._most // 2)
        if 2 * len(state) > self._limit:
            self._stop(
                f"the engine's state has {len(state)} bytes: set recorder.segments to {8 * len(state) // self._segment_bytes + 1}"
            )
            return
        self._give()
        self._number += 1
        self._writer, self._size = recording.Writer(), 0
        header = recording.Header(recording.SHAPE, self._version, time.time_ns() // 1_000, self._clock(), follows)
        self._append(self._writer.begin(header, state))

    def _append(self, data: bytes) -> bool:
        """Whether it will be written, if the disk lets it."""
        if len(data) > self._most // 2:
            self._give()
            self._stop(f"one step has {len(data)} bytes")
            return False
        self._queue.append(data)
        self._queued += len(data)
        self._size += len(data)
        if self._queued - self._ring.written > WAITING:
            self._stop(f"{self._queued - self._ring.written} bytes wait for the disk")
        return self._writer is not None

    def _give(self) -> None:
        if self._queue and self.steps:  # a node that will not start leaves nothing behind
            self._ring.give(self._number, b"".join(self._queue))
            self._queue.clear()

    def _stop(self, because: str) -> None:
        """Leave steps out for a while, and begin anew then."""
        log.warning("flight recorder pauses", because=because, seconds=PAUSE // 1_000_000)
        self._queued -= sum(len(data) for data in self._queue)
        self._queue.clear()
        if self._ring.failure is not None:
            self._ring.forgive()
            self._queued = self._ring.written
        self._writer = None
        self._resume_at = self._clock() + PAUSE


def _version() -> str:
    try:
        return metadata.version("torpor")
    except metadata.PackageNotFoundError:  # run from a checkout that nobody installed
        return "uninstalled"
