"""Falling asleep and waking where messages are lost, members die, lose their disks or their ports: nobody stays behind (P4, P33),
nobody is waited for in vain (P31, P54), and one member may move (P42)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from protocol import inputs as ip
from protocol.limits import MILLISECOND, SECOND
from protocol.messages import (
    MembersStored,
    PromiseAsk,
    RecordNews,
    SealAsk,
    SleepAbort,
    SleepCommit,
    SleepProposal,
    SleepReport,
    Standing,
    WakeIntent,
)
from protocol.records import Record
from tests.protocol.several import ELECTION, Several
from tests.protocol.test_several import agreed, asleep, created, formed


def only(kind: type, to: str = "") -> Callable[[str, str, Any], bool]:
    """Messages of this kind are lost, to this peer."""
    return lambda _sender, receiver, message: isinstance(message, kind) and to in ("", receiver)


def nothing(_sender: str, _to: str, _message: Any) -> bool:
    return False


def until(world: Several, event: str, times: int = 1) -> None:
    """Run until a decision was taken so often, a millisecond at a time."""
    for _ in range(60_000):
        if len(world.events(event)) >= times:
            return
        world.run(SECOND // 1000)
    raise AssertionError(f"{event} never came: {world.story()}")


def all_asleep(world: Several) -> None:
    assert set(world.states().values()) == {"hibernating"}, world.story()
    assert world.phases() == {"hibernating"}
    agreed(world)


def record(world: Several) -> Record:
    (node,) = [m.node for m in world.machines.values() if m.node is not None][:1]
    (one,) = node.state.records.values()
    return one


# --- P33: nobody sleeps alone, nobody runs alone --------------------------------------------------------------------


def deaf(sender: str, to: str, message: Any) -> bool:
    """p2's report is lost, and everything that would tell it that the sleep is over."""
    if sender == "p2":
        return isinstance(message, SleepReport)
    return to == "p2" and isinstance(message, (WakeIntent, RecordNews, SleepProposal, PromiseAsk))


def test_P33_who_obeyed_a_commit_that_the_others_gave_up_starts_with_them() -> None:
    world = created()
    world.lose = only(SleepCommit, to="p3")
    until(world, "falling asleep", 2)
    world.lose = deaf
    request = world.ask("p1")
    world.run(16 * SECOND)
    assert world.problem(request) is None
    assert [peer for peer, state in world.states().items() if state == "hibernating"] == ["p2"]
    world.lose = nothing
    world.ask("p1")
    until(world, "started after the others")
    assert world.events("started after the others") == ["p2"]
    world.run(40 * SECOND)
    all_asleep(world)


def test_P33_a_sleep_that_nobody_recorded_is_over() -> None:
    """The coordinator dies right after its commit: the others stopped for a sleep of which there is no record."""
    world = created()
    until(world, "falling asleep", 3)
    world.crash("p1")
    world.run(10 * SECOND)
    assert world.states() == {"p2": "hibernating", "p3": "hibernating"}
    assert record_phase(world) == "active"
    until(world, "started after the others", 2)
    world.run(30 * SECOND)
    all_asleep(world)
    world.boot("p1")
    world.run(20 * SECOND)
    all_asleep(world)


def record_phase(world: Several) -> str:
    (phase,) = world.phases()
    return phase


def test_P33_who_runs_without_a_quorum_calls_the_others() -> None:
    """p3 misses the commit, reopens, and promises itself a newer epoch while it is cut off; it may not follow the sleep then."""
    world = created()
    world.lose = only(SleepCommit, to="p3")
    until(world, "falling asleep", 2)
    world.partition("p3")
    world.run(30 * SECOND)
    assert world.states() == {"p1": "hibernating", "p2": "hibernating", "p3": "idle"}
    world.cut.clear()
    until(world, "others called")
    world.run(2 * SECOND)
    assert "p3" in world.events("others called")
    assert set(world.states().values()) <= {"active", "idle"}, world.story()
    world.run(30 * SECOND)
    all_asleep(world)


def test_P33_a_member_that_wakes_alone_asks_and_calls_the_others() -> None:
    """p3 comes back, its record says awake; the others stopped meanwhile, and nobody could record it."""
    world = created()
    world.crash("p3")
    world.lose = only(SleepReport)
    until(world, "falling asleep", 2)
    world.boot("p3")
    until(world, "others called")
    world.lose = nothing
    world.run(5 * SECOND)
    assert set(world.states().values()) <= {"active", "idle"}, world.story()
    world.run(40 * SECOND)
    all_asleep(world)


def test_P33_who_comes_back_while_the_others_sleep_goes_to_sleep() -> None:
    world = created()
    world.crash("p3")
    world.run(20 * SECOND)
    all_asleep(world)
    world.boot("p3")
    world.run(5 * SECOND)
    all_asleep(world)
    assert not world.events("others called"), "it wakes nobody"


# --- P4: stale messages are answered --------------------------------------------------------------------------------


@pytest.mark.parametrize("stale", ["commit", "proposal", "abort", "intent", "record", "promise", "report", "seal"])
def test_P4_whatever_is_stale_is_answered_with_how_things_stand(stale: str) -> None:
    world = created()
    before = record(world)
    world.run(10 * SECOND)
    world.ask("p1")
    world.run(3 * SECOND)
    inc, epoch = before.incarnation, 2
    message: Any = {
        "commit": SleepCommit(inc, epoch, 3),
        "proposal": SleepProposal(inc, epoch),
        "abort": SleepAbort(inc, epoch, "late"),
        "intent": WakeIntent(inc, epoch - 1),
        "record": RecordNews(before),
        "promise": PromiseAsk(inc, epoch, "sleep", before.stamp),
        "report": SleepReport(inc, epoch, True, 3),
        "seal": SealAsk(inc, epoch, -1),
    }[stale]
    told: list[Any] = []

    def watch(sender: str, to: str, m: Any) -> bool:
        if (sender, to) == ("p2", "p3"):
            told.append(m if isinstance(m, Standing) else getattr(m, "standing", None))
        return False

    world.lose = watch
    states = world.states()
    world.deliver("p3", "p2", message)
    world.run(20_000)
    (answer,) = [one for one in told if one is not None]
    assert answer.promised > epoch
    assert answer.state == "active"
    assert answer.record == record(world)
    assert world.states() == states, "F44: it changed nothing"


# --- P31, P54: who is waited for ------------------------------------------------------------------------------------


@pytest.mark.parametrize("wiped", ["p1", "p2", "p3"])
def test_F54_P54_a_wiped_member_is_not_waited_for(wiped: str) -> None:
    """It has nothing of the database and promises nothing; the others wake without it, and sleep again, unsealed."""
    world = asleep()
    world.crash(wiped)
    world.machines[wiped].rows.clear()
    world.boot(wiped)
    world.run(3 * SECOND)
    other = next(peer for peer in world.machines if peer != wiped)
    request = world.ask(other)
    world.run(3 * SECOND)
    assert world.problem(request) is None
    assert wiped not in world.states()
    world.run(25 * SECOND)
    all_asleep(world)
    assert record(world).seal is None, "P34: not all members have stopped"


def test_P31_a_heard_member_that_does_not_vote_keeps_the_others_awake() -> None:
    world = created()
    world.lose = only(SleepProposal, to="p3")
    world.run(40 * SECOND)
    assert not world.events("falling asleep"), world.story()


def test_P31_without_a_leader_among_the_voters_there_is_no_commit() -> None:
    world = created()
    world.crash("p3")
    world.run(2 * SECOND)
    group = next(iter(world.groups.values()))
    group.running = {one: where for one, where in group.running.items() if where[0] == "p2"}  # p2 alone: no leader
    world.run(40 * SECOND)
    assert not world.events("falling asleep"), world.story()


def test_F50_the_others_do_not_wait_for_a_member_that_is_not_heard() -> None:
    world = created()
    world.crash("p3")
    world.run(4 * SECOND)  # it is not heard any more
    until(world, "falling asleep", 2)
    proposed = [now for now, _p, d in world.log if d.event == "database idle"][-1]
    assert world.now - proposed < SECOND, "no deadline was waited for"


def test_P2_two_members_that_ask_at_one_moment_do_not_do_so_for_ever() -> None:
    """Cut off from each other, each is the first that it hears: both ask for an epoch at once, and again at once when they hear each other."""
    world = asleep(3, 2)
    world.cut = {("p1", "p2"), ("p2", "p1")}
    world.run(8 * SECOND)
    asleep_since = record(world)
    intent = WakeIntent(asleep_since.incarnation, asleep_since.version.epoch)
    world.deliver("p3", "p1", intent)
    world.run(ELECTION // 3 - MILLISECOND // 2)  # p1 waits for its second voter, and looks again just after that is up
    world.deliver("p3", "p2", intent)
    world.run(3 * SECOND)
    assert set(world.states().values()) == {"active"}
    assert world.phases() == {"hibernating"}, "nobody could record that it is awake"
    world.cut.clear()
    for _ in range(8):
        for peer in ("p1", "p2"):
            world.step(peer, ip.Used, worker=1, incarnation=intent.incarnation, count=1, in_flight=0)
        world.run(SECOND)
    assert world.phases() == {"active"}, world.story()


# --- P42, P6: one member moves --------------------------------------------------------------------------------------


def port_of(world: Several, peer: str) -> int:
    member = record(world).member(peer)
    assert member is not None
    return member.raft


def test_F47_P42_P6_one_member_of_three_moves_and_all_learn_it() -> None:
    world = asleep()
    old = port_of(world, "p2")
    world.taken.add(("p2", old))
    request = world.ask("p1")
    world.run(4 * SECOND)
    assert world.problem(request) is None
    assert world.states()["p2"] == "active", world.story()
    assert port_of(world, "p2") != old
    agreed(world)
    world.run(20 * SECOND)
    all_asleep(world)
    world.crash("p2")
    world.run(SECOND)
    world.boot("p2")
    request = world.ask("p3")
    world.run(4 * SECOND)
    assert world.problem(request) is None
    assert world.states()["p2"] == "active", "it wakes where it moved to"


def test_P42_two_members_of_three_never_move() -> None:
    """With two addresses unknown to the third there is no quorum that could be told: both wait for their ports."""
    world = asleep()
    old = {peer: port_of(world, peer) for peer in ("p2", "p3")}
    world.taken |= set(old.items())
    request = world.ask("p1")
    world.run(12 * SECOND)
    assert world.problem(request) is not None
    assert {peer: port_of(world, peer) for peer in old} == old
    world.taken.clear()
    request = world.ask("p1")
    world.run(5 * SECOND)
    assert world.problem(request) is None, world.story()


def test_P42_one_of_two_members_never_moves() -> None:
    world = asleep(2, 2)
    old = port_of(world, "p2")
    world.taken.add(("p2", old))
    request = world.ask("p1")
    world.run(12 * SECOND)
    assert world.problem(request) is not None
    assert port_of(world, "p2") == old
    world.taken.clear()
    request = world.ask("p1")
    world.run(5 * SECOND)
    assert world.problem(request) is None, world.story()


def test_P42_F46_who_moved_goes_back_where_the_others_cannot_be_told() -> None:
    """p2 starts on another port, and before anybody is told of it p3 is gone for good: only where p1 knows p2 are the two a quorum."""
    world = asleep()
    old = port_of(world, "p2")
    world.taken.add(("p2", old))
    world.ask("p1")
    for _ in range(4_000):
        if port_of(world, "p2") != old:
            break
        world.run(SECOND // 1000)
    assert port_of(world, "p2") != old
    world.crash("p3")
    world.taken.clear()
    world.run(20 * SECOND)
    assert port_of(world, "p2") == old, world.story()
    request = world.ask("p1")
    world.run(SECOND)
    assert world.problem(request) is None, world.story()
    moved = [key for key in world.machines["p2"].rows if key.startswith("moved/")]
    assert not moved, "its group knows it there"


def test_P6_an_address_that_no_majority_has_stored_is_not_used() -> None:
    world = asleep()
    old = port_of(world, "p2")
    world.taken.add(("p2", old))
    world.lose = only(MembersStored)
    request = world.ask("p1")
    world.run(3 * SECOND)
    assert world.problem(request) is None, "the others serve"
    group = next(iter(world.groups.values()))
    assert not any(where[0] == "p2" for where in group.running.values()), "it has not started there"
    world.lose = nothing
    world.run(15 * SECOND)
    assert world.states()["p2"] in ("active", "idle", "hibernating"), world.story()


# --- counted --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rf", [1, 2, 3, 5])
def test_R40_R42_R43_broadcasts_of_each_operation_are_counted(rf: int) -> None:
    """A create: request, confirm, record. A wake: intent, record. A sleep: record. An idle database: none."""
    world = formed(5, rf)
    request = world.ask("p1")
    world.run(2 * SECOND)
    assert world.problem(request) is None
    assert world.broadcasts == 3
    world.broadcasts = 0
    until(world, "hibernated")
    world.run(SECOND)
    assert world.broadcasts == 1
    world.broadcasts = 0
    world.run(60 * SECOND)
    assert world.broadcasts == 0, "asleep"
    member = next(iter(world.states()))
    request = world.ask(member)
    world.run(3 * SECOND)
    assert world.problem(request) is None
    assert world.broadcasts == 2
    world.broadcasts = 0
    world.lose = only(SleepProposal)
    if rf > 1:
        world.run(60 * SECOND)
        assert world.broadcasts == 0, "idle, and kept from sleeping"


def test_F51_F45_a_flood_on_three_nodes_is_one_wake_and_one_process_each() -> None:
    world = asleep()
    world.broadcasts = 0
    started = len(world.events("instance started"))
    requests = [world.ask(peer) for _ in range(100) for peer in world.machines]
    world.run(3 * SECOND)
    assert {world.problem(request) for request in requests} == {None}
    assert len(world.events("instance started")) == started + 3
    assert world.broadcasts <= len(world.machines) + 1, "an intent of each node at most, and the record"
