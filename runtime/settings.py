"""What an operator decides (R10–R13). The law kept here: a configuration is right as a whole or nothing is touched. A missing
key takes its default; an unknown key, a bad value, port ranges that cannot serve ``max_databases``, and the deprecated
keys of R81 each end in one :class:`SettingsError` that names file, line and key.

What there is to decide stands in :mod:`runtime.settings_sections`; ``python -m runtime.settings --markdown`` writes its page.
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import attrs

from runtime.settings_checks import OVERRIDES, check_ports, check_tls
from runtime.settings_file import Place, SettingsError, Value, read_file, read_text
from runtime.settings_kinds import Address, Kind, Unfit
from runtime.settings_sections import Settings
from runtime.settings_security import ApiKey, JwtIssuer

__all__ = ["Address", "ApiKey", "JwtIssuer", "Settings", "SettingsError", "fields_of", "load", "sections"]

DEPRECATED: Final = {
    "database.data_dir": "each database has its own directory below node.data_dir",
    "database.rqlite_port": "each database has its own port from database.port_range_http_start to .port_range_http_end",
    "database.rqlite_raft_port": "each database has its own port from database.port_range_raft_start to .port_range_raft_end",
    "database.rqlite_join_address": "members join by themselves; name other nodes in discovery.bootstrap_peers",
}
"""R81: keys of the single-cluster mode, and what replaces them."""


def fields_of(section: Any) -> Iterator[tuple[str, Kind[Any], Any, str]]:
    """(name, kind, default, text) of each setting of a section, a class or an object."""
    for attribute in attrs.fields(section if isinstance(section, type) else type(section)):
        yield attribute.name, attribute.metadata["kind"], attribute.default, attribute.metadata["text"]


def load(path: Path | None, overrides: Sequence[str] = (), *, files: bool = False) -> Settings:
    """The settings of a file, or the defaults; each override ``section.key=value`` comes after the file and is checked
    alike. ``files``: read what they name too, as the node itself will have to. Touches nothing. Raises :class:`SettingsError` for the
    first thing that is wrong."""
    given: dict[str, tuple[Place, Any]] = {}  # dotted key -> where it was written, and its value
    if path is not None:
        for section, value in read_file(path).items():
            for key, entry in _entries(section, value):
                given[f"{section}.{key}"] = (entry.place, _read(section, key, entry))
    for text in overrides:
        dotted, equals, written = text.partition("=")
        section, dot, key = dotted.strip().partition(".")
        if not equals or not dot:
            raise SettingsError(Place(OVERRIDES), "", f'"{text}" is not section.key=value')
        collection = _kind(section, key, Place(OVERRIDES)).collection
        value = read_text(written, OVERRIDES, collection=collection)
        given[f"{section}.{key}"] = (value.place, _read(section, key, value))
    settings = Settings(
        **{
            section.name: type(section.default)(
                **{
                    name: given[f"{section.name}.{name}"][1]
                    for name, *_ in fields_of(section.default)
                    if f"{section.name}.{name}" in given
                }
            )
            for section in attrs.fields(Settings)
        }
    )
    places, whole = {key: place for key, (place, _) in given.items()}, Place(str(path or OVERRIDES))
    check_ports(settings, places, whole)
    check_tls(settings.gateway, places, whole, files=files)
    return settings


def sections() -> dict[str, Any]:
    """The name of each section, and its defaults."""
    return {section.name: section.default for section in attrs.fields(Settings)}


def _entries(section: str, value: Value) -> Iterator[tuple[str, Value]]:
    _kinds(section, value.place)
    if value.data is None:  # every key of the section is commented out
        return
    if not isinstance(value.data, Mapping):
        raise SettingsError(value.place, section, "is a section: its keys stand below it, indented")
    yield from value.data.items()


def _kinds(section: str, place: Place) -> dict[str, Kind[Any]]:
    known = sections()
    if section not in known:
        elsewhere = [f"{name}.{section}" for name, default in known.items() if hasattr(default, section)]
        raise _unknown(place, section, known, elsewhere)
    return {name: kind for name, kind, *_ in fields_of(known[section])}


def _kind(section: str, key: str, place: Place) -> Kind[Any]:
    dotted = f"{section}.{key}"
    if dotted in DEPRECATED:
        raise SettingsError(place, dotted, f"is no longer used: {DEPRECATED[dotted]}")
    kinds = _kinds(section, place)
    if key not in kinds:
        elsewhere = [f"{name}.{key}" for name, default in sections().items() if hasattr(default, key)]
        raise _unknown(place, dotted, [f"{section}.{name}" for name in kinds], elsewhere)
    return kinds[key]


def _unknown(place: Place, key: str, known: Sequence[str] | Mapping[str, Any], elsewhere: list[str]) -> SettingsError:
    head, dot, last = key.rpartition(".")  # the section is right, only the last part is compared
    close = difflib.get_close_matches(last, [name.rpartition(".")[2] for name in known], n=1)
    likely = elsewhere or [head + dot + name for name in close]
    advice = f"did you mean {likely[0]}?" if likely else f"there are {', '.join(known)}"
    return SettingsError(place, key, f"is not known; {advice}")


def _read(section: str, key: str, value: Value) -> Any:
    kind = _kind(section, key, value.place)
    if value.data is None:
        raise SettingsError(
            value.place, f"{section}.{key}", "has no value; write one, or remove the line for the default"
        )
    try:
        return kind.read(value)
    except Unfit as unfit:
        raise SettingsError(unfit.place or value.place, f"{section}.{key}", str(unfit)) from None


if __name__ == "__main__":
    from runtime.settings_page import main

    sys.exit(main(sys.argv[1:]))
