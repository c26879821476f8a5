"""Library and table agree on every state × event × guard outcome, and the compiler refuses what it does not model."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from statemachine import State, StateMachine

from protocol.chart import EVENTS, LIBRARY, STATES, TABLE, ChartError, compile_chart
from tests.protocol.solo import Solo

FACTS = (
    "voters_match",
    "strong_read_passed",
    "nothing_in_flight",
    "vote_is_highest_promise",
    "asleep_by_record",
    "exit_observed",
    "still_running",
)


class Recorder:
    """Facts as given; orders are written down."""

    def __init__(self, outcome: dict[str, bool]) -> None:
        self.outcome = outcome
        self.orders: list[str] = []

    def __getattr__(self, name: str) -> Any:
        if name in self.outcome:
            return self.outcome[name]
        return lambda: self.orders.append(name)


@pytest.mark.parametrize("state", STATES)
def test_library_and_table_agree(state: str) -> None:
    compared = 0
    for event in EVENTS:
        guarded = any(row.guards for row in TABLE.rows if (row.source, row.event) == (state, event))
        outcomes = itertools.product((False, True), repeat=len(FACTS)) if guarded else [(True,) * len(FACTS)]
        for outcome in outcomes:
            facts = dict(zip(FACTS, outcome, strict=True))
            by_table, by_library = Recorder(facts), Recorder(facts)
            taken = TABLE.fire(state, event, by_table)
            assert taken == LIBRARY.fire(state, event, by_library), (state, event, facts)
            assert by_table.orders == by_library.orders, (state, event, facts)
            compared += 1
    assert compared >= len(EVENTS)


def test_every_state_is_reached_and_only_dropped_is_final() -> None:
    reached = {"creating"} | {row.target for row in TABLE.rows}
    assert reached == set(STATES)
    assert {state for state in STATES if not any(row.source == state for row in TABLE.rows)} == {"dropped"}


def test_the_compiler_refuses_string_guards() -> None:
    class Bad(StateMachine):
        a = State(initial=True)
        b = State(final=True)
        go = a.to(b, cond="ready")

        def ready(self) -> bool:
            return True

    with pytest.raises(ChartError):
        compile_chart(Bad)


def test_the_compiler_refuses_hooks_before_and_after() -> None:
    class Bad(StateMachine):
        a = State(initial=True)
        b = State(final=True)
        go = a.to(b, before=lambda: None)

    with pytest.raises(ChartError):
        compile_chart(Bad)


def test_the_compiler_refuses_enter_hooks() -> None:
    class Bad(StateMachine):
        a = State(initial=True)
        b = State(final=True, enter=lambda: None)
        go = a.to(b)

    with pytest.raises(ChartError):
        compile_chart(Bad)


def test_both_engines_live_one_life(monkeypatch: pytest.MonkeyPatch) -> None:
    table = Solo().asleep()
    table.ask()
    monkeypatch.setattr("protocol.node.Node.__init__.__defaults__", (LIBRARY,), raising=True)
    library = Solo().asleep()
    library.ask()
    assert library.log == table.log
    assert library.rows == table.rows
