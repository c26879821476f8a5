"""``python -m runtime.bench hop``: the price of the hop. Four nodes, a database on three of them, and the same read through a member, through
the node that is none, and of the raw rqlited behind that member. Law: all three are asked by one client, in turns, on connections that stay
open, and none of them but one at a time.

Through a node that is no member a query goes to the gateway of a member, over mutual TLS, one hop at most (F93).
"""

from __future__ import annotations

import http.client
import json
import statistics
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import trio
from attrs import define, field
from rich.console import Console

from runtime.bench.cluster import APP, CREATE, Measured, measured
from runtime.bench.figures import BenchFailed, Figure, Objective

NODES: Final = 4
REPLICAS: Final = 3
DATABASE: Final = "read"
WARM: Final = 50
"""Reads of each that do not count: the first ones open connections."""
OBJECTIVES: Final = {"member": Objective(most=4, of="ratio"), "hop": Objective(most=3, of="ratio")}
"""Ratios that are accepted (R63): a read through a member to the raw one, and one with a hop to that."""
_INSERT: Final = "INSERT INTO floor (value) VALUES ('a value')"
_SELECT: Final = "SELECT value FROM floor WHERE id = 1"


@define(eq=False)
class Reader:
    """One kept-alive connection, and the milliseconds of each read on it."""

    url: str
    body: Any
    headers: Mapping[str, str]
    took: list[float] = field(factory=list[float])
    _connection: http.client.HTTPConnection = field(init=False)
    _target: str = field(init=False)

    def __attrs_post_init__(self) -> None:
        parts = urlsplit(self.url)
        self._connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30.0)
        self._target = f"{parts.path}?{parts.query}"

    def read(self) -> None:
        began = time.perf_counter()
        self._connection.request("POST", self._target, json.dumps(self.body), dict(self.headers))
        reply = self._connection.getresponse()
        text = reply.read()
        self.took.append((time.perf_counter() - began) * 1e3)
        if reply.status != 200 or b"a value" not in text:
            raise BenchFailed(f"{self.url}: HTTP {reply.status} {text[:300].decode(errors='replace')}")

    def close(self) -> None:
        self._connection.close()


async def hop(directory: Path, reads: int, console: Console) -> list[Figure]:
    """``reads`` of each kind. Raises :class:`BenchFailed`."""
    async with measured(directory, NODES, replicas=REPLICAS, hibernation_timeout="1h") as ours:
        with console.status(f"{reads} reads of each"):
            await ours.timed(0, "exec", DATABASE, CREATE)
            await ours.timed(0, "exec", DATABASE, _INSERT)
            await ours.phase(DATABASE, "active", 30.0)
            readers = await _readers(ours)
            try:
                await trio.to_thread.run_sync(_in_turns, list(readers.values()), reads)
            finally:
                for reader in readers.values():
                    reader.close()
    raw, member, other = (statistics.median(readers[name].took[WARM:]) for name in ("raw", "member", "other"))
    tails = {name: statistics.quantiles(reader.took[WARM:], n=100)[98] for name, reader in readers.items()}
    return [
        Figure(
            "read_through_a_member",
            member,
            "ms",
            raw,
            OBJECTIVES["member"],
            _tail(tails, "member", "raw"),
            _p99(tails, "member"),
        ),
        Figure(
            "read_with_a_hop",
            other,
            "ms",
            member,
            OBJECTIVES["hop"],
            _tail(tails, "other", "member"),
            _p99(tails, "other"),
        ),
        Figure("price_of_the_hop", other - member, "ms", note=f"p50 of {reads} reads each"),
    ]


def _tail(tails: Mapping[str, float], one: str, beside: str) -> str:
    return f"p99 {tails[one]:.2f} ms, beside {tails[beside]:.2f} ms; beside is {'raw rqlited' if beside == 'raw' else 'the same through a member'}"


def _p99(tails: Mapping[str, float], one: str) -> dict[str, float]:
    return {"p99_ms": round(tails[one], 3)}


def _in_turns(readers: list[Reader], reads: int) -> None:
    for _ in range(WARM + reads):
        for reader in readers:
            reader.read()


async def _readers(ours: Measured) -> dict[str, Reader]:
    """``raw`` is the rqlited of the member, which is asked for the read that its gateway asks for."""
    told = [known[0] for known in await ours.asked("inspect", app=APP, name=DATABASE)]
    leader = next((number for number, one in enumerate(told) if one["leader"]), None)
    other = next((number for number, one in enumerate(told) if not one["state"]), None)
    if leader is None or other is None:
        raise BenchFailed(f"{DATABASE} has no leader, or no node is without it: {[one['state'] for one in told]}")
    client = {"Content-Type": "application/json"}
    ask = {"database": DATABASE, "sql": _SELECT}
    key = client | {"Authorization": str(ours.client.headers["Authorization"])}
    gateways = {"member": leader, "other": other}
    return {
        "raw": Reader(f"http://127.0.0.1:{told[leader]['http']}/db/query?level=weak", [_SELECT], client),
        **{name: Reader(f"{ours.nodes[at].gateway}/v1/database/query", ask, key) for name, at in gateways.items()},
    }
