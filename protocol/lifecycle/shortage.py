"""A node whose Raft range is full takes the port of a database that sleeps, longest first. The law kept here is P42: Raft ports are given up on a
minority of a database's members only, and never with one or two replicas.

The members have to agree which minority that is without asking each other, or each would take itself for it. So it is the last ones of the
record's own order: of three the third, of five the fourth and the fifth. An address changes in its place, so the order is that of the birth on
every node. Whoever puts another member in one's place has to put it into the same place.

A port that was lent has to come back, or its database would never be whole again. So a node that has given one up offers without room
from then on: it is chosen last, and only into the minority of a database that may give up its port again (:mod:`protocol.placement`). What holds
a port for good can become no more as long as anybody waits for one.

The record goes on to name the old address, and a wake tries for it first. Where another database has it by then, the member wakes on another port, as one
whose port was taken does: under a promised epoch, once the others are a quorum without it. Until it has joined again its old address leads
to strangers, who are shut out: each database has a TLS identity of its own.
"""

from __future__ import annotations

from protocol.effects import ReleasePorts
from protocol.ids import Peer
from protocol.lifecycle import process
from protocol.membership import majority
from protocol.records import Record
from protocol.state import Hosted
from protocol.turn import Turn


def may_give_up(record: Record, peer: Peer) -> bool:
    """Whether ``peer`` is of the minority of the members that may."""
    return peer in record.peers[majority(len(record.members)) :]


def is_short(turn: Turn) -> bool:
    """A database that sleeps here has no Raft port. Then whatever is offered has to be given up again some day."""
    return any(not hosted.raft and hosted.state == "hibernating" for hosted in turn.state.hosted.values())


def _sleeps(hosted: Hosted) -> bool:
    return hosted.state == hosted.record.phase == "hibernating" and hosted.process == "none" and not hosted.wanted


def make_room(turn: Turn) -> bool:
    """Free the Raft port of the database that sleeps longest of those that may lose theirs; False: there is none."""
    sleepers = [
        hosted
        for hosted in turn.state.hosted.values()
        if hosted.raft and _sleeps(hosted) and may_give_up(hosted.record, turn.me)
    ]
    if not sleepers:
        return False
    longest = min(sleepers, key=lambda hosted: (hosted.slept_at, hosted.incarnation))
    because = "no other is free in its range, and it sleeps longest of those that may lose theirs here"
    turn.decide("port given up", longest, because, "P42", raft_port=longest.raft)
    longest.raft = 0
    process.write_ports(turn, longest)
    turn.act(ReleasePorts(longest.ticket))
    return True
