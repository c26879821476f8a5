"""API keys as records of the directory: R36, F20, F21, F87, P23. Created and revoked anywhere, known everywhere; whatever becomes of the messages,
a revocation reaches everybody who hears anybody, and never comes undone."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from attrs import define, evolve
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from protocol import codec, digest, limits
from protocol import effects as fx
from protocol import inputs as ip
from protocol.limits import SECOND
from protocol.messages import KeyNews, SyncKeys
from protocol.records import ApiKey, join_keys
from protocol.state import Config, State
from tests.protocol.several import Several
from tests.protocol.solo import Solo
from tests.protocol.three import PEERS, Three

ID = "00c0ffee"


def fields(of: str = ID, **others: Any) -> dict[str, Any]:
    sha256 = hashlib.sha256(f"torpor_{of}_secret".encode()).digest()
    return {"id": of, "sha256": sha256, "app": "myapp", "scope": "write", **others}


def key(n: int = 0, **others: Any) -> ApiKey:
    born = {"expires": 0, "name": "", "store": "aa", **fields(f"{n:08x}"), **others}
    return ApiKey(**born)


def formed(count: int = 3, **settings: Any) -> Several:
    world = Several(count, 1, **settings)
    world.run(2 * SECOND)
    assert world.listening() == set()
    return world


# --- among nodes ----------------------------------------------------------------------------------------------------


def test_R36_F87_a_key_of_one_node_is_known_and_revoked_by_all() -> None:
    world = formed()
    assert world.command("p1", ip.CreateKey, **fields()).problem is None
    world.run(SECOND // 10)
    assert world.keys == {peer: {ID: True} for peer in ("p1", "p2", "p3")}
    assert world.command("p3", ip.RevokeKey, id=ID).detail == f"key {ID} of myapp is revoked"
    world.run(SECOND // 10)
    assert world.keys == {peer: {ID: False} for peer in ("p1", "p2", "p3")}
    assert len(world.roots()) == 1


def test_F87_a_revocation_whose_news_was_lost_is_known_after_the_next_heartbeat() -> None:
    world = formed()
    world.command("p1", ip.CreateKey, **fields())
    world.run(2 * SECOND)
    world.lose = lambda _from, _to, message: isinstance(message, KeyNews)
    world.command("p2", ip.RevokeKey, id=ID)
    world.run(SECOND + SECOND // 10)  # Several's heartbeats come every second
    assert world.keys == {peer: {ID: False} for peer in ("p1", "p2", "p3")}


def test_F87_the_operator_is_told_who_cannot_hear_it_now() -> None:
    world = formed()
    world.command("p1", ip.CreateKey, **fields())
    world.run(SECOND)
    world.crash("p3")
    world.run(5 * SECOND)
    detail = world.command("p1", ip.RevokeKey, id=ID).detail
    assert detail == f"key {ID} of myapp is revoked; not heard now, and to refuse it once they are: p3"
    world.boot("p3")
    world.run(2 * SECOND)
    assert world.keys["p3"] == {ID: False}


def test_P23_two_halves_of_a_cluster_end_with_what_both_did() -> None:
    world = formed(4)
    world.command("p1", ip.CreateKey, **fields())
    world.run(SECOND)
    world.partition("p1", "p2")
    world.run(SECOND)
    world.command("p1", ip.RevokeKey, id=ID)
    world.command("p3", ip.CreateKey, **fields("00000002"))
    world.run(SECOND)
    assert world.keys["p4"] == {ID: True, "00000002": True}
    world.cut = set()
    world.run(3 * SECOND)
    assert world.keys == {peer: {ID: False, "00000002": True} for peer in ("p1", "p2", "p3", "p4")}


def test_P23_P61_a_newcomer_has_all_keys_when_it_has_listened() -> None:
    world = Several(3, 1, up=("p1", "p2"))
    world.run(2 * SECOND)
    for n in range(limits.KEYS_PAGE + 1):
        world.command("p1", ip.CreateKey, **fields(f"{n:08x}"))
    world.run(SECOND)
    world.boot("p3")
    assert not world.complete["p3"], "a key that it does not know may be one"
    world.run(SECOND)
    assert world.complete["p3"]
    assert len(world.keys["p3"]) == limits.KEYS_PAGE + 1


def test_P23_P62_a_store_that_went_back_does_not_take_its_keys_for_all() -> None:
    world = formed()
    before = dict(world.machines["p3"].rows)
    world.ask("p3")
    world.run(3 * SECOND)
    world.command("p1", ip.CreateKey, **fields())
    world.run(SECOND)
    world.crash("p3")
    world.machines["p3"].rows = before
    world.lose = lambda _from, to, message: to == "p3" and isinstance(message, SyncKeys)
    world.boot("p3")
    world.run(2 * SECOND)
    assert not world.complete["p3"]
    world.lose = lambda _from, _to, _message: False
    world.run(7 * SECOND)
    assert world.complete["p3"]
    assert world.keys["p3"] == {ID: True}


# --- on one node ----------------------------------------------------------------------------------------------------


def told(solo: Solo, kind: Any, **fields: Any) -> fx.Answer:
    solo.requests += 1
    solo.step(kind, request=-solo.requests, **fields)
    return solo.answers[-solo.requests]


def test_P23_keys_outlive_their_process() -> None:
    solo = Solo()
    assert told(solo, ip.CreateKey, **fields()).problem is None
    assert told(solo, ip.CreateKey, **fields("00000002")).problem is None
    told(solo, ip.RevokeKey, id=ID)
    solo.boot()
    assert {one.id: one.revoked for one in solo.node.state.keys.values()} == {ID: True, "00000002": False}


def test_R36_what_is_refused_says_why() -> None:
    solo = Solo()
    told(solo, ip.CreateKey, **fields())
    for refused, why in (
        (fields(), "there is a key 00c0ffee already"),
        (fields("XYZ"), "'XYZ' is no id of a key"),
        (fields("00000003", sha256=b"short"), "5 bytes are no SHA-256"),
        (fields("00000003", app="My App"), "the application name 'My App' is not valid"),
        (fields("00000003", name="a\nb"), "a key's name has at most"),
        (fields("00000003", expires=-1), "a key expires at a time after 1970"),
    ):
        answer = told(solo, ip.CreateKey, **refused)
        assert (answer.problem, why in answer.detail) == ("key-refused", True), answer.detail
    answer = told(solo, ip.RevokeKey, id="12345678")
    assert (answer.problem, answer.detail) == ("key-refused", "no key '12345678' is known here")
    told(solo, ip.RevokeKey, id=ID)
    assert told(solo, ip.RevokeKey, id=ID).detail == f"key {ID} of myapp was revoked before"


def test_R36_keys_are_bounded_and_revoking_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "KEYS", 1)
    solo = Solo()
    told(solo, ip.CreateKey, **fields())
    told(solo, ip.RevokeKey, id=ID)
    answer = told(solo, ip.CreateKey, **fields("00000002"))
    assert answer.problem == "key-refused"
    assert "1 keys are known, revoked and expired ones too" in answer.detail


def test_F87_a_worker_that_joins_is_told_of_every_key() -> None:
    solo = Solo()
    for n in range(limits.KEYS_PAGE + 1):
        told(solo, ip.CreateKey, **fields(f"{n:08x}"))
    effects = solo.step(ip.WorkerJoined, worker=2)
    parts = [action for action in effects.actions if isinstance(action, fx.Keys)]
    assert {part.worker for part in parts} == {2}
    assert len({one.id for part in parts for one in part.keys}) == limits.KEYS_PAGE + 1
    assert [part.complete for part in parts] == [False, False, True], "only the last part makes them complete"


def test_F87_the_row_is_in_the_step_that_answers() -> None:
    effects = Solo().step(ip.CreateKey, request=-1, **fields())
    assert [write.key for write in effects.writes] == [f"key/{fields()['sha256'].hex()}"]
    assert [type(action) for action in effects.actions] == [fx.Answer, fx.Keys]


# --- the join -------------------------------------------------------------------------------------------------------

ONE_DIGEST = st.builds(
    ApiKey,
    st.sampled_from(["00000001", "00000002"]),
    st.just(b"d" * 32),
    st.sampled_from(["a", "b"]),
    st.sampled_from(["read", "admin"]),
    st.integers(0, 2),
    st.just(""),
    st.sampled_from(["aa", "bb"]),
    st.booleans(),
)


@given(ONE_DIGEST, ONE_DIGEST, ONE_DIGEST)
def test_F20_F21_keys_join(one: ApiKey, two: ApiKey, three: ApiKey) -> None:
    """Commutative, associative, idempotent, even where facts of birth differ, which no two stores ever made."""
    assert join_keys(one, two) == join_keys(two, one)
    assert join_keys(join_keys(one, two), three) == join_keys(one, join_keys(two, three))
    assert join_keys(one, one) == one
    assert join_keys(one, two).revoked == (one.revoked or two.revoked)


@define
class Rings(Three):
    """Three nodes' keys, and what flies between them."""

    def play(self, step: tuple[Any, ...]) -> None:
        match step:
            case ("create", peer, n):
                self.turn(peer, lambda turn: turn.broadcast(KeyNews(key(n))))
            case ("revoke", peer, n) if key(n).digest in self.states[peer].keys:
                known = self.states[peer].keys[key(n).digest]
                self.turn(peer, lambda turn: turn.broadcast(KeyNews(evolve(known, revoked=True))))
            case ("ask", peer, other) if peer != other:
                self.ask(peer, other)
            case ("deliver", n, again) if self.flying:
                at = n % len(self.flying)
                self.deliver(*(self.flying[at] if again else self.flying.pop(at)))
            case ("lose", n) if self.flying:
                self.flying.pop(n % len(self.flying))
            case _:
                pass


HISTORY = st.lists(
    st.one_of(
        st.tuples(st.just("create"), st.sampled_from(PEERS), st.integers(0, 4)),
        st.tuples(st.just("revoke"), st.sampled_from(PEERS), st.integers(0, 4)),
        st.tuples(st.just("ask"), st.sampled_from(PEERS), st.sampled_from(PEERS)),
        st.tuples(st.just("deliver"), st.integers(0, 60), st.booleans()),
        st.tuples(st.just("lose"), st.integers(0, 60)),
    ),
    max_size=40,
)


@given(HISTORY)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_F20_F87_P23_all_end_with_the_union_of_keys_and_of_revocations(history: list[tuple[Any, ...]]) -> None:
    rings = Rings()
    revoked: set[str] = set()
    for step in history:
        rings.play(step)
        for state in rings.states.values():
            revoked |= {one.digest for one in state.keys.values() if one.revoked}
    known = {one for state in rings.states.values() for one in state.keys}
    rings.exchange()
    for state in rings.states.values():
        assert {one: one_key.revoked for one, one_key in state.keys.items()} == {one: one in revoked for one in known}
        fresh = State(Config("fresh"))
        for one in state.keys.values():
            digest.replace_key(fresh, one)
        assert digest.key_leaves(fresh) == digest.key_leaves(state), (
            "the digest is that of the keys, not of their history"
        )
    assert len({digest.root(state) for state in rings.states.values()}) == 1


def test_P23_a_revocation_never_comes_undone() -> None:
    rings = Rings()
    rings.play(("create", "p1", 0))
    early = [one for one in rings.flying if one[1] == "p2"]
    rings.play(("revoke", "p1", 0))
    while rings.flying:
        rings.deliver(*rings.flying.pop(0))
    for late in early:
        rings.deliver(*late)
    assert all(one.revoked for state in rings.states.values() for one in state.keys.values())


def test_F25_a_page_of_keys_stays_below_the_bound_however_long_the_names() -> None:
    longest = key(app="a" * 63, name="\U00020000" * limits.KEY_NAME, expires=2**62, store="f" * 16)
    assert len(codec.encode(SyncKeys(2**32, 2**32, (longest,) * limits.KEYS_PAGE))) < limits.MESSAGE_BYTES


def test_F25_who_misses_one_key_of_many_is_told_of_one_leaf() -> None:
    rings = Rings()
    for n in range(1000):
        rings.play(("create", "p1", n))
        rings.flying = [one for one in rings.flying if n and one[1] == "p2"]
        while rings.flying:
            rings.deliver(*rings.flying.pop(0))
    rings.ask("p2", "p1")
    sent: list[Any] = []
    while rings.flying:
        sent.append(rings.flying[0][2])
        rings.deliver(*rings.flying.pop(0))
    assert len(rings.states["p2"].keys) == 1000
    assert sum(len(one.keys) for one in sent if isinstance(one, SyncKeys)) < 20
