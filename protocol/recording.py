"""What an engine was told and what it wanted, as bytes that replay it: the form of the flight recorder. The laws kept here:
any one segment replays by itself, since it begins with the engine's whole state, and reading trusts nothing, since a recording comes
from another machine (F82): only the classes of this protocol are ever made of it.

A segment is :data:`MAGIC`, then frames: 4 bytes of length, their complement, 8 bytes that chain the frame to all before it, and the
payload in CBOR (``protocol.structure``). The first frame is the :class:`Header`, the second the :class:`Checkpoint`, and each further
one a :class:`Step`. A frame that ends with the file was cut off by a crash and counts as never written; anything else that does not
fit is damage.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any, Final, cast

import cbor2
from attrs import frozen

from protocol import limits
from protocol.chart import TABLE, Chart
from protocol.effects import NOTHING, Effects
from protocol.inputs import Input
from protocol.node import Node
from protocol.state import State
from protocol.structure import Decode, Encode, decoder, encoder, loads, spelled

MAGIC: Final = b"torpor flight recording 1\n"
"""The first line of each segment; the number is the form of frames and header."""
_HEAD: Final = 16
_CHECK: Final = 8


class RecordingError(ValueError):
    """Bytes that cannot be replayed; the text says why."""


class Unbegun(RecordingError):
    """A crash came before the segment's first step could be."""


@frozen
class Header:
    """``shape``: :data:`SHAPE` of the program that recorded; ``version``: its name for people. ``wall`` and ``clock``: the same moment as
    Unix time and on the clock of the inputs, µs. ``follows``: the number of the segment that this one goes on from, or 0: a new process."""

    shape: bytes
    version: str
    wall: int
    clock: int
    follows: int


@frozen
class Checkpoint:
    """An engine between two steps: all that it is, but for its chart."""

    now: int
    state: State


@frozen
class Step:
    """``effects``: see :func:`effects_as_bytes`; None: the step raised ``error``."""

    input: Input
    effects: bytes | None
    error: str = ""


_encode_header: Final = cast("Encode", encoder(Header))
_encode_checkpoint: Final = cast("Encode", encoder(Checkpoint))
_encode_step: Final = cast("Encode", encoder(Step))
_encode_effects: Final = cast("Encode", encoder(Effects))
_decode_header: Final = decoder(Header)
_decode_checkpoint: Final = decoder(Checkpoint)
_decode_step: Final = decoder(Step)
_decode_effects: Final = decoder(Effects)

SHAPE: Final = hashlib.blake2b(
    "\n".join(spelled(kind) for kind in (Checkpoint, Step, Effects)).encode(), digest_size=8
).digest()
"""Of every class that a recording may hold, down to the last field: another shape cannot be read here."""


def _decoded(decode: Decode, data: bytes, what: str) -> Any:
    try:
        return decode(loads(data))
    except (ValueError, AssertionError, TypeError) as error:
        raise RecordingError(f"{what}: {error}") from error


# --- engines and effects --------------------------------------------------------------------------------------------


def checkpoint(node: Node) -> bytes:
    """The engine's complete state; equal histories give equal bytes."""
    return cbor2.dumps(_encode_checkpoint(Checkpoint(node.now, node.state)))


def restored(data: bytes, chart: Chart = TABLE) -> Node:
    """An engine that does from here what the one would have done that :func:`checkpoint` was taken of. Raises
    :class:`RecordingError`."""
    found: Checkpoint = _decoded(_decode_checkpoint, data, "the checkpoint")
    return Node.resumed(found.state, found.now, chart)


def effects_as_bytes(wanted: Effects) -> bytes:
    """One form for equal effects; empty for none at all."""
    return b"" if wanted == NOTHING else cbor2.dumps(_encode_effects(wanted))


def effects_of(data: bytes) -> Effects:
    """The inverse of :func:`effects_as_bytes`. Raises :class:`RecordingError`."""
    return _decoded(_decode_effects, data, "effects") if data else NOTHING


def error_as_text(error: Exception) -> str:
    """How a step that raised is recorded."""
    return f"{type(error).__name__}: {error}"[: limits.DETAIL]


# --- writing --------------------------------------------------------------------------------------------------------


class Writer:
    """Makes the bytes of one segment, in order; it writes nothing itself."""

    def __init__(self) -> None:
        self._chain = b""

    def begin(self, header: Header, state: bytes) -> bytes:
        """The beginning of the segment; ``state``: a :func:`checkpoint`."""
        return MAGIC + self.frame(cbor2.dumps(_encode_header(header))) + self.frame(state)

    def step(self, given: Input, outcome: Effects | Exception) -> bytes:
        """One step: its input, and its effects or what it raised."""
        if isinstance(outcome, Exception):
            step = Step(given, None, error_as_text(outcome))
        else:
            step = Step(given, effects_as_bytes(outcome))
        return self.frame(cbor2.dumps(_encode_step(step)))

    def frame(self, payload: bytes) -> bytes:
        """Any payload, chained to all before it."""
        length = len(payload)
        self._chain = _check(self._chain, payload)
        return length.to_bytes(4, "big") + (length ^ 0xFFFFFFFF).to_bytes(4, "big") + self._chain + payload


def _check(chain: bytes, payload: bytes) -> bytes:
    return hashlib.blake2b(payload, digest_size=_CHECK, key=chain).digest()


# --- reading --------------------------------------------------------------------------------------------------------


@frozen
class Segment:
    """``torn``: bytes of a last frame that a crash cut off."""

    header: Header
    state: bytes
    torn: int
    _steps: tuple[bytes, ...]

    def __len__(self) -> int:
        return len(self._steps)

    def steps(self) -> Iterator[Step]:
        """Every step, in order. Raises :class:`RecordingError`."""
        for number, payload in enumerate(self._steps, 1):
            yield _decoded(_decode_step, payload, f"step {number}")


def read(data: bytes) -> Segment:
    """A segment of its bytes; all of them are checked before anything is replayed. Raises :class:`RecordingError`."""
    if not data.startswith(MAGIC):
        if MAGIC.startswith(data):
            raise Unbegun("a crash came before its first step")
        raise RecordingError(f"it does not begin with {MAGIC.decode().strip()!r}")
    frames, torn = _frames(data)
    if frames:
        header: Header = _decoded(_decode_header, frames[0], "the header")
        if header.shape != SHAPE:
            raise RecordingError(
                f"torpor {header.version} of shape {header.shape.hex()} recorded it, this one has the shape {SHAPE.hex()}: "
                "replay it with the program that recorded it"
            )
        if len(frames) > 1:
            return Segment(header, frames[1], torn, tuple(frames[2:]))
    raise Unbegun("a crash came before its first step")


def _frames(data: bytes) -> tuple[list[bytes], int]:
    """Whole payloads, and how many bytes of a cut-off one follow them."""
    found: list[bytes] = []
    chain, at = b"", len(MAGIC)
    while len(data) - at >= _HEAD:
        length = int.from_bytes(data[at : at + 4], "big")
        if length ^ int.from_bytes(data[at + 4 : at + 8], "big") != 0xFFFFFFFF:
            # A file system that lost power may have given the file its length, and not yet its last bytes.
            if not any(data[at:]):
                break
            raise _damaged(at)
        end = at + _HEAD + length
        if end > len(data):
            break
        payload = data[at + _HEAD : end]
        chain = _check(chain, payload)
        if chain != data[at + 8 : at + _HEAD]:
            raise _damaged(at)
        found.append(payload)
        at = end
    return found, len(data) - at


def _damaged(at: int) -> RecordingError:
    return RecordingError(f"it is damaged at byte {at}: what stands there was never written so")
