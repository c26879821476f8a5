"""What becomes of a birth whose coordinator is silent is decided once, whoever decides it and whoever is cut off right then (P12)."""

from __future__ import annotations

from protocol import codec
from protocol import inputs as ip
from protocol.limits import SECOND
from protocol.messages import (
    Dropped,
    OutcomeStored,
    PromiseAnswer,
    PromiseAsk,
    RecordNews,
    Report,
    Standing,
    StandingAsk,
    StoreOutcome,
)
from protocol.records import Stamp
from protocol.rows import Outcome
from protocol.state import Hosted
from tests.protocol.several import Several
from tests.protocol.test_several import agreed, created, formed

COUNT = 4
"""One node more than members, so that a birth that was dropped can be made anew without the member that is cut off."""


def being_born(world: Several) -> str:
    """All three members run, and each of them knows it; none of their reports has come to p1, which coordinates."""
    world.lose = lambda _s, _t, message: isinstance(message, Report)
    world.ask("p1")
    world.run(2 * SECOND)
    (incarnation,) = world.incarnations()
    assert world.phases() == {"creating"}
    return incarnation


def here(world: Several, peer: str, incarnation: str) -> Hosted:
    return world.state(peer).hosted[incarnation]


def dies_unseen(world: Several, peer: str, incarnation: str) -> None:
    """Its rqlited ends before its node has looked at the voters for the last time: a voter once, for all that it knows."""
    hosted = here(world, peer, incarnation)
    hosted.complete = False
    group = world.groups[incarnation]
    group.running = {one: where for one, where in group.running.items() if where[0] != peer}
    end = {"code": -9, "cause": "crashed", "wal_empty": False}
    world.step(peer, ip.InstanceExited, incarnation=incarnation, run=hosted.run, **end)


def test_P12_who_finishes_a_birth_and_is_cut_off_is_not_contradicted() -> None:
    world = formed(COUNT)
    incarnation = being_born(world)
    for peer in ("p2", "p3"):
        here(world, peer, incarnation).complete = False
    cut: list[str] = []

    def lose(sender: str, to: str, message: object) -> bool:
        if sender == "p1" and isinstance(message, RecordNews):
            cut.append(to)
        return bool(cut) and "p1" in (sender, to)

    world.lose = lose
    world.run(11 * SECOND)  # p1's creation is over: it looks after the birth as a member does
    assert cut, "p1 has finished it"
    assert world.states()["p1"] in ("active", "idle"), "and serves"
    for peer in ("p2", "p3"):
        dies_unseen(world, peer, incarnation)
    world.run(12 * SECOND)
    assert not world.events("birth abandoned"), world.story()
    assert len(world.events("birth finished")) > 1, "somebody carried it on"
    cut.clear()
    world.lose = lambda *_: False
    world.run(15 * SECOND)
    assert world.incarnations() == {incarnation}
    assert "creating" not in world.phases()
    agreed(world)


def test_P12_a_drop_that_nobody_has_heard_of_is_carried_on() -> None:
    """p2 drops the birth, p3 has stored that, and p2 is gone: p1 and p3 see all voters, and finish nothing."""
    world = formed(COUNT)
    incarnation = being_born(world)
    for peer in ("p1", "p2", "p3"):
        here(world, peer, incarnation).complete = False
    world.lose = lambda sender, to, message: (
        isinstance(message, Report) or "p1" in (sender, to) or (sender == "p2" and isinstance(message, Dropped))
    )
    dies_unseen(world, "p2", incarnation)
    world.run(2 * SECOND)
    assert world.events("birth abandoned") == ["p2"], world.story()
    world.crash("p2")
    world.lose = lambda *_: False
    world.run(15 * SECOND)
    assert not world.events("birth finished"), world.story()
    assert incarnation not in world.incarnations()
    world.boot("p2")
    world.run(5 * SECOND)
    agreed(world)


def test_P12_a_drop_that_no_majority_has_stored_is_not_one() -> None:
    """p2 would drop the birth, and is cut off before anybody stores that: it keeps what it has, and the others finish."""
    world = formed(COUNT)
    incarnation = being_born(world)
    for peer in ("p2", "p3"):
        here(world, peer, incarnation).complete = False
    cut: list[str] = []

    def lose(sender: str, to: str, message: object) -> bool:
        if sender == "p2" and isinstance(message, StoreOutcome):
            cut.append(to)
        alone = "p2" in (sender, to) and (bool(cut) or "p1" in (sender, to))
        return alone or isinstance(message, Report)

    world.lose = lose
    dies_unseen(world, "p2", incarnation)
    world.run(20 * SECOND)
    assert cut, world.story()
    assert not world.events("birth abandoned")
    assert world.events("birth finished"), world.story()
    world.lose = lambda *_: False
    world.run(15 * SECOND)
    assert world.incarnations() == {incarnation}
    agreed(world)


def test_P12_who_stores_an_outcome_promises_its_epoch_and_no_lower_one_after_it() -> None:
    world = formed(COUNT)
    incarnation = being_born(world)
    world.partition("p1")
    world.step("p3", ip.Received, sender="p2", message=StoreOutcome(Outcome(incarnation, 5, False)))
    hosted = here(world, "p3", incarnation)
    assert (hosted.promise.epoch, hosted.promise.holder) == (5, "p2")
    told: list[object] = []
    world.lose = lambda sender, _to, message: sender == "p3" and bool(told.append(message))
    world.step("p3", ip.Received, sender="p1", message=StoreOutcome(Outcome(incarnation, 4, True)))
    world.step("p3", ip.Received, sender="p1", message=StoreOutcome(Outcome(incarnation, 5, True)))
    assert hosted.outcome == Outcome(incarnation, 5, False)
    world.cut.clear()
    world.step("p3", ip.Received, sender="p1", message=PromiseAsk(incarnation, 6, "create", Stamp(0, 0, 0)))
    world.step("p3", ip.Received, sender="p1", message=StoreOutcome(Outcome(incarnation, 5, False)))
    answers = [one for one in told if isinstance(one, PromiseAnswer)]
    assert [one.standing.outcome for one in answers] == [Outcome(incarnation, 5, False)]
    assert not any(isinstance(one, OutcomeStored) for one in told)
    assert isinstance(told[-1], Standing), "who refuses says how it stands (P4)"


def test_P12_F24_a_stored_outcome_survives_its_process_and_ends_with_the_birth() -> None:
    world = formed(COUNT)
    incarnation = being_born(world)
    outcome = Outcome(incarnation, 5, True)
    world.step("p3", ip.Received, sender="p2", message=StoreOutcome(outcome))
    assert codec.decode_row(world.machines["p3"].rows[f"outcome/{incarnation}"]) == outcome
    world.crash("p3")
    world.boot("p3")
    assert here(world, "p3", incarnation).outcome == outcome
    world.lose = lambda *_: False
    world.run(30 * SECOND)
    assert world.incarnations() == {incarnation}, "it was finished"
    assert here(world, "p3", incarnation).outcome is None
    assert not [key for machine in world.machines.values() for key in machine.rows if key.startswith("outcome/")]


def test_P12_who_is_no_member_of_a_birth_stores_nothing_and_is_told_how_it_ended() -> None:
    world = created(COUNT)
    (incarnation,) = world.incarnations()
    outcome = Outcome(incarnation, 9, False)
    told: list[object] = []
    world.lose = lambda _s, _t, message: bool(told.append(message))
    world.step("p3", ip.Received, sender="p2", message=StoreOutcome(outcome))
    world.step("p4", ip.Received, sender="p2", message=StoreOutcome(outcome))
    world.step("p3", ip.Received, sender="p4", message=StoreOutcome(outcome))
    standings = [one for one in told if isinstance(one, Standing)]
    assert len(standings) == len(told) == 3
    assert all(one.record is not None and one.record.phase == "active" for one in standings)
    world.step("p3", ip.Received, sender="p2", message=StandingAsk(incarnation))
    assert world.incarnations() == {incarnation}


def test_P12_R40_an_ordinary_birth_pays_nothing_for_it() -> None:
    world = created()
    assert {name for name, _size in world.sent} & {"StoreOutcome", "OutcomeStored", "PromiseAsk"} == set()
