"""The kinds of values that a setting can have: how one is read, what is refused, and how it is written. The law kept here is
R13: a bad value gives one error that says what it is not, and what to write instead.

A kind's ``read`` raises :class:`Unfit` with the reason alone; who calls knows the key and adds key and line.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Generic, NamedTuple, TypeVar

from attrs import frozen

from runtime import durations
from runtime.settings_file import Place, Value

T = TypeVar("T")

_SIZES: Final = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_SIZE: Final = re.compile(r"(\d+) ?(B|KiB|MiB|GiB)")
_HOST: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")
_ADDRESS: Final = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^:\[\]]+)):(\d{1,5})")
_PEER: Final = re.compile(r"[1-9A-HJ-NP-Za-km-z]{40,64}")
_ORIGIN: Final = re.compile(r"https?://[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?(?::\d{1,5})?")


class Unfit(ValueError):
    """A value that its setting does not take. ``place``: of the part that is wrong, None for the whole value."""

    def __init__(self, reason: str, place: Place | None = None) -> None:
        super().__init__(reason)
        self.place = place


@frozen
class Kind(Generic[T]):
    """``name``: for the table of settings. ``write``: the value as YAML. ``collection``: a list, or a mapping."""

    name: str
    read: Callable[[Value], T]
    write: Callable[[T], str]
    collection: bool = False


class Address(NamedTuple):
    """Where to listen. Port 0: any free one."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def shown(value: Value) -> str:
    """A value as a message quotes it."""
    return (
        "nothing"
        if value.data is None
        else value.written
        if not isinstance(value.data, str)
        else f'"{value.written[:80]}"'
    )


def integer(least: int, most: int) -> Kind[int]:
    def read(value: Value) -> int:
        # bool is an int to Python; `max_databases: true` is a mistake all the same.
        if not isinstance(value.data, int) or isinstance(value.data, bool):
            raise Unfit(f"{shown(value)} is not a whole number")
        if not least <= value.data <= most:
            raise Unfit(f"{value.data} is not between {least} and {most}")
        return value.data

    return Kind(f"number, {least} to {most}", read, str)


def duration(least: float, most: float, *, zero: str = "") -> Kind[float]:
    """Seconds. ``zero``: what 0 means, if it is allowed beside the bounds."""

    def read(value: Value) -> float:
        advice = "write 60s, 500ms, 5m, 1h or 0" if zero else "write 60s, 500ms, 5m or 1h"
        if value.data in (0, "0") and not isinstance(value.data, bool):
            if zero or least == 0:
                return 0.0
            raise Unfit(f"0 is not possible here; the least is {written_duration(least)}")
        if isinstance(value.data, int | float) and not isinstance(value.data, bool):
            raise Unfit(f"{value.written} lacks its unit ({advice})")
        seconds = durations.seconds(value.data) if isinstance(value.data, str) else None
        if seconds is None:
            raise Unfit(f"{shown(value)} is not a duration ({advice})")
        if not least <= seconds <= most:
            raise Unfit(f'"{value.data}" is not between {written_duration(least)} and {written_duration(most)}')
        return seconds

    name = f"duration, {written_duration(least)} to {written_duration(most)}"
    return Kind(f"{name}; 0 = {zero}" if zero else name, read, written_duration)


def written_duration(seconds: float) -> str:
    """The shortest exact form: 60 is ``60s``, 0.25 is ``250ms``, 7200 is ``2h``."""
    if seconds == 0:
        return "0"
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds % size == 0 and seconds >= size + (unit == "m"):  # one minute is 60s, as the guide writes it
            return f"{int(seconds // size)}{unit}"
    number, unit = (seconds, "s") if seconds >= 1 else (seconds * 1000, "ms")
    return f"{number:.3f}".rstrip("0").rstrip(".") + unit


def size(least: int, most: int) -> Kind[int]:
    """Bytes."""

    def read(value: Value) -> int:
        match = _SIZE.fullmatch(value.data) if isinstance(value.data, str) else None
        if match is None:
            raise Unfit(f"{shown(value)} is not a size (write 64KiB, 1MiB or 4096B)")
        number = int(match[1]) * _SIZES[match[2]]
        if not least <= number <= most:
            raise Unfit(f'"{value.data}" is not between {written_size(least)} and {written_size(most)}')
        return number

    return Kind(f"size, {written_size(least)} to {written_size(most)}", read, written_size)


def written_size(number: int) -> str:
    """The shortest exact form: 1048576 is ``1MiB``."""
    unit = next(unit for unit in ("GiB", "MiB", "KiB", "B") if number % _SIZES[unit] == 0 and (number or unit == "B"))
    return f"{number // _SIZES[unit]}{unit}"


def switch() -> Kind[bool]:
    """On or off."""

    def read(value: Value) -> bool:
        if not isinstance(value.data, bool):
            raise Unfit(f"{shown(value)} is neither true nor false")
        return value.data

    return Kind("true or false", read, lambda on: "true" if on else "false")


def choice(*words: str) -> Kind[Any]:
    """One of a few words; the field's own type is their Literal."""

    def read(value: Value) -> str:
        if value.data not in words:
            raise Unfit(f"{shown(value)} is none of {', '.join(words)}")
        return str(value.data)

    return Kind(" or ".join(f"`{word}`" for word in words), read, str)


def text_of(value: Value, what: str) -> str:
    if not isinstance(value.data, str) or not value.data or not value.data.isprintable():
        raise Unfit(f"{shown(value)} is not {what}")
    return value.data


def _read_path(value: Value) -> Path:
    return Path(text_of(value, "the name of a file or directory")).expanduser()


def _read_path_or_nothing(value: Value) -> Path | None:
    return None if value.data == "" else _read_path(value)


def _write_path(path: Path | None) -> str:
    if path is None:
        return '""'
    return str(path) if path.is_absolute() else f"./{path}"


PATH: Final = Kind("path", _read_path, _write_path)
PATH_OR_NOTHING: Final = Kind('path; "" = none', _read_path_or_nothing, _write_path)


def _read_address(value: Value) -> Address:
    match = _ADDRESS.fullmatch(text_of(value, "an address such as 127.0.0.1:8080"))
    if match is None or int(match[3]) > 65535:
        raise Unfit(f"{shown(value)} is not an address (write 127.0.0.1:8080, 0.0.0.0:8080 or [::1]:8080)")
    host = match[1] or match[2]
    if not _is_ip(host, 6 if match[1] else 4) and (
        match[1] or not _HOST.fullmatch(host) or host.replace(".", "").isdigit()
    ):
        raise Unfit(f"{shown(value)} names no host (write 127.0.0.1:8080, 0.0.0.0:8080 or [::1]:8080)")
    return Address(host, int(match[3]))


ADDRESS: Final = Kind("host:port; port 0 = any free one", _read_address, str)
ADDRESS_OR_NOTHING: Final = Kind[Address | None](
    'host:port; "" = nowhere',
    lambda value: None if value.data == "" else _read_address(value),
    lambda address: '""' if address is None else str(address),
)


def _read_host_or_nothing(value: Value) -> str:
    if value.data == "":
        return ""
    text = text_of(value, "an address or a host name")
    if not _is_ip(text, 4) and not _is_ip(text, 6) and (not _HOST.fullmatch(text) or text.replace(".", "").isdigit()):
        raise Unfit(f"{shown(value)} is not an address or a host name (write 192.0.2.7 or db1.example.org)")
    if text in ("0.0.0.0", "::"):  # noqa: S104 (compared with, not bound)
        raise Unfit(f"{shown(value)} is no address that others could use (write 192.0.2.7 or db1.example.org)")
    return text


HOST_OR_NOTHING: Final = Kind('address or host name; "" = chosen', _read_host_or_nothing, lambda host: host or '""')


def _is_ip(text: str, version: int) -> bool:
    try:
        return ipaddress.ip_address(text).version == version
    except ValueError:
        return False


def _multiaddr(value: Value, *, peer: bool) -> str:
    example = "/ip4/192.0.2.7/tcp/4001/p2p/12D3KooW…" if peer else "/ip4/0.0.0.0/tcp/4001"
    text = text_of(value, f"a multiaddr such as {example}")
    parts = text.split("/")[1:]
    protocols = ("ip4", "ip6", "dns", "dns4", "dns6") if peer else ("ip4", "ip6")
    if not text.startswith("/") or len(parts) != (6 if peer else 4) or parts[0] not in protocols or parts[2] != "tcp":
        raise Unfit(f"{shown(value)} is not a multiaddr such as {example}")
    host_fits = _is_ip(parts[1], int(parts[0][2])) if parts[0] in ("ip4", "ip6") else bool(_HOST.fullmatch(parts[1]))
    port_fits = parts[3].isascii() and parts[3].isdigit() and peer <= int(parts[3]) <= 65535
    if not host_fits or not port_fits:
        raise Unfit(
            f"{shown(value)}: {parts[3] if host_fits else parts[1]} is not {'a port' if host_fits else 'a host'}"
        )
    if peer and (parts[4] != "p2p" or not _PEER.fullmatch(parts[5])):
        raise Unfit(f"{shown(value)} lacks the peer id: it has to end in /p2p/12D3KooW…")
    return text


def list_of(read: Callable[[Value], T], what: str) -> Callable[[Value], tuple[T, ...]]:
    def read_all(value: Value) -> tuple[T, ...]:
        if not isinstance(value.data, tuple):
            raise Unfit(f"{shown(value)} is not a list of {what}")
        items: list[T] = []
        for part in value.data:
            try:
                item = read(part)
            except Unfit as unfit:
                raise Unfit(str(unfit), unfit.place or part.place) from None
            if item in items:
                raise Unfit(f"{shown(part)} stands twice", part.place)
            items.append(item)
        return tuple(items)

    return read_all


def _write_all(items: tuple[str, ...]) -> str:
    return "[" + ", ".join(f'"{item}"' for item in items) + "]"


def _at_least_one(value: Value) -> tuple[str, ...]:
    items = list_of(lambda part: _multiaddr(part, peer=False), "multiaddrs")(value)
    if not items:
        raise Unfit("needs at least one address")
    return items


LISTEN_ADDRESSES: Final = Kind("list of multiaddrs", _at_least_one, _write_all, collection=True)
PEER_ADDRESSES: Final = Kind(
    "list of multiaddrs with /p2p/",
    list_of(lambda part: _multiaddr(part, peer=True), "multiaddrs"),
    _write_all,
    collection=True,
)


def _origin(value: Value) -> str:
    text = text_of(value, "an origin such as https://app.example.org")
    if text != "*" and not _ORIGIN.fullmatch(text):
        # A browser compares whole texts: with a path or a slash at the end it would never match.
        raise Unfit(f"{shown(value)} is not an origin (write https://app.example.org, without a path)")
    return text


ORIGINS: Final = Kind("list of origins", list_of(_origin, "origins"), _write_all, collection=True)
