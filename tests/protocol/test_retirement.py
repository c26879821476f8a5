"""Retiring a node (P64), and what heartbeats cost: bounds, and sizes that no database changes (R7, F75)."""

from __future__ import annotations

import pytest
from attrs import evolve

from protocol import codec, limits, membership, suspicion
from protocol import inputs as ip
from protocol.chart import TABLE
from protocol.limits import SECOND
from protocol.messages import Heartbeat, RecordNews
from protocol.records import Attempt, Birth, Member, Record, Stamp, Version
from protocol.state import Config, State
from protocol.turn import Turn
from tests.protocol.several import Several


def formed(count: int = 3, rf: int = 1) -> Several:
    world = Several(count, rf)
    world.run(2 * SECOND)
    assert world.listening() == set()
    return world


def test_P64_a_retired_node_counts_no_more_and_all_learn_of_it() -> None:
    world = formed(4)
    for peer in ("p3", "p4"):
        world.crash(peer)
    world.run(5 * SECOND)
    request = world.ask("p1")
    world.run(12 * SECOND)
    assert world.problem(request) not in (None, "not-a-member"), "two of four are no majority"
    answer = world.retire("p1", "p4")
    assert answer.problem is None
    assert "3 nodes are known; no database had a member there" in answer.detail
    world.run(2 * SECOND)
    assert world.state("p2").known == ("p1", "p2", "p3")
    request = world.ask("p1")
    world.run(5 * SECOND)
    assert world.problem(request) in (None, "not-a-member")


def test_P64_the_answer_names_the_databases_that_had_a_member_there() -> None:
    world = formed(3, 3)
    world.ask("p1", "users")
    world.ask("p1", "books")
    world.run(3 * SECOND)
    world.crash("p3")
    assert "databases with a member there: 2: myapp_books, myapp_users" in world.retire("p2", "p3").detail


def test_P64_it_survives_restarts_and_is_final() -> None:
    world = formed()
    world.crash("p3")
    assert world.retire("p1", "p3").problem is None
    world.run(2 * SECOND)
    for peer in ("p1", "p2"):
        world.crash(peer)
        world.boot(peer)
    world.run(7 * SECOND)
    assert world.listening() == set()
    world.boot("p3")
    world.run(3 * SECOND)
    assert "an operator retired this node" in world.halted["p3"]
    assert world.state("p1").known == world.state("p2").known == ("p1", "p2")
    assert "was retired before" in world.retire("p2", "p3").detail


def test_P64_a_retired_node_stays_retired_with_an_empty_store() -> None:
    world = formed()
    world.crash("p3")
    world.retire("p1", "p3")
    world.run(2 * SECOND)
    world.machines["p3"].rows.clear()
    world.boot("p3")
    world.run(3 * SECOND)
    assert set(world.halted) == {"p3"}
    assert world.state("p2").known == ("p1", "p2")


def test_P64_what_is_refused_and_why() -> None:
    world = formed()
    itself, unknown = world.retire("p1", "p1"), world.retire("p1", "p9")
    assert (itself.problem, unknown.problem) == ("not-retired", "not-retired")
    assert "does not retire itself" in itself.detail
    assert "p9 is no known node; known are p1, p2, p3" in unknown.detail
    assert world.state("p1").retired == set()


def test_P64_two_operators_at_once_end_in_one_set() -> None:
    world = formed(5)
    for peer in ("p4", "p5"):
        world.crash(peer)
    world.partition("p1")
    world.retire("p1", "p4")
    world.retire("p2", "p5")
    world.retire("p3", "p4")
    world.run(3 * SECOND)
    world.cut.clear()
    world.run(3 * SECOND)
    assert {world.state(peer).known for peer in ("p1", "p2", "p3")} == {("p1", "p2", "p3")}


@pytest.mark.parametrize("count", [2, 3])
def test_P64_of_two_nodes_that_retire_each_other_at_most_one_goes_on(count: int) -> None:
    world = formed(count)
    world.partition("p1")
    world.retire("p1", "p2")
    world.retire("p2", "p1")
    world.run(2 * SECOND)
    world.cut.clear()
    world.run(3 * SECOND)
    assert set(world.halted) & {"p1", "p2"}
    alive = {peer for peer, machine in world.machines.items() if machine.node is not None}
    assert {world.state(peer).known for peer in alive} <= {tuple(sorted(alive))}


def test_F33_most_nodes_are_gone_for_good_and_an_operator_says_so_to_one_that_listens() -> None:
    world = formed(5)
    for peer in world.machines:
        world.crash(peer)
    world.boot("p2")
    world.run(10 * SECOND)
    assert world.listening() == {"p2"}
    for gone in ("p1", "p3", "p4", "p5"):
        assert world.retire("p2", gone).problem is None
    assert world.listening() == set()
    request = world.ask("p2")
    world.run(5 * SECOND)
    assert world.problem(request) is None


def test_P64_proof_retirements_that_do_not_spread_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    take_in = membership.take_in
    monkeypatch.setattr(
        membership, "take_in", lambda turn, sender, beat: take_in(turn, sender, evolve(beat, retired=()))
    )
    for proof in (
        test_P64_a_retired_node_counts_no_more_and_all_learn_of_it,
        test_P64_it_survives_restarts_and_is_final,
    ):
        with pytest.raises((AssertionError, KeyError)):
            proof()


# --- heartbeats -----------------------------------------------------------------------------------------------------


def beat_of(world: Several, peer: str) -> bytes:
    return codec.encode(suspicion.heartbeat(Turn(world.state(peer), TABLE, world.now)))


def record(n: int, store: str = "aa") -> Record:
    member = Member("p1", "127.0.0.1", 7001)
    birth = Birth(f"{store}-{n}-bb", "myapp", f"db{n}", 1, "p1", (member,), Attempt(1, "p1"))
    return Record(birth, Version(0, 1, 0, "aa"), "hibernating", (member,), Stamp(0, 0, 0))


def test_R7_a_heartbeat_is_as_long_with_a_thousand_databases() -> None:
    world = formed()
    before = len(beat_of(world, "p2"))
    for n in range(1, 1001):
        world.step("p2", ip.Received, sender="p1", message=RecordNews(record(n)))
    assert len(world.state("p2").records) == 1000
    assert len(beat_of(world, "p2")) == before


def test_P64_a_heartbeat_of_the_largest_cluster_fits_into_a_message() -> None:
    def name(n: int) -> str:
        return f"12D3KooW{n:044d}"

    state = State(Config(name(0)))
    turn = Turn(state, TABLE, 0)
    everybody = tuple(name(n) for n in range(limits.KNOWN_NODES + 100))
    gone = tuple(f"12D3KooX{n:044d}" for n in range(limits.RETIRED))
    membership.count(turn)
    membership.take_in(turn, name(1), Heartbeat("", "bb", 0, everybody, (), 9, b"", False, retired=gone))
    for peer in state.known:
        suspicion.on_heartbeat(turn, peer, Heartbeat("", "bb", 0, (), (), 9, b"", False, whole=False))
    assert len(state.known) == limits.KNOWN_NODES
    assert len(state.retired) == limits.RETIRED
    assert len(codec.encode(suspicion.heartbeat(turn))) < limits.MESSAGE_BYTES


def test_P64_no_more_nodes_are_retired_than_a_heartbeat_can_name() -> None:
    world = formed()
    world.state("p1").retired |= {f"q{n}" for n in range(limits.RETIRED)}
    assert world.retire("p1", "p3").problem == "not-retired"


def test_F75_nothing_waits_for_the_lowest_peer_that_hears_nobody() -> None:
    """Not once, and not at the tenth time either: a deaf node is no candidate."""
    world = formed(4)
    world.cut = {(peer, "p1") for peer in ("p2", "p3", "p4")}
    world.run(6 * SECOND)
    for n in range(10):
        request = world.ask("p3", f"db{n}")
        world.run(SECOND)
        assert world.problem(request) in (None, "not-a-member"), n


def test_F75_proof_a_deaf_candidate_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suspicion, "eligible", suspicion.hears)
    with pytest.raises((AssertionError, KeyError)):
        test_F75_nothing_waits_for_the_lowest_peer_that_hears_nobody()
