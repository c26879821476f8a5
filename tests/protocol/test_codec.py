"""Bytes to messages and back, whatever the bytes; and the published grammar says what the codec does."""

from __future__ import annotations

import re
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Literal, Union, get_args, get_origin

import attrs
import cbor2
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from protocol import codec, limits
from protocol.messages import WakeIntent
from protocol.records import ApiKey, Scope

API_KEYS = st.builds(
    ApiKey,
    st.from_regex(r"[0-9a-f]{8}", fullmatch=True),
    st.binary(min_size=32, max_size=32),
    st.from_regex(r"[a-z0-9]{1,9}", fullmatch=True),
    st.sampled_from(get_args(Scope)),
    st.integers(0, 2**63 - 1),
    st.text(st.characters(categories=["L", "N"]), max_size=20),
    st.text(max_size=20),
    st.booleans(),
)
"""What is no key is refused (``tests/protocol/test_keys.py``)."""
INTEGERS = st.integers(-(2**63), 2**63 - 1)


def values(hint: Any) -> st.SearchStrategy[Any]:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Literal:
        return st.sampled_from(arguments)
    if origin in (Union, types.UnionType):
        return st.one_of([st.none() if one is types.NoneType else values(one) for one in arguments])
    if origin is tuple and arguments[-1] is not Ellipsis:
        return st.tuples(*map(values, arguments))
    if origin is tuple:
        return st.lists(values(arguments[0]), max_size=3).map(tuple)
    if hint is ApiKey:
        return API_KEYS
    if attrs.has(hint) or hasattr(hint, "_fields"):
        parts = [values(part) for _name, part in codec.shape(hint)]
        return st.tuples(*parts).map(lambda drawn: hint(*drawn))
    return {int: INTEGERS, str: st.text(max_size=20), bool: st.booleans(), bytes: st.binary(max_size=20)}[hint]


ANY_MESSAGE = st.one_of([values(kind) for tag, kind in codec.TAGS.items() if tag in codec.WIRE])
ANY_ROW = st.one_of([values(kind) for tag, kind in codec.TAGS.items() if tag not in codec.WIRE])


@given(ANY_MESSAGE)
def test_a_message_survives_the_wire(message: Any) -> None:
    assert codec.decode(codec.encode(message)) == message


@given(ANY_ROW)
def test_a_row_survives_the_store(row: Any) -> None:
    assert codec.decode_row(codec.encode(row)) == row


@given(st.binary(max_size=200))
def test_F92_garbage_is_refused_and_nothing_else_happens(data: bytes) -> None:
    with pytest.raises(codec.CodecError):
        codec.decode(data)


@given(ANY_MESSAGE, st.data())
def test_F92_a_mutated_message_is_refused_or_is_a_message(message: Any, data: st.DataObject) -> None:
    raw = bytearray(codec.encode(message))
    raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        again = codec.decode(bytes(raw))
    except codec.CodecError:
        return
    assert type(again) in codec.TAGS.values()


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ([2, 20, ["a", 1]], "version 2"),
        ([1, 99, []], "unknown tag 99"),
        ([1, 69, []], "unknown tag 69"),
        ([1, 20, ["a"]], "WakeIntent of 2 fields"),
        ([1, 20, ["a", "x"]], "expected int"),
        ([1, 20, ["a", True]], "expected int"),
        ({"a": 1}, "[version, tag, fields]"),
    ],
)
def test_F82_each_refusal_says_what_was_expected(value: Any, said: str) -> None:
    with pytest.raises(codec.CodecError, match=re.escape(said)):
        codec.decode(cbor2.dumps(value))


def test_messages_are_bounded_both_ways() -> None:
    with pytest.raises(codec.CodecError, match="above the bound"):
        codec.encode(WakeIntent("x" * limits.MESSAGE_BYTES, 1))
    with pytest.raises(codec.CodecError, match="above the bound"):
        codec.decode(b"\x00" * (limits.MESSAGE_BYTES + 1))


# --- the grammar ----------------------------------------------------------------------------------------------------


class Grammar:
    """A reader of the part of CDDL that ``specs/messages.cddl`` uses, written apart from what generates it: rules, named
    array entries, ``*`` repetition, choices, literals and the prelude's types."""

    PRELUDE: ClassVar[dict[str, Callable[[Any], bool]]] = {
        "int": lambda v: type(v) is int,
        "tstr": lambda v: type(v) is str,
        "bool": lambda v: type(v) is bool,
        "bstr": lambda v: type(v) is bytes,
        "null": lambda v: v is None,
    }

    def __init__(self, text: str) -> None:
        lines = [line for line in text.splitlines() if line and not line.startswith(";")]
        self.rules = dict(line.split(" = ", 1) for line in lines)

    def matches(self, value: Any, expression: str) -> bool:
        choices = self._split(self._bare(expression), "/")
        if len(choices) > 1:
            return any(self.matches(value, choice) for choice in choices)
        (term,) = choices
        if term.startswith("["):
            return self._matches_array(value, [entry for entry in self._split(term[1:-1], ",") if entry])
        if term in self.PRELUDE:
            return self.PRELUDE[term](value)
        if term.startswith('"'):
            return bool(value == term.strip('"'))
        if term.isdigit():
            return bool(type(value) is int and value == int(term))
        return self.matches(value, self.rules[term])

    def _matches_array(self, value: Any, entries: list[str]) -> bool:
        if type(value) is not list:
            return False
        if len(entries) == 1 and entries[0].startswith("* "):
            return all(self.matches(item, entries[0][2:]) for item in value)
        kinds = [re.sub(r"^[a-z0-9-]+: ", "", entry) for entry in entries]
        return len(value) == len(kinds) and all(map(self.matches, value, kinds))

    @staticmethod
    def _bare(text: str) -> str:
        text = text.strip()
        return text[1:-1] if text.startswith("(") and text.endswith(")") else text

    @staticmethod
    def _split(text: str, at: str) -> list[str]:
        parts, depth, start = [], 0, 0
        for i, letter in enumerate(text):
            depth += letter in "[("
            depth -= letter in "])"
            if letter == at and depth == 0:
                parts.append(text[start:i].strip())
                start = i + 1
        return [*parts, text[start:].strip()]


GRAMMAR = Grammar((Path(__file__).parents[2] / "specs" / "messages.cddl").read_text())


@given(ANY_MESSAGE)
def test_the_grammar_accepts_what_the_codec_writes(message: Any) -> None:
    assert GRAMMAR.matches(cbor2.loads(codec.encode(message)), "message")


@given(ANY_MESSAGE, st.data())
def test_the_grammar_and_the_codec_refuse_alike(message: Any, data: st.DataObject) -> None:
    value = cbor2.loads(codec.encode(message))
    fields = value[2]
    assume(fields)
    where = data.draw(st.integers(0, len(fields) - 1))
    fields[where] = data.draw(st.sampled_from([None, 7, "text", True, [], [1], {}]))
    try:
        codec.decode(cbor2.dumps(value))
        decoded = True
    except codec.CodecError:
        decoded = False
    assert GRAMMAR.matches(value, "message") == decoded
