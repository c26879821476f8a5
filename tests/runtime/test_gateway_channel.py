"""Frames between node and worker, keys, and problem documents: what both sides must agree on, byte for byte."""

from __future__ import annotations

import re

import cbor2
import hypothesis.strategies as st
import orjson
import pytest
from hypothesis import given

from runtime.gateway import frames, problems
from runtime.gateway.auth import KeyRing, digest_of, id_of, new_key
from runtime.gateway.channel import FRAME_BYTES, FrameReader, pack
from runtime.gateway.frames import ChannelBroken, decode, encode, request_of, worker_of

NUMBERS = st.integers(0, 2**31)
TEXTS = st.text(max_size=20)
REQUESTS = st.builds(request_of, NUMBERS, NUMBERS)
HOPS = st.lists(st.builds(frames.Hop, TEXTS, TEXTS, st.binary(max_size=32)), max_size=3).map(tuple)
ANY_FRAME = st.one_of(
    st.just(frames.Lease()),
    st.builds(
        frames.WorkerConfig,
        st.dictionaries(TEXTS, TEXTS, max_size=3),
        st.dictionaries(TEXTS, TEXTS, max_size=3),
        st.lists(st.builds(frames.Issuer, TEXTS, st.binary(max_size=9), TEXTS, TEXTS, TEXTS), max_size=2).map(tuple),
        NUMBERS,
    ),
    st.builds(
        frames.Keys,
        st.lists(st.builds(frames.Key, st.binary(max_size=32), TEXTS, TEXTS, NUMBERS, st.booleans()), max_size=3).map(
            tuple
        ),
        st.booleans(),
    ),
    st.builds(frames.Door, TEXTS, TEXTS, TEXTS, NUMBERS, st.booleans(), TEXTS),
    st.builds(frames.Forget, TEXTS),
    st.builds(frames.Answer, REQUESTS, TEXTS, TEXTS),
    st.builds(
        frames.Routed,
        REQUESTS,
        TEXTS,
        TEXTS,
        HOPS,
    ),
    st.builds(
        frames.SealedCopy,
        TEXTS,
        TEXTS,
        TEXTS,
        NUMBERS,
        st.booleans(),
        TEXTS,
        st.lists(NUMBERS).map(tuple),
        NUMBERS,
        HOPS,
    ),
    st.builds(frames.ReadSealed, NUMBERS, TEXTS, TEXTS),
    st.builds(frames.SealedAck, NUMBERS, TEXTS, NUMBERS, NUMBERS),
    st.builds(frames.Believe, st.lists(st.binary(max_size=32), max_size=3).map(tuple)),
    st.builds(frames.Names, REQUESTS, st.lists(TEXTS, max_size=4).map(tuple)),
    st.builds(frames.WorkerJoined, NUMBERS),
    st.builds(frames.Alive, NUMBERS),
    st.builds(frames.Ask, NUMBERS, REQUESTS, TEXTS, TEXTS, st.booleans()),
    st.builds(frames.ListNames, NUMBERS, REQUESTS, TEXTS),
    st.builds(frames.DoorAck, NUMBERS, TEXTS, NUMBERS, NUMBERS),
    st.builds(frames.Used, NUMBERS, TEXTS, NUMBERS, NUMBERS),
)


@given(st.lists(ANY_FRAME, max_size=6), st.integers(1, 50))
def test_frames_survive_the_wire_in_any_pieces(sent: list[frames.ToWorker | frames.FromWorker], piece: int) -> None:
    wire = b"".join(map(pack, sent))
    reader = FrameReader()
    got = [frame for i in range(0, len(wire), piece) for frame in reader.feed(wire[i : i + piece])]
    assert got == sent


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xff\xff",
        cbor2.dumps({"a": 1}),
        cbor2.dumps([]),
        cbor2.dumps([99]),
        cbor2.dumps([-1]),
        cbor2.dumps(["Lease"]),
        cbor2.dumps([*cbor2.loads(encode(frames.Lease())), 1]),
        cbor2.dumps([cbor2.loads(encode(frames.Forget("i")))[0], 5]),
        cbor2.dumps([*cbor2.loads(encode(frames.Routed(request_of(1, 1), "a", "b", ())))[:-1], [["p", "g"]]]),
        cbor2.dumps([*cbor2.loads(encode(frames.Routed(request_of(1, 1), "a", "b", ())))[:-1], [["p", "g", "text"]]]),
    ],
)
def test_bytes_that_are_no_frame_break_the_channel(payload: bytes) -> None:
    with pytest.raises(ChannelBroken):
        decode(payload)


def test_a_frame_is_bounded_on_both_sides() -> None:
    with pytest.raises(ChannelBroken):
        FrameReader().feed((FRAME_BYTES + 1).to_bytes(4, "big"))
    with pytest.raises(ChannelBroken):
        pack(frames.Names(request_of(1, 1), tuple("x" * 100 for _ in range(FRAME_BYTES // 100))))


@given(NUMBERS, NUMBERS)
def test_a_request_names_its_worker(worker: int, n: int) -> None:
    assert worker_of(request_of(worker, n)) == worker
    assert request_of(worker, n) != request_of(worker + 1, n)


def test_R36_a_key_is_found_by_its_digest_alone_and_carries_its_application() -> None:
    key, digest = new_key()
    other, _ = new_key()
    assert re.fullmatch(r"torpor_[0-9a-f]{8}_[A-Za-z0-9_-]{22}", key)
    assert digest == digest_of(key)
    assert key not in repr(frames.WorkerConfig({digest: "app"})), "nor its digest in a log"
    assert digest not in repr(frames.WorkerConfig({digest: "app"}))
    ring = KeyRing({digest: "app"}, {})
    found = ring.find(key)
    assert found is not None
    assert (found.app, found.scope) == ("app", "admin")
    for wrong in (other, digest, key[:-1], key + "x", "", "torpor_", key.upper(), key + "é"):
        assert ring.find(wrong) is None
    assert id_of(key) == key[7:15]
    assert [id_of(text) for text in (digest, "", "torpor_", key.upper(), key + "é", "x" + key)] == [None] * 6


def test_R36_a_digest_that_shares_the_index_is_no_match() -> None:
    key, digest = new_key()
    neighbour = digest[:8] + "0" * 56
    assert KeyRing({neighbour: "theirs"}, {}).find(key) is None
    ring = KeyRing({neighbour: "theirs", digest: "ours"}, {digest: "read"})
    assert ring.find(key) == frames.Key(bytes.fromhex(digest), "ours", "read", 0, False)


def test_F87_what_the_directory_says_of_a_key_counts() -> None:
    key, digest = new_key()
    ring = KeyRing({}, {})
    ring.put([frames.Key(bytes.fromhex(digest), "app", "write", 0, False)])
    ring.put([frames.Key(bytes.fromhex(digest), "app", "write", 0, True)])
    found = ring.find(key)
    assert found is not None
    assert found.revoked


@pytest.mark.parametrize("kind", sorted(problems.TYPES))
def test_every_problem_is_an_rfc_9457_document(kind: str) -> None:
    document = orjson.loads(problems.Refusal(kind, "because").document("r1"))
    assert document["type"] == f"urn:torpor:problem:{kind}"
    assert 400 <= document["status"] <= 599
    assert document["title"]
    assert (document["detail"], document["request_id"]) == ("because", "r1")
    assert "may_have_committed" not in document
    assert orjson.loads(problems.Refusal(kind, "", True).document("r1"))["may_have_committed"] is True


def test_every_problem_of_the_engine_is_in_the_table() -> None:
    from typing import get_args

    from protocol.effects import Problem

    assert set(get_args(Problem)) <= problems.TYPES
