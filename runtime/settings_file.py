"""A configuration file as values that know their line. The law kept here is R13: whatever is wrong with a file gives one
clear error that names the key and the line, so nothing is turned into plain dictionaries before everything was looked at.

Scalars are read by the core schema of YAML 1.2, by the few lines below (``yes`` is text, ``5:30`` is text), not by PyYAML's 1.1.
A key that stands twice is an error, not the last one winning; merge keys and tags are refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import yaml
from attrs import frozen
from yaml import MappingNode, Node, ScalarNode, SequenceNode

LARGEST: Final = 1 << 20
"""Bytes of a configuration file. A larger one is some other file, named by mistake."""

_TAG: Final = "tag:yaml.org,2002:"
_INT: Final = re.compile(r"[-+]?[0-9]+")
_FLOAT: Final = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")


class SettingsError(Exception):
    """The configuration cannot be used. Its text is one line: ``file:line: key: what is wrong and what to write``."""

    def __init__(self, place: Place, key: str, reason: str) -> None:
        super().__init__(f"{place}: {key}: {reason}" if key else f"{place}: {reason}")
        self.place = place
        self.key = key
        self.reason = reason


@frozen
class Place:
    """Where something was written: a file and its line, counted from 1, or (line 0) a source without lines."""

    source: str
    line: int = 0

    def __str__(self) -> str:
        return f"{self.source}:{self.line}" if self.line else self.source


@frozen
class Value:
    """``data`` as YAML reads it; ``written`` as it stands there, for messages. A mapping's entries have their key's place."""

    place: Place
    data: bool | int | float | str | tuple[Value, ...] | Mapping[str, Value] | None
    written: str


def read_file(path: Path) -> Mapping[str, Value]:
    """The top-level mapping of a file, empty for an empty file. Raises :class:`SettingsError`."""
    whole = Place(str(path))
    try:
        with path.open("rb") as file:
            raw = file.read(LARGEST + 1)
    except OSError as error:
        raise SettingsError(whole, "", f"cannot be read: {error.strerror or error}") from None
    if len(raw) > LARGEST:
        raise SettingsError(whole, "", f"is larger than {LARGEST} bytes: is it a configuration at all?")
    try:
        node = _compose(raw.decode())
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise SettingsError(Place(str(path), line), "", "is not UTF-8 text") from None
    except RecursionError:
        raise SettingsError(whole, "", "is nested too deeply to be a configuration") from None
    except yaml.YAMLError as error:
        raise _syntax(whole, error) from None
    if node is None or (isinstance(node, ScalarNode) and _scalar(node.value, node.style) is None):
        return {}
    value = _value(node, str(path), _line(node), "")
    if not isinstance(value.data, Mapping):
        raise SettingsError(
            value.place, "", "expected sections such as `node:` and `database:`, each with its keys below it"
        )
    return value.data


def read_text(text: str, source: str, *, collection: bool) -> Value:
    """The value of an override: a list or mapping in YAML's flow form if ``collection``, else a scalar as it stands, so that
    ``[::1]:8080`` needs no quotes. Raises :class:`SettingsError`."""
    place = Place(source)
    try:
        node = _compose(text) if collection else None
    except yaml.YAMLError as error:
        raise SettingsError(place, "", _syntax(place, error).reason) from None
    if node is not None:
        return _value(node, source, 0, "")
    # `--set logging.file=` is the empty text, not a value that was forgotten.
    return Value(place, _scalar(text, None if text else '"'), text)


def _compose(text: str) -> Node | None:
    # BaseLoader gives every scalar as text: what it means is decided below.
    return yaml.compose(text, Loader=yaml.BaseLoader)


def _syntax(whole: Place, error: yaml.YAMLError) -> SettingsError:
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        problem = " ".join(" ".join(part for part in (error.context, error.problem) if part).split())
        return SettingsError(Place(whole.source, mark.line + 1 if mark else 0), "", f"is not valid YAML: {problem}")
    return SettingsError(whole, "", f"is not valid YAML: {str(error).splitlines()[0]}")


def _line(node: Node) -> int:
    return node.start_mark.line + 1


def _value(node: Node, source: str, line: int, key: str) -> Value:
    """``line`` 0: a source without lines. ``key``: dotted, for messages."""
    place = Place(source, line)
    if isinstance(node, ScalarNode) and node.tag == f"{_TAG}str":
        return Value(place, _scalar(node.value, node.style), node.value)
    if isinstance(node, SequenceNode) and node.tag == f"{_TAG}seq":
        items = enumerate(node.value)
        return Value(
            place, tuple(_value(item, source, line and _line(item), f"{key}[{n}]") for n, item in items), "a list"
        )
    if isinstance(node, MappingNode) and node.tag == f"{_TAG}map":
        return Value(place, _mapping(node.value, source, line, key), "a section")
    raise SettingsError(place, key, f"the tag {node.tag} is not understood; write a plain value")


def _mapping(content: list[tuple[Node, Node]], source: str, line: int, key: str) -> Mapping[str, Value]:
    entries: dict[str, Value] = {}
    for key_node, part in content:
        here = Place(source, line and _line(key_node))
        if not isinstance(key_node, ScalarNode):
            raise SettingsError(here, key, "a key has to be plain text")
        name = key_node.value
        dotted = f"{key}.{name}" if key else name
        if name in entries:
            raise SettingsError(
                here, dotted, f"stands twice, first on line {entries[name].place.line}; remove one of them"
            )
        entries[name] = _value(part, source, here.line, dotted)
    return entries


def _scalar(text: str, style: str | None) -> bool | int | float | str | None:
    """The core schema; ``style`` None: plain, everything else is quoted and so is text."""
    if style is not None:
        return text
    if text in ("", "~", "null", "Null", "NULL"):
        return None
    if text in ("true", "True", "TRUE", "false", "False", "FALSE"):
        return text.lower() == "true"
    if _INT.fullmatch(text):
        return int(text)
    return float(text) if _FLOAT.fullmatch(text) else text
