"""Values of our own classes as plain arrays, and back: by their type hints alone, compiled once. The law kept here is that
decoding trusts nothing (F82): every length, type and literal is checked, only the classes that a hint names are ever made, and whatever
does not fit raises :class:`CodecError`.

A class is the array of its fields; an absent value is null; one of several classes is ``[position in the union, fields]``. Sets
are sorted and mappings are pairs in their own order, so that equal histories give equal bytes, in any process.
"""

from __future__ import annotations

import types
from collections import deque
from collections.abc import Callable
from typing import Any, Literal, Union, cast, get_args, get_origin, get_type_hints

import attrs
import cbor2

Encode = Callable[[Any], Any]
Decode = Callable[[Any], Any]

_PLAIN = (int, str, bool, bytes, float)


class CodecError(ValueError):
    """Bytes that are not what they should be."""


def _is_named_tuple(kind: Any) -> bool:
    return hasattr(kind, "_fields")


def _is_class(kind: Any) -> bool:
    return attrs.has(kind) or _is_named_tuple(kind)


def shape(kind: Any) -> tuple[tuple[str, Any], ...]:
    """(field name, type) of an encoded class, in order. What a class computes for itself (``init=False``) is left out."""
    hints = get_type_hints(kind)
    names: tuple[str, ...] = (
        kind._fields if _is_named_tuple(kind) else tuple(f.name for f in attrs.fields(kind) if f.init)
    )
    return tuple((name, hints[name]) for name in names)


def _alternatives(kind: Any) -> tuple[Any, ...]:
    """What a union may be, besides None; empty for any other type."""
    if get_origin(kind) not in (Union, types.UnionType):
        return ()
    return tuple(argument for argument in get_args(kind) if argument is not types.NoneType)


def _is_repeated(arguments: tuple[Any, ...]) -> bool:
    return len(arguments) == 2 and arguments[1] is Ellipsis


def spelled(kind: Any, done: dict[Any, str] | None = None) -> str:
    """A type down to its last field, as text: what two programs must agree on to read each other's bytes."""
    done = {} if done is None else done
    if _is_class(kind):
        if kind not in done:
            done[kind] = ""
            fields = ", ".join(f"{name}: {spelled(hint, done)}" for name, hint in shape(kind))
            done[kind] = f"{kind.__name__}({fields})"
            return done[kind]
        return str(kind.__name__)
    if not get_args(kind):
        return str(getattr(kind, "__name__", kind))
    name = "union" if _alternatives(kind) else str(get_origin(kind))
    return (
        f"{name}[{', '.join(spelled(a, done) if get_origin(kind) is not Literal else repr(a) for a in get_args(kind))}]"
    )


# --- encoding -------------------------------------------------------------------------------------------------------


def encoder(kind: Any) -> Encode | None:
    """A function from a value to what cbor2 encodes, or None where the value is encoded as it is."""
    if attrs.has(kind):
        parts = [(name, encoder(hint)) for name, hint in shape(kind)]
        getters = ", ".join(f"v.{name}" if part is None else f"e{i}(v.{name})" for i, (name, part) in enumerate(parts))
        scope: dict[str, Any] = {f"e{i}": part for i, (_, part) in enumerate(parts) if part is not None}
        return cast("Encode", eval(f"lambda v: [{getters}]", scope))  # names come from our own classes only
    if _is_named_tuple(kind):
        assert all(encoder(hint) is None for _, hint in shape(kind)), f"{kind} must hold plain values"
        return None
    alternatives = _alternatives(kind)
    if len(alternatives) == 1:
        encode = encoder(alternatives[0])
        return None if encode is None else (lambda v: None if v is None else encode(v))
    if alternatives:
        return _union_encoder(alternatives)
    return _collection_encoder(get_origin(kind), get_args(kind))


def _union_encoder(alternatives: tuple[Any, ...]) -> Encode | None:
    if all(one in _PLAIN for one in alternatives):
        return None
    assert all(attrs.has(one) for one in alternatives), f"{alternatives} cannot be told apart"
    table = {one: (position, cast("Encode", encoder(one))) for position, one in enumerate(alternatives)}

    def encode(value: Any) -> Any:
        if value is None:
            return None
        position, fields = table[type(value)]
        return [position, fields(value)]

    return encode


def _collection_encoder(origin: Any, arguments: tuple[Any, ...]) -> Encode | None:
    if origin is tuple and not _is_repeated(arguments):
        assert all(encoder(argument) is None for argument in arguments), f"{arguments} must be plain values"
        return None
    if origin in (tuple, list, deque, set, frozenset):
        encode = encoder(arguments[0])
        if origin in (set, frozenset):
            assert encode is None, f"a set of {arguments[0]} has no order of its own"
            return sorted
        if origin is deque:
            return lambda v: [v.maxlen, list(v) if encode is None else [encode(item) for item in v]]
        return None if encode is None else (lambda v: [encode(item) for item in v])
    if origin is dict:
        assert encoder(arguments[0]) is None, f"{arguments[0]} is no plain key"
        encode = encoder(arguments[1])
        return lambda v: [[key, item if encode is None else encode(item)] for key, item in v.items()]
    return None


# --- decoding -------------------------------------------------------------------------------------------------------


def _fail(expected: str, value: object) -> Any:
    raise CodecError(f"expected {expected}, got {type(value).__name__}")


def array(value: Any, count: int | None, expected: str) -> list[Any]:
    """The value as a list, of ``count`` items when that is given."""
    if type(value) is not list or (count is not None and len(cast("list[Any]", value)) != count):
        raise CodecError(f"expected {expected}, got {type(cast('object', value)).__name__}")
    return cast("list[Any]", value)


def loads(data: bytes) -> Any:
    """CBOR as plain values. Raises :class:`CodecError`, whatever the bytes."""
    try:
        return cbor2.loads(data)
    except (cbor2.CBORDecodeError, ValueError, RecursionError, MemoryError, OverflowError) as error:
        raise CodecError(f"not CBOR: {type(error).__name__}") from error


def decoder(kind: Any) -> Decode:
    """The inverse of :func:`encoder`: raises :class:`CodecError`, or what a class raises that is given a bad value."""
    if _is_class(kind):
        return _class_decoder(kind)
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Literal:
        allowed = frozenset(arguments)
        return lambda v: v if type(v) is str and v in allowed else _fail(f"one of {sorted(allowed)}", v)
    if alternatives := _alternatives(kind):
        decode_one = decoder(alternatives[0]) if len(alternatives) == 1 else _union_decoder(alternatives)
        absent = types.NoneType in arguments
        return lambda v: None if v is None and absent else decode_one(v)
    if origin in (tuple, list, deque, set, frozenset, dict):
        return _collection_decoder(origin, arguments)
    if kind in _PLAIN:
        return lambda v: v if type(v) is kind else _fail(kind.__name__, v)
    raise TypeError(f"the codec does not model {kind!r}")


def _class_decoder(kind: Any) -> Decode:
    """One expression for each class, as for encoding: a loop over its fields takes half as long again, and every message pays it."""
    scope: dict[str, Any] = {"kind": kind, "array": array, "fail": _fail}
    parts: list[str] = []
    for i, (_, hint) in enumerate(shape(kind)):
        if hint in _PLAIN:
            parts.append(f"v[{i}] if type(v[{i}]) is {hint.__name__} else fail({hint.__name__!r}, v[{i}])")
        else:
            scope[f"d{i}"] = decoder(hint)
            parts.append(f"d{i}(v[{i}])")
    expected = f"{kind.__name__} of {len(parts)} fields"
    refuse = f"array(v, {len(parts)}, {expected!r})"
    source = f"lambda v: kind({', '.join(parts)}) if type(v) is list and len(v) == {len(parts)} else {refuse}"
    return cast("Decode", eval(source, scope))  # names come from our own classes only


def _union_decoder(alternatives: tuple[Any, ...]) -> Decode:
    if all(one in _PLAIN for one in alternatives):
        allowed = (
            {*alternatives, bool} if int in alternatives else set(alternatives)
        )  # a bool is an int to who wrote it
        return lambda v: v if type(v) in allowed else _fail(f"one of {alternatives}", v)
    decoders = [decoder(one) for one in alternatives]

    def decode(value: Any) -> Any:
        position, fields = array(value, 2, "[which class, fields]")
        if type(position) is not int or not 0 <= position < len(decoders):
            raise CodecError(f"no class has the number {position!r} here")
        return decoders[position](fields)

    return decode


def _collection_decoder(origin: Any, arguments: tuple[Any, ...]) -> Decode:
    decoders = [decoder(argument) for argument in arguments if argument is not Ellipsis]
    first = decoders[0]
    if origin is tuple and not _is_repeated(arguments):

        def build(value: Any) -> Any:
            items = array(value, len(decoders), f"an array of {len(decoders)}")
            return tuple([decode_item(item) for decode_item, item in zip(decoders, items, strict=True)])

        return build
    if origin is dict:
        pairs = _collection_decoder(tuple, arguments)
        return lambda v: dict([pairs(item) for item in array(v, None, "an array of pairs")])
    if origin is deque:

        def build_deque(value: Any) -> Any:
            longest, items = array(value, 2, "[longest, items]")
            if longest is not None and (type(longest) is not int or longest < 0):
                _fail("a length", longest)
            return deque([first(item) for item in array(items, None, "an array")], longest)

        return build_deque
    make = cast("Decode", origin)  # tuple, list, set or frozenset
    return lambda v: make([first(item) for item in array(v, None, "an array")])
