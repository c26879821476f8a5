"""Three nodes' directories without anything around them: the engine's handlers on one side, a bag of messages on the other, which are
delivered in any order, any number of times, or never."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import define, field

from protocol import codec, gossip
from protocol.chart import TABLE
from protocol.node import _MESSAGES
from protocol.rows import Known
from protocol.state import Config, State
from protocol.turn import Turn

PEERS = ("p1", "p2", "p3")
STORES = {"p1": "aa", "p2": "bb", "p3": "cc"}


@define
class Three:
    states: dict[str, State] = field(init=False)
    flying: list[tuple[str, str, Any]] = field(factory=list)
    """(sender, receiver, message)."""
    now: int = 0

    def __attrs_post_init__(self) -> None:
        self.states = {}
        for peer in PEERS:
            state = State(Config(peer), store=STORES[peer], whole=True, known=PEERS)
            state.nodes = {other: Known(other, joined=True) for other in PEERS if other != peer}
            self.states[peer] = state

    def turn(self, peer: str, act: Callable[[Turn], None]) -> None:
        self.now += 1
        turn = Turn(self.states[peer], TABLE, self.now)
        act(turn)
        while turn.inbox:
            message = turn.inbox.popleft()
            _MESSAGES[type(message)](turn, peer, message)
        self.flying += [(peer, send.to, send.message) for send in turn.sends]
        self.flying += [(peer, other, m) for m in turn.broadcasts for other in PEERS if other != peer]

    def deliver(self, sender: str, to: str, message: Any) -> None:
        message = codec.decode(codec.encode(message))
        self.turn(to, lambda turn: _MESSAGES[type(message)](turn, sender, message))

    def ask(self, peer: str, other: str) -> None:
        self.turn(peer, lambda turn: gossip.ask(turn, other))

    def exchange(self) -> None:
        """Everybody asks everybody, and nothing is lost: twice, so that what was learned last is told too."""
        self.flying.clear()
        for _ in range(2):
            for peer in PEERS:
                for other in PEERS:
                    if peer != other:
                        self.ask(peer, other)
                        while self.flying:
                            self.deliver(*self.flying.pop(0))
