"""Each check of the world notices what it is there for: a safeguard is taken out, and a run that held no longer does."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import evolve

from protocol import codec, effects, inputs, keys, messages, promises
from protocol.lifecycle import doors, process, sleep
from protocol.limits import MILLISECOND, SECOND
from protocol.rows import EpochPromise
from sim import loader
from sim.disk import Directory
from sim.execute import CARRY_OUT, Executor
from sim.gateway import Worker
from sim.laws import Violation
from sim.machine import Machine
from sim.network import Network
from sim.play import Outcome, play, settings
from sim.rqlite import Rqlited
from sim.scenario import Fault, Machines, Moment, Scenario, Traffic
from sim.workload import Workload
from sim.world import World


def story(name: str) -> Scenario:
    return loader.load(loader.find(name))


BUSY = Scenario(
    "a slow statement is inside when the database looks idle",
    lasts=12 * SECOND,
    machines=Machines(hibernation_timeout=1 * SECOND),
    workload=(
        Traffic("a/b", 1 * SECOND, writes=1.0),
        Traffic("a/b", Moment("Write", 5), writes=0.0, takes=3 * SECOND),
        Traffic("a/b", 8 * SECOND, writes=1.0),
    ),
)
"""It enters while the sleep's epoch is being made durable, just before the door closes."""


def broken(scenario: Scenario) -> str:
    outcome: Outcome = play(scenario)
    assert not outcome.held
    return outcome.broken


def test_the_runs_below_hold_while_every_safeguard_is_in() -> None:
    assert play(BUSY).held


def test_P30_a_stop_with_queries_in_flight_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doors, "drained", lambda _turn, hosted: not hosted.open)
    # Two more guards stand behind the door: the worker's report, and rqlite's own counters.
    monkeypatch.setattr(sleep, "used", lambda *_: None)
    monkeypatch.setitem(CARRY_OUT, effects.Probe, _blind_probe)
    assert "P30" in broken(BUSY)


def _blind_probe(self: Executor, action: Any) -> None:
    rqlited = self.runs[action.incarnation][1]
    seen = (action.incarnation, action.run, action.token, True, 0, rqlited.directory.index, True)
    self._feed(inputs.Probed, *seen, (rqlited.start.node_id,))


def test_P23_F87_what_becomes_of_keys_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A revocation that comes undone, a key that is another elsewhere, nodes that end with other keys, and a worker that knows others than its node."""
    scenario = story("key_revoked_apart")
    assert play(scenario).held
    for kind, lie, said in (
        ("join_keys", lambda _known, told: told, "and is so no more"),
        ("join_keys", lambda known, told: evolve(told, scope="admin", revoked=known.revoked), "that was born as"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(keys, kind, lie)
            assert said in broken(scenario)
    with monkeypatch.context() as patch:
        patch.setattr(keys, "differing", lambda *_: ())
        assert "know other API keys at rest" in broken(story("key_revoked_unheard"))
    with monkeypatch.context() as patch:
        patch.setattr(Worker, "told_keys", lambda *_: None)
        assert "knows other API keys than its node" in broken(scenario)


def test_F41_a_worker_that_ignores_closed_doors_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def told_door(self: Worker, door: Any) -> None:
        real(self, door)
        self._gates[door.incarnation].open = True

    real = Worker.told_door
    monkeypatch.setattr(Worker, "told_door", told_door)
    many = Scenario(
        "queries all the time, rarely enough to fall asleep between",
        lasts=20 * SECOND,
        machines=Machines(hibernation_timeout=1 * SECOND),
        workload=(Traffic("a/b", 1 * SECOND), Traffic("a/b", Moment("Terminate", 1, 1000))),
    )
    assert "P30" in broken(many)


def test_F41_a_lost_write_is_noticed_by_the_next_read(monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(self: Directory, chance: Any) -> None:
        self.values, self.pid, self.unsynced = self.values[:-1], 0, []

    monkeypatch.setattr(Directory, "crash", crash)
    assert "is lost" in broken(story("rqlited_and_node_die"))


def test_F86_a_write_that_is_there_twice_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def write_done(self: Rqlited, number: int) -> None:
        before = len(self.directory.values)
        real(self, number)
        self.directory.values.extend(self.directory.values[before:])

    real = Rqlited._write_done
    monkeypatch.setattr(Rqlited, "_write_done", write_done)
    assert "is there twice" in broken(story("first_access"))


def test_F61_an_orphan_that_nobody_stopped_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Machine, "_sweep", lambda self, node: self._boot(node))
    assert "F45" in broken(story("rqlited_and_node_die"))


def test_P3_a_promise_that_goes_back_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def spend(turn: Any, hosted: Any, epoch: int) -> None:
        hosted.promise = EpochPromise(hosted.incarnation, max(0, epoch - 2), "")
        turn.write(f"promise/{hosted.incarnation}", hosted.promise)

    monkeypatch.setattr(promises, "spend", spend)
    assert "P" in broken(story("sleep_and_wake"))[:1]


def test_P41_a_start_before_the_observed_exit_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(self: Executor, rqlited: Rqlited, code: Any, cause: Any, detail: str) -> None:
        # The engine hears of an exit that the supervisor has not reaped.
        start = rqlited.start
        self._feed(inputs.InstanceExited, start.incarnation, start.run, code, cause, detail, True)

    monkeypatch.setattr(Executor, "_gone", gone)
    assert "P41" in broken(story("sleep_and_wake")) or "F61" in broken(story("sleep_and_wake"))


def test_R42_a_sleeping_database_that_keeps_its_port_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CARRY_OUT, effects.ReleasePorts, lambda _self, _action: None)
    assert "R42" in broken(story("sleep_and_wake"))


def test_F3_an_ask_that_is_answered_twice_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(self: Executor, action: Any) -> None:
        real(self, action)
        real(self, action)

    real = Executor.answer
    monkeypatch.setitem(CARRY_OUT, effects.Answer, answer)
    assert "answered twice" in broken(story("first_access"))


def test_liveness_a_database_that_never_comes_back_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "again_later", lambda _turn, _hosted: None)
    scenario = Scenario(
        "a start fails once",
        lasts=6 * SECOND,
        machines=Machines(hibernation_timeout=0),
        workload=(Traffic("a/b", 1 * SECOND),),
        faults=(
            Fault("fail", "start", 2500 * MILLISECOND),
            Fault("kill", "rqlited", 3 * SECOND),
        ),
    )
    assert "liveness" in broken(scenario)


def test_P12_a_group_that_is_founded_once_more_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    real = process.launch

    def launch(turn: Any, hosted: Any, _mode: str, join: Any = (), peers: Any = None) -> None:
        real(turn, hosted, "found", join, peers)

    monkeypatch.setattr(process, "launch", launch)
    assert "P12" in broken(story("rqlited_and_node_die"))


def test_F20_a_directory_that_stays_behind_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    real = Network._carry

    def carry(self: Network, link: Any, data: bytes, ordered: bool) -> None:
        if link[1] != "n3" or type(codec.decode(data)) in (messages.Heartbeat, messages.SyncDone):
            real(self, link, data, ordered)

    scenario = Scenario(
        "n3 is told of nobody's records",
        lasts=10 * SECOND,
        machines=Machines(("n1", "n2", "n3"), count=3, health_interval=SECOND),
        workload=(Traffic("a/b", 4 * SECOND, "n1"),),
    )
    assert play(scenario).held
    monkeypatch.setattr(Network, "_carry", carry)
    assert "F20" in broken(scenario)


def test_an_engine_that_raises_is_a_finding_with_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    def swing(*_: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(doors, "swing", swing)
    assert "ZeroDivisionError: a bug [test_checks.py:" in broken(story("first_access"))


def with_a_record(*names: str) -> tuple[World, str, bytes]:
    """A world in which the first machine has stored a record; its row."""
    world = World(1, {name: settings(Machines(), name) for name in names})
    Workload(world, (Traffic("a/b", SECOND, node=names[0]),))
    world.start()
    world.schedule.run(4 * SECOND)
    rows = world.machines[names[0]].disk.rows
    return world, *next((key, data) for key, data in rows.items() if key.startswith("record/"))


@pytest.mark.parametrize("heard", [False, True])
def test_P5_P62_a_version_comes_again_only_where_nobody_has_heard_of_it(heard: bool) -> None:
    """A store that is put back cannot know what it wrote since, unless another has it."""
    world, key, data = with_a_record("n1", "n2")
    one, other = world.machines["n1"], world.machines["n2"]
    before = one.disk.copy()
    record = codec.decode_row(data)
    later = record.version._replace(epoch=record.version.epoch + 9)
    slept, active = evolve(record, version=later, phase="hibernating"), evolve(record, version=later, phase="active")
    for machine in (one, other) if heard else (one,):
        world.checks.durable(machine, (effects.Write(key, codec.encode(slept)),))
    one.put_back(before, whole=False)
    again = (effects.Write(key, codec.encode(active)),)
    if heard:
        with pytest.raises(Violation, match=r"P5: two records of .* have version"):
            world.checks.durable(one, again)
        return
    world.checks.durable(one, again)
    with pytest.raises(
        Violation, match=r"P5: two records of .* have version"
    ):  # what was under way is stored after all
        world.checks.durable(other, (effects.Write(key, codec.encode(slept)),))


def test_P5_two_writers_of_one_epoch_are_noticed() -> None:
    world, key, data = with_a_record("n1")
    machine = world.machines["n1"]
    record = codec.decode_row(data)
    world.checks.durable(machine, (effects.Write(key, data),))
    twin = evolve(record, version=record.version._replace(writer="another store"))
    with pytest.raises(Violation, match=r"P5: epoch .* has two writers"):
        world.checks.durable(machine, (effects.Write(key, codec.encode(twin)),))
