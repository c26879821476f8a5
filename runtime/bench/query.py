"""``python -m runtime.bench query``: what a query costs beyond the raw rqlited, all measured in one run on this machine. Law: the raw side is
the rqlited that leads the same database, asked for the very statement that its gateway asks it for, by the same client.

Four nodes, a database on three of them. A read and a write with parameters, one at a time: raw, through the leader's own gateway, and through
the gateway of the node that is no member, which sends it on over mutual TLS, one hop (F93). Then as many as sixteen connections can do, through
one worker. Then the flood (F51): the database sleeps, and a thousand queries come at once.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import trio
from attrs import asdict
from rich.console import Console

from runtime.bench.cluster import APP, CREATE, Measured, measured
from runtime.bench.figures import BenchFailed, Figure, Objective
from runtime.bench.load import Side

NODES: Final = 4
REPLICAS: Final = 3
DATABASE: Final = "asked"
WARM: Final = 50
"""Queries of each side that do not count: the first ones open connections."""
CONNECTIONS: Final = 16
FLOOD: Final = 1_000
HIBERNATION: Final = "4s"
"""Longer than the pause between any two measurements."""
ASLEEP_WITHIN: Final = 60.0
OBJECTIVES: Final = {
    "read": Objective(most=2.5, of="ratio"),
    "write": Objective(most=1.6, of="ratio"),
    "hop": Objective(most=3, of="ratio"),
    "reads": Objective(least=2_000),
    "writes": Objective(least=0.8, of="ratio"),
    "wakes": Objective(most=1, binding=True),
}
"""What is accepted (R63); the goals are 2.0 for a read and 3,000 reads/s."""
_ROOT: Final = Path(__file__).resolve().parents[2]
_SELECT: Final = "SELECT value FROM floor WHERE id = ?"
_INSERT: Final = "INSERT INTO floor (value) VALUES (?)"


async def query(directory: Path, reads: int, seconds: int, console: Console) -> list[Figure]:
    """``reads`` of each side, half as many writes; ``seconds`` of load for each. Raises :class:`BenchFailed`."""
    async with measured(directory, NODES, replicas=REPLICAS, hibernation_timeout=HIBERNATION) as ours:
        await ours.timed(0, "exec", DATABASE, CREATE)
        await ours.timed(0, "exec", DATABASE, _INSERT.replace("?", "'a value'"))
        await ours.phase(DATABASE, "active", 30.0)
        asks, tells = await _sides(ours)
        with console.status(f"{reads} reads and {reads // 2} writes, one at a time"):
            read = await _load(do="turns", sides=asks, count=reads, warm=WARM)
            write = await _load(do="turns", sides=tells, count=reads // 2, warm=WARM)
        with console.status(f"{CONNECTIONS} connections"):
            loaded = {"seconds": seconds, "connections": CONNECTIONS}
            read_rate = await _load(do="rate", sides=_pair(asks), **loaded)
            write_rate = await _load(do="rate", sides=_pair(tells), **loaded)
        with console.status(f"{FLOOD} queries on a sleeping database"):
            flood = await _flood(ours, asks)
    return [
        _beside("read", read["member"], read["raw"], "raw rqlited", OBJECTIVES["read"]),
        _beside("write", write["member"], write["raw"], "raw rqlited", OBJECTIVES["write"]),
        _beside("read_with_a_hop", read["other"], read["member"], "the same through a member", OBJECTIVES["hop"]),
        _beside("write_with_a_hop", write["other"], write["member"], "the same through a member", None),
        _rate("reads", read_rate, OBJECTIVES["reads"]),
        _rate("writes", write_rate, OBJECTIVES["writes"]),
        *flood,
    ]


def _pair(sides: Mapping[str, Side]) -> dict[str, Side]:
    return {name: sides[name] for name in ("raw", "member")}


def _beside(name: str, ours: list[float], other: list[float], what: str, objective: Objective | None) -> Figure:
    """Medians, and the slowest of a hundred."""
    tails = [statistics.quantiles(each, n=100)[98] for each in (ours, other)]
    return Figure(
        name,
        statistics.median(ours),
        "ms",
        statistics.median(other),
        objective,
        f"p99 {tails[0]:.2f} ms, beside {tails[1]:.2f} ms; beside is {what}",
        {"p99_ms": round(tails[0], 3), "beside_p99_ms": round(tails[1], 3)},
    )


def _rate(name: str, rates: Mapping[str, float], objective: Objective) -> Figure:
    note = f"one worker, {CONNECTIONS} connections"
    return Figure(name, rates["member"], "/s", rates["raw"], objective, note)


async def _flood(ours: Measured, sides: Mapping[str, Side]) -> list[Figure]:
    """A thousand queries wake a database once (F51)."""
    await ours.asleep(ASLEEP_WITHIN)
    await ours.phase(DATABASE, "hibernating", ASLEEP_WITHIN)
    before = await _intents(ours)
    took = (await _load(do="flood", sides={"member": sides["member"]}, count=FLOOD))["member"]
    wakes = await _intents(ours) - before
    slowest = f"{FLOOD} at once: the first {min(took):.0f}, the last {max(took):.0f} ms"
    return [
        Figure("flooded_wake", statistics.median(took), "ms", note=slowest, details={"last_ms": round(max(took), 1)}),
        Figure("wakes_by_a_flood", wakes, "", objective=OBJECTIVES["wakes"], note="intents broadcast"),
    ]


async def _intents(ours: Measured) -> int:
    return sum(told["sent"]["broadcast"].get("WakeIntent", 0) for told in await ours.asked("status"))


async def _sides(ours: Measured) -> tuple[dict[str, Side], dict[str, Side]]:
    """For reads and for writes: ``raw``, the rqlited of the leader; ``member``, its gateway; ``other``, that of the node without a replica."""
    told = [known[0] for known in await ours.asked("inspect", app=APP, name=DATABASE)]
    leader = next((number for number, one in enumerate(told) if one["leader"]), None)
    other = next((number for number, one in enumerate(told) if not one["state"]), None)
    if leader is None or other is None:
        raise BenchFailed(f"{DATABASE} has no leader, or no node is without it: {[one['state'] for one in told]}")
    raw, key = f"http://127.0.0.1:{told[leader]['http']}", ours.client.headers["Authorization"]
    gateways = {"member": ours.nodes[leader].gateway, "other": ours.nodes[other].gateway}

    def sides(raw_target: str, target: str, sql: str, argument: Any, expect: Mapping[str, str]) -> dict[str, Side]:
        asked = {"database": DATABASE, "sql": sql, "args": [argument]}
        by_key = f"Authorization: {key}\r\n"
        return {
            "raw": Side(raw, raw_target, json.dumps([[sql, argument]]), "", expect["raw"]),
            **{
                name: Side(url, f"/v1/database/{target}", json.dumps(asked), by_key, expect["ours"])
                for name, url in gateways.items()
            },
        }

    rows = {"raw": "a value", "ours": "a value"}
    counts = {"raw": "last_insert_id", "ours": "last_insert_id"}
    return (
        sides("/db/query?level=weak&db_timeout=30000ms", "query", _SELECT, 1, rows),
        sides("/db/execute", "exec", _INSERT, "a value", counts),
    )


async def _load(*, sides: Mapping[str, Side], **asked: Any) -> dict[str, Any]:
    """What the client process measured. Raises :class:`BenchFailed`."""
    request = json.dumps({"sides": {name: asdict(side) for name, side in sides.items()}, **asked})
    done = await trio.run_process(
        [sys.executable, "-m", "runtime.bench.load"],
        stdin=request.encode(),
        capture_stdout=True,
        capture_stderr=True,
        check=False,
        cwd=_ROOT,
    )
    if done.returncode or not done.stdout:
        raise BenchFailed(done.stderr.decode(errors="replace").strip().splitlines()[-1])
    return json.loads(done.stdout)
