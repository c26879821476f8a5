"""Names and identities: R3, R50, P14, F82."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.ids import DatabaseName, Dot, InvalidName, derived, dot_of, incarnation_id, node_id

PART = st.from_regex(r"[a-z0-9]([a-z0-9_-]{0,8}[a-z0-9])?", fullmatch=True)
NAMES = st.builds(DatabaseName, PART, PART)


def test_R3_the_guides_example() -> None:
    assert DatabaseName("myapp", "users").internal == "myapp_users"


def test_R3_the_classic_collision() -> None:
    assert DatabaseName("a_b", "c").internal != DatabaseName("a", "b_c").internal


@given(NAMES, NAMES)
def test_R3_no_two_names_meet(one: DatabaseName, other: DatabaseName) -> None:
    assert (one.internal == other.internal) == (one == other)


@given(NAMES)
def test_R3_the_internal_name_can_be_read_back(name: DatabaseName) -> None:
    assert DatabaseName.of_internal(name.internal) == name


@given(st.text(max_size=12))
def test_F82_whatever_is_accepted_is_a_plain_path_component(text: str) -> None:
    try:
        internal = DatabaseName("app", text).internal
    except InvalidName:
        return
    assert set(internal) <= set("abcdefghijklmnopqrstuvwxyz0123456789_-")
    assert len(internal) < 255


@pytest.mark.parametrize("bad", ["", "_", "a_", "_a", "-a", "A", "ä", "a b", "a/b", "..", "a\n", "x" * 64, None, 7])
def test_F82_names_that_are_refused(bad: object) -> None:
    with pytest.raises(InvalidName):
        DatabaseName("app", bad)  # type: ignore[arg-type]
    with pytest.raises(InvalidName):
        DatabaseName(bad, "name")  # type: ignore[arg-type]


@pytest.mark.parametrize("bad", ["", "users", "a__b", "_a_b", "a_b/..", "A_b"])
def test_F82_internal_names_that_nobody_made(bad: str) -> None:
    with pytest.raises(InvalidName):
        DatabaseName.of_internal(bad)


def test_P14_an_incarnation_carries_its_dot_and_its_nonce() -> None:
    incarnation = incarnation_id(Dot("ab12", 7), "ff00")
    assert incarnation == "ab12-7-ff00"
    assert dot_of(incarnation) == ("ab12", 7)
    assert incarnation != incarnation_id(Dot("ab12", 7), "ff01")
    with pytest.raises(ValueError, match="unpack"):
        dot_of("nonsense")


def test_P54_a_member_that_joins_again_is_another_raft_server() -> None:
    assert node_id("p1", "ab-1-cd", 0) != node_id("p1", "ab-1-cd", 1)


def test_derived_text_depends_on_every_part() -> None:
    seeds = {derived(b"s", "a", 1), derived(b"s", "a", 2), derived(b"s", "b", 1), derived(b"t", "a", 1)}
    assert len(seeds) == 4
