"""Bringing a world to where a story begins: the undisturbed course of things, told action by action. The law kept here: nothing is made
up. Every state from which a search starts was reached by the real engine's own steps.

Unlike in the search, a message that was delivered is gone, so that what happened before a story is over when it begins, unless the story keeps
it: its late messages are then the ones that were really sent.
"""

from __future__ import annotations

from collections.abc import Callable

from protocol import inputs as ip
from protocol.limits import SECOND
from protocol.messages import Message
from protocol.node import Config, Node
from sim.explore.local import NEVER, pickle
from sim.explore.world import Action, Bounds, State, World

CLUSTER = "c"
ENOUGH = Bounds(timers=1000, crashes=1000, failures=1000, direct=1000)


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

    def boot(self, *nodes: int) -> None:
        for node in nodes:
            self.do(Action("boot", node))

    def query(self, node: int) -> None:
        """A client asks at this node."""
        self._again(queries=(node,))
        self.do(Action("query", node))
        self._again()

    def _again(self, queries: tuple[int, ...] = ()) -> None:
        bounds = Bounds(timers=1000, crashes=1000, failures=1000, direct=1000, queries=queries)
        self.state = self.world.bounded(self.state, bounds)

    def meet(self, node: int, other: int) -> None:
        """``node`` tells ``other`` of itself: its heartbeat is under way."""
        peer = self.world.peers[other]
        step = self.world.lives.step(
            node, self.state.lives[node], ("connected", other), lambda now: ip.PeerConnected(now, peer)
        )
        lives = (*self.state.lives[:node], step.after, *self.state.lives[node + 1 :])
        self.state = self.state._replace(lives=lives, sent=self.state.sent | step.sends)

    def hear(self, *pairs: tuple[int, int]) -> None:
        """(node, other): these heartbeats arrive, each twice, so that each also knows who is heard by whom."""
        for _ in range(2):
            for node, other in pairs:
                self.meet(node, other)
            self.settle()

    def everyone(self) -> tuple[tuple[int, int], ...]:
        return tuple((a, b) for a in self.nodes for b in self.nodes if a != b)

    def settle(self, lost: Callable[[int, int, Message], bool] = lambda _from, _to, _message: False) -> None:
        """Everything that is under way arrives, oldest first, and every outcome that is due comes, until nothing is left. What is ``lost``
        is gone."""
        mail = self.world.lives.mail
        while True:
            due = [one for one in self.world.rests[self.state.rest].due if self.world.can(self._rest, one)]
            if self.state.sent:
                number = (self.state.sent & -self.state.sent).bit_length() - 1
                self.state = self.state._replace(sent=self.state.sent & ~(1 << number))
                sender, to, message = mail.all[number]
                if not lost(sender, to, message) and self.world.up(self.state, to):
                    self.do(Action("message", to, number))
            elif due:
                self.do(Action("outcome", due[0].node, due[0]))
            else:
                return

    @property
    def _rest(self):
        return self.world.rests[self.state.rest]

    def drop(self, which: Callable[[int, int, Message], bool] = lambda _from, _to, _message: True) -> None:
        """What is under way and meets this is lost."""
        kept = 0
        for number, message in enumerate(self.world.lives.mail.all):
            if self.state.sent >> number & 1 and not which(*message):
                kept |= 1 << number
        self.state = self.state._replace(sent=kept)

    def look(self, node: int) -> Node:
        """A copy of the node's engine, to be looked at."""
        engine: Node = pickle.loads(self.world.lives.all[self.state.lives[node]].blob)  # noqa: S301 (our own bytes)
        return engine

    def until(self, node: int, there: Callable[[Node], bool]) -> None:
        """The node's deadlines pass, one by one, until this holds."""
        for _ in range(100):
            if there(self.look(node)):
                return
            self.do(Action("deadline", node))
        raise AssertionError(f"{self.world.peers[node]} never came to where the story begins")
