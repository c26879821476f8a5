"""The world that is explored: nodes, what was ever sent, the outcomes that are due, one Raft group for each incarnation. The law kept here: a
state is a value, and every action makes a new one, or raises the law that it breaks.

**What can happen.** Any message that was sent reaches its node: at once, late, or never; so a lost message is one that does not arrive, and
there is nothing to choose when it is sent. It arrives once more as often as the bounds say. Any outcome that is due comes (a start
is ready, a snapshot is taken, a stop is done), or fails, as often as the bounds say. Any node's next deadline passes: each node has a
clock of its own, which moves only then, so a node may be ahead or behind by any time. A node that runs crashes, with its rqlited, and comes
back from its rows. A client queries. Between two of these everything can happen that can happen at all.

**What cannot**, within this model: answers of ports, doors and probes come within the step that asked for them, and a worker has no query in
flight. A write is on all members that run. Deadlines of one node pass in their order. The simulator (``sim.world``) does what is missing here.

**No reduction** is made beyond three that lose nothing: (1) a message that changes nothing in a node is not delivered to it; (2) states that no law
and no engine can tell apart are one (``sim.explore.local``); (3) of two equal messages
under way at once only one arrives, unless a bound lets it arrive again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

from attrs import evolve, frozen

from protocol import effects as fx
from protocol import inputs as ip
from protocol.node import Config
from sim.explore.group import NOTHING, Group
from sim.explore.local import WORKER, Lives, Step
from sim.explore.past import Past, remembered
from sim.laws import Violation

APP: Final = "myapp"
NAME: Final = "users"
FOUNDS: Final = "founds"
"""Of a boot: this process founds the cluster (P60)."""
_FAILED: Final[dict[str, ip.Cause]] = {"ready": "crashed", "exit": "killed", "missing": "data_missing"}


@frozen
class Bounds:
    """How often, along one path: deadlines that pass, crashes, messages that arrive once more, outcomes that fail, writes past every gateway. ``queries``: the nodes at
    which a client asks, once each. ``silent``: nodes that do nothing at all."""

    timers: int = 0
    crashes: int = 0
    again: int = 0
    failures: int = 0
    direct: int = 0
    queries: tuple[int, ...] = ()
    silent: tuple[int, ...] = ()


class Due(NamedTuple):
    """An outcome that the world owes a node."""

    node: int
    what: str
    incarnation: str
    run: int


class Rest(NamedTuple):
    """All but the nodes and the network."""

    groups: tuple[Group, ...] = ()
    due: tuple[Due, ...] = ()
    left: Bounds = Bounds()
    past: Past = Past()


class State(NamedTuple):
    """``lives``: for each node the number of its state; ``sent``: the messages under way, a bit each; ``rest``: the number of a Rest."""

    lives: tuple[int, ...]
    sent: int
    rest: int


class Action(NamedTuple):
    """``what`` happens at ``node``; ``which``: the message's number, or the outcome that is due."""

    what: str
    node: int
    which: Any = None


class World:
    def __init__(self, configs: tuple[Config, ...]) -> None:
        self.configs = configs
        self.peers = tuple(config.peer for config in configs)
        self.lives = Lives(configs)
        self.rests: list[Rest] = []
        self._numbers: dict[Rest, int] = {}
        self.told: list[tuple[str, fx.Decision]] | None = None
        """Where decisions are noted while a story is told; None while searching."""

    def new(self, bounds: Bounds) -> State:
        """No node has ever run."""
        downs = tuple(self.lives.down(node, 0, {}) for node in range(len(self.peers)))
        return State(downs, 0, self.number(Rest(left=bounds)))

    def number(self, rest: Rest) -> int:
        found = self._numbers.get(rest)
        if found is None:
            found = self._numbers[rest] = len(self.rests)
            self.rests.append(rest)
        return found

    def bounded(self, state: State, bounds: Bounds) -> State:
        return state._replace(rest=self.number(self.rests[state.rest]._replace(left=bounds)))

    def up(self, state: State, node: int) -> bool:
        return bool(self.lives.all[state.lives[node]].blob)

    # What can happen.

    def actions(self, state: State) -> Iterator[Action]:
        rest = self.rests[state.rest]
        left = rest.left
        lives = self.lives
        for node, life in enumerate(state.lives):
            now = lives.all[life]
            if node in left.silent:
                continue
            if not now.blob:
                yield Action("boot", node)
                continue
            bits = state.sent & lives.mail.to[node] & ~lives.idle[life]
            while bits:
                lowest = bits & -bits
                yield Action("message", node, lowest.bit_length() - 1)
                if left.again:
                    yield Action("again", node, lowest.bit_length() - 1)
                bits ^= lowest
            if left.timers and now.deadline:
                yield Action("deadline", node)
            if left.crashes:
                yield Action("crash", node)
            if node in left.queries:
                yield Action("query", node)
        for due in rest.due:
            if self.can(rest, due):
                yield Action("outcome", due.node, due)
            if left.failures and due.what != "missing":
                yield Action("failure", due.node, due)
        if left.direct:
            for group in rest.groups:
                for node in sorted(group.voters):
                    if group.quorum and group.runs[node]:
                        yield Action("direct", node, group.incarnation)

    @staticmethod
    def can(rest: Rest, due: Due) -> bool:
        """A start is ready only where a majority of the voters runs."""
        return due.what != "ready" or next(g for g in rest.groups if g.incarnation == due.incarnation).quorum

    # What happens.

    def after(self, state: State, action: Action) -> State:
        """The next state. Raises Violation when the action breaks a law."""
        node, life = action.node, state.lives[action.node]
        rest = self.rests[state.rest]
        left = rest.left
        if action.what in ("message", "again"):
            if action.what == "again":
                rest = rest._replace(left=evolve(left, again=left.again - 1))
            return self._arrived(state, rest, node, action.which, action.what == "again")
        match action.what:
            case "deadline":
                spent = rest._replace(left=evolve(left, timers=left.timers - 1))
                return self._took(state, spent, node, self.lives.tick(node, life))
            case "boot":
                return self._took(state, rest, node, self.lives.boot(node, life, action.which == FOUNDS))
            case "crash":
                spent = rest._replace(left=evolve(left, crashes=left.crashes - 1))
                return self._crashed(state, spent, node)
            case "query":
                spent = rest._replace(left=evolve(left, queries=tuple(one for one in left.queries if one != node)))
                return self._queried(state, spent, node)
            case "direct":
                groups = tuple(g.write(node) if g.incarnation == action.which else g for g in rest.groups)
                spent = rest._replace(left=evolve(left, direct=left.direct - 1), groups=groups)
                return state._replace(rest=self.number(spent))
            case "outcome":
                return self._outcome(state, rest, action.which, True)
            case "failure":
                spent = rest._replace(left=evolve(left, failures=left.failures - 1))
                return self._outcome(state, spent, action.which, False)
            case _:
                raise AssertionError(action)

    def _arrived(self, state: State, rest: Rest, node: int, number: int, again: bool) -> State:
        sender, _to, message = self.lives.mail.all[number]
        peer, life = self.peers[sender], state.lives[node]
        step = self.lives.step(node, life, number, lambda now: ip.Received(now, peer, message))
        if step.after == life and not (step.actions or step.events or step.sends or step.broken):
            self.lives.idle[life] |= 1 << number
            return state
        kept = state if again else state._replace(sent=state.sent & ~(1 << number))
        return self._took(kept, rest, node, step)

    def given(self, state: State, node: int, key: Any, make: Callable[[int], ip.Input]) -> State:
        """The next state after an input that no search gives; ``key`` names it."""
        step = self.lives.step(node, state.lives[node], key, make)
        return self._took(state, self.rests[state.rest], node, step)

    def _took(self, state: State, rest: Rest, node: int, step: Step) -> State:
        """The world after a step: what was sent, what it asked for and what that led to at once."""
        if self.told is not None:
            self.told += [(self.peers[node], decision) for decision in step.decisions]
        if step.broken is not None:
            raise step.broken
        lives = (*state.lives[:node], step.after, *state.lives[node + 1 :])
        state = State(lives, state.sent | step.sends, -1)
        if step.events:
            past = rest.past
            for event in step.events:
                group = self.group(rest, event.incarnation)
                past = remembered(past, node, self.peers, event, group)
            rest = rest._replace(past=past)
        for action in step.actions:
            state, rest = self._do(state, rest, node, action)
        return state._replace(rest=self.number(rest))

    def _more(self, state: State, rest: Rest, node: int, step: Step) -> tuple[State, Rest]:
        state = self._took(state, rest, node, step)
        return state, self.rests[state.rest]

    def _do(self, state: State, rest: Rest, node: int, action: fx.Action) -> tuple[State, Rest]:
        life = state.lives[node]
        match action:
            case fx.Start():
                return state, self._started(rest, node, action)
            case fx.Probe(incarnation, run, token, strong):
                group = self.group(rest, incarnation)
                ok = group.runs[node] == run and (group.quorum or not strong)
                facts = (ok, group.counters[node], group.applied[node], ok and group.leads(node), group.names())
                step = self.lives.step(
                    node, life, ("probed", *facts, token), lambda now: ip.Probed(now, incarnation, run, token, *facts)
                )
                return self._more(state, rest, node, step)
            case fx.Snapshot(incarnation, run):
                return state, self._owe(rest, Due(node, "snapshot", incarnation, run))
            case fx.Terminate(incarnation, run):
                due = tuple(one for one in rest.due if (one.node, one.incarnation) != (node, incarnation))
                return state, self._owe(rest._replace(due=due), Due(node, "exit", incarnation, run))
            case fx.Trash(_, incarnation):
                return state, self._grouped(rest, self.group(rest, incarnation).wipe(node))
            case fx.Answer(problem=None):
                return self._written(state, rest, node)
            case _:
                return state, rest

    def _started(self, rest: Rest, node: int, start: fx.Start) -> Rest:
        group = self.group(rest, start.incarnation)
        if group.runs[node]:
            raise Violation("F45", f"two rqlited of {start.incarnation} on {self.peers[node]}")
        if start.mode == "restart" and group.applied[node] == NOTHING:
            return self._owe(rest, Due(node, "missing", start.incarnation, start.run))
        if start.mode == "found":
            rest = self._founded(rest, node, start)
        rest = self._grouped(rest, group.start(node, start.run, start.node_id, start.mode == "found"))
        return self._owe(rest, Due(node, "ready", start.incarnation, start.run))

    def _founded(self, rest: Rest, node: int, start: fx.Start) -> Rest:
        past = rest.past
        if start.incarnation in past.founded:
            raise Violation("P12", f"{self.peers[node]} founds the Raft group of {start.incarnation} once more")
        return rest._replace(past=past._replace(founded=past.founded | {start.incarnation}))

    def _outcome(self, state: State, rest: Rest, due: Due, well: bool) -> State:
        node, _what, incarnation, run = due
        rest = rest._replace(due=tuple(one for one in rest.due if one != due))
        group = self.group(rest, incarnation)
        given: ip.Input
        match due.what:
            case "ready" if well:
                group = group.ready(node)
                facts = (group.applied[node], group.names(), group.leads(node), group.counters[node])
                given = ip.InstanceReady(0, incarnation, run, *facts)
            case "snapshot":
                group = group.fold(node) if well else group
                given = ip.Snapshotted(0, incarnation, run, well, group.applied[node])
            case "exit" if well:
                group = group.end(node, True)
                empty = group.rested[node] != NOTHING
                given = ip.InstanceExited(0, incarnation, run, 0, "stopped", wal_empty=empty)
            case _:
                group = group.end(node, False)
                cause = _FAILED[due.what]
                given = ip.InstanceExited(0, incarnation, run, None, cause)
        step = self.lives.step(node, state.lives[node], given, lambda now: evolve(given, now=now))
        return self._took(state, self._grouped(rest, group), node, step)

    def _crashed(self, state: State, rest: Rest, node: int) -> State:
        """The node and its rqlited stop where they are. What it had sent may still arrive."""
        was = self.lives.all[state.lives[node]]
        groups = tuple(g.end(node, False) if g.runs[node] else g for g in rest.groups)
        due = tuple(one for one in rest.due if one.node != node)
        lives = list(state.lives)
        lives[node] = self.lives.down(node, was.boots, was.rows)
        return State(tuple(lives), state.sent, self.number(rest._replace(groups=groups, due=due)))

    def wiped(self, state: State, node: int) -> State:
        """A node that is down has lost its disk: its rows, and its data."""
        was = self.lives.all[state.lives[node]]
        rest = self.rests[state.rest]
        lives = list(state.lives)
        lives[node] = self.lives.down(node, was.boots, {})
        groups = tuple(group.wipe(node) for group in rest.groups)
        return State(tuple(lives), state.sent, self.number(rest._replace(groups=groups)))

    # Clients.

    def _queried(self, state: State, rest: Rest, node: int) -> State:
        """Through an open door; else the gateway asks the engine first."""
        if self.lives.all[state.lives[node]].open:
            state, rest = self._written(state, rest, node)
            return state._replace(rest=self.number(rest))
        step = self.lives.step(node, state.lives[node], "ask", lambda now: ip.Ask(now, node + 1, APP, NAME))
        return self._took(state, rest, node, step)

    def _written(self, state: State, rest: Rest, node: int) -> tuple[State, Rest]:
        """A client's write passes the open door, is acknowledged, and reported as use of it."""
        for incarnation in self.lives.all[state.lives[node]].open:
            group = self.group(rest, incarnation)
            if group.quorum and group.runs[node]:
                rest = self._grouped(rest, group.write(node))
                step = self.lives.step(
                    node,
                    state.lives[node],
                    ("used", incarnation),
                    lambda now, one=incarnation: ip.Used(now, WORKER, one, 1, 0),
                )
                state, rest = self._more(state, rest, node, step)
        return state, rest

    @staticmethod
    def _grouped(rest: Rest, group: Group) -> Rest:
        others = tuple(one for one in rest.groups if one.incarnation != group.incarnation)
        return rest._replace(groups=tuple(sorted((*others, group), key=lambda one: one.incarnation)))

    def group(self, rest: Rest, incarnation: str) -> Group:
        found = next((one for one in rest.groups if one.incarnation == incarnation), None)
        return found or Group.of(incarnation, len(self.peers))

    @staticmethod
    def _owe(rest: Rest, due: Due) -> Rest:
        return rest._replace(due=tuple(sorted({*rest.due, due})))
