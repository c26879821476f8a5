"""One engine, driven by hand: effects are answered at once with their good outcome, unless a test takes them in hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import define, field

from protocol import effects as fx
from protocol import inputs as ip
from protocol import messages as ms
from protocol.effects import Effects
from protocol.invariants import violations
from protocol.limits import SECOND
from protocol.node import Config, Node

CONFIG = Config("p1", replication_factor=1, hibernation_timeout=2 * SECOND)


@define
class Solo:
    """A node with one gateway worker and a well-behaved rqlited. ``hold``: effect classes that stay unanswered in ``held``."""

    config: Config = CONFIG
    now: int = 0
    rows: dict[str, bytes] = field(factory=dict)
    hold: set[type] = field(factory=set)
    held: list[Any] = field(factory=list)
    log: list[Any] = field(factory=list)
    answers: dict[int, fx.Answer] = field(factory=dict)
    counter: dict[str, int] = field(factory=dict)
    applied: int = 5
    requests: int = 0
    workers: tuple[int, ...] = (1,)
    node: Node = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.boot()

    def boot(self, entropy: bytes = b"e" * 32) -> Effects:
        """A new process on the same store."""
        self.node = Node(self.config)
        effects = self.step(ip.Boot, entropy=entropy, rows=tuple(sorted(self.rows.items())), found=not self.rows)
        for peer in self.config.known:
            if peer != self.config.peer:
                self.hear(peer)
        for worker in self.workers:
            self.step(ip.WorkerJoined, worker=worker)
        return effects

    def step(self, kind: Callable[..., Any], **fields: Any) -> Effects:
        self.now += 1
        effects = self.node.step(kind(now=self.now, **fields))
        for write in effects.writes:
            if write.value is None:
                self.rows.pop(write.key, None)
            else:
                self.rows[write.key] = write.value
        assert list(violations(self.node.state)) == []
        self.log += [*effects.decisions, *effects.actions]
        for message in (*effects.broadcasts, *(send.message for send in effects.sends)):
            self.answer_as_p2(message)
        for send in effects.sends:
            if isinstance(send.message, ms.SyncAsk):
                done = ms.SyncDone(send.message.number, 0, True)
                self.step(ip.Received, sender=send.to, message=done)
        for action in effects.actions:
            if isinstance(action, fx.Answer):
                assert action.request not in self.answers, "a request is answered exactly once"
                self.answers[action.request] = action
            elif type(action) in self.hold:
                self.held.append(action)
            else:
                self.carry_out(action)
        return effects

    def carry_out(self, action: Any) -> None:
        match action:
            case fx.ReservePorts():
                http, raft = action.http or 5000 + action.ticket, action.raft or 7000 + action.ticket
                self.step(ip.PortsReserved, ticket=action.ticket, http=http, raft=raft, asked=action.asked)
            case fx.Start():
                self.ready(action)
            case fx.Probe():
                self.step(
                    ip.Probed,
                    incarnation=action.incarnation,
                    run=action.run,
                    token=action.token,
                    ok=True,
                    counter=self.counter.get(action.incarnation, 0),
                    applied=self.applied,
                    leader=True,
                    voters=self.voters(action.incarnation),
                )
            case fx.Snapshot():
                self.step(ip.Snapshotted, incarnation=action.incarnation, run=action.run, ok=True, applied=self.applied)
            case fx.Terminate():
                self.exited(action.incarnation, action.run)
            case fx.Door(open=False):
                for worker in self.workers:
                    self.ack(action, worker)
            case fx.SealedCopy(open=False) if action.incarnation:
                self.closed(action)
            case _:
                pass

    def hear(self, peer: str) -> Effects:
        """A heartbeat of a peer that hears everyone."""
        known = self.config.known
        beat = ms.Heartbeat(self.config.cluster, "bb", 0, known, known, 9, b"", False)
        return self.step(ip.Received, sender=peer, message=beat)

    def answer_as_p2(self, message: Any) -> None:
        """Where p2 is known beside p1: it denies names and stores births, and is a member of nothing."""
        if "p2" not in self.config.known:
            return
        match message:
            case ms.CreateRequest():
                denied = ms.CreateAnswer(message.attempt, message.app, message.name, 1, "denied")
                self.step(ip.Received, sender="p2", message=denied)
            case ms.StoreBirth():
                stored = ms.BirthAnswer(message.birth.incarnation, message.attempt, True)
                self.step(ip.Received, sender="p2", message=stored)
            case _:
                pass

    def voters(self, incarnation: str) -> tuple[str, ...]:
        return (f"p1.{incarnation}.0",)

    def ready(self, start: fx.Start) -> Effects:
        return self.step(
            ip.InstanceReady,
            incarnation=start.incarnation,
            run=start.run,
            applied=self.applied,
            voters=(start.node_id,),
            leader=True,
            counter=self.counter.get(start.incarnation, 0),
        )

    def exited(self, incarnation: str, run: int, cause: str = "stopped", detail: str = "") -> Effects:
        clean = cause == "stopped"
        code = 0 if clean else 1
        return self.step(
            ip.InstanceExited,
            incarnation=incarnation,
            run=run,
            code=code,
            cause=cause,
            detail=detail,
            wal_empty=clean,
        )

    def ack(self, door: fx.Door, worker: int = 1, in_flight: int = 0) -> Effects:
        return self.step(
            ip.DoorAck,
            worker=worker,
            incarnation=door.incarnation,
            generation=door.generation,
            in_flight=in_flight,
        )

    def closed(self, copy: fx.SealedCopy, in_flight: int = 0) -> Effects:
        """A worker has closed the sealed copy."""
        return self.step(
            ip.SealedAck,
            worker=copy.worker,
            incarnation=copy.incarnation,
            generation=copy.generation,
            in_flight=in_flight,
        )

    # What a test says.

    def read(self, worker: int = 1) -> fx.SealedCopy:
        """What a worker is told whose client accepts an old answer."""
        effects = self.step(ip.ReadSealed, worker=worker, app="myapp", name="users")
        (told,) = effects.actions
        assert isinstance(told, fx.SealedCopy)
        assert not effects.writes + effects.sends + effects.broadcasts + effects.decisions, "a read changes nothing"
        return told

    def ask(self, name: str = "users", app: str = "myapp") -> int:
        self.requests += 1
        self.step(ip.Ask, request=self.requests, app=app, name=name)
        return self.requests

    def used(self, count: int = 1, in_flight: int = 0) -> Effects:
        return self.step(ip.Used, worker=1, incarnation=self.db.incarnation, count=count, in_flight=in_flight)

    def wait(self, microseconds: int) -> None:
        """Let time pass, ticking at each deadline."""
        end = self.now + microseconds
        while (deadline := self.node.deadline) is not None and deadline <= end:
            self.now = max(self.now, deadline - 1)
            self.step(ip.Tick)
        self.now = end

    def release(self, kind: type) -> Any:
        """Take the oldest held effect of this kind, unanswered."""
        found = next(action for action in self.held if isinstance(action, kind))
        self.held.remove(found)
        return found

    @property
    def db(self) -> Any:
        (view,) = self.node.view()
        return view

    def events(self) -> list[str]:
        return [entry.event for entry in self.log if isinstance(entry, fx.Decision)]

    def actions(self, kind: type) -> list[Any]:
        return [entry for entry in self.log if isinstance(entry, kind)]

    def awake(self) -> Solo:
        assert self.answers[self.ask()].problem is None
        return self

    def asleep(self) -> Solo:
        if not self.node.view():
            self.awake()
        self.wait(3 * SECOND)
        assert (self.db.state, self.db.process) == ("hibernating", "none")
        return self
