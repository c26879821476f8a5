"""The one door: ``Node.step(input) -> effects``. Nothing else changes a node's state; it reads no clock, socket, file or
random number. The law kept here is P7 (deadlines that have passed are expired before the input is looked at, F52), and
F81 (a message counts only from a peer that is known)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from attrs import frozen

from protocol import coordination, gossip, suspicion
from protocol.chart import TABLE, Chart
from protocol.effects import Decision, Effects
from protocol.inputs import (
    Ask,
    Boot,
    DoorAck,
    Input,
    InstanceExited,
    InstanceReady,
    PeerConnected,
    PortsRefused,
    PortsReserved,
    Probed,
    Received,
    Snapshotted,
    Tick,
    Used,
    WorkerJoined,
    WorkerLeft,
)
from protocol.lifecycle import (
    boot,
    creation,
    doors,
    learning,
    offers,
    outcomes,
    process,
    serving,
    sleep,
    stopping,
    wake,
)
from protocol.messages import (
    BirthAnswer,
    CreateAnswer,
    CreateConfirm,
    CreateFailed,
    CreateRequest,
    CreateSuperseded,
    Dropped,
    Heartbeat,
    IdleNews,
    MembersStored,
    Message,
    PromiseAnswer,
    PromiseAsk,
    Purpose,
    RecordNews,
    Report,
    SealAnswer,
    SealAsk,
    SleepAbort,
    SleepCommit,
    SleepProposal,
    SleepReport,
    SleepVote,
    Standing,
    StandingAsk,
    StoreBirth,
    StoreMembers,
    SyncAsk,
    SyncDone,
    SyncPage,
    WakeIntent,
)
from protocol.records import Member, Seal
from protocol.state import Config, Hosted, PromiseRound, State
from protocol.turn import Turn

__all__ = ["Config", "DatabaseView", "Node"]


@frozen
class DatabaseView:
    """What an operator is shown of one database: a copy, not the state. ``decisions``: the last ones, oldest first."""

    app: str
    name: str
    internal: str
    incarnation: str
    state: str
    phase: str
    epoch: int
    promised: int
    members: tuple[Member, ...]
    seal: Seal | None
    process: str
    run: int
    http: int
    raft: int
    open: bool
    waiting: int
    error: str
    decisions: tuple[Decision, ...]


_WON: Final[dict[Purpose, Callable[[Turn, Hosted, PromiseRound], None]]] = {
    "create": creation.take_over,
    "sleep": sleep.propose,
    "wake": wake.write_active,
    "address": process.start_elsewhere,
}
_LOST: Final[dict[Purpose, Callable[[Turn, Hosted], None]]] = {"address": process.on_address_lost}


def _on_create_request(turn: Turn, sender: str, message: CreateRequest) -> None:
    creation.on_request(turn, sender, message)
    offers.on_request(turn, sender, message)


def _on_dropped(turn: Turn, sender: str, message: Dropped) -> None:
    offers.on_dropped(turn, sender, message)
    creation.on_birth_dropped(turn, message.incarnation)


def _on_promise_answer(turn: Turn, sender: str, message: PromiseAnswer) -> None:
    learning.on_standing(turn, sender, message.standing)
    coordination.on_promise_answer(turn, sender, message, _WON, _LOST)


def _on_sleep_vote(turn: Turn, sender: str, message: SleepVote) -> None:
    if message.standing is not None:
        learning.on_standing(turn, sender, message.standing)
    sleep.on_vote(turn, sender, message)


def _on_members_stored(turn: Turn, sender: str, message: MembersStored) -> None:
    if message.standing is not None:
        learning.on_standing(turn, sender, message.standing)
    process.on_members_stored(turn, sender, message)


_MESSAGES: Final[dict[type, Callable[[Turn, str, Any], None]]] = {
    CreateRequest: _on_create_request,
    CreateAnswer: creation.on_answer,
    CreateSuperseded: creation.on_superseded,
    StoreBirth: offers.on_store_birth,
    BirthAnswer: creation.on_birth_answer,
    CreateConfirm: offers.on_confirm,
    CreateFailed: offers.on_failed,
    Dropped: _on_dropped,
    Report: creation.on_report,
    RecordNews: learning.on_record,
    Standing: learning.on_standing,
    StandingAsk: learning.on_standing_ask,
    StoreMembers: learning.on_store_members,
    MembersStored: _on_members_stored,
    PromiseAsk: coordination.on_promise_ask,
    PromiseAnswer: _on_promise_answer,
    IdleNews: sleep.on_idle_news,
    SleepProposal: sleep.on_proposal,
    SleepVote: _on_sleep_vote,
    SealAsk: sleep.on_seal_ask,
    SealAnswer: sleep.on_seal,
    SleepCommit: stopping.on_commit,
    SleepAbort: sleep.on_abort,
    SleepReport: stopping.on_sleep_report,
    WakeIntent: wake.on_intent,
    Heartbeat: gossip.on_heartbeat,
    SyncAsk: gossip.on_sync_ask,
    SyncPage: gossip.on_sync_page,
    SyncDone: gossip.on_sync_done,
}


def _heard(turn: Turn, received: Received) -> None:
    known = received.sender in turn.state.known or type(received.message) is Heartbeat
    if known and received.sender != turn.me:
        _MESSAGES[type(received.message)](turn, received.sender, received.message)


def _worker_left(turn: Turn, left: WorkerLeft) -> None:
    doors.on_worker_left(turn, left.worker)
    for hosted in tuple(turn.state.hosted.values()):
        sleep.consider_vote(turn, hosted)


_INPUTS: Final[dict[type, Callable[[Turn, Any], None]]] = {
    Boot: boot.on_boot,
    Tick: lambda _turn, _tick: None,
    Received: _heard,
    PeerConnected: lambda turn, connected: suspicion.on_connected(turn, connected.peer),
    Ask: serving.on_ask,
    WorkerJoined: lambda turn, joined: doors.on_worker_joined(turn, joined.worker),
    WorkerLeft: _worker_left,
    DoorAck: serving.on_door_ack,
    Used: serving.on_used,
    PortsReserved: outcomes.on_ports_reserved,
    PortsRefused: outcomes.on_ports_refused,
    InstanceReady: outcomes.on_ready,
    InstanceExited: outcomes.on_exited,
    Probed: outcomes.on_probed,
    Snapshotted: outcomes.on_snapshotted,
}

_TIMERS: Final[dict[str, Callable[[Turn, str], None]]] = {
    "heartbeat": suspicion.beat,
    "listened": serving.on_listened,
    "attempt": creation.on_attempt_deadline,
    "confirm": creation.on_confirm_timer,
    "takeover": creation.on_takeover,
    "activate": wake.on_activate,
    "request": creation.on_request_deadline,
    "offers": creation.on_offers_deadline,
    "creation": creation.on_creation_deadline,
    "lease": offers.on_lease_deadline,
    "promise": lambda turn, key: coordination.on_promise_deadline(turn, key, _LOST),
    "members": process.on_members_deadline,
    "idle": sleep.on_idle_timer,
    "drain": sleep.on_drain_deadline,
    "votes": sleep.on_votes_deadline,
    "stops": stopping.on_stops_deadline,
    "reach": sleep.on_reach_timer,
    "doubt": stopping.on_doubt,
    "quorum": wake.on_quorum_patience,
    "wake": wake.on_deadline,
    "backoff": process.on_backoff,
    "reprobe": outcomes.on_reprobe,
}
"""Every timer that the engine may set, and what its expiry does."""


class Node:
    """One node's engine. ``chart``: the compiled table, or the library's interpreter as the reference."""

    __slots__ = ("_chart", "_now", "_state")

    def __init__(self, config: Config, chart: Chart = TABLE) -> None:
        self._state = State(config)
        self._chart = chart
        self._now = 0

    def step(self, input: Input) -> Effects:
        """Take one input; the effects are to be carried out in the order that ``protocol.effects`` documents."""
        assert input.now >= self._now, f"time went back from {self._now} to {input.now}"
        assert self._state.store or type(input) is Boot, "the first input is Boot"
        self._now = input.now
        turn = Turn(self._state, self._chart, input.now)
        while (due := self._state.timers.expired(input.now)) is not None:
            kind, key = due
            _TIMERS[kind](turn, key)
            self._settle(turn)
        _INPUTS[type(input)](turn, input)
        self._settle(turn)
        return turn.effects()

    @staticmethod
    def _settle(turn: Turn) -> None:
        """Handle what this node sent to itself, until nothing is left."""
        while turn.inbox:
            message: Message = turn.inbox.popleft()
            _MESSAGES[type(message)](turn, turn.me, message)

    @property
    def deadline(self) -> int | None:
        """When the next timer expires (µs): the driver sends a Tick then, at the latest."""
        return self._state.timers.deadline

    @property
    def state(self) -> State:
        """For invariants and tests; never to be changed from outside."""
        return self._state

    def databases(self, app: str) -> tuple[str, ...]:
        """Names of the application's databases, sorted (R35): those that have been acknowledged."""
        records = self._state.records.values()
        return tuple(sorted({r.birth.name for r in records if r.birth.app == app and r.phase != "creating"}))

    def view(self) -> tuple[DatabaseView, ...]:
        """All databases that this node hosts, sorted by internal name."""
        views = [
            DatabaseView(
                app=h.record.birth.app,
                name=h.record.birth.name,
                internal=h.internal,
                incarnation=h.incarnation,
                state=h.state,
                phase=h.record.phase,
                epoch=h.record.version.epoch,
                promised=h.promise.epoch,
                members=h.record.members,
                seal=h.record.seal,
                process=h.process,
                run=h.run,
                http=h.http,
                raft=h.raft,
                open=h.open,
                waiting=len(h.waiters),
                error=h.error,
                decisions=tuple(h.decisions),
            )
            for h in self._state.hosted.values()
        ]
        return tuple(sorted(views, key=lambda view: view.internal))
