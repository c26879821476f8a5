"""The model of a Raft group across machines: what a majority holds stays, and only a majority leads."""

from __future__ import annotations

from random import Random

from protocol.effects import Start
from protocol.limits import SECOND
from sim.disk import Disk
from sim.host import Host
from sim.network import links
from sim.raft import Groups
from sim.rqlite import Outcome, Rqlited
from sim.schedule import Schedule


class Three:
    """Three machines, one founder, two joiners."""

    def __init__(self, seed: int = 1) -> None:
        self.schedule, self.groups = Schedule(), Groups()
        self.hosts = {
            name: Host(self.schedule, Random(f"{seed}{name}"), Disk(Random(seed)), name=name, groups=self.groups)
            for name in ("a", "b", "c")
        }
        self.ready = list[str]()
        self.causes = list[str]()
        self.members = {name: self.start(name, 1) for name in self.hosts}
        self.run(5)

    def start(self, name: str, run: int) -> Rqlited:
        mode = "restart" if run > 1 else "found" if name == "a" else "join"
        start = Start(
            "app_users", "s-1-x", run, mode, f"{name}.s-1-x.0", 5001, 7001, () if name == "a" else ("a:7001",)
        )
        return Rqlited(
            self.hosts[name], start, lambda _: self.ready.append(name), lambda *told: self.causes.append(told[2])
        )

    def run(self, seconds: int) -> None:
        self.schedule.run(self.schedule.now + seconds * SECOND)

    def write(self, name: str, value: int) -> list[Outcome]:
        seen = list[Outcome]()
        self.members[name].write(lambda _asker, outcome, *_: seen.append(outcome), None, value)
        self.run(3)
        return seen

    def read(self, name: str) -> tuple[Outcome, list[int]]:
        seen = list[tuple[Outcome, list[int]]]()
        self.members[name].read(
            lambda _asker, outcome, rows, count: seen.append((outcome, rows[:count])), None, strong=True
        )
        self.run(3)
        return seen[0]

    def leader(self) -> str:
        return next(name for name, member in self.members.items() if member.leader)

    def part(self, *side: str) -> None:
        self.groups.cut.update(links(side, self.hosts, "both"))
        self.groups.disturbed()
        self.run(2)


def test_F16_all_three_become_voters_and_each_passes_a_strong_read() -> None:
    three = Three()
    assert sorted(three.ready) == ["a", "b", "c"]
    assert {member.voters for member in three.members.values()} == {("a.s-1-x.0", "b.s-1-x.0", "c.s-1-x.0")}
    assert sum(member.leader for member in three.members.values()) == 1


def test_F41_what_was_acknowledged_is_there_after_the_leader_is_gone() -> None:
    for seed in range(20):
        three = Three(seed)
        assert three.write("b", 1) == ["ok"]
        first = three.leader()
        three.members[first].kill()
        three.run(2)
        others = [name for name in three.hosts if name != first]
        assert three.read(others[0]) == ("ok", [1])
        assert three.write(others[1], 2) == ["ok"]
        three.members[first] = three.start(first, 2)
        three.run(3)
        assert three.read(first) == ("ok", [1, 2])
        assert three.members[first].directory.values == [1, 2]


def test_F50_a_minority_acknowledges_nothing_and_a_majority_goes_on() -> None:
    three = Three()
    cut = three.leader()
    three.part(cut)
    assert three.write(cut, 1) in (["error"], ["reset"])
    other = next(name for name in three.hosts if name != cut)
    assert three.write(other, 2) == ["ok"]
    three.groups.cut.clear()
    three.groups.disturbed()
    three.run(2)
    assert three.read(cut) == ("ok", [2])


def test_F86_a_write_under_a_leader_that_is_cut_off_is_unknown_never_acknowledged() -> None:
    three = Three()
    leader = three.members[three.leader()]
    seen = list[Outcome]()
    leader.write(lambda _asker, outcome, *_: seen.append(outcome), None, 1)
    three.part(leader.host.name)
    assert seen == ["reset"]
    assert not leader.leader


def test_one_of_three_alone_is_never_ready_and_two_are() -> None:
    three = Three()
    for member in three.members.values():
        member.kill()
    three.ready.clear()
    three.members["b"] = three.start("b", 2)
    three.run(10)
    assert three.ready == []
    three.members["c"] = three.start("c", 2)
    three.run(3)
    assert sorted(three.ready) == ["b", "c"]


def test_P54_a_member_whose_disk_is_lost_does_not_start_and_one_that_finds_nobody_gives_up_joining() -> None:
    three = Three()
    three.members["c"].kill()
    three.hosts["c"].disk.wipe()
    three.start("c", 2)
    three.run(1)
    assert three.causes[-1] == "data_missing"
    for member in three.members.values():
        member.kill()
    three.members["b"].host.disk.wipe()
    three.start("b", 1)
    three.run(15)
    assert three.causes[-1] == "crashed"
