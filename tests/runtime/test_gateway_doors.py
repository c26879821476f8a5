"""Doors: what the node's vote for sleep rests on (P30). Plain objects, no process, no clock."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from runtime.gateway.doors import REPORT_S, Doors, Passage
from runtime.gateway.frames import Door, DoorAck, Used

LEASE_S = 5.0


class Station:
    """Doors of one worker, with a clock that a test moves and a list of what the node was told."""

    def __init__(self) -> None:
        self.now = 100.0
        self.sent: list[DoorAck | Used] = []
        self.doors = Doors(7, LEASE_S, self.sent.append, lambda: self.now)

    def tell(self, generation: int, *, is_open: bool, incarnation: str = "i1", name: str = "users") -> bool:
        url = f"http://127.0.0.1:{5000 + generation}"
        return self.doors.tell(Door(incarnation, "app", name, generation, is_open, url))

    def enter(self, name: str = "users") -> Passage | None:
        return self.doors.enter("app", name)

    @property
    def acks(self) -> list[tuple[int, int]]:
        return [(f.generation, f.in_flight) for f in self.sent if isinstance(f, DoorAck)]

    @property
    def used(self) -> list[tuple[int, int]]:
        return [(f.count, f.in_flight) for f in self.sent if isinstance(f, Used)]


def test_P30_nothing_enters_before_the_node_opened_a_door() -> None:
    s = Station()
    assert s.enter() is None
    s.tell(1, is_open=False)
    assert s.enter() is None
    assert s.acks == [(1, 0)]


def test_F41_a_closed_door_is_acknowledged_at_once_and_again_when_the_last_query_has_ended() -> None:
    s = Station()
    s.tell(1, is_open=True)
    first, second = s.enter(), s.enter()
    assert first is not None
    assert second is not None
    s.tell(2, is_open=False)
    assert s.acks[-1] == (2, 2)
    assert s.enter() is None
    s.doors.leave(first)
    assert s.acks[-1] == (2, 2), "one is still in flight"
    s.doors.leave(second)
    assert s.acks[-1] == (2, 0)


def test_F41_a_reopened_door_serves_at_its_new_address_and_old_queries_stay_counted() -> None:
    s = Station()
    s.tell(1, is_open=True)
    old = s.enter()
    assert old is not None
    s.tell(2, is_open=False)
    s.tell(3, is_open=True)
    new = s.enter()
    assert new is not None
    assert (old.url, new.url) == ("http://127.0.0.1:5001", "http://127.0.0.1:5003")
    s.tell(4, is_open=False)
    assert s.acks[-1] == (4, 2), "a query let in by generation 1 still runs: the vote waits for it too"
    s.doors.leave(new)
    assert s.acks[-1] == (4, 2)
    s.doors.leave(old)
    assert s.acks[-1] == (4, 0)


def test_P30_an_overtaken_door_changes_nothing_and_is_not_acknowledged() -> None:
    s = Station()
    s.tell(5, is_open=False)
    assert not s.tell(4, is_open=True)
    assert s.enter() is None
    assert s.acks == [(5, 0)]
    s.tell(5, is_open=False)
    assert s.acks == [(5, 0), (5, 0)], "the same generation again is a repetition: acknowledged again"


def test_P30_a_query_of_a_forgotten_database_is_counted_when_it_returns() -> None:
    s = Station()
    s.tell(1, is_open=True)
    passage = s.enter()
    assert passage is not None
    s.doors.forget("i1")
    assert s.enter() is None
    s.tell(2, is_open=False)
    assert s.acks[-1] == (2, 1)
    s.doors.leave(passage)
    assert s.acks[-1] == (2, 0)


def test_F10_a_new_incarnation_takes_the_name_and_the_old_one_closes_without_it() -> None:
    s = Station()
    s.tell(1, is_open=True, incarnation="old")
    s.tell(1, is_open=True, incarnation="new")
    s.tell(2, is_open=False, incarnation="old")
    passage = s.enter()
    assert passage is not None
    assert passage.incarnation == "new"
    s.doors.forget("old")
    assert s.enter() is not None


def test_P30_without_a_lease_nothing_enters_even_before_the_channel_is_read() -> None:
    s = Station()
    s.tell(1, is_open=True)
    s.now += LEASE_S - 0.1
    assert s.enter() is not None
    s.now += 0.2
    assert not s.doors.serving
    assert s.enter() is None
    s.doors.renew()
    assert s.enter() is not None
    s.doors.shut()
    assert s.enter() is None


def test_R41_use_is_told_at_once_after_quiet_then_at_most_once_a_second() -> None:
    s = Station()
    s.tell(1, is_open=True)
    for _ in range(3):
        passage = s.enter()
        assert passage is not None
        s.doors.leave(passage)
        s.doors.report()
    assert s.used == [(1, 1)]
    s.now += REPORT_S
    s.doors.report()
    assert s.used == [(1, 1), (2, 0)]
    s.now += 10
    s.doors.report()
    assert len(s.used) == 2, "a quiet database costs no frame"


def test_F40_the_end_of_a_long_query_is_told_too() -> None:
    s = Station()
    s.tell(1, is_open=True)
    passage = s.enter()
    assert passage is not None
    s.now += 60
    s.doors.report()
    assert s.used == [(1, 1)]
    s.doors.leave(passage)
    s.doors.report()
    assert s.used == [(1, 1), (0, 0)]


def test_F40_use_is_told_before_the_acknowledgement_that_could_put_the_database_to_sleep() -> None:
    s = Station()
    s.tell(1, is_open=True)
    assert s.enter() is not None
    s.tell(2, is_open=False)
    assert [type(f) for f in s.sent] == [DoorAck, Used, DoorAck]


def test_P30_a_passage_given_back_twice_is_a_bug_that_shows() -> None:
    s = Station()
    s.tell(1, is_open=True)
    passage = s.enter()
    assert passage is not None
    s.doors.leave(passage)
    with pytest.raises(AssertionError):
        s.doors.leave(passage)


class AnyInterleaving(RuleBasedStateMachine):
    """Whatever the order of queries, ends, doors (overtaken ones too), forgetting and leases: an acknowledgement that enables a
    vote (closed, nothing in flight, the newest generation) is true when it is given, and stays true for that generation."""

    passages = Bundle("passages")

    def __init__(self) -> None:
        super().__init__()
        self.station = Station()
        self.flying: dict[str, int] = {}
        self.newest: dict[str, tuple[int, bool]] = {}
        self.seen = 0

    @rule(
        incarnation=st.sampled_from(["a", "b"]),
        generation=st.integers(1, 6),
        is_open=st.booleans(),
    )
    def door(self, incarnation: str, generation: int, is_open: bool) -> None:
        known = self.newest.get(incarnation)
        if known is not None and generation == known[0]:
            is_open = known[1]  # the engine never gives one generation two meanings
        if known is None or generation >= known[0]:
            self.newest[incarnation] = (generation, is_open)
        self.station.tell(generation, is_open=is_open, incarnation=incarnation, name="users")

    @rule(incarnation=st.sampled_from(["a", "b"]))
    def forget(self, incarnation: str) -> None:
        self.newest.pop(incarnation, None)
        self.station.doors.forget(incarnation)

    @rule(target=passages)
    def query(self) -> Passage | None:
        passage = self.station.enter()
        if passage is not None:
            assert self.newest[passage.incarnation][1], "it entered by a closed or forgotten door"
            self.flying[passage.incarnation] = self.flying.get(passage.incarnation, 0) + 1
        return passage

    @rule(passage=consumes(passages))
    def end(self, passage: Passage | None) -> None:
        if passage is not None:
            self.flying[passage.incarnation] -= 1
            self.station.doors.leave(passage)

    @rule(seconds=st.sampled_from([0.3, 1.0, 6.0]))
    def time_passes(self, seconds: float) -> None:
        self.station.now += seconds
        self.station.doors.report()

    @rule()
    def lease(self) -> None:
        self.station.doors.renew()

    @invariant()
    def every_acknowledgement_was_true(self) -> None:
        for frame in self.station.sent[self.seen :]:
            if isinstance(frame, DoorAck):
                generation, _is_open = self.newest[frame.incarnation]
                assert frame.generation == generation, "only the newest generation speaks"
                assert frame.in_flight == self.flying.get(frame.incarnation, 0)
        self.seen = len(self.station.sent)
        assert self.station.doors.in_flight == sum(self.flying.values())

    @invariant()
    def an_enabled_vote_stays_enabled(self) -> None:
        last: dict[str, DoorAck] = {}
        for frame in self.station.sent:
            if isinstance(frame, DoorAck):
                last[frame.incarnation] = frame
        for incarnation, ack in last.items():
            if self.newest.get(incarnation) == (ack.generation, False) and ack.in_flight == 0:
                assert self.flying.get(incarnation, 0) == 0, "a query passed after the vote was enabled"


AnyInterleaving.TestCase.settings = settings(max_examples=200, stateful_step_count=30, deadline=None)
TestAnyInterleaving = AnyInterleaving.TestCase  # P30, F41, F56


@given(st.lists(st.booleans(), max_size=40))
def test_F56_a_worker_that_has_not_read_close_has_not_acknowledged_it(reads: list[bool]) -> None:
    """The channel holds "close" while queries go on: until it is read, no acknowledgement of it exists."""
    s = Station()
    s.tell(1, is_open=True)
    for read in reads:
        if read:
            s.tell(2, is_open=False)
            break
        assert s.enter() is not None
        assert all(generation != 2 for generation, _ in s.acks)
