"""Carries out what the engine wants. Law: one step's effects happen in the order that :mod:`protocol.effects` documents, each
begun without waiting for the outcome of the one before; every outcome goes back as an input, exactly once, whatever
happened. Nothing is decided here.

Each start of an rqlited is one task that ends with exactly one InstanceExited; probes and snapshots are tasks that always
report. What the engine was told and told us is logged at level ``debug`` as well: the decisions alone say why, these say when.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, Final, Protocol

import structlog
import trio

from protocol import effects, inputs
from protocol.messages import Heartbeat, Message
from runtime.directories import Directories
from runtime.gateway import frames
from runtime.gateway.host import GatewayHost
from runtime.ports import Ports, PortsExhausted
from runtime.resting import Resting
from runtime.rqlited import Ready, StartSpec, Supervisor

PROBE_TIMEOUT: Final = 5.0
"""Seconds for a probe: longer means that rqlited cannot be asked now, which the engine takes as activity."""
SNAPSHOT_TIMEOUT: Final = 8.0
"""Seconds for a snapshot, below the engine's ``SNAPSHOT_WINDOW`` (asserted in the tests)."""

log = structlog.stdlib.get_logger("node")


class Halted(Exception):
    """The engine ends this process: its text is the cause, one line."""


class Transport(Protocol):
    """What carries messages to other nodes. Never waits, never reports loss: loss is the protocol's business."""

    def send(self, to: str, message: Message) -> None: ...

    def broadcast(self, message: Message) -> None: ...


class Executor:
    """``feed``: :meth:`runtime.driver.Driver.feed`. ``instances``: the nursery in which rqlited tasks live, which outlives the
    driver's. ``names``: the living databases of an application (R35). ``operator`` gets answers to requests below 0. ``transport``: None while this node knows no other."""

    def __init__(
        self,
        *,
        feed: Callable[[inputs.Input], None],
        instances: trio.Nursery,
        supervisor: Supervisor,
        ports: Ports,
        gateway: GatewayHost,
        names: Callable[[str], tuple[str, ...]],
        directories: Directories,
        operator: Callable[[effects.Answer], None],
        raft_host: str = "127.0.0.1",
        transport: Transport | None = None,
    ) -> None:
        self._feed = feed
        self._instances = instances
        self._supervisor = supervisor
        self._ports = ports
        self._gateway = gateway
        self._names = names
        self._directories = directories
        self._operator = operator
        self._raft_host = raft_host
        self._transport = transport
        self._runs: dict[str, int] = {}
        self._resting = Resting()
        self._all_ended = trio.Event()
        self._do: dict[type, Callable[[Any], None]] = {
            effects.ReservePorts: self._reserve,
            effects.HoldPort: self._hold,
            effects.ReleasePorts: self._release,
            effects.Start: self._start,
            effects.Probe: self._probe,
            effects.Snapshot: self._snapshot,
            effects.Terminate: self._terminate,
            effects.Trash: self._trash,
            effects.Door: self._door,
            effects.Forget: self._forget,
            effects.Answer: self._answer,
            effects.Halt: self._halt,
            effects.Route: self._route,
            effects.Believe: self._believe,
            effects.Keys: self._keys,
            effects.SealedCopy: self._sealed_copy,
        }
        self._halted: Halted | None = None
        self.sent: Final = {"broadcast": Counter[str](), "direct": Counter[str]()}
        """Messages that the engine sent to other nodes, by their type; one broadcast counts once, whoever it reaches."""
        self.heartbeat: Heartbeat | None = None
        """The last one that was broadcast."""

    def carry_out(self, wanted: effects.Effects) -> None:
        """All of one step but its writes, which are durable by now. Raises :class:`Halted` when the engine ends this process."""
        for action in wanted.actions:
            log.debug("action", **_fields(action))
            self._do[type(action)](action)
        if self._transport is not None:
            for each in wanted.sends:
                self.sent["direct"][type(each.message).__name__] += 1
                self._transport.send(each.to, each.message)
            for message in wanted.broadcasts:
                self.sent["broadcast"][type(message).__name__] += 1
                if isinstance(message, Heartbeat):
                    self.heartbeat = message
                self._transport.broadcast(message)
        for decision in wanted.decisions:
            render(decision)
        if self._halted is not None:
            raise self._halted  # after the step's messages: one of them may tell a twin to stop too (P63)

    def _halt(self, action: effects.Halt) -> None:
        self._halted = Halted(action.reason)

    def deliver(self, frame: frames.FromWorker) -> None:
        """A frame of a gateway worker: the engine's input, or a question that is answered from what is known."""
        match frame:
            case frames.WorkerJoined(worker):
                self._tell(inputs.WorkerJoined(0, worker))
            case frames.WorkerLeft(worker):
                self._tell(inputs.WorkerLeft(0, worker))
            case frames.Ask(_, request, app, name, forwarded):
                self._tell(inputs.Ask(0, request, app, name, forwarded))
            case frames.ListNames(_, request, app):
                self._gateway.names(request, list(self._names(app)))
            case frames.ReadSealed(worker, app, name):
                self._tell(inputs.ReadSealed(0, worker, app, name))
            case frames.SealedAck(worker, incarnation, generation, in_flight):
                self._tell(inputs.SealedAck(0, worker, incarnation, generation, in_flight))
            case frames.DoorAck(worker, incarnation, generation, in_flight):
                self._tell(inputs.DoorAck(0, worker, incarnation, generation, in_flight))
            case frames.Used(worker, incarnation, count, in_flight):
                self._tell(inputs.Used(0, worker, incarnation, count, in_flight))

    def _tell(self, outcome: inputs.Input) -> None:
        log.debug("outcome", **_fields(outcome))
        self._feed(outcome)

    async def stop_all(self, kill_after: float) -> None:
        """The end of the node: SIGTERM to every rqlited, SIGKILL after ``kill_after`` seconds; returns when all are reaped. The
        driver no longer runs, so nothing is started again."""
        for incarnation, run in self._runs.items():
            self._supervisor.terminate(incarnation, run, kill_after)
        while self._runs:
            await self._all_ended.wait()

    # Ports.

    def _reserve(self, action: effects.ReservePorts) -> None:
        try:
            http, raft = self._ports.reserve(action.ticket, action.http, action.raft)
        except PortsExhausted as error:
            self._tell(inputs.PortsRefused(0, action.ticket, str(error), error.raft, action.asked))
        else:
            self._tell(inputs.PortsReserved(0, action.ticket, http, raft, action.asked))

    def _hold(self, action: effects.HoldPort) -> None:
        self._ports.hold(action.ticket, action.raft)

    def _release(self, action: effects.ReleasePorts) -> None:
        self._ports.release(action.ticket, http=action.http, raft=action.raft)

    # rqlited.

    def _start(self, action: effects.Start) -> None:
        self._instances.start_soon(self._run, action, name=f"rqlited {action.internal} run {action.run}")

    async def _run(self, action: effects.Start) -> None:
        spec = StartSpec(
            name=action.internal,
            incarnation=action.incarnation,
            run=action.run,
            node_id=action.node_id,
            http_port=action.http,
            raft_port=action.raft,
            raft_host=self._raft_host,
            mode=action.mode,
            join=action.join,
            peers=action.peers,
            sources=action.sources,
        )

        def on_ready(ready: Ready) -> None:
            self._tell(
                inputs.InstanceReady(0, action.incarnation, action.run, ready.applied_index, ready.voters, ready.leader)
            )

        self._runs[action.incarnation] = action.run
        place = self._directories.instance(action.internal, action.incarnation)
        self._resting.begins(place)
        try:
            ended = await self._supervisor.run(spec, on_ready)
        finally:
            if self._runs.get(action.incarnation) == action.run:
                del self._runs[action.incarnation]
            if not self._runs:
                self._all_ended.set()
                self._all_ended = trio.Event()
        self._resting.ended(place)
        self._tell(
            inputs.InstanceExited(
                0, action.incarnation, action.run, ended.code, ended.cause, ended.detail, ended.wal_empty
            )
        )

    def _probe(self, action: effects.Probe) -> None:
        self._instances.start_soon(self._ask_rqlited, action)

    async def _ask_rqlited(self, action: effects.Probe) -> None:
        seen = await self._supervisor.probe(action.incarnation, strong=action.strong, timeout=PROBE_TIMEOUT)
        self._tell(
            inputs.Probed(
                0,
                action.incarnation,
                action.run,
                action.token,
                seen.ok,
                seen.counter,
                seen.applied_index,
                seen.leader,
                seen.voters,
                seen.error,
            )
        )

    def _snapshot(self, action: effects.Snapshot) -> None:
        self._instances.start_soon(self._fold, action)

    async def _fold(self, action: effects.Snapshot) -> None:
        taken = await self._supervisor.snapshot(action.incarnation, SNAPSHOT_TIMEOUT)
        self._tell(inputs.Snapshotted(0, action.incarnation, action.run, taken.ok, taken.applied_index, taken.error))

    def _terminate(self, action: effects.Terminate) -> None:
        self._supervisor.terminate(action.incarnation, action.run, action.kill_after / 1e6)

    def _trash(self, action: effects.Trash) -> None:
        self._resting.forget(action.incarnation)
        try:
            self._directories.to_trash(self._directories.instance(action.internal, action.incarnation))
        except OSError as error:
            # The data stays where it is: nothing of ours will use that incarnation again, and nothing is lost.
            log.warning("not moved to the trash", database=action.internal, because=str(error))

    # The gateway.

    def _door(self, action: effects.Door) -> None:
        self._gateway.door(
            action.worker,
            incarnation=action.incarnation,
            app=action.app,
            name=action.name,
            generation=action.generation,
            open=action.open,
            url=f"http://127.0.0.1:{action.http}",  # rqlited's HTTP binds to loopback alone
        )

    def _forget(self, action: effects.Forget) -> None:
        self._gateway.forget(action.incarnation)

    def _answer(self, action: effects.Answer) -> None:
        if action.request < 0:
            self._operator(action)
            return
        error = None if action.problem is None else frames.Problem(action.problem, action.detail)
        self._gateway.answer(frames.Request(action.request), error=error)

    def _route(self, action: effects.Route) -> None:
        self._gateway.route(frames.Request(action.request), action.app, action.name, _hops(action.hops))

    def _sealed_copy(self, action: effects.SealedCopy) -> None:
        known = (action.app, action.name, action.incarnation, action.generation)
        copy = frames.SealedCopy(*known, hops=_hops(action.hops))
        if action.open:
            place = self._directories.instance(action.internal, action.incarnation)
            copy = self._resting.told(copy, place, action.current_at)
        self._gateway.sealed_copy(action.worker, copy)

    def _believe(self, action: effects.Believe) -> None:
        self._gateway.believe(action.worker, action.fingerprints)

    def _keys(self, action: effects.Keys) -> None:
        keys = tuple(frames.Key(key.sha256, key.app, key.scope, key.expires, key.revoked) for key in action.keys)
        self._gateway.keys(action.worker, keys, complete=action.complete)


def render(decision: effects.Decision) -> None:
    """One log line of a decision: the event of R60, its fields, and the reason and law that it followed."""
    said = (("database", decision.database), ("because", decision.because), ("law", decision.law))
    log.info(decision.event, **dict(decision.fields), **{name: text for name, text in said if text})


def _hops(hops: tuple[effects.Hop, ...]) -> tuple[frames.Hop, ...]:
    return tuple(frames.Hop(hop.peer, hop.gateway, hop.fingerprint) for hop in hops)


def _fields(value: Any) -> dict[str, Any]:
    fields = {name: getattr(value, name) for name in value.__slots__ if not name.startswith("__") and name != "now"}
    return {"kind": type(value).__name__, **fields}
