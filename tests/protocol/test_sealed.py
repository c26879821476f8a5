"""Reading a database while it sleeps: only a sealed copy is read, its age is right or unknown, and a start revokes every reader first."""

from __future__ import annotations

import pytest
from attrs import evolve

from protocol import effects as fx
from protocol import inputs as ip
from protocol.limits import SECOND
from protocol.messages import RecordNews
from protocol.records import Seal, quarantined
from tests.protocol.solo import CONFIG, Solo
from tests.protocol.test_several import asleep, created

NOTHING = fx.SealedCopy(1, "myapp", "users")


def voted_at(solo: Solo) -> int:
    return solo.node.state.hosted[solo.db.incarnation].voted_at


def starts(solo: Solo) -> int:
    return len(solo.actions(fx.Start))


def test_P34_a_worker_that_asks_is_told_of_the_sealed_copy_and_since_when_it_is_current() -> None:
    solo = Solo().asleep()
    assert solo.db.seal
    told = solo.read()
    assert (told.worker, told.open, told.incarnation, told.internal) == (1, True, solo.db.incarnation, "myapp_users")
    assert 0 < told.current_at == voted_at(solo) < solo.now


def test_P34_the_age_counts_from_before_the_snapshot_and_not_from_the_exit() -> None:
    solo = Solo(hold={fx.Snapshot}).awake()
    solo.wait(3 * SECOND)
    begun = solo.now
    solo.wait(SECOND // 2)  # somebody past every door may write meanwhile: that need not be in the copy
    taken = solo.release(fx.Snapshot)
    solo.step(ip.Snapshotted, incarnation=taken.incarnation, run=taken.run, ok=True, applied=solo.applied)
    assert solo.read().current_at <= begun


def test_P34_nothing_else_is_told_of_while_it_is_awake_falling_asleep_or_unknown() -> None:
    solo = Solo(hold={fx.Snapshot})
    assert solo.read() == NOTHING
    solo.awake()
    assert solo.read() == NOTHING
    solo.wait(3 * SECOND)
    assert solo.db.state == "hibernating"
    assert solo.read() == NOTHING, "its stop is not over"


def test_F53_a_stop_that_was_not_clean_leaves_nothing_to_read() -> None:
    solo = Solo(hold={fx.Terminate}).awake()
    solo.wait(3 * SECOND)
    asked = solo.release(fx.Terminate)
    solo.exited(asked.incarnation, asked.run, "killed")
    assert (solo.db.state, solo.db.process) == ("hibernating", "none")
    assert solo.read() == NOTHING


def test_F53_a_copy_that_is_not_the_one_of_the_seal_is_not_read() -> None:
    solo = Solo().asleep()
    hosted = solo.node.state.hosted[solo.db.incarnation]
    assert hosted.record.seal == Seal(hosted.readers.epoch, solo.applied)
    hosted.readers.index += 1
    assert solo.read() == NOTHING


def test_F53_an_age_that_is_unknown_is_refused_a_new_process_reads_nothing() -> None:
    solo = Solo().asleep()
    solo.boot(b"f" * 32)
    assert solo.db.state == "hibernating"
    assert solo.db.seal
    assert solo.read() == NOTHING


def test_P34_a_read_neither_wakes_nor_vetoes() -> None:
    solo = Solo(hold={fx.Probe}).awake()
    solo.wait(2 * SECOND)
    while solo.held:
        assert solo.read() == NOTHING
        solo.carry_out(solo.held.pop(0))
    assert (solo.db.state, solo.db.process) == ("hibernating", "none")
    solo.read()
    assert (solo.db.state, solo.db.process) == ("hibernating", "none")
    assert "sleep vetoed" not in solo.events()


def test_P34_a_start_waits_until_the_last_reader_is_gone() -> None:
    solo = Solo(workers=(1, 2), hold={fx.SealedCopy}).asleep()
    assert solo.read(1).open
    assert solo.read(2).open
    solo.held.clear()
    before = starts(solo)
    request = solo.ask()
    first, second = solo.release(fx.SealedCopy), solo.release(fx.SealedCopy)
    assert (first.worker, first.open, second.worker, second.open) == (1, False, 2, False)
    assert starts(solo) == before
    assert solo.db.state == "waking"
    solo.closed(second)
    solo.closed(first, in_flight=1)
    assert starts(solo) == before, "one is still reading"
    assert request not in solo.answers
    solo.closed(first)
    assert starts(solo) == before + 1
    assert solo.answers[request].problem is None


def test_P34_an_acknowledgement_of_an_earlier_closing_does_not_count() -> None:
    solo = Solo(hold={fx.SealedCopy}).asleep()
    solo.read()
    solo.ask()
    solo.held.clear()
    solo.closed(solo.actions(fx.SealedCopy)[-1])
    late = solo.actions(fx.SealedCopy)[-1]
    solo.asleep()
    assert solo.read().open
    before = starts(solo)
    solo.ask()
    solo.closed(late)
    assert starts(solo) == before
    solo.closed(solo.actions(fx.SealedCopy)[-1])
    assert starts(solo) == before + 1


def test_P34_who_reads_nothing_is_not_waited_for() -> None:
    solo = Solo(workers=(1, 2), hold={fx.SealedCopy}).asleep()
    before = starts(solo)
    assert solo.answers[solo.ask()].problem is None
    assert starts(solo) == before + 1
    assert not solo.held, "no worker was told, since none had asked"


def test_P34_a_worker_that_left_reads_nothing_any_more() -> None:
    solo = Solo(workers=(1, 2), hold={fx.SealedCopy}).asleep()
    solo.read(2)
    before = starts(solo)
    solo.ask()
    assert starts(solo) == before
    solo.step(ip.WorkerLeft, worker=2)
    assert starts(solo) == before + 1
    assert solo.step(ip.ReadSealed, worker=2, app="myapp", name="users").actions == ()


def test_P34_a_reader_that_does_not_end_makes_the_wake_fail_and_not_the_database() -> None:
    solo = Solo(hold={fx.SealedCopy}).asleep()
    solo.read()
    before = starts(solo)
    request = solo.ask()
    solo.wait(CONFIG.wake_deadline + SECOND)
    assert solo.answers[request].problem == "wake-timeout"
    assert starts(solo) == before
    solo.closed(solo.actions(fx.SealedCopy)[-1])
    solo.wait(10 * SECOND)
    assert solo.answers[solo.ask()].problem is None


def test_R1_a_name_that_is_none_has_no_copy() -> None:
    solo = Solo()
    told = solo.step(ip.ReadSealed, worker=1, app="my app", name="users").actions
    assert told == (fx.SealedCopy(1, "my app", "users"),)


@pytest.mark.parametrize("rf", [1, 2, 3])
def test_P34_each_member_reads_its_own_copy_and_who_is_none_names_the_members(rf: int) -> None:
    world = asleep(4, rf)
    members = set(world.states())
    for peer in world.machines:
        told = world.read(peer)
        assert told.open == (peer in members)
        assert {hop.peer for hop in told.hops} == (set() if told.open else members)
        assert told.open or (told.incarnation, told.generation) == ("", 0), "nothing is closed by it"
    world.run(10 * SECOND)
    assert set(world.states().values()) == {"hibernating"}, "and nobody has woken anything"
    request = world.ask("p1")
    world.run(3 * SECOND)
    assert world.problem(request) is None, world.story()
    assert not any(world.read(peer).open or world.read(peer).hops for peer in world.machines)


def test_F53_a_member_whose_copy_has_no_age_names_nobody_and_wakes_as_for_any_client() -> None:
    world = asleep(4)
    member = next(iter(world.states()))
    world.crash(member)
    world.run(SECOND)
    world.boot(member)
    world.run(5 * SECOND)
    told = world.read(member)
    assert (told.open, told.hops) == (False, ())
    assert set(world.states().values()) == {"hibernating"}


def test_F93_only_members_that_are_heard_are_named() -> None:
    world = asleep(4)
    first, *others = world.states()
    (outside,) = set(world.machines) - {first, *others}
    world.crash(first)
    world.run(10 * SECOND)
    assert {hop.peer for hop in world.read(outside).hops} == set(others)
    for peer in others:
        world.crash(peer)
    world.run(10 * SECOND)
    assert world.read(outside).hops == ()


def test_P15_nobody_is_sent_to_a_database_that_is_quarantined() -> None:
    world = asleep(4)
    (outside,) = set(world.machines) - set(world.states())
    (incarnation,) = world.incarnations()
    node = world.machines[outside].node
    assert node is not None
    world.step(outside, ip.Received, sender="p1", message=RecordNews(quarantined(node.state.records[incarnation])))
    assert world.read(outside).hops == ()


def test_P54_a_member_without_its_data_names_the_others_and_not_itself() -> None:
    world = asleep()
    lost, *others = sorted(world.states())
    world.wiped.add(lost)
    world.ask(lost)
    world.run(20 * SECOND)
    assert set(world.states().values()) == {"hibernating"}
    node = world.machines[lost].node
    assert node is not None
    (record,) = node.state.records.values()
    assert (record.seal, world.read(lost).hops) == (None, ()), "it takes part in no sleep: there is no seal"
    (hosted,) = node.state.hosted.values()
    node.state.records[record.incarnation] = hosted.record = evolve(record, seal=Seal(1, 1))
    assert sorted(hop.peer for hop in world.read(lost).hops) == others


def test_P34_a_sleep_that_one_member_missed_has_no_copy_to_read() -> None:
    world = created()
    world.crash("p3")
    world.run(40 * SECOND)
    assert set(world.states().values()) == {"hibernating"}
    assert not any(world.read(peer).open for peer in ("p1", "p2"))
