"""This node's rqlited of one database: bringing it up and taking it down. The laws kept here are P41 (a start spends an
epoch, durably, and follows the observed exit of its predecessor), P42 (a changed address belongs to a promised epoch)
and P54 (what never had Raft state does not start by itself: the runtime checks the marker on ``restart``)."""

from __future__ import annotations

from attrs import evolve

from protocol import coordination, limits, promises
from protocol.effects import Mode, Probe, ReleasePorts, ReservePorts, Start, Terminate, Trash
from protocol.messages import RecordNews
from protocol.records import Member, Stamp
from protocol.rows import Instance
from protocol.state import Hosted, ProbeFor
from protocol.turn import Turn


def _own(turn: Turn, hosted: Hosted) -> Member:
    """This node as a member: it hosts nothing of which it is none."""
    member = hosted.record.member(turn.me)
    assert member is not None
    return member


def begin(turn: Turn, hosted: Hosted) -> None:
    """Start again on the data that is there: first the ports, the old ones if they can be had (R43, R47)."""
    assert hosted.process == "none", hosted.process
    hosted.process = "reserving"
    turn.act(ReservePorts(hosted.ticket, hosted.http, hosted.raft))


def spend_and_begin(turn: Turn, hosted: Hosted) -> None:
    """A wake spends the epoch after the sleep that it ends, once; any other start spends one of its own (P3, P41)."""
    asleep = hosted.stopping or hosted.record.phase == "hibernating"
    promises.spend(turn, hosted, (hosted.sleep_epoch if asleep else hosted.promise.epoch) + 1)
    begin(turn, hosted)


def on_ports(turn: Turn, hosted: Hosted, http: int, raft: int) -> None:
    """The ports of a restart are there. On an unchanged Raft address Raft makes the start safe; a changed one waits for a
    promised epoch (P42)."""
    if hosted.process != "reserving":
        return
    if (http, raft) != (hosted.http, hosted.raft):
        hosted.http, hosted.raft = http, raft
        turn.write(f"instance/{hosted.incarnation}", Instance(hosted.incarnation, hosted.internal, http, raft))
    member = _own(turn, hosted)
    if member.raft == raft:
        launch(turn, hosted, "restart")
    else:
        because = f"its Raft port {member.raft} is taken by another process"
        turn.decide("port replaced", hosted, because, "P42", raft_port=raft)
        coordination.seek(turn, hosted, "address")


def start_elsewhere(turn: Turn, hosted: Hosted, epoch: int) -> None:
    """The epoch for a new address is promised: record it, then start under it. The only voter is told its new address by
    ``peers.json``; one of several is told to the others by Raft itself, with ``-join`` under the same node id (P42)."""
    if hosted.process != "reserving":
        return
    member = _own(turn, hosted)
    record = promises.next_record(turn, hosted, epoch, hosted.record.phase, hosted.record.seal)
    assert record is not None
    moved = evolve(member, raft=hosted.raft)
    members = tuple(moved if one is member else one for one in hosted.record.members)
    stamp = Stamp(record.stamp.generation, record.stamp.term, record.stamp.commit + 1)
    turn.broadcast(RecordNews(evolve(record, members=members, stamp=stamp)))
    others = tuple(one.address for one in members if one is not moved)
    alone = ((moved.node_id(hosted.incarnation), moved.address),) if not others else None
    launch(turn, hosted, "restart", join=others, peers=alone)


def launch(
    turn: Turn,
    hosted: Hosted,
    mode: Mode,
    join: tuple[str, ...] = (),
    peers: tuple[tuple[str, str], ...] | None = None,
) -> None:
    turn.state.runs += 1
    hosted.run = turn.state.runs
    hosted.process = "starting"
    node_id = _own(turn, hosted).node_id(hosted.incarnation)
    birth = hosted.record.birth
    sources = tuple(
        sorted((peer for peer in hosted.record.peers if peer != turn.me), key=lambda peer: peer != birth.founder)
    )
    ports = hosted.http, hosted.raft
    turn.act(Start(birth.internal, birth.incarnation, hosted.run, mode, node_id, *ports, join, peers, sources))


def probe(turn: Turn, hosted: Hosted, purpose: ProbeFor) -> None:
    """Ask the running rqlited. What is to be current is read strongly; counters are not a read at all."""
    turn.state.probes += 1
    hosted.probe = (turn.state.probes, purpose)
    turn.act(Probe(hosted.incarnation, hosted.run, turn.state.probes, strong=purpose not in ("idle", "vote")))


def stop(turn: Turn, hosted: Hosted) -> None:
    """SIGTERM, and SIGKILL after the stop timeout, whatever the process is doing."""
    if hosted.process in ("starting", "ready", "snapshotting"):
        hosted.process = "stopping"
        turn.act(Terminate(hosted.incarnation, hosted.run, turn.state.config.stop_timeout))
    elif hosted.process == "reserving":
        hosted.process = "none"
        coordination.end(turn, hosted)


def again_later(turn: Turn, hosted: Hosted) -> None:
    """Restart after a backoff that doubles with each failure (F60)."""
    delay = min(limits.RESTART_BACKOFF << min(hosted.failures, 16), limits.RESTART_BACKOFF_MAX)
    turn.after("backoff", hosted.incarnation, delay)


def on_backoff(turn: Turn, incarnation: str) -> None:
    hosted = turn.state.hosted.get(incarnation)
    if hosted is None or hosted.process != "none":
        return
    if hosted.state == "waking":
        spend_and_begin(turn, hosted)
    elif hosted.state == "creating":
        begin(turn, hosted)


def bury(turn: Turn, hosted: Hosted) -> None:
    """Nothing of a discarded database stays: rows, ports, directory. Only once its process is gone."""
    incarnation = hosted.incarnation
    for kind in ("backoff", "idle", "wake", "drain", "votes", "stops", "promise", "reprobe", "takeover", "activate"):
        turn.cancel(kind, incarnation)
    turn.erase(f"promise/{incarnation}")
    turn.erase(f"instance/{incarnation}")
    turn.act(ReleasePorts(hosted.ticket))
    del turn.state.by_ticket[hosted.ticket]
    turn.act(Trash(hosted.internal, incarnation))
    del turn.state.hosted[incarnation]
