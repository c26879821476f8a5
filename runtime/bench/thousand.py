"""``python -m runtime.bench thousand``: what databases cost that nobody asks for. Three nodes, a thousand databases of three replicas each, all
asleep but ten, beside the same nodes while they were empty. Law: all of it is there for real: each database was created through a gateway,
holds a table, fell asleep by itself, and the ten were woken by a query.

Sleeping databases have to cost disk and a little memory, nothing else: heartbeats of the same size, a node as quiet as an empty one, a start
about as fast. In order: the empty nodes are watched and started anew, the databases created, the nodes started anew, watched, watched with
the ten awake.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

import psutil
import trio
from attrs import define, field, frozen
from rich.console import Console

from runtime.bench.cluster import APP, CREATE, Measured, measured
from runtime.bench.figures import BenchFailed, Figure, Objective
from runtime.spawned import SpawnedNode, children, port_blocks, spawned
from runtime.spawned_cluster import ask, formed

NODES: Final = 3
MOST_AWAKE: Final = 64
"""``max_databases``: a node that creates at full speed has some of them awake."""
WHILE_CREATING: Final = "1s"
"""Hibernation timeout: a database goes to sleep soon after its creation."""
WHILE_WATCHED: Final = "1h"
"""Those that were woken stay awake without being asked, and are looked at as seldom as in real life."""
AT_ONCE: Final = 4
"""Creations under way."""
TRIES: Final = 5
ASLEEP_WITHIN: Final = 120.0
QUIET: Final = 3.0
"""Seconds between what happened and watching: what it led to is over."""
_LOOK: Final = 0.02

CPU: Final = {"asleep": Objective(most=1.2, of="ratio"), "awake": Objective(most=3, of="ratio")}
MEMORY: Final = Objective(most=1.5, of="ratio")
START: Final = Objective(most=1.5, of="ratio")
RATE: Final = Objective(least=1)
DISK: Final = Objective(most=1024)
"""What is accepted of figures that depend on the machine."""
CONSTANT: Final = 16.0
"""Bytes by which a heartbeat may grow: counters in it (births, promises) get longer as numbers do."""


def _name(number: int) -> str:
    return f"d{number}"


@frozen
class Cost:
    """Of one node, over a window or at its end. CPU in milliseconds for each second, memory in MiB."""

    cpu: float
    gateway_cpu: float
    memory: float


@define
class Found:
    """What was measured. Starts are seconds for each node: until it served, until it listened no more."""

    heartbeats: dict[int, int] = field(factory=dict[int, int])
    """Databases → bytes, of the same processes: each start of a node adds a line to what its heartbeats say of it, up to a bound."""
    costs: dict[str, Cost] = field(factory=dict[str, Cost])
    starts: dict[str, list[tuple[float, float]]] = field(factory=dict[str, list[tuple[float, float]]])
    creation: float = 0.0
    repeated: int = 0
    disk: float = 0.0


async def thousand(directory: Path, databases: int, awake: int, window: float, console: Console) -> list[Figure]:
    """``window``: seconds for which nodes are watched, each time. Raises :class:`BenchFailed`."""
    blocks = port_blocks(NODES, http=2 * MOST_AWAKE, raft=databases + databases // 10 + MOST_AWAKE)
    found = Found()
    settings = {"max_databases": MOST_AWAKE}
    cluster = measured(
        directory, NODES, replicas=NODES, hibernation_timeout=WHILE_CREATING, database=settings, blocks=blocks
    )
    async with cluster as ours, AsyncExitStack() as restarted:
        with console.status("the empty nodes"):
            found.costs["empty"] = await _watched(ours, window)
            found.starts["empty"] = await _restart(ours, restarted, WHILE_CREATING)
            await _heartbeats(ours, found, 0)
        await _create(ours, found, databases, console)
        with console.status("all fall asleep"):
            await ours.asleep(ASLEEP_WITHIN)
            await _all(ours, databases, "hibernating")
            await _heartbeats(ours, found, databases)
            found.disk = _disk(ours) / databases / NODES
        with console.status("the full nodes are started anew"):
            found.starts["full"] = await _restart(ours, restarted, WHILE_WATCHED)
        with console.status("watched: all asleep"):
            found.costs["asleep"] = await _watched(ours, window)
        with console.status(f"watched: {awake} awake"):
            for number in range(awake):
                await ours.timed(number % NODES, "query", _name(number * databases // awake), "SELECT 1")
            found.costs["awake"] = await _watched(ours, window)
            await _all(ours, databases - awake, "hibernating")
            await _all(ours, awake, "active")
    return list(_figures(found, databases, awake))


async def _create(ours: Measured, found: Found, databases: int, console: Console) -> None:
    """Through all gateways, some at once."""
    numbers = iter(range(databases))
    done = 0
    began = time.perf_counter()
    with console.status("creating") as status:

        async def create() -> None:
            nonlocal done
            for number in numbers:
                found.repeated += await _created(ours, number, console)
                done += 1
                status.update(f"creating: {done} of {databases}, {done / (time.perf_counter() - began):.1f} a second")
                if done == databases // 10:
                    await _heartbeats(ours, found, done)

        async with trio.open_nursery() as nursery:
            for _ in range(AT_ONCE):
                nursery.start_soon(create)
    found.creation = time.perf_counter() - began


async def _created(ours: Measured, number: int, console: Console) -> int:
    """Create one; how often it had to be asked for again, each time through another gateway."""
    for again in range(TRIES):
        reply = await ours.send((number + again) % NODES, "exec", _name(number), CREATE)
        if reply.status_code == 200:
            return again
        console.print(f"{_name(number)}: HTTP {reply.status_code} {reply.text[:300]}", soft_wrap=True, markup=False)
        await trio.sleep(1 + again)
    raise BenchFailed(f"{_name(number)} is not created after {TRIES} requests; see node*/node.log")


async def _all(ours: Measured, count: int, phase: str) -> None:
    """Each node knows so many databases in this phase."""

    async def agree() -> bool:
        told = await ours.asked("databases", app=APP)
        return all(sum(one["phase"] == phase for one in known) == count for known in told)

    await _eventually(agree, ASLEEP_WITHIN, f"not every node knows of {count} databases that are {phase}", 0.5)


async def _eventually(holds: Callable[[], Awaitable[bool]], within: float, otherwise: str, look: float) -> None:
    with trio.move_on_after(within):
        while not await holds():  # noqa: ASYNC110 (a node calls nobody back)
            await trio.sleep(look)
        return
    raise BenchFailed(f"{otherwise} after {within:g} s")


async def _heartbeats(ours: Measured, found: Found, databases: int) -> None:
    """The largest that a node sent last. Each names whom its sender heard by then: on a busy machine some are missing for a while."""

    async def all_heard() -> bool:
        sent = [status["heartbeat"] for status in await ours.asked("status")]
        found.heartbeats[databases] = max(one["bytes"] for one in sent)
        return all(one["heard"] == NODES for one in sent)

    await _eventually(all_heard, ASLEEP_WITHIN, "not every heartbeat names all nodes as heard", 0.1)


async def _watched(ours: Measured, window: float) -> Cost:
    """The mean of the nodes, while nobody asks them for anything."""
    await trio.sleep(QUIET)
    nodes = [psutil.Process(node.pid) for node in ours.nodes]
    workers = [worker for node in ours.nodes for worker in children(node.pid, "runtime.gateway.worker")]
    before = _cpu(nodes), _cpu(workers)
    began = time.perf_counter()
    await trio.sleep(window)
    took = time.perf_counter() - began
    share = 1e3 / took / len(nodes)
    memory = statistics.mean(node.memory_info().rss for node in nodes) / 2**20
    return Cost((_cpu(nodes) - before[0]) * share, (_cpu(workers) - before[1]) * share, memory)


def _cpu(processes: list[psutil.Process]) -> float:
    return sum(times.user + times.system for times in (process.cpu_times() for process in processes))


async def _restart(ours: Measured, stack: AsyncExitStack, hibernation_timeout: str) -> list[tuple[float, float]]:
    """Each node in its turn, the others running."""
    starts: list[tuple[float, float]] = []
    for number, old in enumerate(ours.nodes):
        await old.stop()
        config = old.data.parent / "node.yaml"
        text = config.read_text(encoding="utf-8")
        config.write_text(text.replace(f'"{WHILE_CREATING}"', f'"{hibernation_timeout}"', 1), encoding="utf-8")
        began = time.perf_counter()
        node = await stack.enter_async_context(spawned(config, data=old.data, stderr=None))
        serves = time.perf_counter() - began

        async def heard(node: SpawnedNode = node) -> bool:
            return not (await ask(node, "status"))["listening"]

        await _eventually(heard, ASLEEP_WITHIN, "a node that was started anew still listens", _LOOK)
        starts.append((serves, time.perf_counter() - began))
        ours.nodes[number] = node
        await formed(ours.nodes)
        await ours.client.get(f"{node.gateway}/healthz")
    return starts


def _disk(ours: Measured) -> float:
    """Bytes that the databases occupy, all nodes together."""
    files = (path for node in ours.nodes for path in node.data.glob(f"{APP}_*/**/*"))
    return sum(path.lstat().st_blocks * 512 for path in files)


def _figures(found: Found, databases: int, awake: int) -> Iterator[Figure]:
    empty = found.costs["empty"]
    sizes = {str(number): size for number, size in sorted(found.heartbeats.items())}
    yield Figure(
        "heartbeat_growth",
        max(sizes.values()) - min(sizes.values()),
        "bytes",
        objective=Objective(most=CONSTANT, binding=True),
        note=", ".join(f"{size} bytes with {number}" for number, size in sizes.items()),
        details={"bytes": sizes},
    )
    for name, note in (("asleep", f"all {databases} asleep"), ("awake", f"all asleep but {awake}")):
        cost = found.costs[name]
        yield Figure(
            f"node_cpu_{name}",
            cost.cpu,
            "ms/s",
            empty.cpu,
            CPU[name],
            f"{note}; its gateway {cost.gateway_cpu:.1f} ms/s, empty {empty.gateway_cpu:.1f}",
            {"gateway_ms_per_s": round(cost.gateway_cpu, 2)},
        )
    yield Figure("node_memory", found.costs["asleep"].memory, "MiB", empty.memory, MEMORY, "resident")
    for at, name in enumerate(("start_serving", "start_in_step")):
        full, fresh = ([one[at] for one in found.starts[which]] for which in ("full", "empty"))
        note = "until it serves" if not at else "until it has the directories of a majority"
        figure = statistics.median(full) * 1e3, "ms", statistics.median(fresh) * 1e3
        yield Figure(name, *figure, START, f"{note}; {min(full):.2f} to {max(full):.2f} s")
    note = f"all {databases}, {AT_ONCE} at once; {found.repeated} had to be asked for again"
    yield Figure("creation", found.creation, "s", note=note, details={"repeated": found.repeated})
    yield Figure("creation_rate", databases / found.creation, "/s", objective=RATE)
    yield Figure("disk", found.disk / 1024, "KiB", objective=DISK, note="of each replica of a sleeping database")
