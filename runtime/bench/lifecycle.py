"""``python -m runtime.bench lifecycle``: what the node costs beyond the raw rqlited, both measured in one run, turn by turn, on
this machine. Law: the raw side is the fastest known way to the same outcome (:mod:`runtime.rqlited_floor`), with the same binary,
timers and disk; what is compared ends with the same event.

create: until the first acknowledged write of a database that nobody knew (ours: one HTTP request to the gateway, since the first
access creates); all replicas are voters then, and each has passed a strong read. wake: until the first answer of a
database that was stopped cleanly (ours: one HTTP query to the first node; before it is answered that node made a strong read, as
the raw side's first member does). Each of our nodes is a process of its own, one for each replica.

Raft elects within one to two heartbeat timeouts at random, so single turns differ by that much on both sides: medians are shown,
and the fastest and the slowest beside them.
"""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Final

from attrs import define, field
from rich.console import Console

from runtime.bench.cluster import CREATE, Measured, measured
from runtime.bench.figures import Figure, Objective
from runtime.bench.messages import counted
from runtime.ports import Ports
from runtime.rqlited_binary import find_binary
from runtime.rqlited_floor import floor_create, floor_stop, floor_wake
from runtime.rqlited_start import Timers
from runtime.settings import load
from runtime.spawned import port_blocks

HIBERNATION: Final = "300ms"
"""Short, so that each turn's database is asleep when the next turn is measured."""
ASLEEP_WITHIN: Final = 30.0
OBJECTIVES: Final = {1: {"create": 1.5, "wake": 1.5}, 3: {"create": 1.4, "wake": 1.3}}
"""Ratios that are accepted (R63), by the number of replicas; the goal is 1.1. Numbers between follow the smaller one."""


@define
class Turns:
    """Milliseconds of each turn."""

    ours: list[float] = field(factory=list[float])
    raw: list[float] = field(factory=list[float])

    def figure(self, name: str, accepted: float) -> Figure:
        return Figure(
            name,
            statistics.median(self.ours),
            "ms",
            statistics.median(self.raw),
            Objective(most=accepted, of="ratio"),
            f"{min(self.ours):.0f} to {max(self.ours):.0f} ms, raw {min(self.raw):.0f} to {max(self.raw):.0f} ms",
            {"runs": len(self.ours), "ours_ms": _rounded(self.ours), "raw_ms": _rounded(self.raw)},
        )


def _rounded(turns: list[float]) -> list[float]:
    return [round(one, 2) for one in turns]


async def lifecycle(directory: Path, runs: int, replicas: int, console: Console) -> list[Figure]:
    """``runs`` turns of create and wake, ours and raw, and one before them that does not count: files and pages are warm
    then on both sides. Then the messages of one database's life are counted. Raises :class:`BenchFailed`."""
    timers = Timers(load(None).rqlite.heartbeat_timeout)
    *blocks, raw = port_blocks(replicas + 1)
    ports = Ports(raw.http, raw.raft)
    turns = {"create": Turns(), "wake": Turns()}
    async with measured(directory, replicas, replicas=replicas, hibernation_timeout=HIBERNATION, blocks=blocks) as ours:
        for turn in range(runs + 1):
            with console.status(f"turn {turn} of {runs}" if turn else "warming up"):
                one = await _turn(ours, turn, directory, timers, ports)
            if turn:
                for name, own, beside in one:
                    turns[name].ours.append(own)
                    turns[name].raw.append(beside)
        with console.status("counting messages"):
            messages = await counted(ours)
    accepted = OBJECTIVES[max(number for number in OBJECTIVES if number <= replicas)]
    return [*(each.figure(name, accepted[name]) for name, each in turns.items()), *messages]


async def _turn(
    ours: Measured, turn: int, directory: Path, timers: Timers, ports: Ports
) -> tuple[tuple[str, float, float], ...]:
    """The two sides one after the other, who is first changing from turn to turn."""

    async def own() -> tuple[float, float]:
        create = await ours.timed(0, "exec", f"turn-{turn}", CREATE)
        await ours.asleep(ASLEEP_WITHIN)
        return create, await ours.timed(0, "query", f"turn-{turn}", "SELECT 1")

    async def raw() -> tuple[float, float]:
        floor, create = await floor_create(find_binary(), directory / "raw", timers, ports, n=len(ours.nodes))
        await floor_stop(floor)
        wake = await floor_wake(floor)
        await floor_stop(floor)
        return create * 1e3, wake * 1e3

    if turn % 2:
        (our_create, our_wake), (raw_create, raw_wake) = await own(), await raw()
    else:
        (raw_create, raw_wake), (our_create, our_wake) = await raw(), await own()
    await ours.asleep(ASLEEP_WITHIN)
    return ("create", our_create, raw_create), ("wake", our_wake, raw_wake)
