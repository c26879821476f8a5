"""The flight recorder beside a real driver and a real node: what it keeps replays in the simulator, its ring stays within its bound, a
disk that fails costs recordings and nothing else, and no secret is in it."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import trio
import trio.testing

from protocol import recording
from protocol.effects import Effects
from protocol.inputs import Ask, Boot, Input, PortsRefused, Probed, Tick
from protocol.limits import SECOND
from protocol.node import Config, Node
from runtime import identity
from runtime.driver import Driver, EngineFailed
from runtime.recorder import LAST_FLUSH, PAUSE, Recorder
from runtime.store import Store
from tests.runtime.node_world import action, event, world

ROOT = Path(__file__).resolve().parents[2]
KIB = 1024


def replay(where: Path, *arguments: str) -> str:
    """In a process of its own, as an operator would, under other hashes than those of the one that recorded."""
    done = subprocess.run(
        [sys.executable, "-m", "sim", "replay", str(where), *arguments],
        cwd=ROOT,
        env=os.environ | {"PYTHONHASHSEED": "77"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


class Fed:
    """An engine on a clock of its own, stepped and recorded as the driver would."""

    def __init__(self, directory: Path, segment_kib: int = 64, segments: int = 4) -> None:
        self.now = 1
        self.engine = Node(Config("p1", replication_factor=1))
        self.directory = directory
        self.recorder = Recorder(
            directory,
            self.engine,
            segment_bytes=segment_kib * KIB,
            segments=segments,
            clock=lambda: self.now,
        )
        self._asked = 0

    def boot(self) -> None:
        self.step(Boot(self.now, bytes(32), found=True))

    def step(self, given: Input) -> Effects:
        wanted = self.engine.step(given)
        self.recorder.record(given, wanted)
        return wanted

    def ask(self, times: int = 1) -> None:
        """A creation that finds no ports: it leaves little behind in the engine's state, and much in a recording."""
        for _ in range(times):
            self._asked += 1
            self.now += SECOND
            wanted = self.step(Ask(self.now, self._asked, "app", "users"))
            for one in wanted.actions:
                if type(one).__name__ == "ReservePorts":
                    self.now += 1
                    self.step(PortsRefused(self.now, one.ticket, "none is free " * 20))  # type: ignore[union-attr]

    @property
    def files(self) -> list[Path]:
        return sorted(self.directory.glob("*.rec"))

    @property
    def bytes(self) -> int:
        return sum(path.stat().st_size for path in self.files)


# --- the ring -------------------------------------------------------------------------------------------------------


async def test_R65_the_ring_keeps_its_bound_and_each_of_its_segments_replays(tmp_path: Path) -> None:
    fed = Fed(tmp_path / "recorder")
    async with fed.recorder.running():
        fed.boot()
        while int(fed.files[-1].stem if fed.files else 0) < 12:
            fed.ask(5)
            fed.recorder.flush()
            assert fed.bytes <= 4 * 64 * KIB
    names = [path.name for path in fed.files]
    assert names[-1] == "000012.rec"
    assert len(names) in (3, 4)
    assert fed.recorder.left_out == 0
    assert {path.stat().st_mode & 0o777 for path in fed.files} == {0o600}
    assert fed.directory.stat().st_mode & 0o777 == 0o700
    said = replay(fed.directory)
    assert f"goes on from {int(fed.files[0].stem) - 1:06d}.rec, which is not here" in said
    assert f"segments: {len(names)}," in said
    for path in fed.files:
        replay(path)


async def test_a_new_process_goes_on_in_the_ring_of_the_old_one(tmp_path: Path) -> None:
    lives = [Fed(tmp_path / "recorder") for _ in range(3)]
    for fed in lives:
        async with fed.recorder.running():
            fed.boot()
            fed.ask()
    assert [path.name for path in lives[-1].files] == ["000001.rec", "000002.rec", "000003.rec"]
    assert replay(lives[-1].directory).count("a process begins") == 3


async def test_a_restart_with_a_smaller_ring_keeps_the_smaller_bound(tmp_path: Path) -> None:
    fed = Fed(tmp_path / "recorder", segments=40)
    async with fed.recorder.running():
        fed.boot()
        fed.ask(2000)
    assert fed.bytes > 4 * 64 * KIB
    fed = Fed(tmp_path / "recorder")
    async with fed.recorder.running():
        fed.boot()
    assert fed.bytes <= 4 * 64 * KIB


async def test_what_was_recorded_is_on_the_disk_within_a_second(
    tmp_path: Path, autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def at_once(
        write: Callable[[], None], *, abandon_on_cancel: bool
    ) -> None:  # the clock that jumps does not wait for a thread
        write()

    monkeypatch.setattr(trio.to_thread, "run_sync", at_once)
    fed = Fed(tmp_path / "recorder")
    async with fed.recorder.running():
        fed.boot()
        fed.ask(3)
        await trio.sleep(1.5)
        segment = recording.read(fed.files[0].read_bytes())
        assert (len(segment), segment.torn) == (fed.recorder.steps, 0)


# --- when it goes wrong ---------------------------------------------------------------------------------------------


async def test_a_step_that_raises_is_on_the_disk_when_the_node_ends(tmp_path: Path) -> None:
    engine = Node(Config("p1", replication_factor=1))
    recorder = Recorder(tmp_path / "recorder", engine, segment_bytes=64 * KIB, segments=4)
    with Store(tmp_path, create=True) as store:
        driver = Driver(engine, store, lambda _: None, record=recorder.record)
        driver.feed(Boot(0, bytes(32), found=True))
        driver.feed(Tick(0))
        driver.feed(Boot(0, bytes(32), found=True))
        async with recorder.running():
            with pytest.raises(EngineFailed):
                await driver.run()
    (path,) = (tmp_path / "recorder").iterdir()
    last = list(recording.read(path.read_bytes()).steps())[-1]
    assert isinstance(last.input, Boot)
    assert last.effects is None
    assert last.error
    assert f"the engine failed, as it did then: {last.error}" in replay(path)


async def test_a_disk_that_fails_costs_recordings_and_nothing_else(tmp_path: Path) -> None:
    fed = Fed(tmp_path / "recorder")
    async with fed.recorder.running():
        fed.boot()
        fed.ask(3)
        fed.recorder.flush()
        for path in fed.files:
            path.unlink()
        fed.directory.rmdir()
        fed.directory.write_text("a file is in the way")
        while fed.recorder.left_out == 0:  # the open file takes what it is given; the next one cannot be made
            fed.ask(50)
            fed.recorder.flush()
        fed.ask(5)
        left_out = fed.recorder.left_out
        fed.directory.unlink()
        fed.directory.mkdir()
        fed.now += PAUSE
        fed.ask(5)
        assert fed.recorder.left_out == left_out + 1
        steps = fed.recorder.steps
        fed.ask(5)
        assert fed.recorder.steps > steps
    said = replay(fed.directory)
    assert "goes on after steps that were left out" in said
    assert len(fed.files) == 1


async def test_a_directory_that_cannot_be_used_is_a_warning(tmp_path: Path) -> None:
    (tmp_path / "recorder").write_text("a file is in the way")
    fed = Fed(tmp_path / "recorder")
    async with fed.recorder.running():
        fed.boot()
        fed.recorder.flush()
        fed.ask(5)
        assert fed.recorder.left_out == 10
    assert fed.directory.read_text() == "a file is in the way"


async def test_a_node_that_never_took_a_step_leaves_no_recording(tmp_path: Path) -> None:
    fed = Fed(tmp_path / "recorder")
    async with fed.recorder.running():
        fed.recorder.flush()
    assert not fed.directory.exists()


async def test_what_waits_for_a_disk_that_hangs_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runtime.recorder.WAITING", 100 * KIB)
    fed = Fed(tmp_path / "recorder")
    async with fed.recorder.running():
        fed.boot()
        while fed.recorder.left_out == 0:
            fed.ask(10)  # nobody flushes
        fed.now += PAUSE
        fed.ask(10)
    assert replay(fed.directory).startswith("000001.rec")


async def test_a_step_that_is_larger_than_half_the_ring_pauses_it_and_what_comes_later_replays(tmp_path: Path) -> None:
    fed = Fed(tmp_path / "recorder")
    async with fed.recorder.running():
        fed.step(Boot(fed.now, bytes(32), found=True))
        fed.step(Probed(fed.now, "aa-1-bb", 1, 1, False, detail="x" * 150 * KIB))
        assert (fed.recorder.steps, fed.recorder.left_out) == (1, 1)
        fed.now += PAUSE
        fed.ask(5)
        assert fed.recorder.left_out == 2
    assert fed.bytes <= 4 * 64 * KIB
    said = replay(fed.directory)
    assert said.count("a process begins") == 1
    assert said.count("goes on after steps that were left out") == 1


async def test_the_end_of_a_node_does_not_wait_for_a_disk_that_hangs(
    tmp_path: Path, autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hangs(write: Callable[[], None], *, abandon_on_cancel: bool) -> None:
        assert abandon_on_cancel
        await trio.sleep_forever()

    monkeypatch.setattr(trio.to_thread, "run_sync", hangs)
    fed = Fed(tmp_path / "recorder")
    began = trio.current_time()
    async with fed.recorder.running():
        fed.boot()
        fed.ask()
    assert trio.current_time() - began <= LAST_FLUSH


async def test_a_state_that_is_too_large_for_the_ring_is_a_warning_that_says_what_to_set(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fed = Fed(tmp_path / "recorder")
    fed.boot()
    fed.engine.state.strangers.update(f"{n:064d}" for n in range(1200))
    async with fed.recorder.running():
        fed.ask()
    assert fed.recorder.steps == 0
    assert "set recorder.segments to 10" in capsys.readouterr().out


# --- a real node ----------------------------------------------------------------------------------------------------


@pytest.mark.real
async def test_R65_the_walk_of_make_run_replays_byte_for_byte(tmp_path: Path) -> None:
    process = await trio.lowlevel.open_process(
        [sys.executable, "-m", "runtime.demo", "--dir", str(tmp_path / "run")],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.STDOUT,
        env=os.environ | {"ONCE": "1"},
        start_new_session=True,
    )
    with trio.fail_after(120):
        assert await process.wait() == 0
    told = ""
    for number in (1, 2, 3):
        recording = tmp_path / "run" / f"node{number}" / "data" / "recorder"
        said = [replay(recording, "--story", "--engine", engine) for engine in ("table", "library")]
        assert all("every effect is the one recorded, byte for byte" in one for one in said)
        assert "demo_notes  woken — " in said[0], "each node woke its own member"
        told += said[0]
    for decided in ("database created", "hibernated"):  # by whoever coordinated
        assert f"demo_notes  {decided} — " in told


@pytest.mark.real
async def test_R65_no_secret_is_in_a_recording_and_a_killed_node_leaves_one_that_replays(tmp_path: Path) -> None:
    statement, argument = "SELECT 'statement-9c1f' AS said", "argument-7b2e"
    async with world(tmp_path, hibernation_timeout="300ms") as it:
        await it.execute("users", "CREATE TABLE t (secret TEXT)")
        await it.execute("users", "INSERT INTO t VALUES (?)", [argument])
        await it.rows("users", statement)
        await it.until(event("hibernated"))
        since = len(it.lines)
        await it.execute("users", "INSERT INTO t VALUES (?)", [argument])
        await it.until(action("Snapshot"), since=since)
        secrets = [it.key.encode(), statement.encode(), argument.encode(), b"CREATE TABLE"]
        who = identity.load(it.data)
        for key in (who.key, who.secret):
            secrets += [key, key.hex().encode(), base64.b64encode(key)[:40]]
        with trio.fail_after(20):
            while not (it.data / "recorder" / "000001.rec").exists():  # noqa: ASYNC110 (within a second)
                await trio.sleep(0.05)
        await it.killed()
        await it.start()
        await it.rows("users", "SELECT secret FROM t")
    recorded = it.data / "recorder"
    assert [path.name for path in sorted(recorded.iterdir())] == ["000001.rec", "000002.rec"]
    kept = b"".join(path.read_bytes() for path in recorded.iterdir())
    assert b"shop_users" in kept
    assert [secret for secret in secrets if secret in kept] == []
    assert replay(recorded).count("a process begins") == 2


@pytest.mark.real
async def test_a_node_may_go_without(tmp_path: Path) -> None:
    async with world(tmp_path, recorder={"enabled": False}) as it:
        await it.execute("users", "CREATE TABLE t (n INTEGER)")
    assert not (it.data / "recorder").exists()
