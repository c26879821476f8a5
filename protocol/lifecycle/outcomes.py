"""Outcomes of effects, each brought to the phase that it concerns. The law kept here: an outcome names the run (or ticket, or
token) of its effect, and one of an older run changes nothing (F22, F45)."""

from __future__ import annotations

from protocol import limits
from protocol.effects import ReleasePorts, ReservePorts
from protocol.inputs import (
    InstanceExited,
    InstanceReady,
    PortsRefused,
    PortsReserved,
    Probed,
    SealedAck,
    Snapshotted,
)
from protocol.lifecycle import offers, process, serving, shortage, sleep, stopping, wake
from protocol.lifecycle.orders import Subject, complain, fire
from protocol.state import Hosted
from protocol.turn import Turn


def on_ports_reserved(turn: Turn, reserved: PortsReserved) -> None:
    lease = turn.state.leases.get(reserved.ticket)
    if lease is not None:
        offers.on_ports(turn, lease, reserved.http, reserved.raft)
        return
    hosted = turn.state.hosted.get(turn.state.by_ticket.get(reserved.ticket, ""))
    if hosted is None:
        turn.act(ReleasePorts(reserved.ticket))  # its lease ended while the ports were being looked for (F2)
    elif reserved.asked == hosted.reserving:
        process.on_ports(turn, hosted, reserved.http, reserved.raft)


def on_ports_refused(turn: Turn, refused: PortsRefused) -> None:
    lease = turn.state.leases.get(refused.ticket)
    if lease is not None:
        if refused.raft and shortage.make_room(turn):
            turn.act(ReservePorts(lease.ticket))
        else:
            offers.on_no_ports(turn, lease, refused.detail)
        return
    hosted = turn.state.hosted.get(turn.state.by_ticket.get(refused.ticket, ""))
    if hosted is not None and hosted.process == "reserving" and refused.asked == hosted.reserving:
        if refused.raft and shortage.make_room(turn):
            process.reserve(turn, hosted)
            return
        turn.state.turn_to(hosted, process="none")
        complain(hosted, "no-ports", refused.detail)
        if hosted.record.phase == "hibernating":
            wake.give_up(turn, hosted)
        else:
            hosted.failures += 1
            process.again_later(turn, hosted)


def _current(turn: Turn, outcome: InstanceReady | InstanceExited | Probed | Snapshotted) -> Hosted | None:
    hosted = turn.state.hosted.get(outcome.incarnation)
    return hosted if hosted is not None and hosted.run == outcome.run and hosted.process != "none" else None


def on_ready(turn: Turn, ready: InstanceReady) -> None:
    hosted = _current(turn, ready)
    if hosted is None or hosted.process != "starting":
        return
    turn.state.turn_to(hosted, process="ready")
    hosted.ready_at = turn.now
    hosted.voters, hosted.leader, hosted.counter = ready.voters, ready.leader, ready.counter
    hosted.lost = False
    process.settled(turn, hosted)
    because = "a strong read passed for the first time"
    turn.decide("instance started", hosted, because, http_port=hosted.http, raft_port=hosted.raft)
    if hosted.state == "waking":
        wake.on_ready(turn, hosted)
    elif hosted.state == "creating":
        _look_at_voters(turn, hosted)


def _look_at_voters(turn: Turn, hosted: Hosted) -> None:
    """P13: look until the Raft configuration equals the chosen voters, and report it. It only grows while a database is born: as long
    as it is another one, it has never been complete."""
    hosted.joined = True
    hosted.complete = Subject(turn, hosted).voters_match
    if hosted.complete:
        offers.report_ready(turn, hosted, hosted.attempt)
    else:
        turn.after("reprobe", hosted.incarnation, limits.REPROBE)


def on_reprobe(turn: Turn, incarnation: str) -> None:
    hosted = turn.state.hosted.get(incarnation)
    if hosted is not None and hosted.process == "ready" and hosted.state in ("creating", "waking"):
        process.probe(turn, hosted, "voters" if hosted.state == "creating" else "serve")


def on_probed(turn: Turn, probed: Probed) -> None:
    hosted = _current(turn, probed)
    if hosted is None or hosted.process != "ready" or hosted.probe[0] != probed.token:
        return
    if probed.ok:
        hosted.voters, hosted.leader = probed.voters, probed.leader
    match hosted.probe[1]:
        case "idle":
            if hosted.state in ("active", "idle") and not hosted.closing:
                sleep.on_idle_sample(turn, hosted, probed)
        case "vote":
            if hosted.closing:
                sleep.on_vote_sample(turn, hosted, probed)
        case "seal":
            sleep.on_seal_read(turn, hosted, probed)
        case "reach":
            sleep.on_reach_sample(turn, hosted, probed)
        case "voters" | "serve":
            if not probed.ok:
                turn.after("reprobe", hosted.incarnation, limits.REPROBE)
            elif hosted.state == "creating":
                _look_at_voters(turn, hosted)
            else:
                hosted.counter = probed.counter
                wake.on_ready(turn, hosted)


def on_snapshotted(turn: Turn, taken: Snapshotted) -> None:
    hosted = _current(turn, taken)
    if hosted is not None:
        stopping.on_snapshot(turn, hosted, taken)


def on_exited(turn: Turn, exited: InstanceExited) -> None:
    """A process is gone, asked to or not: what that means depends on what the database was doing (F60)."""
    hosted = _current(turn, exited)
    if hosted is None:
        return
    lived = turn.now - hosted.ready_at if hosted.process != "starting" else 0
    asked = hosted.process == "stopping"
    turn.state.turn_to(hosted, process="none")
    hosted.voters, hosted.leader = (), False
    hosted.lost = exited.cause == "data_missing"
    hosted.in_flight.clear()
    serving.look_elsewhere(turn, hosted)
    if hosted.discard:
        process.bury(turn, hosted)
        return
    match hosted.state:
        case "creating":
            offers.report_failed(turn, hosted, exited.cause, exited.detail)
        case "waking":
            wake.on_exit(turn, hosted, exited, asked)
        case "hibernating":
            stopping.on_exit(turn, hosted, exited)
        case "active" | "idle" | "replacing":
            _crashed(turn, hosted, exited, lived)
        case _:
            process.free_port(turn, hosted)


def on_sealed_ack(turn: Turn, ack: SealedAck) -> None:
    """A worker has no reader of the sealed copy any more: a start may have waited for that alone (P34)."""
    hosted = turn.state.hosted.get(ack.incarnation)
    if hosted is not None:
        hosted.readers.acknowledge(ack.worker, ack.generation, ack.in_flight)
        process.go_on(turn, hosted)


def _crashed(turn: Turn, hosted: Hosted, exited: InstanceExited, lived: int) -> None:
    """Restart at once; one that dies young again waits longer each time, as a start that fails does."""
    turn.decide("instance died", hosted, f"{exited.cause}: {exited.detail}", "F60", http_port=hosted.http)
    hosted.failures = hosted.failures + 1 if lived < limits.YOUNG else 1
    fire(turn, hosted, "exited")
