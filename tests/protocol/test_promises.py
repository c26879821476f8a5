"""Epochs, one database among its members: P1–P5, P32, P40, seen from the outside of one member."""

from __future__ import annotations

from attrs import evolve

from protocol import effects as fx
from protocol import inputs as ip
from protocol.limits import SECOND
from protocol.messages import (
    BirthAnswer,
    IdleNews,
    PromiseAnswer,
    PromiseAsk,
    RecordNews,
    SleepCommit,
    SleepProposal,
    SleepVote,
    Standing,
    StoreBirth,
    WakeIntent,
)
from protocol.node import Config
from protocol.records import Attempt, Member, Record, Stamp, Version
from tests.protocol.solo import Solo

TWO = Config("p1", known=("p1", "p2"), replication_factor=1, hibernation_timeout=2 * SECOND)


STAMP = Stamp(0, 1, 1)


def with_another_member(*more: str) -> Solo:
    """p1 hosts a database of which p2 (and ``more``) is told to be a member too: whatever p2 asks is answered to p2."""
    solo = Solo(TWO).awake()
    for peer in more:
        solo.hear(peer)
    record: Record = solo.node.state.records[solo.db.incarnation]
    others = [Member(peer, "127.0.0.1", 7009 + number) for number, peer in enumerate(("p2", *more))]
    members = (*record.members, *others)
    told = Record(record.birth, record.version, "active", members, STAMP)
    solo.step(ip.Received, sender="p2", message=RecordNews(told))
    assert len(solo.db.members) == 2 + len(more)
    return solo


def answers(effects: fx.Effects, kind: type) -> list[object]:
    return [send.message for send in effects.sends if isinstance(send.message, kind)]


def ask(solo: Solo, epoch: int, sender: str = "p2", stamp: Stamp = STAMP) -> PromiseAnswer:
    message = PromiseAsk(solo.db.incarnation, epoch, "sleep", stamp)
    (answer,) = answers(solo.step(ip.Received, sender=sender, message=message), PromiseAnswer)
    assert isinstance(answer, PromiseAnswer)
    return answer


def test_P1_an_epoch_is_promised_to_the_first_that_asks() -> None:
    solo = with_another_member("p3")
    assert ask(solo, 5).granted
    assert ask(solo, 5).granted, "asking again is answered alike"
    assert not ask(solo, 5, sender="p3").granted, "it is promised to p2"
    refused = ask(solo, 4)
    assert not refused.granted
    told = refused.standing
    assert (told.promised, told.state, told.record is not None) == (5, "active", True), "P4: what it rests on"


def test_P1_who_knows_newer_members_refuses() -> None:
    solo = with_another_member()
    refused = ask(solo, 5, stamp=Stamp(0, 0, 9))
    assert not refused.granted
    assert solo.db.promised == 1, "a promise under old members binds nobody"
    assert refused.standing.record is not None
    assert refused.standing.record.stamp == STAMP, "P4: the asker learns of them"
    assert ask(solo, 5).granted


def test_P1_a_promise_survives_its_process() -> None:
    solo = with_another_member()
    assert ask(solo, 5).granted
    solo.hold.add(fx.ReservePorts)  # the restart itself spends an epoch; look before it does
    solo.boot()
    assert solo.db.promised >= 5
    assert not ask(solo, 5).granted or solo.node.state.hosted[solo.db.incarnation].promise.holder == "p2"


def test_P2_a_coordinator_asks_for_one_more_than_it_was_told() -> None:
    solo = with_another_member()
    told = Standing(solo.db.incarnation, 9, "idle")
    solo.step(ip.Received, sender="p2", message=told)
    solo.wait(3 * SECOND)
    effects = solo.step(ip.Received, sender="p2", message=IdleNews(solo.db.incarnation, 1, True))
    asked = [message.epoch for message in answers(effects, PromiseAsk) if isinstance(message, PromiseAsk)]
    assert asked == [10]


def test_P8_a_node_that_is_no_member_is_promised_nothing() -> None:
    solo = Solo(TWO).awake()
    message = PromiseAsk(solo.db.incarnation, 5, "sleep", STAMP)
    effects = solo.step(ip.Received, sender="p2", message=message)
    assert not effects.writes
    assert [type(send.message) for send in effects.sends] == [Standing], "P4: it is told who the members are"
    assert solo.db.promised == 1


def test_F81_a_node_that_is_not_known_is_not_heard() -> None:
    solo = with_another_member()
    effects = solo.step(ip.Received, sender="p9", message=PromiseAsk(solo.db.incarnation, 5, "sleep", STAMP))
    assert effects == fx.NOTHING


def test_P5_an_epoch_that_was_lost_while_it_was_asked_for_is_not_used() -> None:
    solo = with_another_member()
    solo.wait(3 * SECOND)
    solo.step(ip.Received, sender="p2", message=IdleNews(solo.db.incarnation, 1, True))
    wanted = solo.db.promised
    assert ask(solo, wanted + 3).granted, "p2 asks higher, before it answers"
    granted = PromiseAnswer(solo.db.incarnation, wanted, True, Standing(solo.db.incarnation, wanted, "idle"))
    effects = solo.step(ip.Received, sender="p2", message=granted)
    assert answers(effects, SleepProposal) == []


def test_P5_an_epoch_below_that_of_the_record_is_not_used() -> None:
    """Others have promised above, to another one, which has written: the news comes first, and the promises for the old epoch late."""
    solo = with_another_member()
    solo.wait(3 * SECOND)
    solo.step(ip.Received, sender="p2", message=IdleNews(solo.db.incarnation, 1, True))
    wanted = solo.db.promised
    record: Record = solo.node.state.records[solo.db.incarnation]
    written = record.at(Version(0, wanted + 1, 0, "bb"), "active")
    solo.step(ip.Received, sender="p2", message=RecordNews(written))
    granted = PromiseAnswer(solo.db.incarnation, wanted, True, Standing(solo.db.incarnation, wanted, "idle"))
    effects = solo.step(ip.Received, sender="p2", message=granted)
    assert answers(effects, SleepProposal) == []
    assert solo.node.state.records[solo.db.incarnation] == written


def test_P32_a_commit_without_this_processs_vote_stops_nobody() -> None:
    solo = with_another_member()
    solo.hold.add(fx.Door)
    solo.wait(3 * SECOND)
    assert solo.db.state == "idle"
    assert ask(solo, 9).granted
    solo.step(ip.Received, sender="p2", message=SleepProposal(solo.db.incarnation, 9))
    solo.step(ip.Received, sender="p2", message=SleepCommit(solo.db.incarnation, 9, 5))
    assert not solo.actions(fx.Snapshot)
    assert "commit ignored" in solo.events()


def test_P32_P5_a_coordinator_that_has_promised_above_commits_nothing() -> None:
    """All have voted, and the leader has told its index; then p2 asks for a newer epoch. Nobody could record that sleep."""
    solo = with_another_member()
    solo.wait(3 * SECOND)
    solo.step(ip.Received, sender="p2", message=IdleNews(solo.db.incarnation, 1, True))
    epoch = solo.db.promised
    granted = PromiseAnswer(solo.db.incarnation, epoch, True, Standing(solo.db.incarnation, epoch, "idle"))
    solo.step(ip.Received, sender="p2", message=granted)
    solo.step(ip.Received, sender="p2", message=SleepVote(solo.db.incarnation, epoch, True))
    assert solo.node.state.hosted[solo.db.incarnation].sleep.index >= 0
    assert ask(solo, epoch + 3).granted
    solo.wait(5 * SECOND)
    assert solo.node.state.hosted[solo.db.incarnation].sleep is None
    assert "commit ignored" not in solo.events()


def test_P32_a_vote_of_a_node_that_is_no_member_counts_for_nothing() -> None:
    solo = with_another_member()
    solo.hear("p3")
    assert "p3" in solo.node.state.known
    solo.wait(3 * SECOND)
    solo.step(ip.Received, sender="p2", message=IdleNews(solo.db.incarnation, 1, True))
    epoch = solo.db.promised
    granted = PromiseAnswer(solo.db.incarnation, epoch, True, Standing(solo.db.incarnation, epoch, "idle"))
    solo.step(ip.Received, sender="p2", message=granted)
    asked = solo.node.state.hosted[solo.db.incarnation].sleep
    assert asked is not None
    solo.step(ip.Received, sender="p3", message=SleepVote(solo.db.incarnation, epoch, False, reason="a stranger"))
    solo.step(ip.Received, sender="p3", message=SleepVote(solo.db.incarnation, epoch, True, leader=True))
    assert solo.node.state.hosted[solo.db.incarnation].sleep is asked
    assert asked.votes.keys() == {"p1"}


def test_P30_a_proposal_under_another_epoch_than_the_promised_is_refused() -> None:
    solo = with_another_member()
    solo.wait(3 * SECOND)
    effects = solo.step(ip.Received, sender="p2", message=SleepProposal(solo.db.incarnation, 9))
    (vote,) = answers(effects, SleepVote)
    assert isinstance(vote, SleepVote)
    assert not vote.granted


def test_P11_P10_a_node_that_knows_a_living_database_stores_no_other_birth_of_its_name() -> None:
    """Whoever coordinates that birth has not asked it, or has not waited for its answer."""
    solo = Solo(TWO).awake()
    (record,) = solo.node.state.records.values()
    held = solo.node.state.names["myapp_users"]
    other = evolve(record.birth, incarnation="bb-1-cc", attempt=Attempt(9, "p2"))
    effects = solo.step(ip.Received, sender="p2", message=StoreBirth(other, other.attempt))
    assert answers(effects, RecordNews) == [RecordNews(record)]
    assert answers(effects, BirthAnswer) == []
    assert solo.node.state.names["myapp_users"] == held


def slept_without_it(solo: Solo) -> None:
    record: Record = solo.node.state.records[solo.db.incarnation]
    told = record.at(Version(0, 7, 0, "bb"), "hibernating")
    solo.step(ip.Received, sender="p2", message=RecordNews(told))


def test_P33_P30_a_member_that_learns_of_a_sleep_drains_before_it_stops() -> None:
    solo = with_another_member()
    solo.hold.add(fx.Door)
    slept_without_it(solo)
    door = solo.release(fx.Door)
    assert not door.open
    assert not solo.actions(fx.Snapshot)
    solo.ack(door, in_flight=1)
    assert not solo.actions(fx.Snapshot)
    solo.ack(door)
    assert solo.actions(fx.Snapshot)
    assert solo.db.state == "hibernating"


def test_P33_what_comes_late_of_a_sleep_that_is_recorded_keeps_nobody_awake() -> None:
    solo = with_another_member()
    solo.hear("p2")
    solo.wait(3 * SECOND)
    assert solo.db.state == "idle"
    solo.hold.add(fx.Door)
    slept_without_it(solo)
    assert ask(solo, 7).granted
    effects = solo.step(ip.Received, sender="p2", message=SleepProposal(solo.db.incarnation, 7))
    (vote,) = answers(effects, SleepVote)
    assert isinstance(vote, SleepVote)
    assert not vote.granted
    solo.step(ip.Received, sender="p2", message=SleepCommit(solo.db.incarnation, 7, 5))
    solo.ack(solo.held[-1])
    assert solo.actions(fx.Snapshot)
    assert solo.db.state == "hibernating"


def test_P33_P41_a_member_that_is_used_does_not_follow_a_sleep_and_calls_the_others() -> None:
    solo = with_another_member()
    solo.hold.add(fx.Door)
    slept_without_it(solo)
    request = solo.ask()
    assert solo.answers[request].problem is None
    assert solo.db.state == "active"
    assert not solo.actions(fx.Snapshot)
    assert solo.db.promised > 7
    assert solo.held[-1].open


def test_P42_P62_a_member_that_has_forgotten_its_move_tells_its_group_again() -> None:
    solo = with_another_member("p3")
    record: Record = solo.node.state.records[solo.db.incarnation]
    members = tuple(evolve(one, raft=one.raft + 1) if one.peer == "p1" else one for one in record.members)
    told = Record(record.birth, Version(0, 7, 0, "bb"), "active", members, Stamp(0, 1, 2))
    solo.step(ip.Received, sender="p2", message=RecordNews(told))
    solo.exited(solo.db.incarnation, solo.db.run, "crashed")
    solo.wait(SECOND)
    (moved,) = [entry for entry in solo.log if isinstance(entry, fx.Decision) and entry.event == "port replaced"]
    assert moved.because == "its group may not know yet where it is"


def test_P40_an_intent_for_another_sleep_is_void() -> None:
    solo = Solo(TWO).asleep()
    solo.hold.add(fx.Start)
    solo.step(ip.Received, sender="p2", message=WakeIntent(solo.db.incarnation, solo.db.epoch - 1))
    assert solo.db.state == "hibernating"
    assert "wake intent void" in solo.events()
    solo.step(ip.Received, sender="p2", message=WakeIntent(solo.db.incarnation, solo.db.epoch))
    assert solo.db.state == "waking"
