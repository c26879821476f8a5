"""Founding, joining and listening: P60, P61, F14, F33, F34. Who counts as a directory, whom majorities count, and that nothing waits for
ever for what can be had."""

from __future__ import annotations

import pytest
from attrs import evolve

from protocol import gossip, membership, suspicion
from protocol import inputs as ip
from protocol.lifecycle import boot
from protocol.limits import SECOND
from protocol.membership import majority
from protocol.messages import CreateRequest, Heartbeat, SyncDone, SyncNames
from protocol.node import _MESSAGES
from protocol.records import Attempt
from protocol.turn import Turn
from tests.protocol.several import Several


def formed(count: int = 3, rf: int = 1) -> Several:
    world = Several(count, rf)
    world.run(2 * SECOND)
    assert world.listening() == set()
    return world


def restart(world: Several, *peers: str, wiped: tuple[str, ...] = ()) -> None:
    for peer in peers:
        world.crash(peer)
        if peer in wiped:
            world.machines[peer].rows.clear()
    world.run(SECOND)
    for peer in peers:
        world.boot(peer)


def creates(world: Several, peer: str, name: str = "new") -> bool:
    """Whether a new name becomes a database, wherever it is then."""
    request = world.ask(peer, name)
    world.run(12 * SECOND)
    return world.problem(request) in (None, "not-a-member")


# --- fresh nodes ----------------------------------------------------------------------------------------------------


def test_P61_two_fresh_nodes_that_know_nobody_create_nothing() -> None:
    """Each hears that the other's directory is as empty as its own: that is no majority of anything."""
    world = Several(3, 1, up=("p2", "p3"))
    world.run(20 * SECOND)
    assert world.listening() == {"p2", "p3"}
    assert not creates(world, "p2")
    assert world.groups == {}


def test_P61_the_founder_and_two_joiners_start_at_the_same_time() -> None:
    world = Several(3, 3)
    world.run(SECOND)
    assert world.listening() == set()
    assert {world.state(peer).known for peer in world.machines} == {("p1", "p2", "p3")}
    assert creates(world, "p3")


def test_P61_a_joiner_counts_for_its_teachers_before_it_says_anything() -> None:
    """Otherwise the founder could create alone what two joiners, which know of three nodes, create together."""
    world = Several(3, 1)
    seen: list[tuple[str, ...]] = []

    def watch(sender: str, _to: str, message: object) -> bool:
        if isinstance(message, Heartbeat) and sender != "p1" and not message.listening:
            seen.append(world.state("p1").known)
        return False

    world.lose = watch
    world.run(SECOND)
    assert seen
    assert all("p2" in known or "p3" in known for known in seen)
    for peer in ("p2", "p3"):
        assert peer in world.state("p1").nodes


def test_P61_a_joiner_that_has_never_heard_the_founder_waits_for_it() -> None:
    world = Several(3, 1)
    world.cut = {("p1", "p3"), ("p3", "p1"), ("p2", "p3")}
    world.run(10 * SECOND)
    assert world.listening() == {"p3"}
    world.cut = {("p1", "p3"), ("p3", "p1")}
    world.run(5 * SECOND)
    assert world.listening() == {"p3"}, "p2 alone is no majority of the two that have joined"
    world.cut.clear()
    world.run(7 * SECOND)
    assert world.listening() == set()


def test_P61_what_a_joiner_was_configured_with_does_not_spread() -> None:
    world = Several(3, 1, up=())
    machine = world.machines["p2"]
    machine.config = evolve(machine.config, known=("p2", "typo"))
    for peer in ("p1", "p2"):
        world.boot(peer)
    world.run(5 * SECOND)
    assert world.listening() == set()
    assert "typo" not in world.state("p1").known
    assert "typo" in world.state("p2").known, "its own majorities count it, since it was told to"


def test_P61_a_joiner_that_restarts_before_it_has_joined_is_still_fresh() -> None:
    world = Several(3, 1, up=("p2", "p3"))
    world.run(3 * SECOND)
    restart(world, "p2", "p3")
    world.run(20 * SECOND)
    assert world.listening() == {"p2", "p3"}
    world.boot("p1")
    world.run(7 * SECOND)
    assert world.listening() == set()


def test_P11_P61_a_coordinator_that_missed_joiners_counts_them_before_it_counts_answers() -> None:
    """p3 was away while two joined: by what it knows p1 and itself were a majority; p1 knows better, and says so with its answer."""
    world = Several(5, 1, up=("p1", "p2", "p3"))
    world.run(2 * SECOND)
    world.partition("p3")
    world.boot("p4")
    world.boot("p5")
    world.run(2 * SECOND)
    assert world.state("p1").known == ("p1", "p2", "p3", "p4", "p5")
    assert world.state("p3").known == ("p1", "p2", "p3")
    world.cut = {(peer, "p3") for peer in ("p2", "p4", "p5")} | {("p3", peer) for peer in ("p2", "p4", "p5")}
    asked = CreateRequest(Attempt(9, "p3"), "myapp", "users", 1)
    for peer in ("p1", "p3"):
        world.step(peer, ip.Received, sender="p2", message=asked)
    world.run(SECOND // 2)
    assert world.groups == {}, "two of five made a database"


# --- restarts -------------------------------------------------------------------------------------------------------


def test_P61_a_founder_alone_needs_nobody_also_after_a_restart() -> None:
    world = Several(1, 1)
    assert world.listening() == set()
    assert creates(world, "p1", "one")
    restart(world, "p1")
    assert world.listening() == set()
    assert creates(world, "p1", "two")


def test_P61_the_founder_restarts_beside_two_that_have_joined() -> None:
    world = formed()
    restart(world, "p1")
    assert world.listening() == {"p1"}
    world.run(7 * SECOND)
    assert world.listening() == set()


@pytest.mark.parametrize("count", [2, 3, 4, 5])
def test_F33_all_restart_at_once_and_serve_again(count: int) -> None:
    """All listen, all remember what they had: they count each other."""
    world = formed(count)
    restart(world, *world.machines)
    assert world.listening() == set(world.machines)
    world.run(7 * SECOND)
    assert world.listening() == set()
    assert creates(world, "p1")


def test_F33_a_majority_that_comes_back_is_enough_and_a_minority_is_not() -> None:
    world = formed(5)
    for peer in world.machines:
        world.crash(peer)
    world.run(SECOND)
    world.boot("p2")
    world.boot("p4")
    world.run(20 * SECOND)
    assert world.listening() == {"p2", "p4"}
    told = [
        decision.because for _at, peer, decision in world.log if decision.event == "still listening" and peer == "p2"
    ]
    assert told == [
        "the directories of a majority are not merged, and p1, p3, p5 cannot be heard; retire those that are gone for good"
    ]
    assert not creates(world, "p2")
    world.boot("p5")
    world.run(7 * SECOND)
    assert world.listening() == set()
    assert creates(world, "p2")


def test_F33_who_listens_serves_and_starts_what_is_intact() -> None:
    world = formed(3, 1)
    request = world.ask("p1")
    world.run(2 * SECOND)
    (host,) = world.states()
    assert world.problem(request) in (None, "not-a-member")
    for peer in world.machines:
        world.crash(peer)
    world.run(SECOND)
    world.boot(host)
    world.run(3 * SECOND)
    assert world.listening() == {host}
    assert world.states() == {host: "active"}
    assert world.problem(world.ask(host)) is None


# --- lost stores ----------------------------------------------------------------------------------------------------


def test_P61_one_of_two_is_wiped_and_needs_the_other() -> None:
    world = formed(2)
    world.crash("p1")
    restart(world, "p2", wiped=("p2",))
    world.run(20 * SECOND)
    assert world.listening() == {"p2"}
    world.boot("p1")
    world.run(7 * SECOND)
    assert world.listening() == set()
    assert creates(world, "p1")


def test_F34_a_wiped_founder_founds_nothing_and_joins_its_own_cluster() -> None:
    world = formed()
    assert creates(world, "p2", "before")
    restart(world, "p1", wiped=("p1",))
    assert world.listening() == {"p1"}
    world.run(7 * SECOND)
    assert world.listening() == set()
    assert len(world.roots()) == 1
    request = world.ask("p1", "before")
    world.run(9 * SECOND)
    assert world.problem(request) == "members-unheard", (
        "its only replica is lost, and no empty one takes its place (F14)"
    )


def test_P61_a_wiped_node_counts_only_the_others_and_needs_both_of_two() -> None:
    world = formed(3)
    world.crash("p2")
    restart(world, "p3", wiped=("p3",))
    world.run(20 * SECOND)
    assert world.listening() == {"p3"}, "p1 and p3 are two of three, but p3 remembers nothing"
    restart(world, "p3")
    world.run(20 * SECOND)
    assert world.listening() == {"p3"}, "nor does it after a restart"
    world.boot("p2")
    world.run(7 * SECOND)
    assert world.listening() == set()


def test_P61_P10_a_denial_that_was_forgotten_with_the_store_is_remembered_by_others() -> None:
    """p3 denied a name to the fifth attempt, and lost its disk. Without its promise a lower attempt would get its denial too."""
    world = formed()
    fifth = CreateRequest(Attempt(5, "p1"), "myapp", "users", 1)
    for peer in ("p2", "p3"):
        world.step(peer, ip.Received, sender="p1", message=fifth)
    restart(world, "p3", wiped=("p3",))
    world.run(7 * SECOND)
    assert world.listening() == set()
    assert world.state("p3").names["myapp_users"].attempt == fifth.attempt


def test_P61_who_listens_creates_nothing_and_is_not_waited_for() -> None:
    """p1, the lowest, is up and listens for ever, since nobody hears it: the next candidate coordinates at once."""
    world = formed(4, 1)
    world.lose = lambda _s, to, m: to == "p1" and isinstance(m, SyncDone)
    restart(world, "p1")
    world.run(3 * SECOND)
    assert world.listening() == {"p1"}
    request = world.ask("p2")
    world.run(SECOND)
    assert world.problem(request) in (None, "not-a-member"), world.story()


def test_P10_P61_who_still_listens_is_asked_again_within_the_same_request() -> None:
    """Three replicas, three nodes, one of which has just started: it cannot deny the name, but soon can."""
    world = formed(3, 3)
    world.lose = lambda _s, to, m: to == "p3" and isinstance(m, SyncDone)
    restart(world, "p3")
    world.run(2 * SECOND)
    assert world.listening() == {"p3"}
    request = world.ask("p1")
    world.run(SECOND)
    assert request not in world.answers
    world.lose = lambda _s, _to, _m: False
    world.run(8 * SECOND)
    assert world.problem(request) is None, world.story()
    assert "creation waits" in [entry.event for _, _, entry in world.log if hasattr(entry, "event")]


def test_P10_R38_who_listens_for_ever_is_not_waited_for_longer_than_the_request() -> None:
    world = formed(3, 3)
    world.lose = lambda _s, to, m: to == "p3" and isinstance(m, SyncDone)
    restart(world, "p3")
    world.run(2 * SECOND)
    request = world.ask("p1")
    world.run(10 * SECOND)
    assert world.problem(request) == "insufficient-nodes"
    assert world.answers[request].detail == "insufficient nodes responded: got 2, need 3"


def test_F33_the_known_nodes_and_the_cluster_survive_restarts() -> None:
    world = formed()
    for peer in world.machines:
        world.crash(peer)
    world.boot("p2")
    assert world.state("p2").known == ("p1", "p2", "p3")


def test_P60_a_heartbeat_of_another_cluster_changes_nothing() -> None:
    world = formed()
    before = dict(world.machines["p2"].rows)
    stranger = Heartbeat("other", "ff", 1, ("q1", "q2"), ("q1",), 9, b"", False)
    world.step("p2", ip.Received, sender="q1", message=stranger)
    assert world.machines["p2"].rows == before
    assert world.state("p2").known == ("p1", "p2", "p3")
    assert world.events("heartbeat refused") == ["p2"]


# --- the safeguards, switched off -----------------------------------------------------------------------------------


def test_P61_proof_a_fresh_store_that_calls_itself_whole_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    know = boot._know_itself
    monkeypatch.setattr(boot, "_know_itself", lambda turn, found, _founds: know(turn, found, True))
    with pytest.raises(AssertionError):
        test_P61_two_fresh_nodes_that_know_nobody_create_nothing()


def test_P61_proof_a_wiped_store_that_counts_itself_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    def generous(turn: Turn) -> bool:
        others = membership.joined(turn)
        return bool(others) and len(turn.state.synced & others) >= majority(len(others) + 1) - 1

    monkeypatch.setattr(gossip, "enough", generous)
    with pytest.raises(AssertionError):
        test_P61_a_wiped_node_counts_only_the_others_and_needs_both_of_two()


def test_P11_proof_a_coordinator_that_is_not_told_of_joiners_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suspicion, "enlighten", lambda *_: None)
    with pytest.raises(AssertionError):
        test_P11_P61_a_coordinator_that_missed_joiners_counts_them_before_it_counts_answers()


def test_P61_proof_names_that_are_not_told_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    def count_only(turn: Turn, sender: str, message: SyncNames) -> None:
        exchange = turn.state.exchanges.get(sender)
        if exchange is not None:
            exchange.pages.add(message.page)

    monkeypatch.setitem(_MESSAGES, SyncNames, count_only)
    with pytest.raises((AssertionError, KeyError)):
        test_P61_P10_a_denial_that_was_forgotten_with_the_store_is_remembered_by_others()
