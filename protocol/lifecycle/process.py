"""This node's rqlited of one database: bringing it up and taking it down. The laws kept here are P41 (a start spends an
epoch, durably, and follows the observed exit of its predecessor), P34 (it follows the end of every reader of the sealed copy, too), P42
(a changed address belongs to a promised epoch, and changes on a minority of the members only), P6 (a majority of them has stored it before
it counts) and P54 (what never had Raft state does not start by itself: the runtime checks the marker on ``restart``)."""

from __future__ import annotations

from attrs import evolve

from protocol import coordination, limits, promises
from protocol.effects import Mode, Probe, ReleasePorts, ReservePorts, Start, Terminate, Trash
from protocol.ids import Peer
from protocol.lifecycle import sealed
from protocol.messages import MembersStored, RecordNews, StoreMembers
from protocol.records import Member, Phase, Record, Seal, Stamp
from protocol.rounds import MembersRound
from protocol.rows import Instance, Moved
from protocol.state import Hosted, ProbeFor, PromiseRound
from protocol.suspicion import majority
from protocol.turn import Turn

TIMERS = (
    *(
        "backoff",
        "idle",
        "wake",
        "quorum",
        "drain",
        "votes",
        "stops",
        "reach",
        "doubt",
        "promise",
        "members",
        "reprobe",
    ),
    *("takeover", "activate"),
)
"""All that a database can wait for here."""


def _own(turn: Turn, hosted: Hosted) -> Member:
    """This node as a member: it hosts nothing of which it is none."""
    member = hosted.record.member(turn.me)
    assert member is not None
    return member


def begin(turn: Turn, hosted: Hosted) -> None:
    """Start again on the data that is there: first the ports, the old ones if they can be had (R43, R47)."""
    assert hosted.process == "none", hosted.process
    sealed.revoke(turn, hosted)  # now, so that the ports are looked for meanwhile
    turn.state.turn_to(hosted, process="reserving")
    if hosted.state == "creating":  # nobody waits for it any more, who would end a start that hangs
        turn.after("wake", hosted.incarnation, turn.state.config.wake_deadline)
    reserve(turn, hosted)


def reserve(turn: Turn, hosted: Hosted) -> None:
    """Ports of a start, first those that its record and its last start name."""
    turn.state.reserves += 1
    hosted.reserving = turn.state.reserves
    raft = hosted.moved_from if hosted.back else _own(turn, hosted).raft
    turn.act(ReservePorts(hosted.ticket, hosted.http, raft, hosted.reserving))


def spend_and_begin(turn: Turn, hosted: Hosted) -> None:
    """A wake spends the epoch after the sleep that it ends, once; any other start spends one of its own (P3, P41)."""
    asleep = hosted.stopping or hosted.record.phase == "hibernating"
    promises.spend(turn, hosted, (hosted.sleep_epoch if asleep else hosted.promise.epoch) + 1)
    begin(turn, hosted)


def on_ports(turn: Turn, hosted: Hosted, http: int, raft: int) -> None:
    """The ports of a restart are there. On an unchanged Raft address Raft makes the start safe; a changed one waits for a
    promised epoch (P42)."""
    if hosted.process != "reserving":  # it was told to stay down while they were looked for
        free_port(turn, hosted)
        return
    member = _own(turn, hosted)
    changed = (http, raft) != (hosted.http, hosted.raft)
    hosted.http, hosted.raft = http, raft
    if member.raft == raft and not hosted.moved_from:
        if changed:
            write_ports(turn, hosted)
        launch(turn, hosted, "restart")
    elif len(hosted.record.members) == 2:
        try_again(turn, hosted, f"its Raft port {member.raft} is taken, and one of two members cannot get another")
    elif _unborn(hosted):
        # Who may never have been a voter moves nowhere: the record of its move would say that the birth was finished (P13).
        try_again(turn, hosted, f"its Raft port {member.raft} is taken, and the database is not born yet")
    else:
        because = f"its Raft port {member.raft} is taken by another process, or was given up"
        if hosted.moved_from:
            because = "its group may not know yet where it is"
        if hosted.moved_from == raft:
            because = "back to where its group knew it: the others are no quorum that could be told of another"
        turn.decide("port replaced", hosted, because, "P42", raft_port=raft)
        coordination.seek(turn, hosted, "address")


def remember_move(turn: Turn, hosted: Hosted, before: Record) -> None:
    """News that this member is elsewhere, of which it knows nothing: its store went back since it moved (P62), and whether its group was
    told, it cannot know (P42)."""
    was, own = before.member(turn.me), hosted.record.member(turn.me)
    if was is None or own is None or was.raft == own.raft or hosted.moved_from or len(hosted.record.members) == 1:
        return
    hosted.moved_from = was.raft
    turn.write(f"moved/{hosted.incarnation}", Moved(hosted.incarnation, was.raft))


def _unborn(hosted: Hosted) -> bool:
    return hosted.record.phase == "creating" and len(hosted.record.members) > 1


def write_ports(turn: Turn, hosted: Hosted) -> None:
    """Which ports are its own over a restart of the node; a Raft port of 0 was given up."""
    ports = Instance(hosted.incarnation, hosted.internal, hosted.http, hosted.raft)
    turn.write(f"instance/{hosted.incarnation}", ports)


def start_elsewhere(turn: Turn, hosted: Hosted, asked: PromiseRound) -> None:
    """The epoch for a new address is promised. The only voter records it, and is told it by ``peers.json``. One of several moves
    only while the others are a quorum without it, since it is Raft that has to tell them: never two at a time, so that addresses
    change on a minority (P42); and only once a majority of the members has stored it (P6). Where they are none, it goes back to where
    they knew it: nobody has to be told that, and without it they may be no quorum ever again."""
    if hosted.process != "reserving":
        return
    count = len(hosted.record.members)
    back, hosted.back = hosted.raft == hosted.moved_from, False
    if count > 1 and (back or not hosted.moved_from):
        hosted.moved_from = _own(turn, hosted).raft
        turn.write(f"moved/{hosted.incarnation}", Moved(hosted.incarnation, hosted.moved_from))
    phase: Phase = "active" if count > 1 else hosted.record.phase
    seal: Seal | None = None if count > 1 else hosted.record.seal
    record = promises.next_record(turn, hosted, asked.epoch, phase, seal)
    assert record is not None
    moved = evolve(_own(turn, hosted), raft=hosted.raft)
    members = tuple(moved if one.peer == turn.me else one for one in hosted.record.members)
    stamp = Stamp(record.stamp.generation, record.stamp.term, record.stamp.commit + 1)
    hosted.moving = MembersRound(evolve(record, members=members, stamp=stamp), back)
    turn.after("members", hosted.incarnation, limits.PROMISE_WINDOW)
    for peer in hosted.record.peers:
        turn.send(peer, StoreMembers(hosted.moving.record))


def on_members_stored(turn: Turn, sender: Peer, message: MembersStored) -> None:
    """With the new address stored by a majority of the members, start there (P6)."""
    hosted = turn.state.hosted.get(message.incarnation)
    if hosted is None or hosted.moving is None or hosted.moving.record.version.epoch != message.epoch:
        return
    moving = hosted.moving
    if hosted.record.member(sender) is None:
        return
    if message.stored:
        moving.stored.add(sender)
    if len(moving.stored) < majority(len(moving.record.members)) or hosted.process != "reserving":
        return
    _end_moving(turn, hosted)
    turn.broadcast(RecordNews(moving.record))
    write_ports(turn, hosted)
    if len(moving.record.members) == 1:
        (only,) = moving.record.members
        launch(turn, hosted, "restart", peers=((only.node_id(hosted.incarnation), only.address),))
        return
    if moving.back:
        launch(turn, hosted, "restart")
        return
    others = tuple(member.address for member in moving.record.members if member.peer != turn.me)
    launch(turn, hosted, "restart", join=others)


def on_members_deadline(turn: Turn, incarnation: str) -> None:
    hosted = turn.state.hosted.get(incarnation)
    if hosted is not None and hosted.moving is not None:
        try_again(turn, hosted, "no majority of its members stored the new Raft address in time")


def on_address_lost(turn: Turn, hosted: Hosted) -> None:
    if hosted.process != "reserving":
        return
    if hosted.moved_from:
        _turn_back(hosted)
        because = "the others are no quorum that could be told where it is"
    else:
        port = _own(turn, hosted).raft
        because = f"its Raft port {port} is taken, and the others are no quorum that could be told another"
    try_again(turn, hosted, because)


def _turn_back(hosted: Hosted) -> None:
    """Whether its group knows where it went, it cannot know: it tries both by turns. The others tell no difference from a late start."""
    hosted.back = not hosted.back


def _end_moving(turn: Turn, hosted: Hosted) -> None:
    hosted.moving = None
    turn.cancel("members", hosted.incarnation)


def try_again(turn: Turn, hosted: Hosted, because: str) -> None:
    """It cannot start on these ports: later, from the old ones on."""
    _end_moving(turn, hosted)
    turn.state.turn_to(hosted, process="none")
    hosted.failures += 1
    hosted.problem, hosted.error = "instance-failed", because[: limits.DETAIL]
    turn.decide("start put off", hosted, because, "P42", attempt=hosted.failures)
    again_later(turn, hosted)


def settled(turn: Turn, hosted: Hosted) -> None:
    """A strong read has passed: its group knows it where it is."""
    hosted.back = False
    if hosted.moved_from:
        hosted.moved_from = 0
        turn.erase(f"moved/{hosted.incarnation}")


def launch(
    turn: Turn,
    hosted: Hosted,
    mode: Mode,
    join: tuple[str, ...] = (),
    peers: tuple[tuple[str, str], ...] | None = None,
) -> None:
    turn.state.runs += 1
    hosted.run = turn.state.runs
    turn.state.turn_to(hosted, process="starting")
    node_id = _own(turn, hosted).node_id(hosted.incarnation)
    birth = hosted.record.birth
    sources = tuple(
        sorted((peer for peer in hosted.record.peers if peer != turn.me), key=lambda peer: peer != birth.founder)
    )
    ports = hosted.http, hosted.raft
    hosted.held = Start(birth.internal, birth.incarnation, hosted.run, mode, node_id, *ports, join, peers, sources)
    if not sealed.revoked(hosted):
        turn.decide("start waits", hosted, "the sealed copy may still be read", "P34", readers=len(hosted.readers.told))
    go_on(turn, hosted)


def go_on(turn: Turn, hosted: Hosted) -> None:
    """Start, unless somebody may still read what the start will overwrite (P34): this is called again when a worker is done."""
    start = hosted.held
    if start is not None and sealed.revoked(hosted):
        hosted.held = None
        turn.act(start)


def probe(turn: Turn, hosted: Hosted, purpose: ProbeFor) -> None:
    """Ask the running rqlited. What is to be current is read strongly; counters and indexes are not a read at all."""
    turn.state.probes += 1
    hosted.probe = (turn.state.probes, purpose)
    turn.act(Probe(hosted.incarnation, hosted.run, turn.state.probes, strong=purpose not in ("idle", "vote", "reach")))


def stop(turn: Turn, hosted: Hosted) -> None:
    """SIGTERM, and SIGKILL after the stop timeout, whatever the process is doing."""
    if hosted.held is not None:
        hosted.held = None
        turn.state.turn_to(hosted, process="none")
    elif hosted.process in ("starting", "ready", "snapshotting"):
        turn.state.turn_to(hosted, process="stopping")
        turn.act(Terminate(hosted.incarnation, hosted.run, turn.state.config.stop_timeout))
    elif hosted.process == "reserving":
        turn.state.turn_to(hosted, process="none")
        coordination.end(turn, hosted)
        _end_moving(turn, hosted)


def free_port(turn: Turn, hosted: Hosted) -> None:
    """Where nothing runs, or is about to run, others may have the HTTP port (R42); the Raft port stays the database's own."""
    if hosted.process == "none":
        turn.act(ReleasePorts(hosted.ticket, http=True, raft=False))


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
    sealed.revoke(turn, hosted)
    for kind in TIMERS:
        turn.cancel(kind, incarnation)
    turn.erase(f"promise/{incarnation}")
    turn.erase(f"instance/{incarnation}")
    if hosted.moved_from:
        turn.erase(f"moved/{incarnation}")
    if hosted.outcome is not None:
        turn.erase(f"outcome/{incarnation}")
    turn.act(ReleasePorts(hosted.ticket))
    del turn.state.by_ticket[hosted.ticket]
    turn.act(Trash(hosted.internal, incarnation))
    turn.state.unhost(incarnation)
