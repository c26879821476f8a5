"""The directory as a join: F20, F21, F25, F26, F31, P20, P21. Whatever nodes do to records, and however news and exchanges are lost, repeated and
reordered between them: once everything was exchanged, all directories are the one that the history says, whoever was asked first. Each natural
mistake in the merge is switched on below, and the same properties find it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import pytest
from attrs import define, evolve, field
from hypothesis import HealthCheck, Phase, find, given, settings
from hypothesis import strategies as st

from protocol import clocks, codec, digest, directory, gossip, limits
from protocol.ids import Dot, incarnation_id
from protocol.messages import Dropped, RecordNews, SyncPage, SyncRecords
from protocol.records import Attempt, Birth, Member, Record, Stamp, Version
from protocol.state import Config, State
from protocol.turn import Turn
from tests.protocol.three import PEERS, STORES, Three

NAMES = 6


@define
class Directories(Three):
    """Three nodes' directories, and all that was ever written into one of them."""

    births: int = 0
    facts: dict[str, list[Record]] = field(factory=dict)
    """Incarnation → every version that was ever written."""
    dropped: set[str] = field(factory=set)

    # What happens.

    def bear(self, peer: str, store: str, n: int) -> None:
        self.births += 1
        member = Member("elsewhere", "h", 7001)
        name = f"db{self.births}"
        birth = Birth(
            incarnation_id(Dot(store, n), f"{self.births}"), "a", name, 1, "elsewhere", (member,), Attempt(1, peer)
        )
        self.write(peer, Record(birth, Version(0, 1, 0, store), "active", (member,), Stamp(0, 0, 0)))

    def write(self, peer: str, record: Record) -> None:
        self.facts.setdefault(record.incarnation, []).append(record)
        self.turn(peer, lambda turn: turn.broadcast(RecordNews(record)))

    def update(self, peer: str, pick: int, members: bool) -> None:
        """A newer version, or newer members, by a writer of its own epoch (P5)."""
        held = sorted(self.states[peer].records)
        if not held:
            return
        record = self.states[peer].records[held[pick % len(held)]]
        epoch = max(one.version.epoch for one in self.facts[record.incarnation]) + 1
        if members:
            stamp = Stamp(0, max(one.stamp.term for one in self.facts[record.incarnation]) + 1, epoch)
            record = evolve(record, members=(Member("elsewhere", "h", 7000 + stamp.term),), stamp=stamp)
        phase = "active" if epoch % 2 else "hibernating"
        self.write(peer, record.at(Version(0, epoch, 0, STORES[peer]), phase))

    def drop(self, peer: str, pick: int) -> None:
        held = sorted(self.states[peer].records)
        if held:
            incarnation = held[pick % len(held)]
            self.dropped.add(incarnation)
            self.turn(peer, lambda turn: turn.broadcast(Dropped(incarnation)))

    # What must hold.

    def expected(self) -> dict[str, Record]:
        """The join of all that was ever written, less what was dropped: by the definition, not by the engine's own join."""
        joined: dict[str, Record] = {}
        for incarnation, written in self.facts.items():
            if incarnation not in self.dropped:
                latest = max(written, key=lambda record: record.version)
                stamped = max(written, key=lambda record: record.stamp)
                joined[incarnation] = evolve(latest, members=stamped.members, stamp=stamped.stamp)
        return joined

    def monotone(self, before: dict[str, dict[str, Record]], seen: dict[str, set[Dot]]) -> None:
        for peer, state in self.states.items():
            for incarnation, record in before[peer].items():
                now = state.records.get(incarnation)
                if now is None:
                    assert incarnation in self.dropped, "a record is lost that nobody dropped (P20)"
                else:
                    assert (now.version, now.stamp) >= (record.version, record.stamp) or (
                        now.version >= record.version and now.stamp >= record.stamp
                    ), "a record went back (F20)"
                    assert now.version >= record.version
                    assert now.stamp >= record.stamp
            assert all(dot in state.context for dot in seen[peer]), "a context forgot (P20)"
            gone = seen[peer] - {record.birth.dot for record in before[peer].values()}
            for record in state.records.values():
                assert record.birth.dot not in gone, "what was dropped came back (F26, F31)"


STEP = st.one_of(
    st.tuples(st.just("bear"), st.sampled_from(PEERS)),
    st.tuples(st.just("update"), st.sampled_from(PEERS), st.integers(0, NAMES), st.booleans()),
    st.tuples(st.just("drop"), st.sampled_from(PEERS), st.integers(0, NAMES)),
    st.tuples(st.just("ask"), st.sampled_from(PEERS), st.sampled_from(PEERS)),
    st.tuples(st.just("deliver"), st.integers(0, 60), st.booleans()),
    st.tuples(st.just("deliver"), st.integers(0, 60), st.just(False)),
    st.tuples(st.just("lose"), st.integers(0, 60)),
)
HISTORY = st.lists(STEP, max_size=40)


def happen(history: list[tuple[Any, ...]]) -> Directories:
    """Play it, looking at each step whether anything went back."""
    all_of = Directories()
    minted = dict.fromkeys(PEERS, 0)
    seen: dict[str, set[Dot]] = {peer: set() for peer in PEERS}
    for kind, *what in history:
        before = {peer: dict(state.records) for peer, state in all_of.states.items()}
        match kind:
            case "bear":
                minted[what[0]] += 1
                all_of.bear(what[0], STORES[what[0]], minted[what[0]])
            case "update":
                all_of.update(*what)
            case "drop":
                all_of.drop(*what)
            case "ask":
                if what[0] != what[1]:
                    all_of.ask(*what)
            case "deliver" if all_of.flying:
                at = what[0] % len(all_of.flying)
                message = all_of.flying[at] if what[1] else all_of.flying.pop(at)
                all_of.deliver(*message)
            case "lose" if all_of.flying:
                all_of.flying.pop(what[0] % len(all_of.flying))
            case _:
                pass
        all_of.monotone(before, seen)
        for peer, state in all_of.states.items():
            seen[peer] |= {record.birth.dot for record in state.records.values()}
    return all_of


def converges(history: list[tuple[Any, ...]]) -> None:
    """In the end all directories are the one that the history says, and their roots say so."""
    all_of = happen(history)
    all_of.exchange()
    for peer, state in all_of.states.items():
        expected = all_of.expected()
        known = {one for other in all_of.states.values() for one in other.records}
        assert set(state.records) == known, f"{peer} has another directory (F20)"
        for incarnation, record in state.records.items():
            assert incarnation not in all_of.dropped, "what was dropped is back (F26, F31)"
            assert record == expected[incarnation], f"{peer} merged otherwise than the history says (F20, F21)"
    assert len({digest.root(state) for state in all_of.states.values()}) == 1, "directories alike, roots not (P21)"
    for incarnation in all_of.expected():
        assert incarnation in all_of.states["p1"].records, "a record is lost that nobody dropped (P20)"


@given(HISTORY)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_F20_F21_F26_F31_P20_directories_converge_to_what_the_history_says(history: list[tuple[Any, ...]]) -> None:
    converges(history)


@given(HISTORY, st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_F20_the_order_and_the_number_of_news_change_nothing(history: list[tuple[Any, ...]], chance: Any) -> None:
    """Commutative, associative, idempotent: the same records and drops, told to fresh directories in two orders, some twice."""
    told: list[Any] = []
    source = happen(history)
    for written in source.facts.values():
        told += [RecordNews(record) for record in written]
    told += [Dropped(incarnation) for incarnation in source.dropped]
    roots: set[bytes] = set()
    contexts: set[tuple[Any, ...]] = set()
    for _ in range(3):
        fresh = Directories()
        order = [*told, *(one for one in told if chance.random() < 0.5)]
        chance.shuffle(order)
        for message in order:
            fresh.deliver("p2", "p1", message)
        roots.add(digest.root(fresh.states["p1"]))
        contexts.add(tuple(fresh.states["p1"].context.rows()))
    assert len(roots) == 1
    assert len(contexts) == 1


def test_P20_absence_in_a_list_drops_nothing_that_was_never_seen() -> None:
    all_of = Directories()
    all_of.bear("p1", "aa", 1)
    all_of.flying.clear()
    all_of.exchange()
    assert all(len(state.records) == 1 for state in all_of.states.values())


def test_P20_gaps_of_births_that_came_to_nothing_cost_one_run_each() -> None:
    context = clocks.Context()
    for n in range(1, 3001):
        if n % 1000:
            context.add(Dot("aa", n))
    (row,) = context.rows()
    assert (row.upto, row.beyond) == (999, (1001, 1999, 2001, 2999))


def test_F32_two_databases_on_one_number_of_a_cloned_store_both_live() -> None:
    all_of = Directories()
    all_of.bear("p1", "aa", 1)
    all_of.bear("p2", "aa", 1)
    all_of.exchange()
    assert all(len(state.records) == 2 for state in all_of.states.values())


def test_F25_the_tree_names_what_is_there_and_nothing_of_what_was() -> None:
    all_of = Directories()
    all_of.bear("p1", "aa", 1)
    all_of.bear("p1", "aa", 2)
    state = all_of.states["p1"]
    assert len(digest.leaves(state)) == 2 * (1 + digest.SIZE)
    for incarnation in tuple(state.records):
        digest.replace(state, incarnation, None)
    assert digest.leaves(state) == b""
    assert digest.root(state) == digest.root(State(Config("fresh")))


@given(st.binary(max_size=2 * limits.BUCKETS * (1 + digest.SIZE)))
def test_F82_leaves_that_no_tree_has_are_compared_all_the_same(theirs: bytes) -> None:
    all_of = Directories()
    all_of.bear("p1", "aa", 1)
    state = all_of.states["p1"]
    different = digest.differing(state, theirs)
    assert different == sorted(set(different) & set(range(limits.BUCKETS)))
    assert digest.differing(state, digest.leaves(state)) == []


def test_F25_a_day_away_costs_the_differences_only() -> None:
    """A thousand databases; while p3 was away ten changed, ten were born, ten dropped: counted in messages, and in bytes beside the tree's."""
    all_of = Directories()
    for n in range(1, 1001):
        all_of.bear("p1", "aa", n)
        for _sender, to, message in all_of.flying:
            all_of.deliver("p1", to, message)
        all_of.flying.clear()
    world = sum(len(codec.encode(RecordNews(one))) for one in all_of.states["p1"].records.values())
    for n in range(10):
        all_of.update("p1", 97 * n, members=False)
        all_of.drop("p1", 13 * n)
        all_of.bear("p1", "aa", 1001 + n)
    all_of.flying.clear()
    all_of.ask("p3", "p1")
    sent: list[Any] = []
    while all_of.flying:
        sender, to, message = all_of.flying.pop(0)
        sent.append(message)
        all_of.deliver(sender, to, message)
    assert digest.root(all_of.states["p3"]) == digest.root(all_of.states["p1"])
    assert sum(len(one.records) for one in sent if isinstance(one, SyncRecords)) <= 20
    assert len(sent) <= 100
    size = sum(len(codec.encode(one)) for one in sent)
    changes = size - len(digest.leaves(all_of.states["p1"]))
    assert changes < 30 * 200 < world / 10, f"{changes} bytes for thirty changes in a world of {world}"


def test_F25_pages_and_answers_stay_below_the_bound_however_long_the_names() -> None:
    members = tuple(Member(f"12D3KooW{n:044d}", "a-host-name." * 20, 65535, 2**40) for n in range(limits.MEMBERS))
    birth = Birth(
        f"{'f' * 16}-{2**32}-{'f' * 8}",
        "a" * 63,
        "b" * 63,
        9,
        members[0].peer,
        members,
        Attempt(2**32, members[0].peer),
    )
    record = Record(birth, Version(9, 2**32, 2**32, "f" * 16), "hibernating", members, Stamp(9, 2**32, 2**32))
    batch = limits.SYNC_BATCH
    assert len(codec.encode(SyncRecords(2**32, 2**32, (record,) * batch, (), ()))) < limits.MESSAGE_BYTES
    entries = tuple((birth.incarnation, b"x" * digest.SHORT) for _ in range(limits.SYNC_PAGE))
    assert (
        len(codec.encode(SyncPage(2**32, 99, 255, birth.incarnation, birth.incarnation, entries)))
        < limits.MESSAGE_BYTES
    )


# --- natural mistakes -----------------------------------------------------------------------------------------------


def arbitrary_tie_break(patch: pytest.MonkeyPatch) -> None:
    """Whoever is merged last wins."""
    patch.setattr(directory, "join", lambda _left, right: right)
    patch.setattr(gossip, "join", lambda _left, right: right)


def volatile_fields_in_the_digest(patch: pytest.MonkeyPatch) -> None:
    """What one node has seen and another need not have is hashed too."""
    replace = digest.replace

    def with_turns(state: State, incarnation: str, row: bytes | None) -> None:
        replace(state, incarnation, row)
        if row is not None:
            leaf = digest.leaf_of(incarnation)
            state.leaves[leaf] = state.leaves.get(leaf, 0) ^ (
                len(state.config.peer + state.store) + ord(state.store[0])
            )

    patch.setattr(digest, "replace", with_turns)


def context_forgotten(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(clocks.Context, "__contains__", lambda _self, _dot: False)


def absence_means_dropped(patch: pytest.MonkeyPatch) -> None:
    """What is not held here was dropped here, seen or not, in a range that was compared or not."""
    patch.setattr(directory, "dropped", lambda state, incarnation: incarnation not in state.records)


def clock_in_the_tie_break(patch: pytest.MonkeyPatch) -> None:
    """What was written last by the merging node's own clock wins."""
    merge, clock = directory.merge, [0]

    def at_this_time(turn: Turn, record: Record) -> Record | None:
        clock[0] = turn.now
        return merge(turn, record)

    patch.setattr(directory, "merge", at_this_time)
    patch.setattr(directory, "join", lambda left, right: right if clock[0] % 2 else left)


def half_a_hash(patch: pytest.MonkeyPatch) -> None:
    """Two versions of one incarnation look alike in a list."""
    patch.setattr(digest, "short", lambda _state, one: hashlib.blake2b(one.encode(), digest_size=8).digest())


def drops_by_name_of_the_number(patch: pytest.MonkeyPatch) -> None:
    """A number above a gap counts as seen when a higher one was."""
    patch.setattr(
        clocks.Context, "__contains__", lambda self, dot: any(dot.n <= run[1] for run in self._runs.get(dot.store, ()))
    )


MISTAKES = (
    arbitrary_tie_break,
    volatile_fields_in_the_digest,
    context_forgotten,
    absence_means_dropped,
    clock_in_the_tie_break,
    half_a_hash,
    drops_by_name_of_the_number,
)


@pytest.mark.parametrize("mistake", MISTAKES, ids=[mistake.__name__ for mistake in MISTAKES])
def test_F20_F21_P21_proof_the_same_properties_catch(mistake: Callable[[pytest.MonkeyPatch], None]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        mistake(patch)

        def broken(history: list[tuple[Any, ...]]) -> bool:
            try:
                converges(history)
            except (AssertionError, KeyError):
                return True
            return False

        find(
            HISTORY,
            broken,
            settings=settings(
                max_examples=3000, deadline=None, database=None, derandomize=True, phases=[Phase.generate]
            ),
        )
