"""Everything that a call can end with, but its result: one small tree, by the gateway's problem types.

The law kept here: an exception says what the caller may do next. ``may_have_committed`` is true exactly where a write may have
happened (F86), and then it is a :class:`MayHaveCommitted`, whatever else went wrong; all others did nothing.
"""

from __future__ import annotations

from typing import Final

from attrs import frozen

PREFIX: Final = "urn:torpor:problem:"


@frozen
class Problem:
    """What an answer says of a failure (RFC 9457), or what the client saw of one that had no answer.

    ``type``: without its prefix; the client's own are ``unreachable``, ``broken`` and ``timeout``. ``retry_after``: seconds, None when
    the gateway gives none. ``idempotency_key``: the one that the write had; with it, it may be repeated.
    """

    type: str
    detail: str
    status: int | None = None
    request_id: str | None = None
    may_have_committed: bool = False
    retry_after: float | None = None
    idempotency_key: str | None = None


class TorporError(Exception):
    """A call failed. Carries what its :class:`Problem` says."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        self.problem = problem

    @property
    def type(self) -> str:
        return self.problem.type

    @property
    def detail(self) -> str:
        return self.problem.detail

    @property
    def status(self) -> int | None:
        return self.problem.status

    @property
    def request_id(self) -> str | None:
        return self.problem.request_id

    @property
    def may_have_committed(self) -> bool:
        return self.problem.may_have_committed

    @property
    def retry_after(self) -> float | None:
        return self.problem.retry_after

    @property
    def idempotency_key(self) -> str | None:
        return self.problem.idempotency_key

    def __str__(self) -> str:
        quoted = f" (request {self.request_id})" if self.request_id else ""
        return f"{self.type}: {self.detail}{quoted}"


class Refused(TorporError):
    """The request, as it is, will not be answered: change it."""


class SQLError(Refused):
    """SQLite refused a statement: its grammar, its tables, its constraints."""


class SQLRefused(Refused):
    """The gateway does not let this statement in, whatever SQLite would say to it."""


class Unauthorized(Refused):
    """The key is missing, wrong, expired or revoked."""


class Forbidden(Refused):
    """The key is valid; its scope is too small."""


class TooLarge(Refused):
    """The request, or its result, is beyond a bound of the gateway."""


class Unavailable(TorporError):
    """Nothing was done, and the cause may pass."""


class Unreachable(Unavailable):
    """No gateway could be connected to."""


class Timeout(Unavailable):
    """There was no answer in time; nothing was written."""


class MayHaveCommitted(TorporError):
    """The outcome of a write is not known: look before you repeat it, or repeat it with the ``idempotency_key`` that it had."""


class ServerFailed(TorporError):
    """The gateway, or the database's storage, failed."""


_BY_TYPE: Final[dict[str, type[TorporError]]] = {
    "sql-error": SQLError,
    "sql-refused": SQLRefused,
    "unauthorized": Unauthorized,
    "forbidden": Forbidden,
    "body-too-large": TooLarge,
    "sql-too-long": TooLarge,
    "too-many-parameters": TooLarge,
    "too-many-statements": TooLarge,
    "too-many-rows": TooLarge,
    "result-too-large": TooLarge,
    "unreachable": Unreachable,
    "timeout": Timeout,
    "broken": Unavailable,
}


def error_of(problem: Problem) -> TorporError:
    """The exception for a problem; of a type that is not known (a newer gateway's), the status decides."""
    if problem.may_have_committed:
        return MayHaveCommitted(problem)
    named = _BY_TYPE.get(problem.type)
    if named is not None:
        return named(problem)
    status = problem.status or 503
    if status < 500:
        return Refused(problem)
    if status == 504:
        return Timeout(problem)
    return Unavailable(problem) if status in (502, 503) else ServerFailed(problem)
