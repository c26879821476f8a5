"""The one door: ``Node.step(input) -> effects``. Nothing else changes a node's state; it reads no clock, socket, file or
random number. The law kept here is P7 (deadlines that have passed are expired before the input is looked at, F52), and
F81 (a message counts only from a peer that is known)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from protocol import coordination, gossip, keys, rollback, suspicion, twins, views
from protocol.chart import TABLE, Chart
from protocol.effects import Effects
from protocol.inputs import (
    Ask,
    Boot,
    CreateKey,
    DoorAck,
    Input,
    InstanceExited,
    InstanceReady,
    PeerConnected,
    PortsRefused,
    PortsReserved,
    Probed,
    ReadSealed,
    Received,
    Retire,
    RevokeKey,
    SealedAck,
    Snapshotted,
    Tick,
    Used,
    WorkerJoined,
    WorkerLeft,
)
from protocol.lifecycle import (
    asking,
    boot,
    creation,
    doors,
    fate,
    learning,
    offers,
    outcomes,
    process,
    routing,
    sealed,
    serving,
    sleep,
    stopping,
    takeover,
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
    Echo,
    Heartbeat,
    IdleNews,
    KeyNews,
    MembersStored,
    Message,
    OutcomeStored,
    PromiseAnswer,
    PromiseAsk,
    Purpose,
    Recall,
    Recalled,
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
    StoreOutcome,
    SyncAsk,
    SyncDone,
    SyncKeys,
    SyncNames,
    SyncPage,
    SyncRecords,
    SyncWant,
    Twin,
    WakeIntent,
)
from protocol.state import Config, Hosted, PromiseRound, State
from protocol.turn import Turn

__all__ = ["Config", "Node"]


_WON: Final[dict[Purpose, Callable[[Turn, Hosted, PromiseRound], None]]] = {
    "create": takeover.take_over,
    "sleep": sleep.propose,
    "wake": wake.write_active,
    "address": process.start_elsewhere,
}
_LOST: Final[dict[Purpose, Callable[[Turn, Hosted], None]]] = {"address": process.on_address_lost}


def _on_create_request(turn: Turn, sender: str, message: CreateRequest) -> None:
    if not turn.state.listening:  # who listens creates nothing (P61): the next candidate will be asked
        creation.on_request(turn, sender, message)
    suspicion.enlighten(turn, message.attempt.coordinator)
    offers.on_request(turn, sender, message)


def _on_dropped(turn: Turn, sender: str, message: Dropped) -> None:
    record = turn.state.records.get(message.incarnation)
    offers.on_dropped(turn, sender, message)
    creation.on_birth_dropped(turn, message.incarnation)
    if record is not None:
        serving.on_dropped(turn, record)


def _on_heartbeat(turn: Turn, sender: str, message: Heartbeat) -> None:
    gossip.on_heartbeat(turn, sender, message)
    routing.on_heard(turn, sender)


def _on_store_members(turn: Turn, sender: str, message: StoreMembers) -> None:
    if rollback.may_promise(
        turn, message.record.incarnation
    ):  # it may have promised a newer epoch, and forgotten it (P6, P62)
        learning.on_store_members(turn, sender, message)


def _on_store_outcome(turn: Turn, sender: str, message: StoreOutcome) -> None:
    if rollback.may_promise(turn, message.outcome.incarnation):
        fate.on_store(turn, sender, message)


def _on_promise_ask(turn: Turn, sender: str, message: PromiseAsk) -> None:
    if rollback.may_promise(turn, message.incarnation):
        coordination.on_promise_ask(turn, sender, message)


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
    CreateSuperseded: asking.on_superseded,
    StoreBirth: offers.on_store_birth,
    BirthAnswer: creation.on_birth_answer,
    CreateConfirm: offers.on_confirm,
    CreateFailed: offers.on_failed,
    Dropped: _on_dropped,
    Report: creation.on_report,
    RecordNews: learning.on_record,
    PromiseAsk: _on_promise_ask,
    Standing: learning.on_standing,
    StandingAsk: learning.on_standing_ask,
    StoreMembers: _on_store_members,
    MembersStored: _on_members_stored,
    StoreOutcome: _on_store_outcome,
    OutcomeStored: fate.on_stored,
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
    Heartbeat: _on_heartbeat,
    SyncAsk: gossip.on_sync_ask,
    SyncPage: gossip.on_sync_page,
    SyncNames: gossip.on_sync_names,
    SyncDone: gossip.on_sync_done,
    SyncWant: gossip.on_sync_want,
    SyncRecords: gossip.on_sync_records,
    SyncKeys: gossip.on_sync_keys,
    KeyNews: keys.on_news,
    Twin: twins.on_twin,
    Echo: gossip.on_echo,
    Recall: rollback.on_recall,
    Recalled: rollback.on_recalled,
}


def _heard(turn: Turn, received: Received) -> None:
    sender, message = received.sender, received.message
    if sender != turn.me and (sender in turn.state.known or isinstance(message, Heartbeat)):
        _MESSAGES[type(message)](turn, sender, message)


def _worker_left(turn: Turn, left: WorkerLeft) -> None:
    doors.on_worker_left(turn, left.worker)
    for hosted in tuple(turn.state.hosted.values()):
        sleep.consider_vote(turn, hosted)
        process.go_on(turn, hosted)


_INPUTS: Final[dict[type, Callable[[Turn, Any], None]]] = {
    Boot: boot.on_boot,
    Tick: lambda _turn, _tick: None,
    Received: _heard,
    PeerConnected: lambda turn, connected: suspicion.on_connected(turn, connected.peer),
    Ask: serving.on_ask,
    Retire: gossip.on_retire,
    CreateKey: keys.on_create,
    RevokeKey: keys.on_revoke,
    WorkerJoined: lambda turn, joined: doors.on_worker_joined(turn, joined.worker),
    WorkerLeft: _worker_left,
    DoorAck: serving.on_door_ack,
    Used: serving.on_used,
    ReadSealed: sealed.on_read,
    SealedAck: outcomes.on_sealed_ack,
    PortsReserved: outcomes.on_ports_reserved,
    PortsRefused: outcomes.on_ports_refused,
    InstanceReady: outcomes.on_ready,
    InstanceExited: outcomes.on_exited,
    Probed: outcomes.on_probed,
    Snapshotted: outcomes.on_snapshotted,
}

_TIMERS: Final[dict[str, Callable[[Turn, str], None]]] = {
    "heartbeat": suspicion.beat,
    "listen": gossip.on_listening,
    "listened": serving.on_listened,
    "recall": rollback.recall,
    "attempt": asking.on_attempt_deadline,
    "confirm": creation.on_confirm_timer,
    "takeover": takeover.on_takeover,
    "activate": wake.on_activate,
    "request": asking.on_request_deadline,
    "offers": creation.on_offers_deadline,
    "creation": creation.on_creation_deadline,
    "retry": creation.on_retry,
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
    "seek": routing.on_seek,
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

    @classmethod
    def resumed(cls, state: State, now: int, chart: Chart = TABLE) -> Node:
        """An engine that goes on from a whole state, last stepped at ``now`` (:mod:`protocol.recording`)."""
        node = cls(state.config, chart)
        node._state, node._now = state, now
        return node

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
        if turn.inbox:
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
    def now(self) -> int:
        """The time of the last input (µs)."""
        return self._now

    @property
    def state(self) -> State:
        """For invariants and tests; never to be changed from outside."""
        return self._state

    def databases(self, app: str) -> tuple[str, ...]:
        """Names of the application's databases, sorted (R35): those that have been acknowledged."""
        records = self._state.records.values()
        return tuple(sorted({r.birth.name for r in records if r.birth.app == app and r.phase != "creating"}))

    def view(self) -> tuple[views.DatabaseView, ...]:
        """All databases that this node hosts, sorted by internal name."""
        return views.hosted(self._state)
