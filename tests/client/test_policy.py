"""F86, as the client keeps it: what is sent again, what never is, where to, and until when. No socket: the conversation is played."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import define, field

from runtime.client import (
    MayHaveCommitted,
    ServerFailed,
    SQLError,
    Timeout,
    TorporError,
    Unauthorized,
    Unavailable,
    Unreachable,
    calls,
)
from runtime.client.calls import Call
from runtime.client.policy import AVOIDED, Answered, Failed, Gateways, Pause, Rested, Send, conversation
from tests.client.answers import problem, written

ONE, TWO = "http://one:1", "http://two:2"

READ = calls.query("users", "SELECT 1", None, None, None)
WRITE = calls.execute("users", "DELETE FROM t", None, idempotency_key=False)
KEYED = calls.execute("users", "DELETE FROM t", None, idempotency_key="k")

ROWS = b'{"columns":["1"],"types":["integer"],"rows":[[1]],"count":1}'

# What can become of one request: a function of the time at which it ends.


def rows(now: float) -> Answered:
    return Answered(now, 200, {}, ROWS)


def done(now: float) -> Answered:
    return Answered(now, 200, {}, written(1))


def unsent(now: float) -> Failed:
    return Failed(now, sent=False, why="nobody listens")


def broken(now: float) -> Failed:
    return Failed(now, sent=True, why="the connection ended")


def late(now: float) -> Failed:
    return Failed(now, sent=True, why="no answer", late=True)


def says(kind: str, status: int = 503, *, unsure: bool = False, retry_after: str | None = None) -> Any:
    headers = {} if retry_after is None else {"retry-after": retry_after}
    return lambda now: Answered(now, status, headers, problem(kind, status, unsure=unsure))


@define
class Played:
    """What the conversation did. ``sent``: to whom; ``pauses``: how long."""

    sent: list[str] = field(factory=list)
    pauses: list[float] = field(factory=list)
    value: Any = None
    error: TorporError | None = None


def play(
    call: Call[Any],
    *outcomes: Any,
    gateways: Gateways | None = None,
    now: float = 100.0,
    takes: float = 0.01,
    timeout: float = 30.0,
    patience: float = 5.0,
) -> Played:
    """The conversation with these outcomes, the last of which repeats for ever. Each request takes ``takes`` seconds."""
    played = Played()
    left = list(outcomes)
    gateways = gateways or Gateways([ONE, TWO])
    talk = conversation(call, gateways, now=now, timeout=timeout, patience=patience, chance=0.5)
    try:
        step = next(talk)
        while True:
            if isinstance(step, Pause):
                played.pauses.append(step.seconds)
                now += step.seconds
                step = talk.send(Rested(now))
                continue
            assert isinstance(step, Send)
            assert step.timeout > 0
            played.sent.append(step.peer)
            outcome = (left.pop(0) if len(left) > 1 else left[0])(now + takes)
            now = outcome.now
            step = talk.send(outcome)
    except StopIteration as end:
        played.value = end.value
    except TorporError as error:
        played.error = error
    return played


def test_a_good_answer_ends_it() -> None:
    played = play(READ, rows)
    assert played.sent == [ONE]
    assert played.value.rows == ((1,),)


@pytest.mark.parametrize("call", [READ, WRITE, KEYED], ids=["read", "write", "keyed"])
@pytest.mark.parametrize(
    "nothing_done", [unsent, says("stopping"), says("busy"), says("unavailable"), says("not-a-member")]
)
def test_F86_what_surely_did_not_happen_is_sent_to_the_next(call: Call[Any], nothing_done: Any) -> None:
    played = play(call, nothing_done, rows if call is READ else done)
    assert played.sent == [ONE, TWO]
    assert played.error is None


UNCLEAR = [
    broken,
    says("may-have-committed", unsure=True),
    says("query-timeout", 504, unsure=True),
    lambda now: Answered(now, 502, {}, b"<html>bad gateway</html>"),
]


@pytest.mark.parametrize("unclear", UNCLEAR, ids=["broken", "told", "told timeout", "proxy"])
def test_F86_a_write_of_which_nothing_is_known_is_never_sent_again(unclear: Any) -> None:
    played = play(WRITE, unclear, done)
    assert played.sent == [ONE]
    assert isinstance(played.error, MayHaveCommitted)
    assert played.error.may_have_committed


@pytest.mark.parametrize("unclear", UNCLEAR, ids=["broken", "told", "told timeout", "proxy"])
def test_F86_with_an_idempotency_key_it_is(unclear: Any) -> None:
    played = play(KEYED, unclear, done)
    assert played.sent == [ONE, TWO]
    assert played.value.rows_affected == 1


def test_a_read_is_sent_again_after_a_broken_connection() -> None:
    assert play(READ, broken, rows).sent == [ONE, TWO]


@pytest.mark.parametrize("last", [unsent, says("stopping"), says("unauthorized", 401), says("sql-error", 400)])
def test_F86_doubt_about_an_earlier_try_outlives_the_last_one(last: Any) -> None:
    played = play(KEYED, broken, last)
    assert isinstance(played.error, MayHaveCommitted)
    assert played.error.idempotency_key == "k"


def test_F86_a_write_that_runs_out_of_time_may_have_committed_and_says_its_key() -> None:
    played = play(KEYED, late)
    assert played.sent == [ONE]
    assert isinstance(played.error, MayHaveCommitted)
    assert played.error.type == "timeout"
    assert played.error.idempotency_key == "k"


def test_a_read_that_runs_out_of_time_says_so() -> None:
    assert isinstance(play(READ, late).error, Timeout)


@pytest.mark.parametrize(
    ("final", "expected"),
    [
        (says("sql-error", 400), SQLError),
        (says("unauthorized", 401), Unauthorized),
        (says("internal-error", 500), ServerFailed),
        (says("wake-timeout", 504), Timeout),
        (says("insufficient-nodes"), Unavailable),
        (says("of-a-newer-gateway"), Unavailable),
        (lambda now: Answered(now, 404, {}, b"<html>"), TorporError),
        (lambda now: Answered(now, 200, {}, b"<html>"), TorporError),
        (lambda now: Answered(now, 200, {}, b"{}"), TorporError),
        (lambda now: Answered(now, 500, {}, b"[]"), TorporError),
    ],
)
def test_a_final_answer_is_not_asked_for_twice(final: Any, expected: type[TorporError]) -> None:
    played = play(READ, final)
    assert played.sent == [ONE]
    assert isinstance(played.error, expected)
    assert not played.error.may_have_committed


def test_a_good_answer_that_is_not_understood_may_be_of_a_write() -> None:
    assert isinstance(play(WRITE, lambda now: Answered(now, 200, {}, b"<html>")).error, MayHaveCommitted)


def test_rounds_through_all_gateways_end_with_the_patience() -> None:
    played = play(WRITE, unsent, patience=5.0)
    assert isinstance(played.error, Unreachable)
    assert played.sent == [ONE, TWO] * (len(played.pauses) + 1)
    assert sum(played.pauses) + 0.01 * len(played.sent) <= 5.0
    assert played.pauses == sorted(played.pauses)


def test_without_patience_each_gateway_is_asked_once() -> None:
    played = play(WRITE, unsent, patience=0)
    assert played.sent == [ONE, TWO]
    assert played.pauses == []


def test_no_try_begins_after_the_total_time() -> None:
    played = play(READ, broken, takes=8.0, timeout=10.0, patience=60.0)
    assert played.sent == [ONE, TWO]
    assert isinstance(played.error, Timeout)


def test_a_pause_is_as_long_as_the_gateway_asks() -> None:
    played = play(READ, says("busy", retry_after="2"), patience=5.0)
    assert played.pauses == [2.0, 2.0]
    played = play(READ, says("busy", retry_after="Wed, 21 Oct 2026 07:28:00 GMT"), patience=0.2)
    assert played.error is not None
    assert played.error.retry_after is None


def test_who_answered_is_asked_first_and_who_failed_last() -> None:
    gateways = Gateways([ONE, TWO])
    assert play(READ, unsent, rows, gateways=gateways).sent == [ONE, TWO]
    assert play(READ, rows, gateways=gateways, now=100.1).sent == [TWO]
    assert gateways.order(100.1) == [TWO, ONE]
    assert play(READ, unsent, rows, gateways=gateways, now=100.0 + AVOIDED + 1).sent == [TWO, ONE]


@pytest.mark.parametrize("peers", ["http://one:1", [], ["one:8080"], ["ftp://one"]])
def test_what_is_no_gateway_is_refused(peers: Any) -> None:
    with pytest.raises(ValueError, match="gateway"):
        Gateways(peers)
