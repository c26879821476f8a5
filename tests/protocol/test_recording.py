"""Recordings as bytes: whole ones read back, a torn end is told, damage is found wherever it is, and nothing else than the protocol's
own classes ever comes of them."""

from __future__ import annotations

from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import inputs, recording
from protocol.effects import NOTHING, Effects
from protocol.limits import SECOND
from protocol.node import Config, Node
from protocol.recording import Header, RecordingError, Segment, Unbegun, Writer
from protocol.structure import CodecError, decoder, encoder
from tests.protocol.solo import Solo
from tests.protocol.test_codec import values

HEADER = Header(recording.SHAPE, "0.1.0", 1_800_000_000_000_000, 0, 0)


def recorded() -> tuple[bytes, list[tuple[Any, Effects]]]:
    """A short life: a database comes, sleeps and wakes."""
    steps: list[tuple[Any, Effects]] = []
    real = Node.step

    def step(node: Node, input: Any) -> Effects:
        wanted = real(node, input)
        steps.append((input, wanted))
        return wanted

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Node, "step", step)
        Solo().awake().asleep().ask()
    writer = Writer()
    data = writer.begin(HEADER, recording.checkpoint(Node(Solo().config)))
    return data + b"".join(writer.step(told, wanted) for told, wanted in steps), steps


LIFE, STEPS = recorded()
BEGINNING = len(Writer().begin(HEADER, recording.checkpoint(Node(Solo().config))))


def test_a_recording_reads_back() -> None:
    segment = recording.read(LIFE)
    assert (segment.header, segment.torn, len(segment)) == (HEADER, 0, len(STEPS))
    for step, (told, wanted) in zip(segment.steps(), STEPS, strict=True):
        assert (step.input, step.effects) == (told, recording.effects_as_bytes(wanted))
        assert recording.effects_of(recording.effects_as_bytes(wanted)) == wanted


ANY_INPUT = st.one_of([values(kind) for kind in inputs.Input.__args__])


@given(ANY_INPUT)
def test_every_input_can_be_recorded(input: Any) -> None:
    writer = Writer()
    data = writer.begin(HEADER, b"") + writer.step(input, NOTHING) + writer.step(input, KeyError("x"))
    first, second = recording.read(data).steps()
    assert first == recording.Step(input, b"")
    assert second == recording.Step(input, None, "KeyError: 'x'")


@pytest.mark.parametrize("cut", range(1, 60))
def test_a_torn_end_is_told_and_the_whole_steps_before_it_count(cut: int) -> None:
    segment = recording.read(LIFE[:-cut])
    assert len(segment) < len(STEPS)
    assert segment.torn > 0
    assert [step.input for step in segment.steps()] == [told for told, _ in STEPS[: len(segment)]]


def test_zeros_at_the_end_are_a_file_that_lost_power() -> None:
    segment = recording.read(LIFE + bytes(4096))
    assert (len(segment), segment.torn) == (len(STEPS), 4096)


@given(st.integers(0, BEGINNING - 1))
def test_what_ends_before_its_first_step_has_not_begun(length: int) -> None:
    with pytest.raises(Unbegun):
        recording.read(LIFE[:length])


@given(st.integers(0, len(LIFE) - 1), st.integers(1, 255))
def test_any_byte_that_changed_is_damage(at: int, flip: int) -> None:
    data = bytearray(LIFE)
    data[at] ^= flip
    with pytest.raises(RecordingError, match=r"damaged at byte|does not begin with"):
        recording.read(bytes(data))


def test_a_step_that_was_taken_out_is_damage() -> None:
    writer = Writer()
    frames = [writer.begin(HEADER, b""), *(writer.step(inputs.Tick(n), NOTHING) for n in range(3))]
    assert len(recording.read(b"".join(frames))) == 3
    with pytest.raises(RecordingError, match="damaged"):
        recording.read(b"".join([*frames[:2], frames[3]]))


def test_another_shape_names_who_recorded_it() -> None:
    data = Writer().begin(Header(b"otherwise", "9.9.9", 0, 0, 0), b"")
    with pytest.raises(
        RecordingError, match=r"torpor 9\.9\.9 of shape .*: replay it with the program that recorded it"
    ):
        recording.read(data)


HOSTILE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.binary(max_size=5) | st.floats(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=20,
)


@given(HOSTILE)
def test_F82_well_framed_nonsense_is_refused(payload: Any) -> None:
    writer = Writer()
    state = cbor2.dumps(payload)
    data = writer.begin(HEADER, state) + writer.frame(state)
    segment: Segment = recording.read(data)
    with pytest.raises(RecordingError, match="step 1"):
        list(segment.steps())
    with pytest.raises(RecordingError, match="the checkpoint"):
        recording.restored(segment.state)
    with pytest.raises(RecordingError, match="effects"):
        recording.effects_of(state)


def test_a_restored_state_equals_the_one_taken_and_gives_the_same_bytes() -> None:
    solo = Solo(workers=(3, 1, 2)).awake()
    for name in ("orders", "stock"):
        solo.ask(name)
    solo.wait(SECOND)
    data = recording.checkpoint(solo.node)
    again = recording.restored(data)
    assert again.state == solo.node.state
    assert again.deadline == solo.node.deadline
    assert recording.checkpoint(again) == data


def test_sets_are_sorted_so_that_their_order_of_insertion_is_in_no_checkpoint() -> None:
    texts = [f"peer{n}" for n in range(50)]
    one, other = Node(Config("p1")), Node(Config("p1"))
    one.state.strangers.update(texts)
    for text in reversed(texts):
        other.state.strangers.add(text)
    assert recording.checkpoint(one) == recording.checkpoint(other)


@pytest.mark.parametrize(
    ("kind", "value", "bad"),
    [
        (dict[str, int], {"b": 1, "a": 2}, [["b", "1"]]),
        (set[int], {3, 1}, [1, None]),
        (int | str | float, 1.5, b"bytes"),
        (inputs.Tick | inputs.PeerConnected, inputs.PeerConnected(1, "p"), [2, [1]]),
    ],
)
def test_structures_beyond_messages_read_back_and_refuse(kind: Any, value: Any, bad: Any) -> None:
    encode, decode = encoder(kind), decoder(kind)
    assert decode(cbor2.loads(cbor2.dumps(value if encode is None else encode(value)))) == value
    with pytest.raises(CodecError):
        decode(bad)
