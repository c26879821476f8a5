"""What every known node answers to a creation, and what a chosen member does. The laws kept here are P10 (a denial is durable
before it is sent), P11 (so is a birth), F2 (a lease ends by the confirm, a failure or its expiry), F5, F6 and F13."""

from __future__ import annotations

from attrs import evolve

from protocol import coordination, directory, limits
from protocol.effects import ReleasePorts, ReservePorts
from protocol.ids import DatabaseName, Peer
from protocol.lifecycle import asking, creation, process, shortage
from protocol.lifecycle.orders import complain, fire, holds
from protocol.messages import (
    BirthAnswer,
    CreateAnswer,
    CreateConfirm,
    CreateFailed,
    CreateRequest,
    Dropped,
    RecordNews,
    Report,
    StoreBirth,
)
from protocol.records import Attempt, Birth, Member
from protocol.rows import EpochPromise, Instance, NamePromise
from protocol.state import Hosted, Lease
from protocol.turn import Turn


def on_request(turn: Turn, sender: Peer, message: CreateRequest) -> None:
    """Answer straight to the coordinator: known, denied (with an offer or a refusal), or superseded (P10)."""
    state = turn.state
    internal = DatabaseName.internal_of(message.app, message.name)
    answer = CreateAnswer(message.attempt, message.app, message.name, message.replication_factor, "known")
    to = message.attempt.coordinator
    turn.decide("create request received", None, database=internal, requester=sender, attempt=message.attempt.n)
    living = state.living(internal)
    if living:
        turn.send(
            to, evolve(answer, record=directory.chosen(state, internal) or living[0])
        )  # F13: never an offer for what exists
        return
    if state.listening:
        turn.send(to, evolve(answer, stance="unsure"))
        return
    held = state.names.get(internal)
    if held is not None and held.attempt > message.attempt:
        turn.send(to, evolve(answer, stance="superseded", higher=held.attempt.n))
        return
    birth, stored = (held.birth, held.stored) if held is not None else (None, None)
    answer = evolve(answer, stance="denied", birth=birth, stored=stored)
    for lease in [one for one in state.leases.values() if one.internal == internal]:
        if lease.attempt == message.attempt:
            if lease.http:
                turn.send(to, evolve(lease.answer, birth=birth, stored=stored))  # the request was repeated
            return
        _end_lease(turn, lease, "a newer attempt asks")
    if held is None or held.attempt != message.attempt:
        state.names[internal] = NamePromise(internal, message.attempt, birth, stored)
        turn.write(f"name/{internal}", state.names[internal])
    room = state.config.max_databases - state.load()
    if room <= 0:
        turn.send(to, evolve(answer, refusal=f"max_databases ({state.config.max_databases}) reached"))
        return
    ticket = next_ticket(turn)
    state.leases[ticket] = Lease(ticket, message.attempt, internal, to, evolve(answer, room=room))
    turn.after("lease", str(ticket), limits.OFFER_LEASE)
    turn.act(ReservePorts(ticket))


def next_ticket(turn: Turn) -> int:
    turn.state.tickets += 1
    return turn.state.tickets


def on_ports(turn: Turn, lease: Lease, http: int, raft: int) -> None:
    lease.http, lease.raft = http, raft
    room = 0 if shortage.is_short(turn) else lease.answer.room
    lease.answer = evolve(lease.answer, room=room, offer=Member(turn.me, turn.state.config.host, raft))
    turn.send(lease.answer_to, lease.answer)


def on_no_ports(turn: Turn, lease: Lease, detail: str) -> None:
    turn.send(lease.answer_to, evolve(lease.answer, room=0, refusal=detail))
    _end_lease(turn, lease, detail)


def on_lease_deadline(turn: Turn, ticket: str) -> None:
    lease = turn.state.leases.get(int(ticket))
    if lease is not None:
        _end_lease(turn, lease, "no confirm came in time")


def _end_lease(turn: Turn, lease: Lease, because: str) -> None:
    del turn.state.leases[lease.ticket]
    turn.cancel("lease", str(lease.ticket))
    turn.act(ReleasePorts(lease.ticket))
    turn.decide("offer released", None, because, "F2", database=lease.internal)


def on_store_birth(turn: Turn, sender: Peer, message: StoreBirth) -> None:
    birth, state = message.birth, turn.state
    if state.listening:
        return
    if other := creation.living_other(turn, birth):
        turn.send(sender, RecordNews(other))  # this name lives: whoever knows that it was dropped can say so (P10)
        return
    stored = birth.dot not in state.context and _store(turn, birth, message.attempt)
    held = state.names.get(birth.internal)
    higher = held.attempt.n if held is not None and not stored else 0
    turn.send(sender, BirthAnswer(birth.incarnation, message.attempt, stored, higher))


def _store(turn: Turn, birth: Birth, attempt: Attempt) -> bool:
    """Store a birth under an attempt, durably, unless the name is promised to a higher one, or another birth is stored under
    this very one (P11)."""
    held = turn.state.names.get(birth.internal)
    if held is not None and held.attempt > attempt:
        return False
    if held is not None and held.birth is not None and held.stored == attempt:
        return held.birth == birth
    turn.state.names[birth.internal] = NamePromise(birth.internal, attempt, birth, attempt)
    turn.write(f"name/{birth.internal}", turn.state.names[birth.internal])
    return True


def on_confirm(turn: Turn, _sender: Peer, message: CreateConfirm) -> None:
    """The chosen members start: the founder founds, the others join; everyone else's lease ends (F2)."""
    birth = message.record.birth
    here = turn.state.hosted.get(birth.incarnation)
    if here is not None:
        here.attempt = max(here.attempt, message.attempt)
        if here.complete:
            report_ready(turn, here, message.attempt)  # the confirm was repeated: the report was lost (F7)
            return
    # A confirm that comes late ends no offer that was made to a later attempt since (F2, F5).
    leases = [one for one in turn.state.leases.values() if one.internal == birth.internal]
    lease = next((one for one in leases if one.attempt <= message.attempt), None)
    record = directory.merge(turn, message.record)
    member = record.member(turn.me) if record is not None else None
    born = record is not None and record.phase != "creating"  # all its members host it by now, or have lost it (P54)
    if record is None or member is None or born or birth.incarnation in turn.state.hosted:
        if lease is not None:
            _end_lease(turn, lease, "others were chosen")
        return
    promise = EpochPromise(birth.incarnation, 1, birth.attempt.coordinator)
    hosted = Hosted(record, "creating", promise, lease.ticket if lease else next_ticket(turn))
    hosted.attempt = message.attempt
    _store(turn, birth, message.attempt)  # at boot it tells whether another coordinator may have been reported to
    turn.state.host(hosted)
    turn.state.by_ticket[hosted.ticket] = birth.incarnation
    turn.write(f"promise/{birth.incarnation}", promise)
    lapsed = lease is None or lease.raft != member.raft
    if lease is not None:
        del turn.state.leases[lease.ticket]
        turn.cancel("lease", str(lease.ticket))
        hosted.http, hosted.raft = lease.http, lease.raft
    turn.write(f"instance/{birth.incarnation}", Instance(birth.incarnation, birth.internal, hosted.http, hosted.raft))
    turn.after("takeover", birth.incarnation, limits.TAKEOVER)
    if lapsed:
        # It is not assumed to hold: its ports may be another database's by now.
        report_failed(turn, hosted, "port_taken", "the offer had lapsed")
        return
    founder = record.member(birth.founder)
    assert founder is not None
    if birth.founder == turn.me:
        process.launch(turn, hosted, "found")
    else:
        process.launch(turn, hosted, "join", join=(founder.address,))


def report_ready(turn: Turn, hosted: Hosted, to: Attempt) -> None:
    """As a chosen member, to a coordinator of the birth (P13); not once a higher epoch is promised, which ends them all."""
    if holds(hosted, 1, hosted.record.birth.attempt.coordinator):
        turn.send(to.coordinator, Report(hosted.incarnation, 1, "ready", hosted.voters, hosted.leader))


UNSTARTED = ("port_taken", "binary_missing", "data_missing")
"""Ends of a start that cannot have joined anything: it has not bound its ports, or had no Raft state to begin with."""


def report_failed(turn: Turn, hosted: Hosted, cause: str, detail: str) -> None:
    """As a chosen member whose start failed: tell the coordinator why, and see to the birth's end. Nobody else may drop it: others
    may have finished it, unless this member was never a voter, or a majority has never seen all of them."""
    complain(hosted, "instance-failed", f"{cause}: {detail}")
    if cause == "data_missing":
        hosted.complete = hosted.joined = False  # what never had data was never ready
    hosted.joined = hosted.joined or cause not in UNSTARTED
    turn.send(
        hosted.attempt.coordinator,
        Report(hosted.incarnation, 1, "failed", cause=cause, detail=detail[: limits.DETAIL]),
    )
    if hosted.complete:
        process.again_later(turn, hosted)
    elif coordination.rank(turn, hosted) == 0:
        coordination.seek(turn, hosted, "create")
    else:
        turn.after("takeover", hosted.incarnation, coordination.rank(turn, hosted) * limits.ACTIVATE_PATIENCE)


def settle_pending(turn: Turn, hosted: Hosted) -> None:
    pending = asking.end_wait(turn, hosted.internal)
    if pending is not None:
        hosted.waiters += pending.waiters


def on_failed(turn: Turn, sender: Peer, message: CreateFailed) -> None:
    """Release what was offered, tell the clients (F1, F2)."""
    del sender
    internal = DatabaseName.internal_of(message.app, message.name)
    for lease in [one for one in turn.state.leases.values() if one.internal == internal]:
        if lease.attempt <= message.attempt:
            _end_lease(turn, lease, "the creation failed")
    pending = turn.state.pending.get(internal)
    if pending is not None and pending.attempt <= Attempt(message.attempt.n, pending.attempt.coordinator):
        asking.end_wait(turn, internal)
        for request in pending.waiters:
            turn.answer(request, message.problem, message.detail)  # type: ignore[arg-type]


def on_dropped(turn: Turn, sender: Peer, message: Dropped) -> None:
    """This incarnation is no more: seen, and absent from now on (P20)."""
    del sender
    directory.drop(turn, message.incarnation)
    hosted = turn.state.hosted.get(message.incarnation)
    if hosted is not None:
        turn.decide("database dropped", hosted, hosted.error or "its birth came to nothing", "P12")
        fire(turn, hosted, "drop")
