"""One node of an explored world: the real ``protocol.node.Node``, run once for each (state, input) and remembered. The law kept here
is the engine's purity: a step depends on nothing but the state and the input, so a world of a million states needs only
as many real steps as there are different (state of one node, input) pairs; all others are looked up.

Two states of a node are one when nothing that the engine may look at tells them apart. Times count from the node's own now, since the
engine only ever compares times with each other; sets and mappings have no order; what is derived (hashes, decisions kept to be shown) is left
out, and so are the numbers of probes, door generations and port tickets, whose answers come within the step that asked. A field that is
not named here is compared as it is: a new one can make states different that need not be, never the other way round.

A node's state includes its durable rows, so that a crash is: forget the rest, boot from the rows. A crash between the effects of a
step needs no state of its own: before the writes it is a crash before the step, after them it is one after it, whose messages never arrive.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple, cast

import attrs

from protocol import effects as fx
from protocol import inputs as ip
from protocol.clocks import Context
from protocol.messages import Message
from protocol.node import Config, Node
from protocol.state import State
from protocol.timers import Timers
from sim.explore import laws
from sim.laws import Violation

TIMES: Final = frozenset({"ready_at", "last_used", "woken_at", "begun", "last_heard", "asked", "deadline"})
"""Fields that hold a moment on the node's own clock."""
DERIVED: Final = frozenset(
    {"config", "decisions", "hashes", "leaves", "in_leaf", "root", "dots", "probes", "generation", "tickets"}
    | {"voted_at", "current_at"}  # told to workers that ask for a sealed copy, compared with nothing
)
WORKER: Final = 1
NEVER: Final = 10**13
"""µs: the health interval of an explored node. Who was heard stays heard; who was not is a fact of the story."""


class Life(NamedTuple):
    """A node as it is between two steps: ``blob`` is the engine's state, pickled; empty while the node is down."""

    blob: bytes
    now: int
    boots: int
    rows: Mapping[str, bytes]
    deadline: int
    """When its next timer expires, on its own clock; 0: none within the bounds."""
    open: tuple[str, ...]
    """Incarnations whose door is open here."""


class Step(NamedTuple):
    """What a step led to. ``sends``: the messages as bits; ``actions``: what the world has to do."""

    after: int
    sends: int
    actions: tuple[fx.Action, ...]
    events: tuple[laws.Event, ...]
    decisions: tuple[fx.Decision, ...]
    broken: Violation | None


class Mail:
    """All messages that were ever sent, a bit each. A message that is sent again is the same message."""

    def __init__(self, peers: tuple[str, ...]) -> None:
        self.peers = peers
        self.all: list[tuple[int, int, Message]] = []
        self.to = [0] * len(peers)
        """For each node, the bits of all messages to it."""
        self._bits: dict[tuple[int, int, Message], int] = {}

    def bit(self, sender: int, to: int, message: Message) -> int:
        key = (sender, to, message)
        number = self._bits.get(key)
        if number is None:
            number = self._bits[key] = len(self.all)
            self.all.append(key)
            self.to[to] |= 1 << number
        return 1 << number

    def posted(self, sender: int, effects: fx.Effects) -> int:
        bits = 0
        for send in effects.sends:
            if send.to in self.peers:
                bits |= self.bit(sender, self.peers.index(send.to), send.message)
        for message in effects.broadcasts:
            for to in range(len(self.peers)):
                if to != sender:
                    bits |= self.bit(sender, to, message)
        return bits


class Lives:
    """All states that any node was ever in, and all steps that were ever taken."""

    def __init__(self, configs: tuple[Config, ...]) -> None:
        self.configs = configs
        self.mail = Mail(tuple(config.peer for config in configs))
        self.all: list[Life] = []
        self.idle: list[int] = []
        """For each life, the messages (bits) that are known to change nothing in it."""
        self.steps = 0
        self._numbers: dict[Any, int] = {}
        self._taken: dict[tuple[int, Any], Step] = {}

    def down(self, node: int, boots: int, rows: Mapping[str, bytes]) -> int:
        """A node that does not run: nothing but its rows."""
        return self._number((node, boots, frozenset(rows.items())), Life(b"", 0, boots, rows, 0, ()))

    def step(self, node: int, life: int, key: Any, make: Callable[[int], ip.Input]) -> Step:
        """One input, ``make(now)``, into this node; ``key`` names it. Ports and doors answer at once."""
        known = self._taken.get((life, key))
        if known is None:
            known = self._taken[life, key] = self._really(node, self.all[life], make)
            self.steps += 1
        return known

    def boot(self, node: int, life: int, found: bool = False) -> Step:
        was = self.all[life]
        entropy = f"{self.configs[node].peer}:{was.boots}".encode().ljust(32, b".")
        rows = tuple(sorted(was.rows.items()))
        return self.step(node, life, ("boot", found), lambda now: ip.Boot(now, entropy, rows, found))

    def tick(self, node: int, life: int) -> Step:
        deadline = self.all[life].deadline
        return self.step(node, life, "tick", lambda _now: ip.Tick(deadline))

    def engine(self, node: int, life: int) -> Node:
        """A copy, that nothing done to it changes this life."""
        return self._engine(node, self.all[life])

    def _engine(self, node: int, life: Life) -> Node:
        if not life.blob:
            return Node(self.configs[node])
        return Node.resumed(pickle.loads(life.blob), life.now)  # noqa: S301 (our own bytes)

    def _really(self, node: int, was: Life, make: Callable[[int], ip.Input]) -> Step:
        engine = self._engine(node, was)
        rows = dict(was.rows)
        first = make(was.now)
        queue: list[ip.Input] = [first]
        if isinstance(first, ip.Boot):
            queue.append(ip.WorkerJoined(first.now, WORKER))
        sends = 0
        actions: list[fx.Action] = []
        events: list[laws.Event] = []
        decisions: list[fx.Decision] = []
        broken: Violation | None = None
        while queue and broken is None:
            given = queue.pop(0)
            before = laws.glance(engine.state)
            effects = fx.NOTHING
            try:
                effects = engine.step(given)
                events += laws.watch(before, given, engine.state, effects)
            except AssertionError as error:
                broken = Violation("invariant", f"an assertion of the engine fails: {error}")
            except Violation as violation:
                broken = violation
            for write in effects.writes:
                if write.value is None:
                    rows.pop(write.key, None)
                else:
                    rows[write.key] = write.value
            sends |= self.mail.posted(node, effects)
            decisions += effects.decisions
            for action in effects.actions:
                answer = at_once(node, action, given.now)
                if answer is None:
                    actions.append(action)
                else:
                    queue.append(answer)
        after = self._intern(node, engine, first.now, was.boots + isinstance(first, ip.Boot), rows)
        return Step(after, sends, tuple(actions), tuple(events), tuple(decisions), broken)

    def _intern(self, node: int, engine: Node, now: int, boots: int, rows: dict[str, bytes]) -> int:
        key = (node, boots, canonical(engine.state, now), frozenset(rows.items()))
        number = self._numbers.get(key)
        if number is not None:
            return number
        blob = pickle.dumps(engine.state, pickle.HIGHEST_PROTOCOL)
        deadline = engine.deadline
        soon = deadline if deadline is not None and deadline < now + NEVER // 2 else 0
        doors = tuple(sorted(hosted.incarnation for hosted in engine.state.hosted.values() if hosted.open))
        return self._number(key, Life(blob, now, boots, rows, soon, doors))

    def _number(self, key: Any, life: Life) -> int:
        number = self._numbers.get(key)
        if number is None:
            number = self._numbers[key] = len(self.all)
            self.all.append(life)
            self.idle.append(0)
        return number


def at_once(node: int, action: fx.Action, now: int) -> ip.Input | None:
    """What answers within the same step: ports are always to be had, a worker without queries acknowledges its door."""
    match action:
        case fx.ReservePorts(ticket, http, raft, asked):
            return ip.PortsReserved(now, ticket, http or 20_001 + node, raft or 40_001 + node, asked)
        case fx.Door(incarnation=incarnation, generation=generation):
            return ip.DoorAck(now, WORKER, incarnation, generation, 0)
        case _:
            return None


def canonical(state: State, now: int) -> Any:
    """A hashable value that is equal for two states of a node exactly where the engine cannot tell them apart."""
    tickets = {ticket: rank for rank, ticket in enumerate(sorted({*state.leases, *state.by_ticket}))}
    return _Plain(now, tickets).of(state)


class _Plain:
    """Makes plain values: ``now`` is what times count from; tickets keep their order, not their numbers."""

    def __init__(self, now: int, tickets: Mapping[int, int]) -> None:
        self.now = now
        self.tickets = tickets

    def of(self, value: Any) -> Any:
        if isinstance(value, Timers):
            return self._timers(value)
        if isinstance(value, Context):
            return tuple(value.rows())
        if isinstance(value, dict):
            return tuple(sorted((key, self.of(one)) for key, one in cast("dict[Any, Any]", value).items()))
        if isinstance(value, set):
            return frozenset(cast("set[Any]", value))
        if isinstance(value, list):
            return tuple(self.of(one) for one in cast("list[Any]", value))
        kind = cast("type[Any]", type(value))
        if attrs.has(kind) and kind.__hash__ is None:
            return tuple(self._field(one.name, getattr(value, one.name)) for one in attrs.fields(kind))
        return value

    def _timers(self, timers: Timers) -> Any:
        """In the order in which they expire."""
        copy: Timers = pickle.loads(pickle.dumps(timers))  # noqa: S301 (our own bytes)
        order: list[tuple[int, str, Any]] = []
        while (at := copy.deadline) is not None:
            expired = copy.expired(at)
            assert expired is not None
            kind, key = expired
            order.append((at - self.now, kind, self.tickets.get(int(key)) if kind == "lease" else key))
        return tuple(order)

    def _field(self, name: str, value: Any) -> Any:
        if name in DERIVED:
            return None
        if name in TIMES:
            return value - self.now
        match name:
            case "probe":
                return value[1]
            case "ticket":
                return self.tickets[value]
            case "leases" | "by_ticket":
                return tuple(sorted((self.tickets[ticket], self.of(one)) for ticket, one in value.items()))
            case _:
                return self.of(value)
