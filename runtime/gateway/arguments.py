"""Arguments of a statement, as rqlited's HTTP takes them. The laws kept here:

- They are bounded in number (F85) and never become part of a statement's text.
- rqlited takes no bytes: an argument ``{"base64": …}`` goes as hexadecimal text, and its parameter becomes ``unhex(parameter)``, so that
  numbering and names stay as they were.
"""

from __future__ import annotations

from typing import Any

from attrs import frozen

from runtime.gateway import vetting
from runtime.gateway.bodies import Arguments, Blob
from runtime.gateway.problems import Refusal


@frozen
class Bound:
    """A statement and its arguments, as rqlited takes them."""

    sql: str
    args: list[Any] | dict[str, Any]

    @property
    def array(self) -> list[Any]:
        """Of one statement in the body of a request."""
        if isinstance(self.args, dict):
            return [self.sql, self.args] if self.args else [self.sql]
        return [self.sql, *self.args]


def bind(sql: str, args: Arguments, most: int) -> Bound:
    """``sql`` must have been vetted. Raises :class:`Refusal`."""
    if not args:
        return Bound(sql, [])
    if len(args) > most:
        raise Refusal("too-many-parameters", f"{len(args)} arguments; at most {most} are allowed")
    if isinstance(args, dict):
        names = frozenset(name for name, value in args.items() if isinstance(value, Blob))
        return Bound(_unhex(sql, names), {n: _hex(v) for n, v in args.items()}) if names else Bound(sql, args)
    numbers = frozenset(n for n, value in enumerate(args, 1) if isinstance(value, Blob))
    return Bound(_unhex(sql, numbers), [_hex(value) for value in args]) if numbers else Bound(sql, args)


def _hex(value: Any) -> Any:
    return value.base64.hex() if isinstance(value, Blob) else value


def _unhex(sql: str, blobs: frozenset[str] | frozenset[int]) -> str:
    """``blobs``: names without their prefix, or numbers as SQLite gives them to parameters."""
    raw = sql.encode()
    parts: list[bytes] = []
    numbers: dict[str, int] = {}
    last = end = 0
    for offset, name in vetting.parameters(sql):
        if name == "?":
            number = last + 1
        elif name.startswith("?"):
            number = int(name[1:])
        else:
            number = numbers.setdefault(name, last + 1)
        last = max(last, number)
        if name[1:] in blobs or number in blobs:
            after = offset + len(name.encode())
            parts += [raw[end:offset], b"unhex(", raw[offset:after], b")"]
            end = after
    return b"".join([*parts, raw[end:]]).decode()
