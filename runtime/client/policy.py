"""Which gateway, how often, and until when: a conversation without I/O, in the manner of h11. :func:`conversation` yields what is to be done
(:class:`Send`, :class:`Pause`) and is sent what came of it (:class:`Answered`, :class:`Failed`, :class:`Rested`); its return value is the
call's. The two clients carry this out, and decide nothing.

The law kept here: nothing happens twice that was asked for once (F86). A request is sent again only if one of these holds:

- no byte of it was sent: the connection was not made;
- a gateway answered that it did nothing, for a cause that passes (``stopping``, ``busy``, ``unavailable``, …);
- it only reads, or it carries an idempotency key.

Everything else that ends without an answer is :class:`~runtime.client.errors.MayHaveCommitted`.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any, Final, TypeAlias, TypeVar

import orjson
from attrs import evolve, frozen

from runtime.client.calls import Call
from runtime.client.errors import PREFIX, Problem, error_of

T = TypeVar("T")

PASSING: Final = frozenset({"stopping", "busy", "unavailable", "not-a-member", "members-unheard"})
"""Problems of the moment, with which a gateway says that nothing was done: another gateway, or the same one soon, may do it."""
_UNKNOWN: Final = frozenset({502, 503, 504})
"""Statuses that a proxy in between gives in its own words: what the gateway did, if anything, is not known."""

FIRST_PAUSE: Final = 0.05
LONGEST_PAUSE: Final = 1.0
"""Seconds between two rounds through all gateways; doubled each time, and no less than half of it by chance."""
AVOIDED: Final = 2.0
"""Seconds for which a gateway that failed is asked last."""


@frozen
class Send:
    """Send the call to ``peer``; its answer has to be complete within ``timeout`` seconds."""

    peer: str
    timeout: float


@frozen
class Pause:
    seconds: float


@frozen
class Answered:
    now: float
    status: int
    headers: Any
    body: bytes


@frozen
class Failed:
    """There is no answer. ``sent``: a byte of the request may have reached the gateway. ``late``: the timeout ended it."""

    now: float
    sent: bool
    why: str
    late: bool = False


@frozen
class Rested:
    now: float


Conversation: TypeAlias = Generator[Send | Pause, Answered | Failed | Rested, T]


class Gateways:
    """The gateways of a client, and which to ask first: the one that answered last; those that failed a moment ago, last.

    Shared by all threads and tasks of a client: each change is one assignment."""

    def __init__(self, peers: Sequence[str]) -> None:
        if isinstance(peers, str) or not peers:
            raise ValueError("peers are the addresses of gateways, at least one: ['http://127.0.0.1:8080']")
        for peer in peers:
            if not peer.startswith(("http://", "https://")):
                raise ValueError(f"{peer!r} is no address of a gateway: http://host:port or https://host:port")
        self._peers = tuple(dict.fromkeys(peer.rstrip("/") for peer in peers))
        self._first = self._peers[0]
        self._failed: dict[str, float] = {}

    def order(self, now: float) -> list[str]:
        at = self._peers.index(self._first)
        turned = self._peers[at:] + self._peers[:at]
        return sorted(turned, key=lambda peer: self._failed.get(peer, now) > now)

    def answered(self, peer: str) -> None:
        self._first = peer
        self._failed.pop(peer, None)

    def failed(self, peer: str, now: float) -> None:
        self._failed[peer] = now + AVOIDED


def conversation(
    call: Call[T], gateways: Gateways, *, now: float, timeout: float, patience: float, chance: float
) -> Conversation[T]:
    """One call, to its end. ``timeout``: seconds for all of it. ``patience``: seconds in which what certainly did not happen is tried again;
    each gateway is asked once, however small it is. ``chance``: 0 to 1, so that clients which failed together do not come back together.
    Raises :class:`~runtime.client.errors.TorporError`."""
    deadline, patient = now + timeout, now + min(patience, timeout)
    pause = FIRST_PAUSE * (1 + chance)
    doubt = False  # an earlier try may have committed: whatever the last one says, that stays
    while True:
        problem = None
        for peer in gateways.order(now):
            outcome = yield Send(peer, deadline - now)
            assert not isinstance(outcome, Rested)
            now = outcome.now
            if isinstance(outcome, Answered) and 200 <= outcome.status < 300:
                gateways.answered(peer)
                return _read(call, peer, outcome)
            problem, again = _judged(call, peer, outcome)
            doubt = doubt or problem.may_have_committed
            problem = evolve(problem, may_have_committed=doubt, idempotency_key=call.idempotency_key)
            if not again:
                raise error_of(problem)
            gateways.failed(peer, now)
            if now >= deadline:
                raise error_of(problem if problem.type == "unreachable" else evolve(problem, type="timeout"))
        assert problem is not None  # there is at least one gateway
        wait = max(pause, problem.retry_after or 0.0)
        if now + wait > patient:
            raise error_of(problem)
        now = (yield Pause(wait)).now
        pause = min(2 * pause, LONGEST_PAUSE)


def _read(call: Call[T], peer: str, answer: Answered) -> T:
    """The value of a good answer; one that is not understood is of something else than a gateway."""
    try:
        return call.read(answer.body)
    except (ValueError, LookupError, TypeError, AttributeError):
        detail = f"{peer}: the answer is none of a gateway"
        problem = Problem("not-understood", detail, 502, may_have_committed=call.writes)
        raise error_of(evolve(problem, idempotency_key=call.idempotency_key)) from None


def _judged(call: Call[Any], peer: str, outcome: Answered | Failed) -> tuple[Problem, bool]:
    """What the outcome means, and whether the call may be sent again."""
    unsure = call.writes
    if isinstance(outcome, Failed):
        if not outcome.sent:
            return Problem("unreachable", f"{peer}: {outcome.why}"), True
        kind = "timeout" if outcome.late else "broken"
        problem = Problem(kind, f"{peer}: {outcome.why}", may_have_committed=unsure)
        return problem, call.repeatable and not outcome.late
    problem = problem_of(outcome, unsure=unsure)
    if problem.may_have_committed:
        return problem, call.repeatable and (problem.status or 0) in _UNKNOWN
    return problem, problem.type in PASSING


def problem_of(answer: Answered, *, unsure: bool) -> Problem:
    """What an answer that is no good one says. One that is no problem document is not of a gateway: a proxy's in between, or of no
    gateway at all."""
    try:
        told: Any = orjson.loads(answer.body)
        kind = str(told["type"])
        known = kind.startswith(PREFIX)
        detail = str(told["detail"])
        request_id, unknown = told.get("request_id"), told.get("may_have_committed") is True
    except (ValueError, LookupError, TypeError, AttributeError):
        known = unknown = False
        kind = detail = request_id = None
    if kind is None or detail is None or not known:
        passes = answer.status in _UNKNOWN or answer.status == 429
        return Problem(
            "unavailable" if passes else "not-understood",
            f"the answer, of status {answer.status}, is none of a gateway",
            answer.status,
            may_have_committed=unsure and answer.status >= 500,
        )
    return Problem(
        kind.removeprefix(PREFIX),
        detail,
        answer.status,
        request_id,
        unknown,
        _seconds(answer.headers.get("retry-after")),
    )


def _seconds(text: str | None) -> float | None:
    """Of a Retry-After, which may also be a date: then None."""
    return float(text) if text is not None and text.isdecimal() and len(text) < 6 else None
