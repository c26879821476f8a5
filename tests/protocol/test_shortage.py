"""A Raft range that is full: who sleeps longest gives its port up, on a minority of its members alone (P42, F84)."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import define, field

from protocol import codec, placement
from protocol import effects as fx
from protocol import inputs as ip
from protocol.ids import Dot, incarnation_id
from protocol.lifecycle import shortage
from protocol.limits import MILLISECOND, SECOND
from protocol.messages import CreateAnswer
from protocol.records import Attempt, Birth, Member, newborn
from protocol.rows import Instance
from tests.protocol.several import Machine, Several


@define
class Pool:
    """The Raft ports of one node: so many from 7001 on."""

    size: int
    owned: dict[int, int] = field(factory=dict[int, int])
    """Ticket → port."""

    def reserve(self, ticket: int, preferred: int) -> int:
        free = {7001 + i for i in range(self.size)} - {port for one, port in self.owned.items() if one != ticket}
        wanted = [port for port in (preferred, self.owned.get(ticket, 0)) if port in free]
        if not wanted and not free:
            return 0
        self.owned[ticket] = wanted[0] if wanted else min(free)
        return self.owned[ticket]


class Cramped(Several):
    """``sizes``: how many Raft ports each node has, in the order of the nodes; HTTP ports there are without end."""

    def __init__(self, count: int, rf: int, *sizes: int) -> None:
        self.pools: dict[str, Pool] = {}
        self.sizes = sizes
        super().__init__(count, rf)
        self.run(2 * SECOND)

    def pool(self, peer: str) -> Pool:
        return self.pools.setdefault(peer, Pool(self.sizes[int(peer[1:]) - 1]))

    def crash(self, peer: str) -> None:
        super().crash(peer)
        self.pools.pop(peer, None)

    def carry_out(self, machine: Machine, action: Any) -> None:
        pool = self.pool(machine.peer)
        match action:
            case fx.ReservePorts():
                raft = pool.reserve(action.ticket, action.raft)
                node = machine.node
                told = {"ticket": action.ticket, "http": 5000 + action.ticket, "raft": raft, "asked": action.asked}
                if not raft:
                    told = {"ticket": action.ticket, "detail": "no free Raft port", "raft": True, "asked": action.asked}
                kind = ip.PortsReserved if raft else ip.PortsRefused
                self.later(MILLISECOND, lambda: self.step(machine.peer, kind, **told) if machine.node is node else None)
            case fx.ReleasePorts():
                if action.raft:
                    pool.owned.pop(action.ticket, None)
            case fx.HoldPort():
                assert action.raft not in pool.owned.values(), "it is another database's"
                pool.owned[action.ticket] = action.raft
            case _:
                super().carry_out(machine, action)

    def query(self, name: str, peer: str = "p1") -> str | None:
        """Ask for a database and give it time to be served; what the client is told."""
        request = self.ask(peer, name)
        self.run(3 * SECOND)
        return self.problem(request)

    def slept(self, *names: str) -> None:
        """Each of these was created, one after the other, and all sleep."""
        for name in names:
            assert self.query(name) is None
            self.run(2 * SECOND)
        self.run(15 * SECOND)
        assert self.phases() == {"hibernating"}

    def given_up(self) -> list[tuple[str, str]]:
        return [(peer, d.database) for _now, peer, d in self.log if d.event == "port given up"]


@pytest.mark.parametrize(
    ("count", "last"), [(1, ()), (2, ()), (3, (3,)), (4, (4,)), (5, (4, 5)), (6, (5, 6)), (9, (6, 7, 8, 9))]
)
def test_P42_only_the_last_members_of_a_minority_may_give_up_a_port(count: int, last: tuple[int, ...]) -> None:
    members = tuple(Member(f"p{i}", f"h{i}", 7001) for i in range(1, count + 1))
    birth = Birth(incarnation_id(Dot("s", 1), "n"), "myapp", "users", count, "p1", members, Attempt(1, "p1"))
    may = [i for i in range(1, count + 1) if shortage.may_give_up(newborn(birth), f"p{i}")]
    assert tuple(may) == last
    assert 2 * len(may) < count, "the others are a majority"
    assert not shortage.may_give_up(newborn(birth), "p99")


def test_P42_F84_the_longest_sleeper_gives_its_port_up_for_a_new_database() -> None:
    world = Cramped(3, 3, 9, 9, 2)
    world.slept("one", "two")
    assert world.query("one") is None, "so that two sleeps longer"
    world.run(20 * SECOND)
    assert world.query("three") is None, world.story()
    assert world.given_up() == [("p3", "myapp_two")]
    assert {peer: len(pool.owned) for peer, pool in world.pools.items()} == {"p1": 3, "p2": 3, "p3": 2}


def test_P42_F84_who_gave_its_port_up_wakes_on_another_one_and_all_learn_it() -> None:
    world = Cramped(3, 3, 9, 9, 2)
    world.slept("one", "two")
    assert world.query("three") is None
    assert world.given_up() == [("p3", "myapp_one")]
    assert world.query("one") is None, "the other two serve at once"
    assert world.given_up() == [("p3", "myapp_one"), ("p3", "myapp_two")]
    (record,) = world.state("p1").living("myapp_one")
    member = record.member("p3")
    assert member is not None
    assert member.raft == 7002, "three has the port that it had"
    assert world.state("p3").hosted[record.incarnation].state == "active", world.story()
    assert len(world.roots()) == 1


def test_P42_F24_a_port_that_was_given_up_stays_so_over_a_restart() -> None:
    world = Cramped(3, 3, 9, 9, 2)
    world.slept("one", "two")
    assert world.query("three") is None
    (record,) = world.state("p3").living("myapp_one")
    row = codec.decode_row(world.machines["p3"].rows[f"instance/{record.incarnation}"])
    assert isinstance(row, Instance)
    assert row.raft == 0
    world.crash("p3")
    world.run(SECOND)
    world.boot("p3")  # the pool asserts that nothing is held twice
    world.run(3 * SECOND)
    assert world.state("p3").hosted[record.incarnation].raft == 0
    world.run(30 * SECOND)
    assert world.query("one", "p3") is None
    assert len(world.roots()) == 1


def test_P42_a_node_that_is_short_of_ports_offers_without_room() -> None:
    """One database sleeps without a port here: whatever port is offered, that one has to come back some day."""
    world = Cramped(3, 3, 9, 9, 2)
    world.slept("one", "two")
    offers: list[CreateAnswer] = []
    world.lose = lambda sender, _to, message: (
        isinstance(message, CreateAnswer) and sender == "p3" and bool(offers.append(message))
    )
    for name in ("three", "four"):
        assert world.query(name) is None, world.story()
        world.run(20 * SECOND)
    assert [(one.offer is not None, one.room) for one in offers] == [(True, 0), (True, 0)]
    for name in ("three", "four"):
        (record,) = world.state("p1").living(f"myapp_{name}")
        assert record.peers[-1] == "p3", "so that it may give the port up again"


def test_P42_who_is_short_of_ports_is_chosen_last_and_only_into_a_minority() -> None:
    def answer(peer: str, room: int) -> CreateAnswer:
        return CreateAnswer(Attempt(1, "p1"), "a", "b", 3, "denied", Member(peer, peer, 7001), room)

    def chosen(count: int, **rooms: int) -> list[str]:
        return [one.peer for one in placement.choose([answer(peer, room) for peer, room in rooms.items()], count)]

    assert chosen(3, p1=0, p2=5, p3=9, p4=1) == ["p3", "p2", "p4"]
    assert chosen(3, p1=0, p2=5, p3=9) == ["p3", "p2", "p1"]
    assert chosen(3, p1=0, p2=0, p3=9) == ["p3", "p1"], "not enough"
    assert chosen(5, p1=0, p2=0, p3=9, p4=9, p5=9) == ["p3", "p4", "p5", "p1", "p2"]
    assert chosen(2, p1=0, p2=9) == ["p2"]
    assert chosen(1, p1=0) == []


@pytest.mark.parametrize("rf", [1, 2])
def test_P42_one_or_two_replicas_never_give_up_a_port(rf: int) -> None:
    world = Cramped(rf, rf, *(1 for _ in range(rf)))
    world.slept("one")
    assert world.query("two") == "no-ports"
    assert world.given_up() == []
    assert world.query("one") is None


def test_P42_what_is_awake_keeps_its_port() -> None:
    world = Cramped(3, 3, 9, 9, 1)
    assert world.query("one") is None
    assert world.query("two") == "no-ports"
    assert world.given_up() == []


def test_P42_a_full_HTTP_range_takes_no_Raft_port_from_anybody() -> None:
    world = Cramped(3, 3, 9, 9, 9)
    world.slept("one")
    carry_out = world.carry_out

    def refuse(machine: Machine, action: Any) -> None:
        if isinstance(action, fx.ReservePorts) and machine.peer == "p3":
            detail = "no free HTTP port in 5001-5001"
            refused = {"ticket": action.ticket, "detail": detail, "asked": action.asked}
            world.later(MILLISECOND, lambda: world.step("p3", ip.PortsRefused, **refused))
        else:
            carry_out(machine, action)

    world.carry_out = refuse
    assert world.query("two") == "no-ports"
    assert world.given_up() == []
