"""The exceptions of DB-API 2.0 (PEP 249), and which of them a failed call is.

The law kept here: whoever catches a DB-API exception can still find out what the gateway said (``problem``), and so whether a write may
have happened.
"""

from __future__ import annotations

from typing import Final

from runtime.client.errors import (
    Problem,
    Refused,
    ServerFailed,
    SQLError,
    SQLRefused,
    TooLarge,
    TorporError,
)


class Warning(Exception):  # noqa: A001  (PEP 249 names it)
    """Part of PEP 249; never raised."""


class Error(Exception):
    """``problem``: what the gateway said; None where it was not asked."""

    problem: Problem | None = None

    @property
    def may_have_committed(self) -> bool:
        return self.problem is not None and self.problem.may_have_committed


class InterfaceError(Error):
    """This module was used wrongly: a closed cursor, a value that SQLite cannot store."""


class DatabaseError(Error):
    pass


class DataError(DatabaseError):
    """Beyond a bound of the gateway."""


class OperationalError(DatabaseError):
    """No gateway, no answer in time, a key that is not valid; a write whose outcome is not known."""


class IntegrityError(DatabaseError):
    """A constraint would not hold."""


class InternalError(DatabaseError):
    """The gateway, or the database's storage, failed."""


class ProgrammingError(DatabaseError):
    """No such table, a wrong number of arguments, no SQL."""


class NotSupportedError(DatabaseError):
    """The gateway does not let this statement in, or cannot do what a method asks."""


_CONSTRAINTS: Final = ("constraint failed", "datatype mismatch")


def translated(error: TorporError) -> Error:
    """The DB-API exception for a failed call."""
    match error:
        case SQLError() if any(words in error.detail.lower() for words in _CONSTRAINTS):
            kind = IntegrityError
        case SQLRefused():
            kind = NotSupportedError
        case TooLarge():
            kind = DataError
        case ServerFailed():
            kind = InternalError
        case SQLError():
            kind = ProgrammingError
        case Refused() if error.status not in (401, 403):
            kind = ProgrammingError
        case _:
            kind = OperationalError
    made = kind(str(error))
    made.problem = error.problem
    return made
