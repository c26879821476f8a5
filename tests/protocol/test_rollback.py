"""Stores that went back: wiped, restored from an older copy, cloned (P62, F27, F32). And two processes under one peer id (P63)."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import evolve

from protocol import codec, rollback, twins
from protocol import inputs as ip
from protocol.limits import SECOND
from protocol.messages import (
    Echo,
    Heartbeat,
    MembersStored,
    PromiseAnswer,
    PromiseAsk,
    Recall,
    RecordNews,
    StoreMembers,
    Twin,
)
from protocol.node import _MESSAGES
from protocol.records import Stamp
from protocol.rows import EpochPromise, Identity
from protocol.turn import Turn
from tests.protocol.several import Several


def created(rf: int = 3, count: int = 3) -> Several:
    world = Several(count, rf)
    world.run(2 * SECOND)
    request = world.ask("p1")
    world.run(2 * SECOND)
    assert world.problem(request) is None
    return world


def identity(world: Several, peer: str) -> Identity:
    row: Identity = codec.decode_row(world.machines[peer].rows["identity"])
    return row


def promised(world: Several, peer: str) -> int:
    rows = world.machines[peer].rows
    (row,) = [codec.decode_row(value) for key, value in rows.items() if key.startswith("promise/")]
    assert isinstance(row, EpochPromise)
    return row.epoch


def slept_and_woken(world: Several) -> None:
    """Two more epochs at least: a sleep and a wake."""
    world.run(12 * SECOND)
    assert set(world.states().values()) == {"hibernating"}
    request = world.ask("p1")
    world.run(3 * SECOND)
    assert world.problem(request) is None


def restored(world: Several, peer: str, copy: dict[str, bytes]) -> None:
    """The machine is put back to an older copy of its disk."""
    world.crash(peer)
    world.machines[peer].rows = dict(copy)
    world.run(SECOND)
    world.boot(peer)


# --- what is noticed ------------------------------------------------------------------------------------------------


def test_F32_P62_a_restored_store_takes_a_new_id_and_promises_again_when_all_have_told() -> None:
    world = created()
    copy, before = dict(world.machines["p3"].rows), identity(world, "p3")
    slept_and_woken(world)
    lost = promised(world, "p3")
    restored(world, "p3", copy)
    assert promised(world, "p3") < lost
    world.run(3 * SECOND)
    after = identity(world, "p3")
    assert (after.store, after.life) != (before.store, before.life)
    assert after.life == 2
    assert world.events("store rolled back") == ["p3"]
    world.run(8 * SECOND)
    assert world.events("promises again") == ["p3"]
    assert promised(world, "p3") >= lost
    assert not any(key.startswith("forgotten/") for key in world.machines["p3"].rows)
    slept_and_woken(world)
    assert len(world.roots()) == 1


def test_F32_P62_an_epoch_that_was_promised_before_the_rollback_is_not_promised_again() -> None:
    """p1 holds an epoch by its own promise and p3's. p3's store is put back; p2, which never heard of it, asks for the same epoch."""
    world = created(count=5)
    assert set(world.states()) == {"p1", "p2", "p3"}
    world.run(SECOND)
    copy = dict(world.machines["p3"].rows)
    incarnation = next(iter(world.incarnations()))
    epoch = promised(world, "p3") + 5  # above what a restart spends
    for peer in ("p1", "p3"):
        world.step(
            peer,
            ip.Received,
            sender="p1" if peer == "p3" else "p3",
            message=PromiseAsk(incarnation, epoch, "sleep", Stamp(0, 0, 0)),
        )
    world.run(2 * SECOND)
    world.cut = {("p1", "p3"), ("p3", "p1")}
    restored(world, "p3", copy)
    world.run(3 * SECOND)
    answers: list[PromiseAnswer] = []

    def listen(sender: str, _to: str, message: Any) -> bool:
        if sender == "p3" and isinstance(message, PromiseAnswer) and message.epoch == epoch:
            answers.append(message)
        return False

    world.lose = listen
    world.step("p3", ip.Received, sender="p2", message=PromiseAsk(incarnation, epoch, "sleep", Stamp(0, 0, 0)))
    assert world.listening() == set()
    assert not any(answer.granted for answer in answers), "p1 has not told yet"
    world.cut.clear()
    world.run(12 * SECOND)
    world.step("p3", ip.Received, sender="p2", message=PromiseAsk(incarnation, epoch, "sleep", Stamp(0, 0, 0)))
    assert {answer.granted for answer in answers} == {False}


def test_P62_P6_nothing_rests_on_a_promise_that_was_put_back() -> None:
    """The copy says that p1 holds p3's highest promise; since then p3 has promised above it. Neither a proposal of p1 nor new members
    that p1 would have stored get anything from p3 before the others have told."""
    world = created(count=5)
    copy = dict(world.machines["p3"].rows)
    held = world.state("p3").hosted[next(iter(world.incarnations()))]
    assert held.promise.holder == "p1"
    slept_and_woken(world)
    world.cut = {("p1", "p3"), ("p3", "p1")}
    restored(world, "p3", copy)
    world.run(3 * SECOND)
    assert world.listening() == set()
    hosted = world.state("p3").hosted[held.incarnation]
    assert hosted.promise.holder == ""
    answers: list[MembersStored] = []

    def listen(sender: str, _to: str, message: Any) -> bool:
        if sender == "p3" and isinstance(message, MembersStored):
            answers.append(message)
        return False

    world.lose = listen
    record = hosted.record
    newer = evolve(record, stamp=record.stamp._replace(term=9), version=record.version._replace(epoch=99))
    world.step("p3", ip.Received, sender="p2", message=StoreMembers(newer))
    assert answers == []


def test_P62_what_is_forgotten_stays_forgotten_over_a_restart() -> None:
    world = created()
    copy = dict(world.machines["p3"].rows)
    slept_and_woken(world)
    world.crash("p2")
    restored(world, "p3", copy)
    world.run(10 * SECOND)
    (incarnation,) = world.state("p3").forgotten
    world.crash("p3")
    world.boot("p3")
    world.run(10 * SECOND)
    assert set(world.state("p3").forgotten) == {incarnation}, "p2 has not told: it is down"
    world.boot("p2")
    world.run(12 * SECOND)
    assert world.state("p3").forgotten == {}


def test_P62_two_members_that_both_forgot_do_not_tell_each_other() -> None:
    world = created(count=5)
    _first, second, third = sorted(world.states())
    copies = {peer: dict(world.machines[peer].rows) for peer in (second, third)}
    world.run(12 * SECOND)
    for peer, copy in copies.items():
        restored(world, peer, copy)
    world.run(20 * SECOND)
    assert world.listening() == set()
    assert world.state(second).forgotten
    assert world.state(third).forgotten
    assert world.events("promises again") == []


def test_P62_two_of_three_lost_their_memory_and_wait_for_an_operator() -> None:
    """What the two decided together is known to nobody any more: the one that is left cannot vouch for it."""
    world = created(rf=1)
    for peer in ("p2", "p3"):
        world.crash(peer)
        world.machines[peer].rows.clear()
    world.run(SECOND)
    for peer in ("p2", "p3"):
        world.boot(peer)
    world.run(20 * SECOND)
    assert world.listening() == {"p2", "p3"}
    assert world.retire("p1", "p3").problem is None
    world.run(12 * SECOND)
    assert world.listening() == set()
    assert set(world.halted) == {"p3"}


def test_F32_a_database_of_one_replica_goes_on_after_its_store_was_put_back() -> None:
    world = created(rf=1)
    (host,) = world.states()
    copy = dict(world.machines[host].rows)
    world.run(12 * SECOND)
    request = world.ask(host)
    world.run(3 * SECOND)
    assert world.problem(request) is None
    restored(world, host, copy)
    world.run(8 * SECOND)
    assert world.events("promises again") == [host]
    request = world.ask(host)
    world.run(12 * SECOND)
    assert world.problem(request) is None
    assert set(world.states().values()) == {"hibernating"}
    assert len(world.roots()) == 1


def test_P62_P5_an_only_member_that_was_put_back_writes_above_all_that_it_may_have_written() -> None:
    """What p1 wrote since the copy is known to nobody: the same epochs come again, and must not be taken for the old ones."""
    world = created(rf=1)
    (host,) = world.states()
    copy = dict(world.machines[host].rows)
    world.run(12 * SECOND)
    world.lose = lambda _from, _to, message: isinstance(message, RecordNews)
    request = world.ask(host)
    world.run(SECOND)
    assert world.problem(request) is None
    (lost,) = world.state(host).records.values()
    restored(world, host, copy)
    world.lose = lambda _from, _to, _message: False
    world.run(8 * SECOND)
    request = world.ask(host)
    world.run(2 * SECOND)
    assert world.problem(request) is None
    (record,) = world.state(host).records.values()
    assert record.phase == lost.phase == "active"
    assert record.version.epoch <= lost.version.epoch
    assert record.version[:2] > lost.version[:2]  # whatever the stores are called


def test_P62_P5_a_record_of_its_own_betrays_a_rollback_that_no_heartbeat_told_of() -> None:
    world = created(rf=1)
    (host,) = world.states()
    copy = dict(world.machines[host].rows)
    world.run(12 * SECOND)
    request = world.ask(host)
    world.run(SECOND)
    assert world.problem(request) is None
    world.lose = lambda _from, to, message: to == host and isinstance(message, Echo)
    restored(world, host, copy)
    for machine in world.machines.values():
        if machine.peer != host and machine.node is not None:
            nodes = machine.node.state.nodes
            nodes[host] = evolve(nodes[host], promised=0, process="", store="")
    world.run(3 * SECOND)
    assert world.events("store rolled back") == [host]


def test_F27_a_wiped_node_returns_and_its_clock_does_not_run_backwards() -> None:
    world = created(rf=1)
    for name in ("one", "two", "three"):
        world.ask("p1", name)
        world.run(SECOND)
    before = identity(world, "p1")
    assert before.births >= 3
    world.crash("p1")
    world.machines["p1"].rows.clear()
    world.run(SECOND)
    world.boot("p1")
    world.run(7 * SECOND)
    after = identity(world, "p1")
    assert after.life > before.life
    assert after.store != before.store
    for peer in ("p2", "p3"):
        assert (world.state(peer).nodes["p1"].life, world.state(peer).nodes["p1"].store) == (after.life, after.store)
    minted = world.incarnations()
    world.ask("p1", "four")
    world.run(2 * SECOND)
    (new,) = world.incarnations() - minted
    assert not new.startswith(before.store)


def test_F32_a_store_that_was_copied_to_another_peer_is_not_taken_for_its_own() -> None:
    world = created()
    world.crash("p3")
    world.machines["p3"].rows = dict(world.machines["p2"].rows)
    world.boot("p3")
    world.run(8 * SECOND)
    assert identity(world, "p3").store != identity(world, "p2").store
    assert world.listening() == set()


def test_P62_an_old_heartbeat_that_comes_late_rolls_nobody_back() -> None:
    world = created()
    old: list[Heartbeat] = []

    def keep(sender: str, _to: str, message: Any) -> bool:
        if sender == "p3" and isinstance(message, Heartbeat):
            old.append(message)
        return False

    world.lose = keep
    slept_and_woken(world)
    world.deliver("p3", "p1", old[0])
    world.run(3 * SECOND)
    assert world.events("store rolled back") == []


def test_P62_marks_are_remembered_by_peers_over_their_restarts() -> None:
    world = created()
    copy = dict(world.machines["p3"].rows)
    slept_and_woken(world)
    world.run(2 * SECOND)
    for peer in ("p1", "p2", "p3"):
        world.crash(peer)
    world.machines["p3"].rows = dict(copy)
    for peer in ("p1", "p2", "p3"):
        world.boot(peer)
    world.run(12 * SECOND)
    assert world.events("store rolled back") == ["p3"]
    assert set(world.states().values()) <= {"active", "idle", "hibernating"}


# --- two processes --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("copied", [True, False])
def test_P63_two_processes_under_one_peer_id_both_stop(copied: bool) -> None:
    """Neither hears the other; their peers tell them."""
    world = created()
    twin = world.twin("p2", copied)
    world.run(8 * SECOND)
    assert set(world.halted) == {"p2", twin}
    assert all("another process runs under peer id p2" in reason for reason in world.halted.values())


def test_P63_a_fast_restart_is_no_twin_however_late_its_predecessors_heartbeats_are() -> None:
    world = created()
    old: list[Heartbeat] = []

    def keep(sender: str, _to: str, message: Any) -> bool:
        if sender == "p2" and isinstance(message, Heartbeat):
            old.append(message)
        return False

    world.lose = keep
    world.run(5 * SECOND)
    world.crash("p2")
    world.boot("p2")
    world.run(2 * SECOND)
    for beat in (*old, *reversed(old)):
        world.step("p1", ip.Received, sender="p2", message=beat)
        world.step("p3", ip.Received, sender="p2", message=beat)
        world.run(SECOND)
    assert world.state("p2").twin, "it was told of its predecessor, more than once"
    assert world.halted == {}


def test_P63_a_process_that_was_stopped_while_its_successor_started_stops_with_it() -> None:
    world = created()
    world.run(SECOND)
    paused, world.machines["p2"].node = world.machines["p2"].node, None
    world.run(3 * SECOND)
    twin = world.twin("p2", copied=True)
    world.run(5 * SECOND)
    assert world.halted == {}
    world.machines["p2"].node = paused
    world.run(8 * SECOND)
    assert set(world.halted) == {"p2", twin}


# --- the safeguards, switched off -----------------------------------------------------------------------------------


def test_P62_proof_without_the_echo_a_rollback_is_not_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(_MESSAGES, Echo, lambda *_: None)
    for proof in (
        test_F32_P62_a_restored_store_takes_a_new_id_and_promises_again_when_all_have_told,
        test_F27_a_wiped_node_returns_and_its_clock_does_not_run_backwards,
    ):
        with pytest.raises((AssertionError, KeyError)):
            proof()


def test_P62_proof_promising_before_all_have_told_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rollback, "may_promise", lambda *_: True)
    for proof in (
        test_F32_P62_an_epoch_that_was_promised_before_the_rollback_is_not_promised_again,
        test_P62_P6_nothing_rests_on_a_promise_that_was_put_back,
    ):
        with pytest.raises(AssertionError):
            proof()


def test_P62_proof_members_that_forgot_and_tell_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    recall = rollback.on_recall

    def tells_anyway(turn: Turn, sender: str, message: Recall) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(rollback, "may_promise", lambda *_: True)
            recall(turn, sender, message)

    monkeypatch.setitem(_MESSAGES, Recall, tells_anyway)
    with pytest.raises(AssertionError):
        test_P62_two_members_that_both_forgot_do_not_tell_each_other()


def test_P62_proof_marks_that_are_not_durable_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    write = Turn.write
    monkeypatch.setattr(
        Turn, "write", lambda turn, key, row: None if key.startswith("known/") else write(turn, key, row)
    )
    with pytest.raises(AssertionError):
        test_P62_marks_are_remembered_by_peers_over_their_restarts()


def test_P63_proof_without_their_peers_twins_live_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(_MESSAGES, Twin, lambda *_: None)
    with pytest.raises(AssertionError):
        test_P63_two_processes_under_one_peer_id_both_stop(True)


def test_P63_proof_a_process_that_stops_when_it_is_told_of_another_one_is_caught(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hasty = twins.on_twin
    monkeypatch.setitem(
        _MESSAGES, Twin, lambda turn, sender, told: hasty(turn, sender, evolve(told, twin=turn.state.process))
    )
    with pytest.raises(AssertionError):
        test_P63_a_fast_restart_is_no_twin_however_late_its_predecessors_heartbeats_are()
