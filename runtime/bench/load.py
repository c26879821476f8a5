"""``python -m runtime.bench.load``: the client of :mod:`runtime.bench.query`, a process of its own, so that neither the bench nor a node takes
turns with it in one interpreter. Law: every side is asked by the same code, and an answer that is not the expected one ends the measurement.

On standard input one JSON object ``{"do": "turns" | "rate" | "flood", "sides": {name: Side}, …}``; on standard output one JSON object:

- ``turns`` (``count``, ``warm``): one request at a time on one kept-alive connection for each side, the sides in turns: ``{name: [ms, …]}``
- ``rate`` (``seconds``, ``connections``): one side after the other, as many requests as its connections can do, twice in opposite order, so that
  neither has the warmer machine: ``{name: requests/s}``
- ``flood`` (``count``): so many requests at once, each on a connection of its own, to the one side: ``{name: [ms, …]}``
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Any, Final

import orjson
import uvloop
from attrs import frozen

from runtime.gateway.upstream import Upstream
from runtime.gateway.upstream_connection import Attempt, Broken, NotSent

_MOST_BYTES: Final = 1 << 20
_PATIENCE_S: Final = 60.0


class _Wrong(Exception):
    """An answer that was not expected. One line."""


@frozen
class Side:
    """Where to send what; ``expect``: what the answer must hold."""

    url: str
    target: str
    body: str
    headers: str
    expect: str

    async def ask(self, by: Upstream) -> float:
        """Milliseconds until it was answered."""
        began = time.perf_counter()
        response = await by.post(self.url, self.target, self.body.encode(), _MOST_BYTES, Attempt(), self.headers)
        took = (time.perf_counter() - began) * 1e3
        if response.status != 200 or self.expect.encode() not in response.body:
            told = response.body[:300].decode(errors="replace")
            raise _Wrong(f"{self.url}{self.target}: HTTP {response.status} {told}")
        return took


async def turns(sides: dict[str, Side], count: int, warm: int) -> dict[str, list[float]]:
    client = Upstream(1)
    took: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(warm + count):
        for name, side in sides.items():
            took[name].append(await side.ask(client))
    return {name: each[warm:] for name, each in took.items()}


async def rate(sides: dict[str, Side], seconds: float, connections: int) -> dict[str, float]:
    done = dict.fromkeys(sides, 0)
    for name in (*sides, *reversed(sides)):
        client = Upstream(connections)
        until = time.perf_counter() + seconds / 2

        async def one(name: str = name, client: Upstream = client, until: float = until) -> None:
            while time.perf_counter() < until:
                await sides[name].ask(client)
                done[name] += 1

        async with asyncio.TaskGroup() as tasks:
            for _ in range(connections):
                tasks.create_task(one())
    return {name: count / seconds for name, count in done.items()}


async def flood(sides: dict[str, Side], count: int) -> dict[str, list[float]]:
    ((name, side),) = sides.items()
    client = Upstream(count)
    return {name: await asyncio.gather(*(side.ask(client) for _ in range(count)))}


async def main(asked: dict[str, Any]) -> int:
    do = {"turns": turns, "rate": rate, "flood": flood}[asked.pop("do")]
    sides = {name: Side(**side) for name, side in asked.pop("sides").items()}
    found: dict[str, Any] = {}
    failures: list[Exception] = []
    try:
        async with asyncio.timeout(_PATIENCE_S + asked.get("seconds", 0)):
            found = await do(sides, **asked)
    except* (_Wrong, NotSent, Broken, TimeoutError) as failed:
        failures += failed.exceptions
    if failures:
        sys.stderr.write(f"{failures[0] or type(failures[0]).__name__}\n")
        return 1
    sys.stdout.buffer.write(orjson.dumps(found))
    return 0


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        sys.exit(runner.run(main(orjson.loads(sys.stdin.buffer.read()))))
