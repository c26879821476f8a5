"""Seeds judged by several processes. The law kept here: no seed is lost in silence. A process that dies, or that says nothing for
too long, is the failure of the very seed that it was at; the seeds after it go to another process; and when nobody wants to go on
(Ctrl-C), what was judged until then still counts.
"""

from __future__ import annotations

import gc
import multiprocessing
import signal
import time
from collections import deque
from collections.abc import Callable, Generator
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Final, cast

from attrs import Factory, define, frozen

from sim.laws import place

PATIENCE: Final = 300.0
"""Seconds without a verdict after which a process is killed: a seed takes a tenth of one."""
BATCH: Final = 4
"""Seeds handed to a process at once: enough to keep it busy, few enough to end together."""


@frozen
class Verdict:
    """What came of one seed: ``why`` it failed, or empty. ``paths``: which rare paths it went, how often (``sim.coverage``)."""

    seed: int
    why: str = ""
    events: int = 0
    paths: dict[str, int] = Factory(dict[str, int])


Judge = Callable[[int], Verdict]


def calm_collector() -> None:
    """A run allocates millions of small values and hardly a cycle: looking for those after every 700 costs a tenth of it. What is there by
    now, modules and classes, stays."""
    gc.freeze()
    gc.set_threshold(200_000, 20, 50)


def _judged(judge: Judge, seed: int) -> Verdict:
    try:
        return judge(seed)
    except Exception as error:  # noqa: BLE001 (whatever the simulator raises is a failure of this seed, and no other's)
        return Verdict(seed, f"the simulator itself failed: {type(error).__name__}: {error} [{place(error)}]")


def _work(pipe: Connection, judge: Judge, inherited: list[Connection]) -> None:
    """One process: judge what comes, until nothing comes any more. ``inherited``: the parent's ends of all pipes, which a fork has
    copied: while anybody holds one, the end of the parent is not seen."""
    for other in inherited:
        other.close()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all; the parent decides
    calm_collector()
    try:
        while True:
            for seed in cast("list[int]", pipe.recv()):
                pipe.send(_judged(judge, seed))
    except (EOFError, BrokenPipeError):
        return  # the parent is gone


@define(eq=False)
class _Worker:
    process: BaseProcess
    pipe: Connection
    todo: deque[int] = Factory(deque[int])
    """Handed over and not judged yet; the first is what it is at."""
    heard_at: float = Factory(time.monotonic)


def judged(judge: Judge, seeds: range, jobs: int, patience: float = PATIENCE) -> Generator[Verdict]:
    """The verdicts of all seeds, in the order in which they are reached. Closing the iterator ends the processes."""
    context = multiprocessing.get_context("fork")
    waiting = deque(seeds)
    workers: list[_Worker] = []

    def start() -> None:
        ours, theirs = context.Pipe()
        inherited = [ours, *(worker.pipe for worker in workers)]
        process = context.Process(target=_work, args=(theirs, judge, inherited), daemon=True)
        process.start()
        theirs.close()
        workers.append(_Worker(process, ours))
        _feed(workers[-1], waiting)

    try:
        for _ in range(min(jobs, len(seeds))):
            start()
        while workers:
            ready = wait([worker.pipe for worker in workers], timeout=1.0)
            for worker in tuple(workers):
                late = time.monotonic() - worker.heard_at > patience
                if worker.pipe not in ready and not late:
                    continue
                verdict = None if worker.pipe not in ready else _heard(worker, waiting)
                if verdict is None:
                    verdict = _lost(worker, patience)
                    workers.remove(worker)
                    waiting.extendleft(reversed(worker.todo))
                    if waiting:
                        start()
                yield verdict
            for worker in [one for one in workers if not one.todo]:
                worker.pipe.close()
                worker.process.join()
                workers.remove(worker)
    finally:
        for worker in workers:
            worker.process.terminate()
            worker.process.join()


def _feed(worker: _Worker, waiting: deque[int]) -> None:
    batch = [waiting.popleft() for _ in range(min(BATCH, len(waiting)))]
    if batch:
        worker.todo.extend(batch)
        worker.pipe.send(batch)


def _heard(worker: _Worker, waiting: deque[int]) -> Verdict | None:
    """Its next verdict; None when its process is gone."""
    try:
        verdict = cast("Verdict", worker.pipe.recv())
    except (EOFError, ConnectionResetError):
        return None
    worker.heard_at = time.monotonic()
    worker.todo.popleft()
    if len(worker.todo) < BATCH // 2:
        _feed(worker, waiting)
    return verdict


def _lost(worker: _Worker, patience: float) -> Verdict:
    """The process is dead, or as good as that: whose fault it was."""
    worker.process.join(1.0)
    code = worker.process.exitcode
    if code is None:
        worker.process.kill()
        worker.process.join()
        why = f"no verdict within {patience:.0f} s: it was killed"
    else:
        why = (
            f"its process ended with {code}, which is signal {-code}" if code < 0 else f"its process ended with {code}"
        )
    return Verdict(worker.todo.popleft(), why)
