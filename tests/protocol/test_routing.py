"""What a node that hosts nothing of a database tells its gateway: where to go, once, and never in circles (F93, F51, F14)."""

from __future__ import annotations

import pytest

from protocol import effects as fx
from protocol import inputs as ip
from protocol import limits
from protocol.limits import MILLISECOND, SECOND
from protocol.messages import Heartbeat, Standing, WakeIntent
from tests.protocol.several import Several

OUTSIDE = "p5"
"""Of five nodes and a replication factor of 3, with p1 asked first: no member."""


def created() -> Several:
    world = Several(5, 3)
    world.run(2 * SECOND)
    request = world.ask("p1")
    world.run(2 * SECOND)
    assert world.problem(request) is None
    assert OUTSIDE not in world.states()
    return world


def asleep() -> Several:
    world = created()
    world.run(10 * SECOND)
    assert set(world.states().values()) == {"hibernating"}
    return world


def members(world: Several) -> set[str]:
    return set(world.states())


def lose_intents(world: Several, count: int) -> list[str]:
    """Lose so many intents of the node outside, all copies; the list of those that were sent."""
    sent: list[str] = []

    def lose(sender: str, to: str, message: object) -> bool:
        if not isinstance(message, WakeIntent) or sender != OUTSIDE:
            return False
        sent.append(to)
        return len(sent) <= count * 4

    world.lose = lose
    return sent


def test_F93_who_is_no_member_names_the_members_that_it_hears_and_their_certificates() -> None:
    world = created()
    request = world.ask(OUTSIDE)
    answer = world.answers[request]
    assert isinstance(answer, fx.Route)
    assert {hop.peer for hop in answer.hops} == members(world)
    for hop in answer.hops:
        config = world.machines[hop.peer].config
        assert (hop.gateway, hop.fingerprint) == (config.gateway, config.fingerprint)


def test_F93_a_member_that_missed_heartbeats_is_named_last_and_then_not_at_all() -> None:
    world = created()
    first = world.hops(world.ask(OUTSIDE))[0]
    world.crash(first)
    world.run(2 * SECOND)
    assert world.hops(world.ask(OUTSIDE))[-1] == first
    for other in members(world) - {first}:
        world.ask(other)  # a query, or it would fall asleep
    world.run(2 * SECOND)
    assert set(world.hops(world.ask(OUTSIDE))) == members(world) - {first}


def test_F93_nodes_that_are_no_members_do_not_all_crowd_before_one() -> None:
    world = Several(9, 3)
    world.run(2 * SECOND)
    world.ask("p1")
    world.run(2 * SECOND)
    outside = set(world.machines) - members(world)
    assert len({world.hops(world.ask(peer))[0] for peer in outside}) > 1


def test_F93_one_hop_only_who_came_from_a_gateway_is_never_sent_on() -> None:
    world = asleep()
    request = world.ask(OUTSIDE, forwarded=True)
    assert world.problem(request) == "not-a-member"
    unknown = world.ask(OUTSIDE, "nothing", forwarded=True)
    assert world.problem(unknown) == "not-a-member"
    world.run(5 * SECOND)
    assert set(world.states().values()) == {"hibernating"}, "nor does it wake anything"
    assert len(world.groups) == 1, "nor create"


def test_F93_a_birth_that_moved_away_under_a_forwarded_query_sends_it_nowhere() -> None:
    """It waits at a chosen member while the database is being born; when the birth is then finished by others, it is not
    sent on to them."""
    world = Several(4, 2)
    world.run(2 * SECOND)
    world.ask("p3")
    world.run(30 * MILLISECOND)
    chosen = next(iter(world.states()))
    request = world.ask(chosen, forwarded=True)
    world.run(20 * SECOND)
    assert world.problem(request) is None
    assert not world.hops(request)
    node = world.machines[chosen].node
    assert node is not None
    assert not node.state.forwarded


def test_F51_many_who_wait_at_a_node_outside_make_one_intent_and_one_wake() -> None:
    world = asleep()
    intents = lose_intents(world, 0)
    requests = [world.ask(OUTSIDE) for _ in range(1000)]
    assert not set(requests) & world.answers.keys(), "not before a member is awake"
    world.run(3 * SECOND)
    assert {frozenset(world.hops(one)) for one in requests} == {frozenset(members(world))}
    assert len(intents) == 4, "one, to each of the others"
    assert len(world.events("woken")) == 3, "each member once"


def test_F51_waiting_outside_is_bounded_in_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "WAITERS", 3)
    world = asleep()
    requests = [world.ask(OUTSIDE) for _ in range(4)]
    assert world.problem(requests[3]) == "busy"
    world.run(3 * SECOND)
    assert all(world.hops(one) for one in requests[:3])


def test_F51_waiting_outside_is_bounded_in_time_and_its_end_names_the_members() -> None:
    world = asleep()
    lose_intents(world, 1000)
    request = world.ask(OUTSIDE)
    world.run(8 * SECOND - 1)
    assert request not in world.answers
    world.run(1)
    answer = world.answers[request]
    assert isinstance(answer, fx.Answer)
    assert answer.problem == "wake-timeout"
    assert all(peer in answer.detail for peer in members(world))
    again = world.ask(OUTSIDE)
    world.lose = lambda _from, _to, _message: False
    world.run(4 * SECOND)
    assert world.hops(again), "the next one asks anew"


def test_F51_a_lost_intent_is_repeated() -> None:
    world = asleep()
    intents = lose_intents(world, 1)
    request = world.ask(OUTSIDE)
    world.run(4 * SECOND)
    assert len(intents) == 8
    assert world.hops(request)


def test_F93_when_no_member_is_heard_the_client_is_told_who_they_are() -> None:
    world = created()
    for peer in members(world):
        world.crash(peer)
    hosts = {peer for peer in world.machines if world.machines[peer].node is None}
    world.run(10 * SECOND)
    request = world.ask(OUTSIDE)
    world.run(8 * SECOND)
    answer = world.answers[request]
    assert isinstance(answer, fx.Answer)
    assert answer.problem == "members-unheard"
    assert all(f"{peer} (not heard)" in answer.detail for peer in hosts)


def test_F93_a_client_waits_for_the_first_heartbeat_of_a_member() -> None:
    """As after a restart, or at the end of a partition."""
    world = created()
    world.crash(OUTSIDE)
    world.lose = lambda _from, _to, message: isinstance(message, Heartbeat)
    world.run(10 * MILLISECOND)  # what was under way has arrived
    world.boot(OUTSIDE)
    request = world.ask(OUTSIDE)
    world.run(SECOND)
    assert request not in world.answers
    world.lose = lambda _from, _to, _message: False
    world.run(SECOND + MILLISECOND)
    assert world.hops(request)


def test_F14_P4_an_intent_out_of_an_old_directory_is_answered_with_the_record() -> None:
    """The node outside missed that the database has woken: the sleep that it names is over, and it is told so at once."""
    world = asleep()
    world.partition(OUTSIDE)
    world.ask("p1")
    world.run(2 * SECOND)
    assert set(world.states().values()) == {"active"}
    world.cut.clear()
    sent: list[object] = []
    world.lose = lambda sender, to, message: (
        isinstance(message, Standing) and to == OUTSIDE and bool(sent.append(message))
    )
    request = world.ask(OUTSIDE)
    world.run(10 * MILLISECOND)
    assert world.hops(request), "long before the next heartbeat"
    assert sent


def test_F14_a_sleep_that_was_missed_is_ended_too() -> None:
    """Woken and asleep again while the node outside was away: its intent is void (P40), the answer names the newer sleep,
    and that one it ends."""
    world = asleep()
    world.partition(OUTSIDE)
    world.ask("p1")
    world.run(12 * SECOND)
    assert set(world.states().values()) == {"hibernating"}
    world.cut.clear()
    request = world.ask(OUTSIDE)
    world.run(3 * SECOND)
    assert world.hops(request)
    assert set(world.states().values()) == {"active"}


def test_R41_a_route_given_just_before_the_sleep_leads_to_a_member_that_wakes() -> None:
    world = created()
    request = world.ask(OUTSIDE)
    first = world.hops(request)[0]
    world.run(10 * SECOND)
    assert set(world.states().values()) == {"hibernating"}
    late = world.ask(first, forwarded=True)
    world.run(3 * SECOND)
    assert world.problem(late) is None
    assert not world.hops(late)


def test_F93_workers_are_told_the_certificates_that_heartbeats_carry_and_again_when_one_changes() -> None:
    world = created()
    others = {peer: machine.config.fingerprint for peer, machine in world.machines.items()}
    assert set(world.believed["p1"]) == set(others.values()) - {others["p1"]}
    world.step("p1", ip.WorkerJoined, worker=2)
    before = world.believed.pop("p1")
    world.run(3 * SECOND)
    assert "p1" not in world.believed, "nothing is repeated"
    beat = Heartbeat("c", "s9", 0, (), (), 0, b"", False, fingerprint=b"new".ljust(32))
    world.step("p1", ip.Received, sender="p2", message=beat)
    assert set(world.believed["p1"]) == set(before) - {others["p2"]} | {b"new".ljust(32)}
    stranger = Heartbeat("another", "s9", 0, (), (), 0, b"", False, fingerprint=b"foe".ljust(32))
    world.step("p1", ip.Received, sender="p9", message=stranger)
    assert b"foe".ljust(32) not in world.believed["p1"]


@pytest.mark.parametrize("phase", ["hibernating", "active"])
def test_F54_P54_a_member_without_its_data_sends_its_clients_to_the_others(phase: str) -> None:
    world = asleep()
    lost, *others = sorted(members(world))
    world.wiped.add(lost)
    if phase == "active":
        world.ask(others[0])
        world.run(2 * SECOND)
    for _ in range(2):  # the first one finds out, the second one knows
        request = world.ask(lost)
        world.run(2 * SECOND)
        assert sorted(world.hops(request)) == others
    forwarded = world.ask(lost, forwarded=True)
    assert world.problem(forwarded) == "not-a-member"


def test_F54_P54_a_lone_replica_without_its_data_says_so() -> None:
    world = Several(1, 1)
    world.ask("p1")
    world.run(10 * SECOND)
    assert world.states() == {"p1": "hibernating"}
    world.wiped.add("p1")
    for _ in range(2):
        request = world.ask("p1")
        world.run(1 * SECOND)
        assert world.problem(request) == "instance-failed"
