"""Several engines in one small world: messages take a millisecond, rqlite is a set of running voters. For the laws that need
more than one node; the simulator is the place for faults in depth."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Any

from attrs import define, evolve, field

from protocol import codec
from protocol import effects as fx
from protocol import inputs as ip
from protocol.invariants import violations
from protocol.limits import MILLISECOND, SECOND
from protocol.node import Config, Node
from protocol.state import State

START = 40 * MILLISECOND
ELECTION = 300 * MILLISECOND
LAG = 50 * MILLISECOND


@define
class Group:
    """The Raft group of one incarnation: who votes, who runs, since when a majority does."""

    voters: set[str] = field(factory=set)
    running: dict[str, tuple[str, int]] = field(factory=dict)
    """Node id → (peer, run)."""
    ports: dict[str, int] = field(factory=dict)
    """Node id → the Raft port on which it runs."""
    addresses: dict[str, int] = field(factory=dict)
    """Node id → the Raft port that the configuration names: elsewhere it takes part only once it has joined again."""
    applied: int = 3
    moved_at: int = 0
    copies: dict[str, int] = field(factory=dict)
    """Node id → its own applied index, as looked at last."""

    def applied_by(self, node_id: str, now: int) -> int:
        """A follower applies what was committed once the leader, if there is one, has told it: ``LAG`` later."""
        if node_id == self.leader or (self.leader is not None and now >= self.moved_at + LAG):
            self.copies[node_id] = self.applied
        return self.copies.get(node_id, 0)

    @property
    def leader(self) -> str | None:
        alive = sorted(one for one in self.voters & self.running.keys() if self.ports[one] == self.addresses[one])
        return alive[0] if len(alive) > len(self.voters) // 2 else None


@define
class Machine:
    peer: str
    config: Config
    rows: dict[str, bytes] = field(factory=dict)
    node: Node | None = None
    offset: int = 0
    ports: int = 0


class Several:
    """N nodes, the first of which founds their cluster. ``cut``: ordered pairs (from, to) whose messages are lost. ``lose``: a
    predicate over (from, to, message). ``up``: who is booted; None: all."""

    def __init__(self, count: int, rf: int = 3, up: tuple[str, ...] | None = None, **settings: Any) -> None:
        peers = tuple(f"p{i}" for i in range(1, count + 1))
        self.founder = peers[0]
        base = Config(
            "p1", cluster="c", replication_factor=rf, hibernation_timeout=5 * SECOND, health_interval=SECOND, **settings
        )
        self.machines = {
            p: Machine(p, evolve(base, peer=p, host=f"h{p}", gateway=f"{p}:8443", fingerprint=p.encode().ljust(32)))
            for p in peers
        }
        self.now = 0
        self.queue: list[tuple[int, int, Callable[[], None]]] = []
        self.order = 0
        self.groups: dict[str, Group] = {}
        self.cut: set[tuple[str, str]] = set()
        self.lose: Callable[[str, str, Any], bool] = lambda _from, _to, _message: False
        self.delays: Callable[[], tuple[int, ...]] = lambda: (MILLISECOND,)
        """How long each copy of one message takes: more than one delay, more than one copy."""
        self.answers: dict[int, fx.Answer | fx.Route] = {}
        self.believed: dict[str, tuple[bytes, ...]] = {}
        """Peer → the certificates that its gateway worker was last told."""
        self.keys: dict[str, dict[str, bool]] = {}
        """Peer → id of each API key that its gateway worker was told of → whether it is good."""
        self.complete: dict[str, bool] = {}
        """Peer → whether its worker may take these for all there are."""
        self.told: dict[str, fx.SealedCopy] = {}
        """Peer → what its gateway worker was last told of a sealed copy."""
        self.requests = 0
        self.log: list[tuple[int, str, Any]] = []
        self.broadcasts = 0
        self.halted: dict[str, str] = {}
        """Machine → why its engine ended its process."""
        self.sent: list[tuple[str, int]] = []
        """(kind, bytes) of every message that was put on the wire."""
        self.taken: set[tuple[str, int]] = set()
        """(peer, port): a foreign process listens there."""
        self.wiped: set[str] = set()
        """Peers that have their store, and no data of any database."""
        self.terminated: set[tuple[Any, str, int]] = set()
        """Runs that were told to stop, perhaps before they were up."""
        for peer in peers if up is None else up:
            self.boot(peer)

    # The world.

    def later(self, delay: int, what: Callable[[], None]) -> None:
        self.order += 1
        heapq.heappush(self.queue, (self.now + delay, self.order, what))

    def run(self, microseconds: int) -> None:
        end = self.now + microseconds
        while True:
            ticks = [
                (node.deadline - m.offset, m.peer)
                for m in self.machines.values()
                if (node := m.node) is not None and node.deadline is not None
            ]
            tick = min(ticks, default=(end + 1, ""))
            event = self.queue[0][0] if self.queue else end + 1
            if min(tick[0], event) > end:
                break
            if tick[0] <= event:
                self.now = max(self.now, tick[0])
                self.step(tick[1], ip.Tick)
            else:
                self.now, _, what = heapq.heappop(self.queue)
                what()
        self.now = end

    def boot(self, peer: str) -> None:
        machine = self.machines[peer]
        machine.node = Node(machine.config)
        rows = tuple(sorted(machine.rows.items()))
        self.step(
            peer, ip.Boot, entropy=f"{peer}{self.now}".encode().ljust(32, b"."), rows=rows, found=peer == self.founder
        )
        if peer == self.founder:
            self.founder = ""  # a cluster is founded once
        self.keys[peer] = {}
        self.step(peer, ip.WorkerJoined, worker=1)

    def crash(self, peer: str) -> None:
        """The machine stops: its node, and its rqlited processes."""
        self.machines[peer].node = None
        for group in self.groups.values():
            for node_id in [one for one, (owner, _run) in group.running.items() if owner == peer]:
                del group.running[node_id]

    def partition(self, *side: str) -> None:
        others = set(self.machines) - set(side)
        self.cut = {(a, b) for a in side for b in others} | {(b, a) for a in side for b in others}

    def step(self, peer: str, kind: Callable[..., Any], /, **fields: Any) -> None:
        machine = self.machines[peer]
        if machine.node is None:
            return
        node = machine.node
        effects = node.step(kind(now=self.now + machine.offset, **fields))
        for write in effects.writes:
            if write.value is None:
                machine.rows.pop(write.key, None)
            else:
                machine.rows[write.key] = write.value
        broken = list(violations(node.state))
        assert not broken, (peer, broken)
        self.log += [(self.now, peer, decision) for decision in effects.decisions]
        for action in effects.actions:
            self.carry_out(machine, action)
        for send in effects.sends:
            self.deliver(peer, send.to, send.message)
        self.broadcasts += sum(type(message).__name__ != "Heartbeat" for message in effects.broadcasts)
        for message in effects.broadcasts:
            for other in self.machines:
                if other != peer:
                    self.deliver(peer, other, message)

    def deliver(self, sender: str, to: str, message: Any) -> None:
        if to not in self.machines or (sender, to) in self.cut or self.lose(sender, to, message):
            return
        data = codec.encode(message)
        self.sent.append((type(message).__name__, len(data)))
        signer = self.machines[sender].config.peer
        for delay in self.delays():
            self.later(delay, lambda: self.step(to, ip.Received, sender=signer, message=codec.decode(data)))

    def carry_out(self, machine: Machine, action: Any) -> None:
        peer, node = machine.peer, machine.node
        assert node is not None

        def back(delay: int, kind: Callable[..., Any], **fields: Any) -> None:
            self.later(delay, lambda: self.step(peer, kind, **fields) if machine.node is node else None)

        match action:
            case fx.ReservePorts():
                machine.ports += 1
                http, raft = action.http or 5000 + machine.ports, action.raft or 7000 + machine.ports
                if (peer, raft) in self.taken:
                    raft = 8000 + machine.ports
                told = {"ticket": action.ticket, "http": http, "raft": raft, "asked": action.asked}
                back(MILLISECOND, ip.PortsReserved, **told)
            case fx.Start() if peer in self.wiped:
                gone = {"code": None, "cause": "data_missing", "wal_empty": False}
                back(START, ip.InstanceExited, incarnation=action.incarnation, run=action.run, **gone)
            case fx.Start():
                group = self.groups.setdefault(action.incarnation, Group())
                if action.mode == "found":
                    group.voters.add(action.node_id)
                    group.addresses[action.node_id] = action.raft
                self.later(START, lambda: self.up(machine, node, action))
            case fx.Probe():
                group = self.groups[action.incarnation]
                back(MILLISECOND, ip.Probed, **self.probed(group, machine, action))
            case fx.Snapshot():
                group = self.groups[action.incarnation]
                mine = [one for one, where in group.running.items() if where == (peer, action.run)]
                applied = group.applied_by(mine[0], self.now) if mine else 0
                back(
                    MILLISECOND,
                    ip.Snapshotted,
                    incarnation=action.incarnation,
                    run=action.run,
                    ok=True,
                    applied=applied,
                )
            case fx.Terminate():
                group = self.groups[action.incarnation]
                self.terminated.add((node, action.incarnation, action.run))
                mine = [one for one, where in group.running.items() if where == (peer, action.run)]
                for node_id in mine:
                    del group.running[node_id]
                back(
                    10 * MILLISECOND,
                    ip.InstanceExited,
                    incarnation=action.incarnation,
                    run=action.run,
                    code=0,
                    cause="stopped",
                    wal_empty=True,
                )
            case fx.Door():
                back(
                    MILLISECOND,
                    ip.DoorAck,
                    worker=1,
                    incarnation=action.incarnation,
                    generation=action.generation,
                    in_flight=0,
                )
            case fx.Answer() | fx.Route():
                assert action.request not in self.answers
                self.answers[action.request] = action
            case fx.Halt():
                self.halted[peer] = action.reason
                self.later(0, lambda: self.crash(peer))
            case fx.SealedCopy():
                self.told[peer] = action
                if not action.open and action.incarnation:
                    done = {"incarnation": action.incarnation, "generation": action.generation, "in_flight": 0}
                    back(MILLISECOND, ip.SealedAck, worker=action.worker, **done)
            case fx.Believe():
                self.believed[peer] = action.fingerprints
            case fx.Keys():
                self.keys.setdefault(peer, {}).update({key.id: not key.revoked for key in action.keys})
                self.complete[peer] = action.complete
            case _:
                pass

    def probed(self, group: Group, machine: Machine, probe: fx.Probe) -> dict[str, Any]:
        me = next((one for one, where in group.running.items() if where[0] == machine.peer), None)
        ok = me is not None and (group.leader is not None or not probe.strong)
        if ok and probe.strong:
            group.applied, group.moved_at = group.applied + 1, self.now
        return {
            "incarnation": probe.incarnation,
            "run": probe.run,
            "token": probe.token,
            "ok": ok,
            "applied": group.applied_by(me, self.now) if me is not None else 0,
            "leader": ok and group.leader == me,
            "voters": tuple(sorted(group.voters)),
        }

    def up(self, machine: Machine, node: Any, start: fx.Start) -> None:
        if machine.node is not node or (node, start.incarnation, start.run) in self.terminated:
            return
        group = self.groups[start.incarnation]
        running = [one for one, where in group.running.items() if where[0] == machine.peer]
        assert not running, f"two rqlited of {start.incarnation} on {machine.peer} (F45)"
        group.running[start.node_id] = (machine.peer, start.run)
        group.ports[start.node_id] = start.raft
        if start.mode != "restart" or start.peers is not None:
            group.addresses[start.node_id] = start.raft
        self.until_ready(machine, node, start)

    def until_ready(self, machine: Machine, node: Any, start: fx.Start) -> None:
        group = self.groups[start.incarnation]
        if machine.node is not node or group.running.get(start.node_id) != (machine.peer, start.run):
            return
        if group.leader is None:
            self.later(ELECTION // 3, lambda: self.until_ready(machine, node, start))
            return
        if start.join:
            group.addresses[start.node_id] = start.raft
        if group.addresses[start.node_id] != start.raft:
            self.later(ELECTION // 3, lambda: self.until_ready(machine, node, start))
            return
        group.voters.add(start.node_id)
        self.step(
            machine.peer,
            ip.InstanceReady,
            incarnation=start.incarnation,
            run=start.run,
            applied=group.applied,
            voters=tuple(sorted(group.voters)),
            leader=group.leader == start.node_id,
        )

    # What a test says.

    def ask(self, peer: str, name: str = "users", forwarded: bool = False) -> int:
        self.requests += 1
        self.step(peer, ip.Ask, request=self.requests, app="myapp", name=name, forwarded=forwarded)
        return self.requests

    def read(self, peer: str) -> fx.SealedCopy:
        """What the gateway worker of a node is told whose client accepts an old answer."""
        self.step(peer, ip.ReadSealed, worker=1, app="myapp", name="users")
        return self.told[peer]

    def twin(self, peer: str, copied: bool) -> str:
        """Start a second process under this peer's id, on a copy of its store or on an empty one; its name in this world."""
        other = f"{peer}-twin"
        machine = self.machines[peer]
        self.machines[other] = Machine(other, machine.config, dict(machine.rows) if copied else {})
        self.boot(other)
        return other

    def retire(self, peer: str, whom: str) -> fx.Answer:
        """The operator's command on ``peer``."""
        return self.command(peer, ip.Retire, peer=whom)

    def command(self, peer: str, kind: Callable[..., Any], /, **fields: Any) -> fx.Answer:
        """An operator's word to ``peer``, and the answer."""
        self.requests += 1
        self.step(peer, kind, request=-self.requests, **fields)
        answer = self.answers[-self.requests]
        assert isinstance(answer, fx.Answer)
        return answer

    def state(self, peer: str) -> State:
        node = self.machines[peer].node
        assert node is not None
        return node.state

    def listening(self) -> set[str]:
        return {peer for peer, m in self.machines.items() if m.node and m.node.state.listening}

    def problem(self, request: int) -> str | None:
        """What the client is told; None: its query may go to the door here, or where :meth:`hops` says."""
        answer = self.answers[request]
        return answer.problem if isinstance(answer, fx.Answer) else None

    def hops(self, request: int) -> list[str]:
        """The members that the query may be sent to; empty: it is answered here."""
        answer = self.answers[request]
        return [hop.peer for hop in answer.hops] if isinstance(answer, fx.Route) else []

    def states(self) -> dict[str, str]:
        """Peer → state of its only database."""
        return {m.peer: v.state for m in self.machines.values() if m.node for v in m.node.view()}

    def phases(self) -> set[str]:
        return {r.phase for m in self.machines.values() if m.node for r in m.node.state.records.values()}

    def incarnations(self) -> set[str]:
        return {one for m in self.machines.values() if m.node for one in m.node.state.records}

    def events(self, event: str) -> list[str]:
        return [peer for _now, peer, decision in self.log if decision.event == event]

    def roots(self) -> set[bytes]:
        from protocol import digest

        return {digest.root(m.node.state) for m in self.machines.values() if m.node}

    def story(self) -> str:
        return "\n".join(
            f"{now / SECOND:8.3f} {peer} {d.database} {d.event} — {d.because} {d.law}" for now, peer, d in self.log
        )
