"""A node that was killed leaves rqlited processes behind: they are stopped, they and no others, and never doubled."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import attrs
import psutil
import pytest
import trio
import trio.testing

from runtime import processes, rqlited_orphans
from runtime.processes import Identity
from runtime.rqlited_start import Timers, arguments
from tests.runtime.rqlited_world import INCARNATION, NAME, NODE_ID, SPEED, World, binary, world

pytestmark = pytest.mark.real

NODE = """
import sys, trio
from pathlib import Path
from runtime.directories import Directories
from runtime.rqlited import StartSpec, Supervisor
from runtime.rqlited_binary import find_binary

async def main(data, name, incarnation, node_id, http, raft, heartbeat):
    supervisor = Supervisor(find_binary(), Directories(data), heartbeat_timeout=float(heartbeat))
    spec = StartSpec(name, incarnation, 1, node_id, int(http), int(raft), mode="found")
    await supervisor.run(spec, lambda ready: print(ready.pid, flush=True))

trio.run(main, *sys.argv[1:])
"""


def killed_node(data: Path, http: int, raft: int) -> int:
    """A node process that starts an rqlited, waits until it is ready and is SIGKILLed: the pid of the orphan."""
    argv = [sys.executable, "-c", NODE, str(data), NAME, INCARNATION, NODE_ID, str(http), str(raft), str(SPEED)]
    root = Path(__file__).parents[2]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, cwd=root, env=os.environ | {"PYTHONPATH": str(root)}) as node:
        assert node.stdout is not None
        pid = int(node.stdout.readline())
        node.kill()
    return pid


def background(argv: list[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def ended_but_not_reaped() -> subprocess.Popen[bytes]:
    process = background([sys.executable, "-c", ""])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    return process


def alive(pid: int) -> bool:
    return processes.identity(pid) is not None


async def orphaned(w: World) -> int:
    return await trio.to_thread.run_sync(killed_node, w.data, *w.ports.reserve(1))


async def test_F61_the_orphan_of_a_killed_node_is_stopped_in_order_and_its_data_serves_again(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        pid = await orphaned(w)
        assert alive(pid), "it outlives its node"
        http, _ = w.ports.held(1)
        spec = w.spec("restart")
        assert spec.http_port != http, "its port is seen as taken"
        (orphan,) = await w.supervisor.sweep_orphans()
        assert (orphan.pid, orphan.incarnation, orphan.stopped) == (pid, INCARNATION, True)
        assert not alive(pid)
        assert await w.supervisor.sweep_orphans() == ()
        run = await w.start("restart")
        assert run.ready is not None
        await run.stop()


async def test_F61_no_second_rqlited_on_a_directory_whose_process_lives(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        pid = await orphaned(w)
        ended = await w.launch(w.spec("restart")).until_ended()
        assert (ended.cause, ended.code) == ("crashed", None)
        assert f"process {pid} already runs" in ended.detail
        assert alive(pid)
        assert [each.pid for each in await w.supervisor.sweep_orphans()] == [pid]


async def test_F45_two_starts_of_one_directory_are_one_process(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        first = w.launch(w.spec("found"))
        await trio.testing.wait_all_tasks_blocked()  # trio begins its tasks in no fixed order
        second = w.launch(attrs.evolve(first.spec, run=99))
        refused = await second.until_ended()
        assert (refused.run, refused.cause) == (99, "crashed")
        assert "has not ended" in refused.detail
        await first.until_ready()
        assert len(w.supervisor.pids()) == 1
        assert (await first.stop()).cause == "stopped"


async def test_F61_an_orphan_whose_pid_was_never_recorded_is_found_by_its_directory(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        pid = await orphaned(w)
        place = w.directories.instance(NAME, INCARNATION)
        rqlited_orphans.record(place, 1, str(binary().path), None)  # killed between the spawn and the record
        (orphan,) = await w.supervisor.sweep_orphans()
        assert (orphan.pid, orphan.stopped) == (pid, True)
        assert not alive(pid)


async def test_F91_the_sweep_stops_neither_strangers_nor_recycled_pids_nor_zombies(tmp_path: Path) -> None:
    async with world(tmp_path / "data") as w:
        http, raft = w.ports.reserve(2)
        spec = attrs.evolve(w.spec("restart"), http_port=http, raft_port=raft)
        stranger = background(arguments(binary(), spec, Timers(SPEED), tmp_path / "elsewhere", None))
        zombie = ended_but_not_reaped()
        try:
            who = processes.identity(stranger.pid)
            assert who is not None
            boot = who.started.partition(":")[0]
            cases = {
                "s1-2-recycled": attrs.evolve(who, started=f"{boot}:1"),  # the same pid, another process
                "s1-3-other-program": who,  # pid and start time match, but it does not run on that directory
                "s1-4-zombie": Identity(zombie.pid, f"{boot}:1"),
                "s1-5-gone": Identity(2**22 - 7, f"{boot}:1"),
                "s1-6-mine": processes.identity(os.getpid()),
            }
            for incarnation, identity in cases.items():
                place = w.directories.create(NAME, incarnation, NODE_ID)
                rqlited_orphans.record(place, 1, str(binary().path), identity)
            torn = w.directories.create(NAME, "s1-7-torn", NODE_ID)
            for n, text in enumerate((b"", b"{", b"[]", json.dumps({"pid": "x"}).encode(), b'{"run": 1}')):
                torn.run.write_bytes(text)
                assert rqlited_orphans.living(torn) == (), n
            assert await w.supervisor.sweep_orphans() == ()
            assert stranger.poll() is None
            assert processes.alive(who)
            assert not list(w.directories.instance(NAME, "s1-2-recycled").path.parent.glob("*/run.json"))
        finally:
            stranger.kill()
            stranger.wait()
            zombie.wait()


async def test_F61_an_orphan_that_logs_after_its_node_died_is_not_crashed_by_it(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        pid = await orphaned(w)
        process = psutil.Process(pid)
        http, raft = w.ports.held(1)
        # A snapshot makes rqlited log; without a reader of its pipe that would be a SIGPIPE.
        spec = attrs.evolve(w.spec("restart"), http_port=http, raft_port=raft)
        run = w.launch(spec)
        assert "already runs" in (await run.until_ended()).detail
        async with run.client() as client:
            await client.execute("CREATE TABLE t (n)", within=5)
            await client.snapshot(5)
            await client.strong_read(5)
        assert process.is_running()
        os.kill(pid, signal.SIGSTOP)
        swept = trio.Event()

        async def sweep() -> None:
            (orphan,) = await rqlited_orphans.sweep(w.directories, terminate_for=0.3)
            assert orphan.stopped, "a stopped process hears no SIGTERM, but SIGKILL ends it"
            swept.set()

        w.nursery.start_soon(sweep)
        await swept.wait()
        assert not alive(pid)
