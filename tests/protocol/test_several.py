"""What several nodes do together: agree without a registry, create once, sleep together, wake together, and survive loss,
partitions and the death of any one of them."""

from __future__ import annotations

import random

import pytest

from protocol import effects as fx
from protocol import inputs as ip
from protocol.limits import MILLISECOND, SECOND
from protocol.messages import (
    CreateAnswer,
    CreateConfirm,
    CreateRequest,
    Dropped,
    Heartbeat,
    RecordNews,
    Report,
    SleepCommit,
    SleepVote,
    WakeIntent,
)
from protocol.records import Attempt
from tests.protocol.several import Machine, Several


def formed(count: int = 3, rf: int = 3) -> Several:
    world = Several(count, rf)
    world.run(2 * SECOND)
    return world


def created(count: int = 3, rf: int = 3) -> Several:
    world = formed(count, rf)
    request = world.ask("p1")
    world.run(2 * SECOND)
    assert world.problem(request) is None
    return world


def asleep(count: int = 3, rf: int = 3) -> Several:
    world = created(count, rf)
    world.run(10 * SECOND)
    assert set(world.states().values()) == {"hibernating"}
    return world


def agreed(world: Several) -> None:
    assert len(world.roots()) == 1, "all directories are alike"


def test_R40_P13_creation_makes_all_chosen_members_voters_and_then_answers() -> None:
    world = created()
    (group,) = world.groups.values()
    assert len(group.voters) == 3
    assert set(world.states().values()) == {"active"}
    assert world.broadcasts <= 3
    agreed(world)


@pytest.mark.parametrize("rf", [1, 2, 3, 5])
def test_F40_R2_each_replication_factor_sleeps_and_wakes(rf: int) -> None:
    world = asleep(5, rf)
    assert len(world.states()) == rf
    world.broadcasts = 0
    request = world.ask(min(world.states()))
    world.run(3 * SECOND)
    assert world.problem(request) is None
    assert set(world.states().values()) == {"active"}
    assert world.broadcasts <= 2
    agreed(world)


@pytest.mark.parametrize("rf", [1, 2, 3, 5])
def test_P34_a_calm_sleep_is_sealed(rf: int) -> None:
    world = asleep(5, rf)
    seals = {r.seal for m in world.machines.values() if m.node for r in m.node.state.records.values()}
    assert None not in seals, world.story()
    assert len(seals) == 1


def test_F3_two_clients_on_two_nodes_make_one_database() -> None:
    world = formed()
    requests = [world.ask("p3"), world.ask("p2")]
    world.run(3 * SECOND)
    assert [world.problem(request) for request in requests] == [None, None]
    assert len(world.incarnations()) == 1
    assert len(world.groups) == 1


def test_F7_a_lost_confirm_is_repeated() -> None:
    world = formed()
    lost = [0]

    def lose(_sender: str, to: str, message: object) -> bool:
        if isinstance(message, CreateConfirm) and to == "p3" and lost[0] < 2:
            lost[0] += 1
            return True
        return False

    world.lose = lose
    request = world.ask("p1")
    world.run(6 * SECOND)
    assert lost[0] == 2
    assert world.problem(request) is None
    assert len(next(iter(world.groups.values())).voters) == 3


def test_F28_F7_a_chosen_member_that_an_answer_tells_of_its_birth_takes_part() -> None:
    """p2 is chosen, and hears neither of the birth nor of its confirm; the next attempt makes it the coordinator, and p1 tells it that the
    name lives."""
    world = formed(rf=2)
    world.lose = lambda _sender, to, message: to == "p2" and not isinstance(message, CreateRequest | CreateAnswer)
    world.ask("p1")
    world.run(500 * MILLISECOND)
    (birth,) = (record.birth for record in world.state("p1").records.values())
    assert [member.peer for member in birth.members] == ["p1", "p2"]
    assert not world.state("p2").records
    for peer in ("p1", "p2"):
        world.deliver("p3", peer, CreateRequest(Attempt(2, "p2"), "myapp", "users", 2))
    world.run(5 * MILLISECOND)
    assert birth.incarnation in world.state("p2").hosted, world.story()


def test_F7_a_lost_report_is_asked_for_again() -> None:
    world = formed()
    lost: list[object] = []
    world.lose = lambda _s, _t, m: isinstance(m, Report) and len(lost) < 2 and not lost.append(m)  # type: ignore[func-returns-value]
    request = world.ask("p2")
    world.run(6 * SECOND)
    assert len(lost) == 2
    assert world.problem(request) is None


def test_P13_F16_a_majority_that_sees_all_chosen_voters_is_success() -> None:
    """p3 is a voter, and its rqlited dies before it can say so: nobody waits for it, and it comes after."""
    world = formed()
    world.lose = lambda sender, _to, message: sender == "p3" and isinstance(message, Report)
    request = world.ask("p1")
    world.run(SECOND)
    assert world.problem(request) is None
    (group,) = world.groups.values()
    assert len(group.voters) == 3
    assert set(world.states().values()) == {"active"}


def test_F5_an_answer_that_overtakes_its_request_counts() -> None:
    """p3 asks and answers; its broadcast reaches the coordinator after its direct answer."""
    world = formed()
    held: list[CreateRequest] = []

    def late(sender: str, to: str, message: object) -> bool:
        if isinstance(message, CreateRequest) and (sender, to) == ("p3", "p1") and not held:
            held.append(message)
            world.later(20 * MILLISECOND, lambda: world.deliver(sender, to, held[0]))
            return True
        return False

    world.lose = late
    request = world.ask("p3")
    world.run(3 * SECOND)
    assert held
    assert world.problem(request) is None, world.story()


def test_F9_P10_a_request_that_overtakes_a_drop_is_made_again() -> None:
    """p1's birth is given up, and p3 hears the next request before the drop: it knows a database that is no more."""
    world = formed()
    request = world.ask("p1")
    world.run(5 * MILLISECOND)  # the birth is confirmed
    (incarnation,) = world.incarnations()
    world.lose = lambda _s, to, message: isinstance(message, Dropped) and to == "p3" and not told
    told: list[int] = []
    for peer in ("p1", "p2"):
        world.deliver("p2" if peer == "p1" else "p1", peer, Dropped(incarnation))
    world.run(3 * MILLISECOND)
    told.append(1)
    world.run(2 * SECOND)
    assert world.problem(request) is None, world.story()
    assert incarnation not in world.incarnations()


@pytest.mark.parametrize("after", [0, 1, 2, 3, 4, 30, 60, 95, 97, 100, 150])
def test_F8_F15_the_coordinator_dies_in_a_creation(after: int) -> None:
    """p1 coordinates and founds; it dies ``after`` milliseconds, and p2 and p3 make the database: once, without it at RF 2."""
    world = formed(4, 2)
    request = world.ask("p3")
    world.run(after * MILLISECOND)
    world.crash("p1")
    world.run(12 * SECOND)
    world.boot("p1")
    world.run(10 * SECOND)
    assert request in world.answers
    if world.problem(request) is not None:
        request = world.ask("p3")
        world.run(10 * SECOND)
    assert world.problem(request) is None
    assert len(world.incarnations()) == 1, "one database, whoever finished it"
    agreed(world)


def test_P10_who_has_not_heard_of_a_drop_is_told_and_asked_again() -> None:
    """The request for the next birth overtook the news of the drop of the last one."""
    world = created(3, 1)
    (incarnation,) = world.incarnations()
    world.step("p1", ip.Received, sender="p2", message=Dropped(incarnation))
    request = world.ask("p1")
    world.run(3 * SECOND)
    assert world.problem(request) is None
    assert len(world.incarnations()) == 1
    assert incarnation not in world.incarnations()
    agreed(world)


def test_F11_a_minority_creates_nothing_and_says_why() -> None:
    world = formed(5, 1)
    world.partition("p1", "p2")
    world.run(5 * SECOND)
    request = world.ask("p1")
    world.run(12 * SECOND)
    answer = world.answers[request]
    assert answer.problem in ("insufficient-nodes", "create-timeout")
    assert not world.groups
    other = world.ask("p3")
    world.run(5 * SECOND)
    assert world.problem(other) is None
    world.cut.clear()
    world.run(10 * SECOND)
    agreed(world)
    assert len(world.incarnations()) == 1


def test_F14_a_node_that_missed_the_record_finds_the_database() -> None:
    world = formed(4, 3)
    world.partition("p4")
    request = world.ask("p1")
    world.run(3 * SECOND)
    assert world.problem(request) is None
    world.cut.clear()
    late = world.ask("p4")
    world.run(5 * SECOND)
    assert set(world.hops(late)) & {"p1", "p2", "p3"}, "it knows who serves it, and makes no other"
    assert len(world.incarnations()) == 1
    agreed(world)


def test_F25_F26_a_node_that_was_away_catches_up_and_drops_stay_dropped() -> None:
    world = formed(3, 1)
    for i in range(30):
        world.ask("p1", f"db{i}")
        world.run(200 * MILLISECOND)
    world.crash("p3")
    for i in range(30, 40):
        world.ask("p1", f"db{i}")
        world.run(200 * MILLISECOND)
    world.boot("p3")
    world.run(5 * SECOND)
    agreed(world)
    assert len(world.incarnations()) == 40


def test_F33_all_nodes_restart_at_once_and_all_databases_return() -> None:
    world = created()
    for peer in world.machines:
        world.crash(peer)
    world.run(SECOND)
    for peer in world.machines:
        world.boot(peer)
    world.run(5 * SECOND)
    assert set(world.states().values()) == {"active"}
    agreed(world)


def test_F44_a_late_intent_for_an_earlier_sleep_is_void() -> None:
    world = asleep()
    held: list[WakeIntent] = []
    incarnation = next(iter(world.incarnations()))
    epoch = next(m.node.view()[0].epoch for m in world.machines.values() if m.node)
    request = world.ask("p2")
    world.run(12 * SECOND)
    assert world.problem(request) is None
    assert set(world.states().values()) == {"hibernating"}
    held.append(WakeIntent(incarnation, epoch))
    world.deliver("p1", "p2", held[0])
    world.run(2 * SECOND)
    assert set(world.states().values()) == {"hibernating"}


def test_F45_two_wakes_at_once_start_one_process_each() -> None:
    world = asleep()
    requests = [world.ask("p1"), world.ask("p3")]
    world.run(3 * SECOND)  # the world asserts that no directory ever has two processes
    assert [world.problem(request) for request in requests] == [None, None]


def test_F48_P33_a_member_that_missed_the_wake_follows() -> None:
    world = asleep()
    world.partition("p3")
    request = world.ask("p1")
    world.run(3 * SECOND)
    assert world.problem(request) is None
    assert world.states()["p3"] == "hibernating"
    world.cut.clear()
    world.run(4 * SECOND)
    assert world.states()["p3"] == "active"
    assert "p3" in world.events("started after the others")
    agreed(world)


def test_F42_P33_a_member_that_missed_the_commit_follows() -> None:
    world = created()
    world.lose = lambda _s, to, m: to == "p3" and isinstance(m, (SleepCommit, RecordNews))
    world.run(30 * SECOND)
    world.lose = lambda *_: False
    world.run(10 * SECOND)
    assert set(world.states().values()) == {"hibernating"}, world.story()
    agreed(world)


def test_F42_a_dead_member_does_not_keep_the_others_awake() -> None:
    world = created()
    world.crash("p3")
    world.run(40 * SECOND)
    assert set(world.states().values()) == {"hibernating"}, world.story()
    assert all(m.node.view()[0].seal is None for m in world.machines.values() if m.node), "P34: not all voted"
    request = world.ask("p2")
    world.run(3 * SECOND)
    assert world.problem(request) is None, "F50: a quorum serves"


def test_F52_a_lost_vote_reopens_the_doors() -> None:
    world = created()
    world.lose = lambda _s, _to, m: isinstance(m, SleepVote)
    world.run(25 * SECOND)
    assert set(world.states().values()) <= {"active", "idle"}
    world.lose = lambda *_: False
    world.run(40 * SECOND)
    assert set(world.states().values()) == {"hibernating"}, world.story()


def test_F65_F75_a_deaf_node_is_not_waited_for() -> None:
    world = formed(3, 1)
    world.cut = {("p2", "p1"), ("p3", "p1")}  # p1 hears nobody
    world.run(8 * SECOND)
    request = world.ask("p2")
    world.run(2 * SECOND)
    assert world.problem(request) is None, world.story()


def test_P61_a_wiped_node_listens_until_it_has_merged_a_majority() -> None:
    world = formed(3, 1)
    request = world.ask("p1")
    world.run(2 * SECOND)
    assert world.problem(request) is None
    world.crash("p3")
    world.machines["p3"].rows.clear()
    world.partition("p3")
    world.boot("p3")
    asked = world.ask("p3", "another")
    world.run(5 * SECOND)
    assert asked not in world.answers
    world.cut.clear()
    world.run(5 * SECOND)
    assert world.problem(asked) is None, "created, here or elsewhere"
    agreed(world)


def test_R7_heartbeats_do_not_grow_with_databases() -> None:
    from protocol import codec, suspicion
    from protocol.chart import TABLE
    from protocol.turn import Turn

    world = formed(3, 1)
    node = world.machines["p1"].node
    assert node is not None

    def size() -> int:
        beat = suspicion.heartbeat(Turn(node.state, TABLE, world.now))
        assert isinstance(beat, Heartbeat)
        return len(codec.encode(beat))

    before = size()
    for i in range(30):
        world.ask("p1", f"db{i}")
        world.run(SECOND // 5)
    assert abs(size() - before) <= 4


@pytest.mark.parametrize("seed", range(40))
def test_random_faults_end_in_agreement(seed: int) -> None:
    """Loss, duplication, reordering, partitions and crashes, under queries; then the world heals: one incarnation per name, every
    request answered, all directories alike, the databases answer and sleep."""
    chance = random.Random(seed)
    nodes = chance.choice([3, 4, 5])
    world = formed(nodes, chance.choice([1, 2, 3]))
    loss = chance.choice([0.0, 0.02, 0.2])
    world.lose = lambda *_: chance.random() < loss
    twice = chance.choice([0.0, 0.1])
    slowest = chance.choice([1, 20, 300])
    world.delays = lambda: tuple(
        chance.randrange(1, slowest + 1) * MILLISECOND for _copy in range(2 if chance.random() < twice else 1)
    )
    requests: list[int] = []
    for _ in range(25):
        peers = sorted(world.machines)
        match chance.randrange(6):
            case 0:
                world.partition(*chance.sample(peers, chance.randrange(1, nodes)))
            case 1:
                world.cut = {(a, b) for a in peers for b in peers if a != b and chance.random() < 0.2}
            case 2 if sum(m.node is not None for m in world.machines.values()) > nodes // 2 + 1:
                world.crash(chance.choice(peers))
            case 3:
                for peer, machine in world.machines.items():
                    if machine.node is None:
                        world.boot(peer)
            case 4:
                world.cut.clear()
            case _:
                alive = [peer for peer, machine in world.machines.items() if machine.node is not None]
                requests.append(world.ask(chance.choice(alive), chance.choice(["users", "books"])))
        world.run(chance.randrange(1, 4 * SECOND))
    world.cut.clear()
    world.lose = lambda *_: False
    world.delays = lambda: (MILLISECOND,)
    for peer, machine in world.machines.items():
        if machine.node is None:
            world.boot(peer)
    world.run(40 * SECOND)
    agreed(world)
    for name in ("users", "books"):
        records = world.machines["p1"].node.state.living(f"myapp_{name}")  # type: ignore[union-attr]
        assert len(records) <= 1
        asked = [world.ask(peer, name) for peer in world.machines]
        world.run(15 * SECOND)
        problems = {world.problem(one) for one in asked}
        assert problems == {None}, (seed, problems, world.story()[-9000:])
    world.run(60 * SECOND)
    agreed(world)
    assert world.phases() == {"hibernating"}, (seed, world.story()[-9000:])


def test_P42_a_start_names_who_may_have_the_databases_TLS_identity_the_founder_first() -> None:
    world = Several(3)
    starts: list[tuple[str, fx.Start]] = []
    carry_out = world.carry_out

    def watch(machine: Machine, action: object) -> None:
        if isinstance(action, fx.Start):
            starts.append((machine.peer, action))
        carry_out(machine, action)

    world.carry_out = watch  # type: ignore[method-assign]
    world.run(2 * SECOND)
    world.ask("p1")
    world.run(12 * SECOND)
    world.ask("p1")
    world.run(2 * SECOND)
    founder = next(peer for peer, start in starts if start.mode == "found")
    assert len(starts) == 6, "born, and woken"
    for peer, start in starts:
        assert sorted(start.sources) == sorted({"p1", "p2", "p3"} - {peer})
        assert peer == founder or start.sources[0] == founder
