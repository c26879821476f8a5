"""``python -m sim replay``: what was recorded is stepped again, and whatever is not the same is found and shown."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from protocol import recording
from protocol.effects import Effects
from protocol.lifecycle import doors, sleep
from protocol.node import Node
from protocol.recording import Header, Writer
from protocol.state import Hosted
from sim import loader
from sim.__main__ import main
from sim.play import play
from tests.protocol.solo import Solo

ROOT = Path(__file__).resolve().parents[2]


class Recorded:
    """Records every engine of this process into segments of ``length`` steps, each engine from its own beginning."""

    def __init__(self, directory: Path, length: int) -> None:
        self.directory = directory
        self.length = length
        self.number = 0
        self.steps = 0
        self._engine: Node | None = None
        self._writer = Writer()
        self._written = 0
        self.real = Node.step

    def begin(self, engine: Node, follows: int) -> None:
        self.number += 1
        self._engine, self._writer, self._written = engine, Writer(), 0
        header = Header(recording.SHAPE, "0.1.0", 1_800_000_000_000_000 + engine.now, engine.now, follows)
        self.path.write_bytes(self._writer.begin(header, recording.checkpoint(engine)))

    @property
    def path(self) -> Path:
        return self.directory / f"{self.number:06d}.rec"

    def step(self, engine: Node, given: Any) -> Effects:
        if engine is not self._engine:
            self.begin(engine, 0)
        elif self._written == self.length:
            self.begin(engine, self.number)
        outcome: Effects | Exception
        try:
            outcome = self.real(engine, given)
        except Exception as error:
            self._write(given, error)
            raise
        self._write(given, outcome)
        return outcome

    def _write(self, given: Any, outcome: Effects | Exception) -> None:
        self._written += 1
        self.steps += 1
        with self.path.open("ab") as file:
            file.write(self._writer.step(given, outcome))


def a_life(directory: Path, length: int) -> Recorded:
    """A database comes, sleeps, wakes; its node starts again, and a second one comes."""
    it = Recorded(directory, length)
    it.directory.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Node, "step", stepped_by(it))
        solo = Solo()
        solo.awake().asleep().ask()
        solo.boot()
        solo.ask("orders")
    return it


def stepped_by(it: Recorded) -> Callable[[Node, Any], Effects]:
    """As a method: a bound one would not be told the engine."""
    return lambda engine, given: it.step(engine, given)  # noqa: PLW0108


@pytest.fixture
def recorded(tmp_path: Path) -> Recorded:
    return a_life(tmp_path / "recorder", 10)


def replayed(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    code = main(["replay", *map(str, arguments)])
    said = capsys.readouterr()
    return code, said.out + said.err


@pytest.mark.parametrize("engine", ["table", "library"])
def test_R65_every_step_is_the_one_recorded(
    engine: str, recorded: Recorded, capsys: pytest.CaptureFixture[str]
) -> None:
    code, said = replayed(capsys, recorded.directory, "--engine", engine)
    assert code == 0, said
    assert f"segments: {recorded.number}, steps: {recorded.steps}; every effect is the one recorded" in said
    assert said.count("a process begins") == 2


def test_each_segment_replays_by_itself(recorded: Recorded, capsys: pytest.CaptureFixture[str]) -> None:
    paths = sorted(recorded.directory.iterdir())
    assert len(paths) > 3
    steps = 0
    for path in paths:
        code, said = replayed(capsys, path)
        assert code == 0, said
        steps += int(said.partition("steps: ")[2].partition(";")[0])
    assert steps == recorded.steps


def test_the_story_is_told_with_times_and_reasons(recorded: Recorded, capsys: pytest.CaptureFixture[str]) -> None:
    _, said = replayed(capsys, recorded.directory, "--story")
    events = ("database created", "falling asleep", "hibernated", "wakeup request received", "woken")
    first_process = said.rpartition("a process begins")[0]
    assert [event for line in first_process.splitlines() for event in events if f"  {event} — " in line] == list(events)
    assert "s    myapp_users  hibernated — all stopped cleanly at index 5 [P34]" in said


def test_it_stops_where_it_is_told_and_shows_that_step(recorded: Recorded, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = replayed(capsys, recorded.directory, "--until", 3)
    assert code == 0
    assert "000001.rec, step 3, at 0.000003 s: Ask(3, 1, 'myapp', 'users', False)" in said
    assert "! ReservePorts(" in said
    assert "steps: 3;" in said


def test_replay_does_not_depend_on_the_order_of_hashes(recorded: Recorded) -> None:
    for seed in ("1", "4711"):
        done = subprocess.run(
            [sys.executable, "-m", "sim", "replay", str(recorded.directory)],
            cwd=ROOT,
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr


def stays_busy(_hosted: Hosted) -> bool:
    return True  # so it never falls asleep


def test_an_engine_that_decides_otherwise_is_found_and_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded = a_life(tmp_path / "recorder", 1000)
    monkeypatch.setattr(doors, "busy", stays_busy)
    code, said = replayed(capsys, recorded.directory)
    assert code == 1
    assert "then they part" in said
    assert "step 12, at 2.000005 s: Tick(2000005)" in said
    assert [line[:9] for line in said.splitlines() if line.startswith(("-", "+"))] == ["- ! Probe", "+ nothing"]


def test_an_engine_that_remembers_otherwise_is_found_at_the_next_segment(
    recorded: Recorded, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Node.step

    def step(engine: Node, given: Any) -> Effects:
        wanted = real(engine, given)
        engine.state.strangers.add("nobody")  # no effect ever tells of it
        return wanted

    monkeypatch.setattr(Node, "step", step)
    code, said = replayed(capsys, recorded.directory)
    assert code == 1
    assert "10 steps are alike" in said
    assert "000001.rec does not lead to the state with which 000002.rec begins" in said
    assert [line for line in said.splitlines() if line.startswith(("-", "+"))] == [
        "- strangers: set()",
        "+ strangers: {'nobody'}",
    ]


def test_a_failure_of_the_engine_is_replayed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    it = Recorded(tmp_path, 1000)

    def fails(*_: object) -> None:
        raise KeyError("a bug")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Node, "step", stepped_by(it))
        solo = Solo().awake()
        with pytest.MonkeyPatch.context() as bug:
            bug.setattr(sleep, "propose", fails)
            bug.setattr("protocol.node._WON", {"sleep": fails})
            with pytest.raises(KeyError):
                solo.asleep()
    code, said = replayed(capsys, it.path)
    assert code == 1  # the bug is mended: the step does not raise any more
    assert "- raised KeyError: 'a bug'" in said
    monkeypatch.setattr("protocol.node._WON", {"sleep": fails})
    code, said = replayed(capsys, it.path)
    assert code == 0
    assert "the engine failed, as it did then: KeyError: 'a bug' [test_replay.py:" in said


def test_a_torn_end_is_told_and_holds(recorded: Recorded, capsys: pytest.CaptureFixture[str]) -> None:
    data = recorded.path.read_bytes()
    recorded.path.write_bytes(data[:-5])
    code, said = replayed(capsys, recorded.directory)
    assert code == 0, said
    assert f"steps: {recorded.steps - 1};" in said
    assert "bytes are half a step, cut off by a crash" in said
    recorded.path.write_bytes(data[:40])
    code, said = replayed(capsys, recorded.directory)
    assert code == 0, said
    assert "a crash came before its first step" in said
    assert replayed(capsys, recorded.path)[0] == 2


def test_a_torn_middle_is_damage(recorded: Recorded, capsys: pytest.CaptureFixture[str]) -> None:
    first = recorded.directory / "000001.rec"
    first.write_bytes(first.read_bytes()[:-5])
    code, said = replayed(capsys, recorded.directory)
    assert code == 2
    assert "000002.rec: it goes on from 000001.rec, which ends in the middle of a step" in said


def test_damage_and_nonsense_are_one_line_and_status_2(recorded: Recorded, capsys: pytest.CaptureFixture[str]) -> None:
    first = recorded.directory / "000001.rec"
    data = first.read_bytes()
    first.write_bytes(data[:-100] + bytes([data[-100] ^ 1]) + data[-99:])
    other = recorded.directory / "README"
    other.write_text("no recording")
    (recorded.directory / "empty").mkdir()
    for where, why in (
        (recorded.directory, "000001.rec: it is damaged at byte "),
        (first, "000001.rec: it is damaged at byte "),
        (other, "it does not begin with 'torpor flight recording 1'"),
        (recorded.directory / "empty", "no recording (.rec) is in "),
        (recorded.directory / "none.rec", "No such file"),
    ):
        code, said = replayed(capsys, where)
        assert (code, said.count("\n")) == (2, 1), said
        assert why in said


def test_a_simulated_world_of_several_nodes_replays_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each engine of a scenario recorded for itself."""
    recorders: dict[int, Recorded] = {}
    engines: list[Node] = []  # kept: their ids must not be used again
    real = Node.step

    def step(engine: Node, given: Any) -> Effects:
        if id(engine) not in recorders:
            engines.append(engine)
            recorders[id(engine)] = it = Recorded(tmp_path / f"{len(engines)}", 100)
            it.real = real
            it.directory.mkdir()
        return recorders[id(engine)].step(engine, given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Node, "step", step)
        outcome = play(loader.load(loader.find("failover")))
    assert outcome.held, outcome.broken
    assert len(engines) > 3  # one machine came back
    for it in recorders.values():
        code, said = replayed(capsys, it.directory)
        assert code == 0, said
        assert f"steps: {it.steps};" in said
