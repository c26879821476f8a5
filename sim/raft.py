"""The Raft group of one incarnation: who votes, who leads, what a majority holds. The law kept here is Raft's own, as far as a client
or a node can tell: an entry is acknowledged once a majority of the voters has it synced, only a member that holds everything
acknowledged is elected, only while a majority runs and hears each other, and a leader that hears no majority steps down.

A group of one voter needs none of this: :mod:`sim.rqlite` is that group by itself, until a second voter joins. Modelled
without messages of its own: links are looked at when something is committed, and again whenever a process, a pause or the
network changes. One thing is better than real: a new leader answers weak reads only with all that was acknowledged.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from attrs import Factory, define

from protocol.limits import MILLISECOND

if TYPE_CHECKING:
    from sim.host import Host
    from sim.rqlite import Rqlited

LAG: Final = 50 * MILLISECOND
"""A follower has applied what was committed by then (-raft-commit-timeout); until then its own index is the older one."""
CATCH_UP: Final = 5 * MILLISECOND
"""A follower that a commit did not need has the entry so much later."""


@define(eq=False)
class Groups:
    """All groups of the world, and the links between their machines."""

    cut: set[tuple[str, str]] = Factory(set[tuple[str, str]])
    """(from, to) of machines whose messages do not pass; the network's own set."""
    bound: dict[str, Rqlited] = Factory(dict[str, "Rqlited"])
    """Raft address → the process that listens there."""
    all: list[Group] = Factory(list["Group"])

    def linked(self, one: Host, other: Host) -> bool:
        """Both ways: a follower that cannot answer is of no use to a leader."""
        if not self.cut or one is other:
            return True
        return (one.name, other.name) not in self.cut and (other.name, one.name) not in self.cut

    def found(self, founder: Rqlited) -> Group:
        group = Group(self)
        group.voters[founder.start.node_id] = founder.address
        self.all.append(group)
        return group

    def disturbed(self) -> None:
        """The network has changed."""
        for group in self.all:
            if group.running:
                group.disturbed()


@define(eq=False)
class Group:
    groups: Groups
    voters: dict[str, str] = Factory(dict[str, str])
    """Node id → Raft address, of the newest configuration."""
    running: dict[str, Rqlited] = Factory(dict[str, "Rqlited"])
    leader: Rqlited | None = None
    term: int = 0
    """Grows whenever a leader is won or lost: who waited for the one before is told that nothing is known."""
    index: int = 0
    tail: list[int] = Factory(list[int])
    """Rows that the leader has appended and no majority holds yet: any prefix may survive it."""
    _moved_at: int = 0
    _catching_up: bool = False

    @property
    def replicated(self) -> bool:
        return len(self.voters) > 1

    # Who is there.

    def hears(self, one: Rqlited, other: Rqlited) -> bool:
        """``other`` takes part, as far as ``one`` can tell: it runs, is not stopped, and is where the configuration says."""
        if not other.alive or other.paused or self.voters.get(other.start.node_id) != other.address:
            return False
        return one is other or self.groups.linked(one.host, other.host)

    def quorum(self, of: Rqlited) -> list[Rqlited]:
        """Everyone whom ``of`` hears if that is a majority of the voters, itself included; else nobody."""
        voters, cut, linked = (
            self.voters,
            self.groups.cut,
            self.groups.linked,
        )  # as :meth:`hears`, without a call for each
        heard = [
            one
            for one in self.running.values()
            if one.alive
            and not one.paused
            and voters.get(one.start.node_id) == one.address
            and (not cut or one is of or linked(of.host, one.host))
        ]
        return heard if 2 * len(heard) > len(self.voters) else []

    def leader_of(self, member: Rqlited) -> Rqlited | None:
        """The leader, for requests that ``member`` passes on to it."""
        leader = self.leader
        if leader is None or not leader.replayed or not self.groups.linked(member.host, leader.host):
            return None
        return leader

    def applied(self, member: Rqlited) -> int:
        """The applied index of a member's own copy."""
        leader, directory = self.leader, member.directory
        if self.replicated and leader is not None and self.groups.linked(member.host, leader.host):
            due = self._moved_at + (0 if member is leader else LAG)
            if member.host.schedule.now >= due and len(directory.values) == len(leader.directory.values):
                directory.index = self.index
        return directory.index

    # Coming and going.

    def up(self, member: Rqlited) -> None:
        """A voter's process listens; it elects, or follows, within one to two heartbeats."""
        member.replicated = True
        self.running[member.start.node_id] = member
        self._campaign_soon(member)

    def admit(self, joiner: Rqlited) -> bool:
        """``-join`` reached this group's leader: the joiner is a voter, or known under its new address, if a majority of
        the new configuration is there to say so."""
        leader, node_id = self.leader, joiner.start.node_id
        if leader is None or leader.paused or not self.groups.linked(leader.host, joiner.host):
            return False
        heard = {one.start.node_id for one in self.running.values() if self.hears(leader, one)} | {node_id}
        if 2 * len(heard) <= len({*self.voters, node_id}):
            return False
        if not self.replicated:
            self.index = leader.directory.index
        self.voters[node_id] = joiner.address
        self.running[node_id] = joiner
        joiner.directory.group = joiner.group = self
        joiner.directory.raft = True
        for member in self.running.values():
            member.replicated = True
        self._advance(1)
        self._catch_up(joiner)
        joiner.follow()
        return True

    def gone(self, member: Rqlited) -> None:
        """A member's process has ended."""
        if self.running.get(member.start.node_id) is not member:
            return
        del self.running[member.start.node_id]
        if self.leader is member:
            self._lose_leader()
        if self.replicated:
            self.disturbed()

    def disturbed(self) -> None:
        """Something changed between the members: each looks around once its heartbeats are missing."""
        if not self.replicated:
            return
        for member in self.running.values():
            self._campaign_soon(member)
        leader = self.leader
        if leader is not None:
            leader.host.schedule.after(leader.host.heartbeat, self._lease, leader, self.term)

    # Leading.

    def _campaign_soon(self, member: Rqlited) -> None:
        heartbeat = member.host.heartbeat
        member.after((heartbeat, 2 * heartbeat), self._campaign, member)

    def _campaign(self, member: Rqlited) -> None:
        leader = self.leader
        if self.running.get(member.start.node_id) is not member:
            return
        if leader is not None and self.hears(member, leader):
            self._catch_up(member)
            member.follow()
            return
        electors = self.quorum(member) if self.hears(member, member) else []
        if leader is not None and self.hears(leader, leader):
            electors = [one for one in electors if not self.hears(one, leader)]  # they have no reason to vote
        if 2 * len(electors) > len(self.voters):
            longest = max(len(one.directory.values) for one in electors)
            best = member if len(member.directory.values) == longest else None
            self._elect(best or next(one for one in electors if len(one.directory.values) == longest), electors)
        else:
            self._campaign_soon(member)

    def _elect(self, leader: Rqlited, electors: list[Rqlited]) -> None:
        tail = self.tail[: int(leader.host.chance.random() * (len(self.tail) + 1))]
        self._lose_leader()
        self.leader, leader.leader = leader, True
        self.index = max(self.index, leader.directory.index)
        self._append(leader, tail)
        self._advance(1 + len(tail))
        for member in electors:
            self._catch_up(member)
            member.follow()

    def _lose_leader(self) -> None:
        self.term += 1
        self.tail.clear()
        if self.leader is not None:
            self.leader.leader = False
            self.leader = None

    def _lease(self, leader: Rqlited, term: int) -> None:
        if self.leader is leader and self.term == term and (leader.paused or not self.quorum(leader)):
            self._lose_leader()

    # The log.

    def commit(self, value: int, heard: list[Rqlited]) -> None:
        """A majority has synced everything up to ``value``: which majority, of those that are heard, is chance."""
        leader = self.leader
        assert leader is not None
        if value not in self.tail:
            return  # committed with a later one
        done = self.tail.index(value) + 1
        rows, self.tail[:done] = self.tail[:done], []
        self._append(leader, rows)
        self._advance(len(rows))
        others = [one for one in heard if one is not leader]
        leader.host.chance.shuffle(others)
        for member in others[: len(self.voters) // 2]:
            self._catch_up(member)
        if not self._catching_up:
            self._catching_up = True
            leader.host.schedule.after(CATCH_UP, self._all_catch_up)

    def strong(self) -> None:
        """A strong read went through the log."""
        self._advance(1)

    def _all_catch_up(self) -> None:
        self._catching_up = False
        leader = self.leader
        if leader is not None and not leader.paused:
            for member in self.running.values():
                if self.hears(leader, member):
                    self._catch_up(member)

    def _catch_up(self, member: Rqlited) -> None:
        leader = self.leader
        if leader is None or member is leader:
            return
        mine, theirs = member.directory.values, leader.directory.values
        if len(mine) < len(theirs):
            self._append(member, theirs[len(mine) :])
        elif len(mine) > len(theirs):
            del mine[len(theirs) :]  # Raft overwrites what the leader does not have

    def _append(self, member: Rqlited, rows: list[int]) -> None:
        if rows:
            member.directory.values.extend(rows)
            member.directory.dirty = True

    def _advance(self, entries: int) -> None:
        self.index += entries
        leader = self.leader
        if leader is not None:
            leader.directory.index = self.index
            self._moved_at = leader.host.schedule.now
