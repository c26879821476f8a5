"""The directory: every living incarnation's record, and the context of all that were ever seen. The laws kept here are F20
(merging is a join), F26 and F31 (*seen but absent means dropped*: nothing brings a dropped incarnation back)."""

from __future__ import annotations

from protocol import digest
from protocol.ids import dot_of
from protocol.records import Record, join
from protocol.rows import NamePromise
from protocol.state import State
from protocol.turn import Turn


def dropped(state: State, incarnation: str) -> bool:
    """Seen, and absent: it was dropped, and nothing brings it back. A number that a cloned store used twice is seen for the
    incarnation that lives: it says nothing of the other one (P14, F32)."""
    dot = dot_of(incarnation)
    return dot in state.context and dot not in state.dots and incarnation not in state.records


def merge(turn: Turn, record: Record) -> Record | None:
    """Take in a record; the joined one, or None when the incarnation was dropped here before."""
    state = turn.state
    incarnation = record.incarnation
    known = state.records.get(incarnation)
    if known is None:
        if dropped(state, incarnation):
            return None
        turn.write_seen(state.context.add(record.birth.dot))
        state.dots.setdefault(record.birth.dot, []).append(incarnation)
        state.by_name.setdefault(record.birth.internal, []).append(incarnation)
        merged = record
    else:
        merged = join(known, record)
        if merged == known:
            return known
    state.records[incarnation] = merged
    digest.replace(state, incarnation, turn.write(f"record/{incarnation}", merged))
    hosted = state.hosted.get(incarnation)
    if hosted is not None:
        hosted.record = merged
    return merged


def drop(turn: Turn, incarnation: str) -> Record | None:
    """Forget a record, keep its dot: from now on it is seen and absent. Returns the record, or None when there was none."""
    state = turn.state
    turn.write_seen(state.context.add(dot_of(incarnation)))
    record = state.records.pop(incarnation, None)
    if record is None:
        return None
    digest.replace(state, incarnation, None)
    turn.erase(f"record/{incarnation}")
    state.dots[record.birth.dot].remove(incarnation)
    if not state.dots[record.birth.dot]:
        del state.dots[record.birth.dot]
    internal = record.birth.internal
    state.by_name[internal].remove(incarnation)
    if not state.by_name[internal]:
        del state.by_name[internal]
    held = state.names.get(internal)
    if held is not None and held.birth is not None and held.birth.incarnation == incarnation:
        state.names[internal] = NamePromise(internal, held.attempt)
        turn.write(f"name/{internal}", state.names[internal])
    return record
