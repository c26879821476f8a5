"""What a start does before and besides the process: ports, disk, binary, markers, peers.json (P42, P54, R61)."""

import glob
import json
import socket
import stat
from pathlib import Path

import attrs
import pytest

from runtime.directories import Directories
from runtime.rqlited_binary import Binary
from runtime.rqlited_exit import cause_of
from runtime.rqlited_start import StartSpec, Timers, arguments, environment
from tests.runtime.rqlited_world import INCARNATION, NAME, NODE_ID, binary, world

pytestmark = pytest.mark.real


def listener(port: int) -> socket.socket:
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("127.0.0.1", port))
    sock.listen()
    return sock


@pytest.mark.parametrize("which", ["http_port", "raft_port"])
async def test_F9_a_port_taken_by_a_stranger_is_named_and_the_next_start_works(tmp_path: Path, which: str) -> None:
    async with world(tmp_path) as w:
        spec = w.spec("found")
        with listener(getattr(spec, which)):
            ended = await w.launch(spec).until_ended()
            assert ended.cause == "port_taken"
            assert str(getattr(spec, which)) in ended.detail
        run = await w.start("found")
        await run.stop()


async def test_F47_a_changed_Raft_port_with_peers_json_keeps_the_data_of_a_lone_replica(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        run = await w.start("found")
        await run.insert(1)
        await run.stop()
        with listener(run.spec.raft_port):
            taken = w.launch(w.spec("restart", raft_port=run.spec.raft_port))
            assert (await taken.until_ended()).cause == "port_taken"
            w.ports.release(1)
            spec = w.spec("restart")
            assert spec.raft_port != run.spec.raft_port
            peers = ((NODE_ID, f"127.0.0.1:{spec.raft_port}"),)
            moved = w.launch(attrs.evolve(spec, peers=peers))
            ready = await moved.until_ready()
            assert ready.voters == (NODE_ID,)
            assert await moved.rows() == [[1]]
            await moved.insert(2)
            await moved.stop()
        again = await w.start("restart")  # the same new port by now, and no peers.json
        assert await again.rows() == [[1], [2]]
        await again.stop()


async def test_F55_a_peers_json_that_this_start_did_not_write_is_removed_and_never_consumed(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        run = await w.start("found")
        await run.insert(1)
        await run.stop()
        stale = [{"id": "QmForeign.s1-1-abcd.1", "address": "127.0.0.1:1", "non_voter": False}]
        run.place.peers.write_text(json.dumps(stale))
        again = await w.start("restart")
        assert again.ready is not None
        assert again.ready.voters == (NODE_ID,)
        assert not again.place.peers.exists()
        assert not (again.place.peers.parent / "peers.info").exists(), "rqlited never saw it"
        await again.stop()


@pytest.mark.parametrize("lost", ["marker", "raft.db", "everything", "another node id"])
async def test_F54_a_wiped_directory_never_starts_by_itself(tmp_path: Path, lost: str) -> None:
    async with world(tmp_path) as w:
        run = await w.start("found")
        await run.insert(1)
        await run.stop()
        spec = w.spec("restart")
        if lost == "marker":
            run.place.marker.unlink()
        elif lost == "raft.db":
            run.place.raft_log.unlink()
        elif lost == "everything":
            w.directories.to_trash(run.place)
        else:
            spec = attrs.evolve(spec, node_id="QmPeer.s1-1-abcd.2")
        refused = w.launch(spec)
        ended = await refused.until_ended()
        assert (ended.cause, ended.code, refused.ready) == ("data_missing", None, None)
        assert "does not start by itself" in ended.detail
        if lost != "everything":
            assert run.place.database.exists(), "nothing was touched"


async def test_P54_a_founder_never_builds_on_foreign_remains_and_deletes_nothing(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        run = await w.start("found")
        await run.insert(1)
        await run.stop()
        run.place.marker.unlink()
        again = await w.start("found")
        async with again.client() as client:
            assert await client.query("SELECT count(*) FROM sqlite_master", 5, "strong") == [[0]]
        await again.stop()
    kept = Path(".trash", "*", NAME, INCARNATION, "rqlite", "raft.db")
    assert len(glob.glob(str(kept), root_dir=tmp_path)) == 1  # noqa: PTH207 (pathlib's own is refused in async code)


async def test_F7_a_repeated_founding_of_the_very_same_copy_keeps_its_data(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        run = await w.start("found")
        await run.insert(1)
        await run.stop()
        again = await w.start("found")
        assert await again.rows() == [[1]]
        await again.stop()


async def test_R61_a_binary_that_vanished_or_is_no_program_is_named(tmp_path: Path) -> None:
    for make in (None, "#!/no/such/interpreter\n"):
        path = tmp_path / "rqlited"
        if make is not None:
            path.write_text(make)
            path.chmod(path.stat().st_mode | stat.S_IXUSR)
        async with world(tmp_path / "data", of=Binary(path, 8, binary().flags)) as w:
            run = w.launch(w.spec("found"))
            ended = await run.until_ended()
            assert (ended.cause, ended.code) == ("binary_missing", None)
            assert str(path) in ended.detail
            assert not run.place.run.exists()


async def test_F9_a_directory_that_cannot_be_made_is_a_fault_of_the_disk(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        (tmp_path / NAME).write_text("a file where a directory has to be")
        ended = await w.launch(w.spec("found")).until_ended()
        assert (ended.cause, ended.code) == ("disk", None)
        assert NAME in ended.detail


async def test_F9_a_directory_that_rqlited_cannot_use_is_a_fault_of_the_disk(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        run = await w.start("found")
        await run.stop()
        snapshots = run.place.rqlite / "rsnapshots"
        for each in sorted(snapshots.rglob("*"), reverse=True):
            each.unlink() if each.is_file() else each.rmdir()
        snapshots.rmdir()
        snapshots.write_text("a file where a directory has to be")
        ended = await w.launch(w.spec("restart")).until_ended()
        assert ended.cause == "disk", ended


def test_F9_causes_are_read_from_what_was_said_and_from_what_was_asked() -> None:
    taken = "failed to listen on 127.0.0.1:7501: listen tcp 127.0.0.1:7501: bind: address already in use"
    assert cause_of(1, ["starting", taken], terminated=False, killed=False) == ("port_taken", taken)
    full = "failed to open store: write /x/raft.db: no space left on device"
    assert cause_of(1, [full, "bye"], terminated=False, killed=False) == ("disk", full)
    assert cause_of(2, ["panic: x", "goroutine 1"], terminated=True, killed=False) == (
        "crashed",
        "exit status 2: panic: x | goroutine 1",
    )
    assert cause_of(0, [taken], terminated=True, killed=False) == ("stopped", "")
    assert cause_of(-9, [], terminated=True, killed=True) == ("killed", "by this node")
    assert cause_of(-11, [], terminated=False, killed=False) == ("crashed", "signal 11: ")
    long = cause_of(1, ["x" * 5000], terminated=False, killed=False)[1]
    assert len(long) <= 500


def test_R61_flags_follow_what_the_binary_knows() -> None:
    old = Binary(Path("/rqlited"), 8, frozenset({"raft-timeout", "raft-shutdown-stepdown"}))
    new = Binary(
        Path("/rqlited"), 10, frozenset({"raft-heartbeat-timeout", "raft-shutdown-stepdown", "auto-optimize-int"})
    )
    spec = StartSpec("n", "i", 1, "id", 5001, 7001, mode="join", join=("10.0.0.1:7001", "10.0.0.2:7002"))
    for which, heartbeat in ((old, "-raft-timeout=250ms"), (new, "-raft-heartbeat-timeout=250ms")):
        line = arguments(which, spec, Timers(0.25), Path("/data/n/i/rqlite"), Path("/data/n/i/tls.pem"))
        assert line[0] == "/rqlited"
        assert line[-1] == "/data/n/i/rqlite"
        assert {"-node-id=id", "-http-addr=127.0.0.1:5001", "-raft-adv-addr=127.0.0.1:7001"} < set(line)
        assert {heartbeat, "-raft-election-timeout=250ms", "-raft-leader-lease-timeout=250ms"} < set(line)
        assert {"-raft-shutdown-stepdown=false", "-join=10.0.0.1:7001,10.0.0.2:7002"} < set(line)
        assert not [flag for flag in line if "cluster-remove-shutdown" in flag or "reap" in flag]
        assert ("-auto-optimize-int=0h" in line) == (which is new)
    alone = arguments(old, attrs.evolve(spec, mode="restart", join=()), Timers(), Path("/d"), None)
    assert not [flag for flag in alone if "join" in flag or "-node-c" in flag]
    for wrong in (0.004, 61.0):
        with pytest.raises(ValueError, match="heartbeat"):
            Timers(wrong)


def test_R36_secrets_of_the_node_are_not_in_the_environment_of_rqlited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORPOR_API_KEY", "secret")
    monkeypatch.setenv("PATH", "/bin")
    assert environment({"GOMAXPROCS": "1"})["GOMAXPROCS"] == "1"
    assert environment({})["PATH"] == "/bin"
    assert "TORPOR_API_KEY" not in environment({})


def test_F82_a_start_with_a_name_that_leads_out_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot be"):
        Directories(tmp_path).instance("..", "x")
