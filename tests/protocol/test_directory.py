"""Records join, contexts cover exactly what was seen, dropped stays dropped: P5, P14, P20, F20, F21, F26, F31, F32."""

from __future__ import annotations

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from protocol import directory, effects
from protocol.chart import TABLE
from protocol.clocks import Context
from protocol.ids import Dot
from protocol.records import Attempt, Birth, Member, Record, Seal, Stamp, Version, join
from protocol.state import Config, State
from protocol.turn import Turn

BIRTH = Birth("aa-1-bb", "myapp", "users", 1, "p1", (Member("p1", "127.0.0.1", 7001),), Attempt(1, "p1"))


@st.composite
def records(draw: st.DrawFn) -> Record:
    """One writer per epoch (P5): the facts are a function of the version, as the members are of their stamp."""
    version = Version(0, draw(st.integers(1, 4)), draw(st.integers(0, 2)), draw(st.sampled_from(["aa", "bb"])))
    stamp = Stamp(0, draw(st.integers(0, 2)), draw(st.integers(0, 2)))
    phase = "active" if version.sequence % 2 else "hibernating"
    members = (Member("p1", "127.0.0.1", 7000 + 10 * stamp.term + stamp.commit),)
    return Record(BIRTH, version, phase, members, stamp, Seal(version.epoch, 1) if phase == "hibernating" else None)


@given(records(), records(), records())
def test_F20_merging_is_a_join(a: Record, b: Record, c: Record) -> None:
    assert join(a, b) == join(b, a)
    assert join(a, join(b, c)) == join(join(a, b), c)
    assert join(a, a) == a
    assert join(a, b).version >= a.version
    assert join(a, b).stamp >= a.stamp


def test_P5_a_record_only_moves_forward() -> None:
    record = Record(BIRTH, Version(0, 2, 0, "aa"), "active", BIRTH.members, Stamp(0, 0, 0))
    with pytest.raises(AssertionError):
        record.at(Version(0, 1, 9, "zz"), "hibernating")


DOTS = st.lists(st.builds(Dot, st.sampled_from(["aa", "bb"]), st.integers(1, 12)), max_size=30)


@given(DOTS)
def test_P20_a_context_covers_exactly_what_was_seen(dots: list[Dot]) -> None:
    context = Context()
    for dot in dots:
        context.add(dot)
    everything = [Dot(store, n) for store in ("aa", "bb") for n in range(1, 14)]
    assert {dot for dot in everything if dot in context} == set(dots)
    again = Context()
    for row in context.rows():
        again.load(row)
    assert list(again.rows()) == list(context.rows())
    assert {dot for dot in everything if dot in again} == set(dots)


def turn() -> Turn:
    return Turn(State(Config("p1")), TABLE, 0)


def test_F26_F31_what_was_dropped_never_comes_back() -> None:
    here = turn()
    record = Record(BIRTH, Version(0, 1, 0, "aa"), "active", BIRTH.members, Stamp(0, 0, 0))
    assert directory.merge(here, record) == record
    assert directory.drop(here, BIRTH.incarnation) == record
    later = evolve(record, version=Version(0, 99, 0, "zz"))
    assert directory.merge(here, later) is None
    assert here.state.living("myapp_users") == []


def test_F32_two_nonces_on_one_dot_are_two_incarnations() -> None:
    here = turn()
    clone = evolve(BIRTH, incarnation="aa-1-cc")
    record = Record(BIRTH, Version(0, 1, 0, "aa"), "active", BIRTH.members, Stamp(0, 0, 0))
    directory.merge(here, record)
    with pytest.raises(AssertionError):
        join(record, evolve(record, birth=clone))


def test_F20_repetition_writes_nothing() -> None:
    here = turn()
    record = Record(BIRTH, Version(0, 1, 0, "aa"), "active", BIRTH.members, Stamp(0, 0, 0))
    directory.merge(here, record)
    writes = len(here.writes)
    directory.merge(here, record)
    assert len(here.writes) == writes
    assert {write.key for write in here.writes} == {"seen/aa", f"record/{BIRTH.incarnation}"}
    assert all(isinstance(write, effects.Write) for write in here.writes)
