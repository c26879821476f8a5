"""The network between machines. The laws kept here: bytes travel, never values (everything passes ``protocol.codec``); a direct
stream keeps its order, gossip need not; a link that is cut is cut for the nodes and for the rqlited processes alike; what is held
is not lost but arrives when the hold ends, however late (F30, F52).

Who has another cluster's private key is never heard at all: ``Settings.swarm`` names the key.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from attrs import frozen

from protocol.inputs import PeerConnected, Received
from protocol.messages import Message
from sim import timings, wire
from sim.raft import Groups
from sim.streams import between

if TYPE_CHECKING:
    from sim.machine import Machine
    from sim.world import World

Link = tuple[str, str]
"""(from, to): names of machines."""


@frozen
class Weather:
    """How bad the network is for node messages: shares that are lost or come twice, and the longest delay, µs (0: as always)."""

    loss: float = 0.0
    twice: float = 0.0
    slowest: int = 0


FAIR: Final = Weather()


class Network:
    def __init__(self, world: World, groups: Groups) -> None:
        self.weather = FAIR
        self._world = world
        self._groups = groups
        self._cuts: dict[Link, int] = {}
        """How many faults cut a link now."""
        self._holds: dict[Link, int] = {}
        self._held: list[tuple[Link, bytes, bool]] = []
        self._last: dict[Link, int] = {}
        """When the newest message of a direct stream arrives: the next comes no earlier."""
        self._chance = world.streams["network"]
        self._ways: dict[str, tuple[Link, ...]] = {}
        """Machine → the links to all others of its swarm, once it has said something to them: a swarm never changes."""

    # Messages.

    def send(self, sender: Machine, to: str, message: Message) -> None:
        """Over the direct stream to one peer; nothing comes of it when there is no such machine."""
        receiver = self._world.machines.get(to)
        if receiver is not None and receiver is not sender and self._together(sender, receiver):
            self._carry((sender.name, to), wire.encode(message), ordered=True)

    def broadcast(self, sender: Machine, message: Message) -> None:
        """Gossip to everybody of the swarm."""
        ways = self._ways.get(sender.name)
        if ways is None:
            others = [one for one in self._world.machines.values() if one is not sender and self._together(sender, one)]
            ways = self._ways[sender.name] = tuple((sender.name, one.name) for one in others)
        if ways:
            data = wire.encode(message)
            for link in ways:
                self._carry(link, data, ordered=False)

    @staticmethod
    def _together(one: Machine, other: Machine) -> bool:
        return one.settings.swarm == other.settings.swarm

    def _carry(self, link: Link, data: bytes, ordered: bool) -> None:
        if link in self._groups.cut:
            return
        if self._holds and link in self._holds:
            self._held.append((link, data, ordered))
            return
        weather, random = self.weather, self._chance.random
        if weather.loss and random() < weather.loss:
            return
        self._travel(link, data, ordered)
        if not ordered and weather.twice and random() < weather.twice:
            self._travel(link, data, ordered)

    def _travel(self, link: Link, data: bytes, ordered: bool) -> None:
        slowest, hop = self.weather.slowest, timings.HOP
        schedule = self._world.schedule
        at = schedule.now + between(self._chance, (hop[0], slowest) if slowest > hop[1] else hop)
        if ordered:
            at = self._last[link] = max(self._last.get(link, 0), at)
        schedule.at(at, self._arrive, link, data)

    def _arrive(self, link: Link, data: bytes) -> None:
        node = self._world.machines[link[1]].node
        if node is not None and node.alive and node.booted and link not in self._groups.cut:
            node.feed(Received, link[0], wire.decode(data))

    # Connections.

    def up(self, machine: Machine) -> None:
        """A node has booted: it connects to everybody who is there, and they see it."""
        for other in self._world.machines.values():
            if other is not machine and self._together(machine, other):
                self._connect_soon(machine, other)

    def _connect_soon(self, one: Machine, other: Machine) -> None:
        self._world.schedule.after(between(self._chance, timings.CONNECT), self._connected, one, other)

    def _connected(self, one: Machine, other: Machine) -> None:
        cut = self._groups.cut
        if (one.name, other.name) in cut or (other.name, one.name) in cut:
            return
        nodes = (one.node, other.node)
        if all(node is not None and node.alive and node.booted for node in nodes):
            for node, peer in zip(nodes, (other.name, one.name), strict=True):
                assert node is not None
                node.feed(PeerConnected, peer)

    # What is wrong with it.

    def cut(self, links: Iterable[Link]) -> None:
        """Nothing passes these links until :meth:`mend` is called as often; what is under way is lost."""
        self._count(self._cuts, links, 1)

    def mend(self, links: Iterable[Link]) -> None:
        links = list(links)
        self._count(self._cuts, links, -1)
        machines = self._world.machines
        for one, other in sorted({(min(link), max(link)) for link in links}):
            if self._together(machines[one], machines[other]):
                self._connect_soon(machines[one], machines[other])

    def hold(self, links: Iterable[Link]) -> None:
        """Keep what is sent on these links until :meth:`release` is called as often."""
        self._count(self._holds, links, 1)

    def release(self, links: Iterable[Link]) -> None:
        self._count(self._holds, links, -1)
        held, self._held = self._held, []
        for link, data, ordered in held:
            self._carry(link, data, ordered)

    def heal(self) -> None:
        """Everything passes again, and what was held arrives."""
        self.weather = FAIR
        self._holds.clear()
        self.mend([link for link, times in self._cuts.items() for _ in range(times)])
        self.release(())

    def _count(self, counts: dict[Link, int], links: Iterable[Link], by: int) -> None:
        for link in links:
            counts[link] = max(0, counts.get(link, 0) + by)
            if not counts[link]:
                del counts[link]
        if counts is self._cuts:
            self._groups.cut.clear()
            self._groups.cut.update(counts)
            self._groups.disturbed()


def links(side: tuple[str, ...], everybody: Iterable[str], direction: str) -> list[Link]:
    """All links between ``side`` and the rest: those ``out`` of it, ``in`` to it, or ``both``."""
    rest = [name for name in everybody if name not in side]
    out = [(one, other) for one in side for other in rest]
    back = [(other, one) for one in side for other in rest]
    return {"out": out, "in": back, "both": out + back}[direction]
