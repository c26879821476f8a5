"""Where a database is, in one text: ``torpor://KEY@HOST:PORT/APP/DATABASE``. The law kept here: what is not understood is refused, since
an option that is silently ignored is a safeguard that is silently off.

Options follow a question mark: ``peer=HOST:PORT`` (another gateway, any number of them), ``tls=true``, ``autocommit=false``, ``timeout=SECONDS``,
``consistency=strong``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from urllib.parse import parse_qsl, unquote, urlsplit

from attrs import frozen

from runtime.client.calls import Consistency

SCHEME: Final = "torpor"
DEFAULT_PORT: Final = 8080


@frozen
class Where:
    """A database, and how to reach it; options that are not given are None."""

    app: str
    database: str
    key: str
    peers: tuple[str, ...]
    autocommit: bool | None = None
    timeout: float | None = None
    consistency: Consistency | None = None


def parsed(dsn: str) -> Where:
    """Raises ValueError."""
    url = urlsplit(dsn)
    if url.scheme != SCHEME:
        raise ValueError(f"an address is {SCHEME}://KEY@HOST:PORT/APP/DATABASE")
    query = parse_qsl(url.query, keep_blank_values=True, strict_parsing=bool(url.query))
    return where(unquote(url.username or ""), url.hostname, url.port, unquote(url.path.lstrip("/")), query)


def where(key: str, host: str | None, port: int | None, path: str, query: Sequence[tuple[str, str]]) -> Where:
    """The same in its parts. Raises ValueError."""
    app, slash, database = path.partition("/")
    if not (key and host and app and slash and database):
        raise ValueError(f"an address is {SCHEME}://KEY@HOST:PORT/APP/DATABASE")
    others: list[str] = []
    autocommit: bool | None = None
    timeout: float | None = None
    consistency: Consistency | None = None
    scheme = "http"
    for name, value in query:
        match name:
            case "peer":
                others.append(value)
            case "tls":
                scheme = "https" if _switch(name, value) else "http"
            case "autocommit":
                autocommit = _switch(name, value)
            case "timeout":
                timeout = float(value)
            case "consistency" if value in ("weak", "strong", "none"):
                consistency = value
            case _:
                raise ValueError(f"{name}={value} is not understood")
    bracketed = f"[{host}]" if ":" in host else host
    peers = (f"{bracketed}:{port or DEFAULT_PORT}", *others)
    addresses = tuple(f"{scheme}://{peer}" for peer in peers)
    return Where(app, database, key, addresses, autocommit, timeout, consistency)


def _switch(name: str, value: str) -> bool:
    if value not in ("true", "false"):
        raise ValueError(f"{name} is true or false, not {value!r}")
    return value == "true"
