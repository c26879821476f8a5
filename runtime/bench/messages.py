"""What each operation costs in messages, counted by the nodes themselves as they send. Laws: an operation's messages are all those from its first
one until every node knows its outcome; heartbeats, which are said whether anything happens or not, and what they lead to (the comparison of
directories) are counted apart.

A database is kept awake by queries while the messages of its creation or wake are counted, so that none of the sleep that would follow is among
them. Broadcasts are what a protocol for many nodes has to save: they have a bound; direct messages grow with the members alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final

import trio

from runtime.bench.cluster import CREATE, Measured
from runtime.bench.figures import Figure, Objective

BOUNDS: Final = {"create": 3, "hibernation": 3, "asleep": 0, "wake": 2}
"""Broadcasts, all nodes together."""
DATABASES: Final = 3
SETTLED_WITHIN: Final = 60.0
ASLEEP: Final = 5.0
"""Seconds that an idle, sleeping database is watched."""
_AGAIN: Final = 0.05

_ASIDE: Final = ("Heartbeat", "Echo", "Sync")

Sent = dict[str, Counter[str]]


async def counted(ours: Measured) -> list[Figure]:
    """The life of :data:`DATABASES` databases, one after the other."""
    found: dict[str, list[Sent]] = {name: [] for name in BOUNDS}
    for number in range(DATABASES):
        database = f"counted-{number}"
        at = await _sent(ours)
        await ours.timed(0, "exec", database, CREATE)
        async with _kept_awake(ours, database):
            await ours.phase(database, "active", SETTLED_WITHIN)
            at = await _note(ours, at, found["create"])
        await ours.phase(database, "hibernating", SETTLED_WITHIN)
        at = await _note(ours, at, found["hibernation"])
        await trio.sleep(ASLEEP / DATABASES)
        at = await _note(ours, at, found["asleep"])
        await ours.timed(number % len(ours.nodes), "query", database, "SELECT 1")
        async with _kept_awake(ours, database):
            await ours.phase(database, "active", SETTLED_WITHIN)
            await _note(ours, at, found["wake"])
        await ours.phase(database, "hibernating", SETTLED_WITHIN)
    return [_figure(name, found[name]) for name in BOUNDS]


def _figure(name: str, lives: list[Sent]) -> Figure:
    """The dearest of them."""
    broadcasts = max(lives, key=lambda sent: sent["broadcast"].total())["broadcast"]
    direct = max(lives, key=lambda sent: sent["direct"].total())["direct"]
    said = f"{_listed(broadcasts) or 'nothing'}; directly {direct.total()}"
    return Figure(
        f"{name}_broadcasts",
        broadcasts.total(),
        "",
        objective=Objective(most=BOUNDS[name], binding=True),
        note=f"{said}: {_listed(direct)}" if direct else said,
        details={"broadcast": dict(broadcasts), "direct": dict(direct), "runs": len(lives)},
    )


def _listed(types: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(types.items()))


async def _sent(ours: Measured) -> Sent:
    """By all nodes together since they began."""
    total: Sent = {"broadcast": Counter(), "direct": Counter()}
    for status in await ours.asked("status"):
        for way, types in status["sent"].items():
            total[way].update({name: count for name, count in types.items() if not name.startswith(_ASIDE)})
    return total


async def _note(ours: Measured, before: Sent, into: list[Sent]) -> Sent:
    now = await _sent(ours)
    into.append({way: now[way] - before[way] for way in now})
    return now


@asynccontextmanager
async def _kept_awake(ours: Measured, database: str) -> AsyncGenerator[None]:
    """By queries through one gateway, far more often than it falls asleep."""

    async def ask_again() -> None:
        while True:
            await trio.sleep(_AGAIN)
            await ours.send(0, "query", database, "SELECT 1")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask_again)
        yield
        nursery.cancel_scope.cancel()
