"""What several nodes break together. The laws kept here: P1 (nobody else acts under an epoch), P10 and F14 (a name has one birth), P12 (what was
acknowledged is not dropped as if it never was), P31 (no commit after a veto), P34 (a seal tells the truth about all copies). They need what
happened before, which no node need know any more; it is part of an explored world's state.
"""

from __future__ import annotations

from typing import NamedTuple

from sim.explore.group import AWAKE, NOTHING, Group
from sim.explore.laws import Event
from sim.laws import Violation


class Past(NamedTuple):
    """What laws must remember that no node need know any more."""

    operations: frozenset[tuple[str, int, int]] = frozenset()
    """(incarnation, epoch, node that acted in it)."""
    vetoes: frozenset[tuple[int, str, int]] = frozenset()
    chosen: frozenset[tuple[str, str]] = frozenset()
    """(name, incarnation): a majority of the known nodes had stored its birth."""
    acknowledged: frozenset[tuple[str, str]] = frozenset()
    dropped: frozenset[str] = frozenset()
    founded: frozenset[str] = frozenset()


def remembered(past: Past, node: int, peers: tuple[str, ...], event: Event, group: Group) -> Past:
    """The past with one event of ``node`` more. Raises Violation where it may not be."""
    me, incarnation, epoch = peers[node], event.incarnation, event.epoch
    match event.what:
        case "veto":
            past = past._replace(vetoes=past.vetoes | {(node, incarnation, epoch)})
        case "commit" | "wrote":
            if event.what == "commit" and (node, incarnation, epoch) in past.vetoes:
                raise Violation("P31", f"{me} commits the sleep of epoch {epoch} after a veto that it received")
            for one, when, who in sorted(past.operations):
                if (one, when) == (incarnation, epoch) and who != node:
                    raise Violation("P1", f"both {peers[who]} and {me} act under epoch {epoch}")
            past = past._replace(operations=past.operations | {(incarnation, epoch, node)})
        case "chosen" | "acknowledged":
            for name, other in sorted(past.chosen):
                if name == event.name and other != incarnation and other not in past.dropped:
                    made = f"{me} has a majority for {incarnation}"
                    if (name, other) in past.acknowledged:
                        raise Violation("F14", f"{made}, an empty database, and {other} of that name lives")
                    raise Violation("P10", f"{made}, and {other} of that name has had one before")
            past = past._replace(chosen=past.chosen | {(event.name, incarnation)})
            if event.what == "acknowledged":
                past = past._replace(acknowledged=past.acknowledged | {(event.name, incarnation)})
        case "dropped":
            if any(one == incarnation for _, one in past.acknowledged) and incarnation not in past.dropped:
                raise Violation("P12", f"{me} drops {incarnation}, which was acknowledged, as if it never was")
            past = past._replace(dropped=past.dropped | {incarnation})
        case "sealed":
            _sealed(group, peers, event)
    return past


def _sealed(group: Group, peers: tuple[str, ...], event: Event) -> None:
    """P34: at a seal all copies that still rest are equal, whole, and hold every acknowledged write."""
    rested = {peers[node]: group.rested[node] for node in sorted(group.voters)}
    for peer, index in rested.items():
        if index not in (AWAKE, event.applied):
            found = "is not whole without its WAL" if index == NOTHING else f"goes up to {index}"
            raise Violation("P34", f"epoch {event.epoch} is sealed at {event.applied}, and the copy of {peer} {found}")
    if AWAKE not in rested.values() and event.applied != group.log:
        raise Violation("P34", f"sealed at {event.applied}, and writes up to {group.log} were acknowledged")
