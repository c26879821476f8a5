"""A configuration file as values that know their line. The law kept here is R13: whatever is wrong with a file gives one
clear error that names the key and the line, so nothing is turned into plain dictionaries before everything was looked at.

YAML 1.2 by its core schema (``yes`` is text, ``0o17`` is a number). A key that stands twice is an error, not the last one
winning; merge keys and tags of other languages are refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, cast

from attrs import frozen
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

LARGEST: Final = 1 << 20
"""Bytes of a configuration file. A larger one is some other file, named by mistake."""

_TAG: Final = "tag:yaml.org,2002:"


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
    except YAMLError as error:
        raise _syntax(whole, error) from None
    if node is None or cast(Any, node).tag == f"{_TAG}null":
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
    except YAMLError as error:
        raise SettingsError(place, "", _syntax(place, error).reason) from None
    if node is not None:
        return _value(node, source, 0, "")
    if not text:  # `--set logging.file=` is the empty text, not a value that was forgotten
        return Value(place, "", "")
    tag = str(_yaml().resolver.resolve(ScalarNode, text, (True, False)))
    return Value(place, _scalar(tag, text, place, ""), text)


def _yaml() -> Any:
    return YAML(typ="safe", pure=True)


def _compose(text: str) -> Node | None:
    return cast("Node | None", _yaml().compose(text))


def _syntax(whole: Place, error: YAMLError) -> SettingsError:
    if isinstance(error, MarkedYAMLError):
        mark: Any = cast(Any, error).problem_mark or cast(Any, error).context_mark
        problem = " ".join(str(part) for part in (cast(Any, error).context, cast(Any, error).problem) if part)
        line = mark.line + 1 if mark is not None else 0
        return SettingsError(Place(whole.source, line), "", f"is not valid YAML: {' '.join(problem.split())}")
    return SettingsError(whole, "", f"is not valid YAML: {str(error).splitlines()[0]}")


def _line(node: Node) -> int:
    return cast(int, cast(Any, node).start_mark.line) + 1


def _value(node: Node, source: str, line: int, key: str) -> Value:
    """``line`` 0: a source without lines. ``key``: dotted, for messages."""
    place = Place(source, line)
    tag, content = cast(str, cast(Any, node).tag), cast(Any, node).value
    if isinstance(node, ScalarNode):
        return Value(place, _scalar(tag, content, place, key), content)
    if isinstance(node, SequenceNode) and tag == f"{_TAG}seq":
        parts = enumerate(cast(list[Node], content))
        items = tuple(_value(part, source, line and _line(part), f"{key}[{n}]") for n, part in parts)
        return Value(place, items, "a list")
    if isinstance(node, MappingNode) and tag == f"{_TAG}map":
        return Value(place, _mapping(cast(list[tuple[Node, Node]], content), source, line, key), "a section")
    raise SettingsError(place, key, f"the tag {tag} is not understood; write a plain value")


def _mapping(content: list[tuple[Node, Node]], source: str, line: int, key: str) -> Mapping[str, Value]:
    entries: dict[str, Value] = {}
    for key_node, part in content:
        here = Place(source, line and _line(key_node))
        if not isinstance(key_node, ScalarNode):
            raise SettingsError(here, key, "a key has to be plain text")
        name = cast(str, cast(Any, key_node).value)
        dotted = f"{key}.{name}" if key else name
        if name in entries:
            raise SettingsError(
                here, dotted, f"stands twice, first on line {entries[name].place.line}; remove one of them"
            )
        entries[name] = _value(part, source, here.line, dotted)
    return entries


def _scalar(tag: str, text: str, place: Place, key: str) -> bool | int | float | str | None:
    match tag.removeprefix(_TAG):
        case "null":
            return None
        case "bool":
            return text.lower() == "true"
        case "int":
            try:
                return int(text.replace("_", ""), 0)
            except ValueError:  # 007: a number to YAML, decimal with leading zeros
                return int(text.replace("_", ""))
        case "float":
            try:
                return float(text.replace("_", ""))
            except ValueError:  # .inf, .nan: no setting takes them, as text they are refused with their own words
                return text
        case "str" | "timestamp":
            return text
        case other:
            raise SettingsError(place, key, f"the tag {other} is not understood; write a plain value")
