"""The directory: every living incarnation's record, and the context of all that were ever seen. The laws kept here are F20
(merging is a join), P15 (of two databases of one name facts of birth choose one), F26 and F31 (*seen but absent means dropped*: nothing brings a dropped incarnation back)."""

from __future__ import annotations

from protocol import digest
from protocol.ids import dot_of
from protocol.records import Record, by_birth, join, quarantined
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
    _keep(turn, merged)
    _part(turn, merged.birth.internal)
    return state.records[incarnation]


def _keep(turn: Turn, record: Record) -> None:
    state, incarnation = turn.state, record.incarnation
    state.records[incarnation] = record
    digest.replace(state, incarnation, turn.write(f"record/{incarnation}", record))
    hosted = state.hosted.get(incarnation)
    if hosted is not None:
        hosted.record = record


def _part(turn: Turn, internal: str) -> None:
    """A name with two databases that were both acknowledged: all but one are quarantined, the same on every node and in any order (P15). One
    that is not acknowledged holds nothing yet: its birth comes to its own end."""
    born = [record for record in turn.state.living(internal) if record.phase != "creating"]
    if len(born) < 2:
        return
    chosen = max(born, key=by_birth)
    for record in born:
        if record is not chosen and record.phase != "quarantined":
            because = (
                f"{record.incarnation} and {chosen.incarnation} are both {internal}; the second is, by facts of birth"
            )
            turn.decide("conflict", None, because, "P15", database=internal, quarantined=record.incarnation)
            _keep(turn, quarantined(record))
            turn.learn(turn.state.records[record.incarnation])


def chosen(state: State, internal: str) -> Record | None:
    """The record that stands for a name: of those that are not quarantined the one of the latest birth, since an older one is only not
    dropped here yet. None where there is none but quarantined ones."""
    free = [record for record in state.living(internal) if record.phase != "quarantined"]
    return max(free, key=by_birth, default=None)


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
