"""A name with two databases: facts of birth choose one, alike on every node and whatever came first; the other is stopped, kept, and said
aloud (F11, P15)."""

from __future__ import annotations

import random

from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from protocol import directory, views
from protocol import effects as fx
from protocol import inputs as ip
from protocol.chart import TABLE
from protocol.ids import Dot, incarnation_id
from protocol.limits import SECOND
from protocol.messages import Dropped, RecordNews
from protocol.records import Attempt, Birth, Member, Record, Seal, Stamp, Version, by_birth, join, quarantined
from protocol.state import Config, State
from protocol.turn import Turn
from tests.protocol.several import Group, Machine, Several
from tests.protocol.test_several import agreed, asleep, created, formed

LATE, EARLY = Attempt(9, "p9"), Attempt(0, "p0")
ELSEWHERE = (Member("p4", "hp4", 7999),)


def other(attempt: Attempt, members: tuple[Member, ...] = ELSEWHERE, name: str = "users") -> Record:
    """Another database of the name, from a life of the cluster that this one knows nothing of."""
    birth = Birth(incarnation_id(Dot("ff", 1), "f00d"), "myapp", name, len(members), members[0].peer, members, attempt)
    return Record(birth, Version(0, 3, 0, "ff"), "active", members, Stamp(0, 0, 0))


def tell(world: Several, record: Record, *peers: str) -> None:
    hear(world, RecordNews(record), *peers)


def hear(world: Several, message: object, *peers: str) -> None:
    """Each of these nodes (none: all) hears it from another one."""
    for peer in peers or tuple(world.machines):
        sender = next(one for one in world.machines if one != peer)
        world.step(peer, ip.Received, sender=sender, message=message)


def phase(world: Several, incarnation: str) -> set[str]:
    return {machine.node.state.records[incarnation].phase for machine in world.machines.values() if machine.node}


def test_F11_P15_of_two_databases_one_is_chosen_and_the_other_is_stopped_and_kept() -> None:
    world = created(4)
    (mine,) = world.incarnations()
    acts: list[tuple[str, object]] = []
    carry_out = world.carry_out

    def watch(machine: Machine, action: object) -> None:
        acts.append((machine.peer, action))
        carry_out(machine, action)

    world.carry_out = watch
    tell(world, other(LATE), "p2")
    world.run(5 * SECOND)
    assert phase(world, mine) == {"quarantined"}, world.story()
    assert phase(world, other(LATE).incarnation) == {"active"}
    assert {peer for peer, one in acts if isinstance(one, fx.Terminate)} == {"p1", "p2", "p3"}
    assert {peer for peer, one in acts if isinstance(one, fx.Forget) and one.incarnation == mine} >= {"p1", "p2", "p3"}
    assert not [one for _peer, one in acts if isinstance(one, fx.Trash | fx.Start)]
    assert not world.groups[mine].running
    assert set(world.events("quarantined")) == {"p1", "p2", "p3"}
    assert set(world.events("conflict")) >= {"p2"}
    agreed(world)
    late = world.ask("p1")
    world.run(SECOND)
    assert world.hops(late) == ["p4"], "clients of the name are served by the chosen one"
    for peer in world.machines:
        state = world.state(peer)
        assert any("CONFLICT" in line and mine in line for line in views.node(state, world.now).advice)
        (shown,) = [one for one in views.directory(state) if one.incarnation == mine]
        assert "quarantined" in shown.error
        assert (shown.phase, state.load()) == ("quarantined", 0)


def test_P15_the_older_one_is_the_other_one_and_traffic_on_it_changes_nothing() -> None:
    world = created(4)
    (mine,) = world.incarnations()
    tell(world, evolve(other(EARLY), version=Version(0, 99, 7, "zz")))
    world.run(2 * SECOND)
    assert phase(world, mine) == {"active"}
    assert phase(world, other(EARLY).incarnation) == {"quarantined"}
    assert world.problem(world.ask("p1")) is None
    world.run(20 * SECOND)
    assert phase(world, mine) == {"hibernating"}, "it goes on as if nothing were"


def test_P15_a_quarantine_outlives_restarts_and_the_chosen_one_and_nobody_makes_a_third() -> None:
    world = created(4)
    (mine,) = world.incarnations()
    tell(world, other(LATE))
    world.run(2 * SECOND)
    for peer in world.machines:
        world.crash(peer)
    world.run(SECOND)
    for peer in world.machines:
        world.boot(peer)
    world.run(5 * SECOND)
    assert phase(world, mine) == {"quarantined"}
    assert not world.groups[mine].running
    hear(world, Dropped(other(LATE).incarnation))
    world.run(5 * SECOND)
    assert world.incarnations() == {mine}
    assert phase(world, mine) == {"quarantined"}
    for peer in ("p1", "p4"):
        answer = world.answers[world.ask(peer)]
        assert isinstance(answer, fx.Answer)
        assert "quarantined until an operator decides" in answer.detail
        assert mine in answer.detail
    world.run(15 * SECOND)
    assert world.incarnations() == {mine}
    assert not world.groups[mine].running


def test_P15_clients_that_wait_for_the_other_one_are_sent_to_the_chosen_one() -> None:
    world = asleep(4)
    (mine,) = world.incarnations()
    inside, outside = world.ask("p1"), world.ask("p4")
    assert {inside, outside}.isdisjoint(world.answers), "both wait for the wake"
    chosen = evolve(other(LATE), members=(Member("p3", "hp3", 7999),))
    tell(world, chosen)
    world.run(2 * SECOND)
    assert phase(world, mine) == {"quarantined"}
    assert [world.hops(one) for one in (inside, outside)] == [["p3"], ["p3"]], world.story()


def test_P15_a_node_that_has_both_opens_the_door_of_the_chosen_one_again() -> None:
    """A worker knows a name by the door that opened last, which was that of the other one."""
    world = formed(2, 1)
    world.ask("p1")
    world.run(2 * SECOND)
    (first,) = world.incarnations()
    state = world.state("p1")
    older = other(EARLY, (Member("p1", "hp1", 7999),))
    doors: list[fx.Door | fx.Forget] = []
    carry_out = world.carry_out

    def watch(machine: Machine, action: object) -> None:
        if isinstance(action, fx.Door | fx.Forget):
            doors.append(action)
        carry_out(machine, action)

    world.carry_out = watch
    world.groups[older.incarnation] = Group()
    hosted = state.hosted[first]
    copy = evolve(hosted, record=older, ticket=99, promise=evolve(hosted.promise, incarnation=older.incarnation))
    state.host(copy)
    state.by_ticket[99] = older.incarnation
    tell(world, older, "p1")
    world.run(SECOND)
    assert state.hosted[older.incarnation].state == "quarantined"
    last = doors[-1]
    assert isinstance(last, fx.Door)
    assert (last.incarnation, last.open) == (first, True)


def test_P15_a_birth_that_is_not_acknowledged_is_no_second_database() -> None:
    world = created(4)
    (mine,) = world.incarnations()
    tell(world, evolve(other(LATE), phase="creating", version=Version(0, 1, 0, "ff")), "p4")
    world.run(SECOND)
    assert phase(world, mine) == {"active"}
    assert world.events("conflict") == []


# --- the choice -----------------------------------------------------------------------------------------------------


def births(draws: list[tuple[int, int, int]]) -> list[Record]:
    found: dict[str, Record] = {}
    for n, (attempt, coordinator, store) in enumerate(draws):
        birth = other(Attempt(attempt, f"p{coordinator}")).birth
        birth = evolve(birth, incarnation=incarnation_id(Dot(f"s{store}", n % 2 + 1), f"{n}"))
        found[birth.incarnation] = evolve(other(LATE), birth=birth)
    return list(found.values())


@given(
    st.lists(st.tuples(st.integers(1, 3), st.integers(1, 2), st.integers(1, 2)), min_size=2, max_size=5),
    st.lists(st.integers(0, 9), min_size=2, max_size=4),
    st.randoms(use_true_random=False),
)
def test_P15_every_order_of_learning_chooses_the_same_one(
    draws: list[tuple[int, int, int]], nodes: list[int], chance: random.Random
) -> None:
    records = births(draws)
    chosen = max(records, key=by_birth)
    states: list[State] = []
    for _node in nodes:
        state = State(Config("p1"), store="aa")
        order = [*records, *chance.sample(records, chance.randrange(len(records)))]
        chance.shuffle(order)
        for record in order:
            busier = evolve(record, version=Version(0, 3 + chance.randrange(3), 0, "ff"))  # traffic changes nothing
            directory.merge(Turn(state, TABLE, 1), busier)
        states.append(state)
        free = [one.incarnation for one in state.records.values() if one.phase != "quarantined"]
        assert free == [chosen.incarnation]
        assert directory.chosen(state, "myapp_users") == state.records[chosen.incarnation]
    for state in states:  # and they stay alike when they tell each other
        for record in [one for peer in states for one in list(peer.records.values())]:
            directory.merge(Turn(state, TABLE, 1), record)
    assert len({tuple(sorted((one, record.phase) for one, record in state.records.items())) for state in states}) == 1


WRITTEN = st.tuples(
    st.integers(0, 1), st.integers(1, 3), st.sampled_from(("active", "hibernating")), st.booleans(), st.integers(0, 2)
)


def written(draw: tuple[int, int, str, bool, int]) -> Record:
    generation, epoch, _phase, parted, stamp = draw
    sealed = epoch % 2 == 0
    record = evolve(
        other(LATE),
        version=Version(generation, epoch, 0, "ff"),
        phase="hibernating" if sealed else "active",
        seal=Seal(epoch, 7) if sealed else None,
        members=(Member(f"p{stamp}", "h", 7000),),
        stamp=Stamp(0, stamp, 0),
    )
    return quarantined(record) if parted else record


@given(WRITTEN, WRITTEN, WRITTEN)
def test_F20_P15_joining_is_a_join_with_quarantines_too(
    one: tuple[int, int, str, bool, int], two: tuple[int, int, str, bool, int], three: tuple[int, int, str, bool, int]
) -> None:
    a, b, c = written(one), written(two), written(three)
    assert join(a, b) == join(b, a)
    assert join(a, join(b, c)) == join(join(a, b), c)
    assert join(a, a) == a
    assert join(join(a, b), a) == join(a, b)


def test_P15_only_a_later_generation_ends_a_quarantine() -> None:
    state = State(Config("p1"), store="aa")
    one = other(EARLY)
    for record in (quarantined(one), evolve(one, version=Version(0, 50, 0, "ff"))):
        directory.merge(Turn(state, TABLE, 1), record)
    assert state.records[one.incarnation].phase == "quarantined"
    assert state.records[one.incarnation].version.epoch == 50
    directory.merge(Turn(state, TABLE, 1), evolve(one, version=Version(1, 1, 0, "ff")))
    assert state.records[one.incarnation].phase == "active"
