"""Names of databases, as clients give them. The law kept here is R3, F82: a name is checked before anything is made of it."""

from __future__ import annotations

from functools import lru_cache

from protocol.ids import DatabaseName, InvalidName
from runtime.gateway.problems import Refusal


@lru_cache(4096)
def checked(app: str, name: str) -> str:
    """The name, if it is a valid one. Raises :class:`Refusal`."""
    try:
        return DatabaseName(app, name).name
    except InvalidName as error:
        raise Refusal("invalid-name", str(error)) from None
