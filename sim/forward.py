"""What one rqlited of a group asks of another: a request that only the leader can answer, and to be taken in. The law kept here
is F86: who waited for a leader that is no more is told that nothing is known of a write, never that it failed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sim import timings
from sim.streams import between

if TYPE_CHECKING:
    from sim.rqlite import Rqlited

_READ: Final = timings.WEAK_READ


def pass_on(member: Rqlited, number: int, ordered: bool, lasts: int, value: int) -> None:
    """Request ``number`` of ``member`` to the leader, whoever that is; through the log when ``ordered``, a write of ``value``
    unless that is 0. A statement takes ``lasts`` µs."""
    group = member.group
    leader = group.leader_of(member) if group is not None else None
    if group is None or leader is None or (value and leader.host.disk.full):
        member.answer_after(_READ, number, "error")
        return
    if value:
        group.tail.append(value)
    chance, schedule = member.host.chance, member.host.schedule
    way = 0 if leader is member else 2 * between(chance, timings.HOP)
    if ordered:
        leader.in_order(lasts + way, _passed_on, member, number, group.term, True, value)
    else:
        schedule.after((lasts or between(chance, _READ)) + way, _passed_on, member, number, group.term, False, 0)


def _passed_on(member: Rqlited, number: int, term: int, ordered: bool, value: int) -> None:
    group = member.group
    assert group is not None
    leader = group.leader
    heard: list[Rqlited] = []
    unknown = "reset" if value else "error"
    if leader is None or group.term != term:
        member.answer_later(number, unknown)
    elif leader.paused or (ordered and not (heard := group.quorum(leader))):
        # It keeps what it was asked until it goes on, or is no leader any more.
        member.host.schedule.after(timings.RAFT_RETRY, _passed_on, member, number, term, ordered, value)
    else:
        if value:
            group.commit(value, heard)
        elif ordered:
            group.strong()
        if group.groups.linked(member.host, leader.host):
            rows = leader.directory.values
            member.answer_later(number, "ok", rows, len(rows))
        else:
            member.answer_later(number, unknown)


def join(joiner: Rqlited, attempt: int) -> None:
    """-join: ask each of the addresses until a leader takes us in. Running out of attempts is fatal."""
    groups, start = joiner.host.groups, joiner.start
    for address in start.join:
        peer = groups.bound.get(address)
        if peer is None or peer.group is None or peer.paused or peer.start.incarnation != start.incarnation:
            continue
        there = groups.linked(joiner.host, peer.host) and peer.group.leader_of(peer) is not None
        if there and peer.group.admit(joiner):
            return
    if attempt == timings.JOIN_ATTEMPTS:
        joiner.end(1, "crashed", "it could not join")
    else:
        joiner.after(timings.JOIN_INTERVAL, join, joiner, attempt + 1)
