"""Bringing a world to where a story begins: the undisturbed course of things, told action by action. The law kept here: nothing is made
up. Every state from which a search starts was reached by the real engine's own steps.

What happened before a story is over when it begins, unless the story keeps messages of it: then those that were really sent are under way still.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from attrs import evolve

from protocol import inputs as ip
from protocol.limits import SECOND
from protocol.messages import Dropped, Heartbeat, Message
from protocol.node import Config, Node
from sim.explore.local import NEVER
from sim.explore.world import FOUNDS, Action, Bounds, World

CLUSTER: Final = "c"
ENOUGH: Final = Bounds(timers=1000, crashes=1000, failures=1000, direct=1000)
Lost = Callable[[int, int, Message], bool]
NOTHING_LOST: Final[Lost] = lambda _from, _to, _message: False  # noqa: E731 (a default, named)

EVERYTHING: Final[Lost] = lambda _from, _to, _message: True  # noqa: E731


class Stage:
    """A world and where it is. ``under_way``: messages (bits) that were sent and have not arrived."""

    def __init__(self, nodes: int, replication_factor: int) -> None:
        peers = tuple(f"p{number}" for number in range(1, nodes + 1))
        configs = tuple(
            Config(
                peer,
                host=f"h{peer[1:]}",
                known=peers,
                cluster=CLUSTER,
                health_interval=NEVER,
                replication_factor=replication_factor,
                hibernation_timeout=60 * SECOND,
            )
            for peer in peers
        )
        self.world = World(configs)
        self.nodes = range(nodes)
        self.state = self.world.new(ENOUGH)

    @property
    def under_way(self) -> int:
        return self.state.sent

    def do(self, action: Action) -> None:
        self.state = self.world.after(self.state, action)

    def found(self) -> None:
        """The first node founds the cluster, the others join it; all hear each other."""
        self.do(Action("boot", 0, FOUNDS))
        self.boot(*self.nodes[1:])
        self.hear(*self.everyone())

    def boot(self, *nodes: int) -> None:
        for node in nodes:
            self.do(Action("boot", node))

    def query(self, node: int) -> None:
        """A client asks at this node."""
        self.state = self.world.bounded(self.state, evolve(ENOUGH, queries=(node,)))
        self.do(Action("query", node))

    def meet(self, node: int, other: int) -> None:
        """``node`` tells ``other`` of itself: its heartbeat is under way."""
        peer = self.world.peers[other]
        self.state = self.world.given(self.state, node, ("connected", other), lambda now: ip.PeerConnected(now, peer))

    def hear(self, *pairs: tuple[int, int]) -> None:
        """(node, other): these heartbeats arrive, each twice, so that each also knows who is heard by whom."""
        for _ in range(2):
            for node, other in pairs:
                self.meet(node, other)
            self.settle()

    def everyone(self) -> tuple[tuple[int, int], ...]:
        return tuple((a, b) for a in self.nodes for b in self.nodes if a != b)

    def settle(self, lost: Lost = NOTHING_LOST) -> int:
        """Everything that is under way arrives, oldest first, and every outcome that is due comes, until nothing is left; but what is
        ``lost`` is gone. Returns all messages (bits) that were under way meanwhile."""
        mail, passed = self.world.lives.mail, 0
        while True:
            rest = self.world.rests[self.state.rest]
            due = [one for one in rest.due if self.world.can(rest, one)]
            passed |= self.state.sent
            if self.state.sent:
                number = (self.state.sent & -self.state.sent).bit_length() - 1
                self.state = self.state._replace(sent=self.state.sent & ~(1 << number))
                sender, to, message = mail.all[number]
                if not lost(sender, to, message) and self.world.up(self.state, to):
                    self.do(Action("message", to, number))
            elif due:
                self.do(Action("outcome", due[0].node, due[0]))
            else:
                return passed

    def drop(self, which: Lost = EVERYTHING) -> None:
        """What is under way, or ``which`` of it, is lost."""
        for number, message in enumerate(self.world.lives.mail.all):
            if self.state.sent >> number & 1 and which(*message):
                self.state = self.state._replace(sent=self.state.sent & ~(1 << number))

    def late(self, messages: int) -> None:
        """These are under way too: late, or once more."""
        self.state = self.state._replace(sent=self.state.sent | messages)

    def deadline(self, node: int) -> None:
        self.do(Action("deadline", node))

    def until(self, node: int, there: Callable[[Node], bool], lost: Lost | None = NOTHING_LOST) -> None:
        """The node's deadlines pass, one by one, until this holds. What follows arrives at once, but what is ``lost``; None: it is left
        under way."""
        for _ in range(100):
            if there(self.look(node)):
                return
            self.deadline(node)
            if lost is not None:
                self.settle(lost)
        raise AssertionError(f"{self.world.peers[node]} never comes to where the story begins")

    def pause(self, node: int, hears: int) -> None:
        """So long that it hears nobody any more but the one whose heartbeat it finds when it goes on; the others did not notice."""
        self.drop()
        self.meet(hears, node)
        mail, later = self.world.lives.mail, self.world.lives.all[self.state.lives[node]].now + 4 * NEVER
        sender, _to, beat = mail.all[self.state.sent.bit_length() - 1]
        self.drop()
        peer = self.world.peers[sender]
        self.state = self.world.given(self.state, node, ("paused", hears), lambda _now: ip.Received(later, peer, beat))
        self.drop(lambda _from, _to, message: isinstance(message, Heartbeat))

    def crash(self, node: int) -> None:
        self.do(Action("crash", node))

    def wipe(self, node: int) -> None:
        self.state = self.world.wiped(self.state, node)

    def drop_database(self, incarnation: str, nodes: tuple[int, ...]) -> None:
        """These nodes are told that the database is dropped; its process ends."""
        rest = self.world.rests[self.state.rest]
        past = rest.past._replace(dropped=rest.past.dropped | {incarnation})
        self.state = self.state._replace(rest=self.world.number(rest._replace(past=past)))
        for node in nodes:
            teller = nodes[0] if node != nodes[0] else nodes[1]
            self.late(self.world.lives.mail.bit(teller, node, Dropped(incarnation)))
        self.settle()

    def look(self, node: int) -> Node:
        """A copy of the node's engine, to be looked at."""
        return self.world.lives.engine(node, self.state.lives[node])
