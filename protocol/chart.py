"""The lifecycle of one database, as one node sees it. This file is the law: what is not a transition here does not happen.

    creating ──acknowledged──▶ active ──quiet──▶ idle ──commit──▶ hibernating ──wanted──▶ waking ──served──▶ active
    creating ──born──▶ waking (its birth was finished before this replica could serve)
    creating ──given_up──▶ failed                idle ──used──▶ active            waking ──given_up──▶ hibernating
    active, idle ──slept──▶ hibernating (the others sleep: follow them)
    active, idle ──exited──▶ waking (rqlited died: restart on the same data)
    active, idle, waking ──member_lost──▶ replacing ──healed──▶ active
    any but dropped ──drop──▶ dropped (final);   all that live ──conflict──▶ quarantined ──promote──▶ hibernating

Each node keeps one chart for each database that it hosts: its own view. What others need travels as reports and records.
Guards say what must be true of the facts, actions say what must be done; both are plain functions of one argument
``facts`` (:class:`Facts`), and neither decides anything else. The machine is declared with python-statemachine; its
interpreter costs 80 µs and 24 KB a machine, so the declaration is compiled to a table at import (0.3 µs), a sweep of every
state × event × guard outcome proves both alike (tests/protocol/test_chart.py), and a node can run on either. The compiler
refuses at import whatever it does not model.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Protocol, cast

from attrs import frozen
from statemachine import State, StateMachine


class Facts(Protocol):
    """What guards may look at, and what actions may order. Implemented by ``protocol.lifecycle.orders.Subject``."""

    @property
    def voters_match(self) -> bool: ...
    @property
    def strong_read_passed(self) -> bool: ...
    @property
    def nothing_in_flight(self) -> bool: ...
    @property
    def vote_is_highest_promise(self) -> bool: ...
    @property
    def nothing_newer_promised(self) -> bool: ...
    @property
    def asleep_by_record(self) -> bool: ...
    @property
    def exit_observed(self) -> bool: ...
    @property
    def still_running(self) -> bool: ...
    def open_door(self) -> None: ...
    def close_door(self) -> None: ...
    def answer_waiters(self) -> None: ...
    def refuse_waiters(self) -> None: ...
    def snapshot_then_stop(self) -> None: ...
    def start_again(self) -> None: ...
    def read_again(self) -> None: ...
    def be_patient(self) -> None: ...
    def stop_now(self) -> None: ...
    def discard(self) -> None: ...


# Guards.


def acknowledged_by_all(facts: Facts) -> bool:
    """P13: the Raft configuration equals the chosen voters and a strong read passed."""
    return facts.voters_match and facts.strong_read_passed


def strong_read_passed(facts: Facts) -> bool:
    """F12: nobody is served before a quorum has answered a linearizable read on this very run."""
    return facts.strong_read_passed


def nothing_in_flight(facts: Facts) -> bool:
    return facts.nothing_in_flight


def voted_and_highest(facts: Facts) -> bool:
    """P32: this very process voted for the epoch, and has promised none above it."""
    return facts.vote_is_highest_promise


def nothing_newer_promised(facts: Facts) -> bool:
    """P33: who learns of a sleep that it did not vote for follows it, unless it has promised a newer epoch."""
    return facts.nothing_newer_promised


def asleep_by_record(facts: Facts) -> bool:
    """A wake returns to its sleep only when there was one: a crashed database of an awake record is retried instead."""
    return facts.asleep_by_record


def exit_observed(facts: Facts) -> bool:
    """P41: a start follows the observed exit of its predecessor; one rqlited per directory, ever (F45)."""
    return facts.exit_observed


def still_running(facts: Facts) -> bool:
    """P32: a stop that has not reached SIGTERM is cancelled."""
    return facts.still_running


# Actions.


def open_door(facts: Facts) -> None:
    facts.open_door()


def close_door(facts: Facts) -> None:
    facts.close_door()


def answer_waiters(facts: Facts) -> None:
    facts.answer_waiters()


def refuse_waiters(facts: Facts) -> None:
    facts.refuse_waiters()


def snapshot_then_stop(facts: Facts) -> None:
    facts.snapshot_then_stop()


def start_again(facts: Facts) -> None:
    facts.start_again()


def read_again(facts: Facts) -> None:
    facts.read_again()


def be_patient(facts: Facts) -> None:
    facts.be_patient()


def stop_now(facts: Facts) -> None:
    facts.stop_now()


def discard(facts: Facts) -> None:
    facts.discard()


class Lifecycle(StateMachine):
    """The declaration. Order matters where two transitions share state and event: the first whose guard holds is taken."""

    allow_event_without_transition = False
    catch_errors_as_events = False

    creating = State(initial=True)
    active = State()
    idle = State()
    hibernating = State()
    waking = State()
    replacing = State()
    failed = State()
    quarantined = State()
    dropped = State(final=True)

    acknowledged = creating.to(active, cond=acknowledged_by_all, on=[open_door, answer_waiters])
    born = (
        creating.to(waking, cond=exit_observed, on=start_again)
        | creating.to(waking, cond=still_running, on=read_again)
        | creating.to(waking, on=be_patient)
    )
    quiet = active.to(idle, cond=nothing_in_flight)
    used = idle.to(active)
    commit = idle.to(hibernating, cond=voted_and_highest, on=snapshot_then_stop)
    slept = active.to(hibernating, cond=nothing_newer_promised, on=[close_door, snapshot_then_stop]) | idle.to(
        hibernating, cond=nothing_newer_promised, on=[close_door, snapshot_then_stop]
    )
    wanted = hibernating.to(waking, cond=exit_observed, on=start_again) | hibernating.to(
        waking, cond=still_running, on=read_again
    )
    served = waking.to(active, cond=strong_read_passed, on=[open_door, answer_waiters])
    given_up = creating.to(failed, on=[stop_now, refuse_waiters]) | waking.to(
        hibernating, cond=asleep_by_record, on=[stop_now, refuse_waiters]
    )
    exited = (
        active.to(waking, on=[close_door, start_again])
        | idle.to(waking, on=[close_door, start_again])
        | replacing.to(waking, on=[close_door, start_again])
    )
    member_lost = active.to(replacing) | idle.to(replacing) | waking.to(replacing, cond=strong_read_passed)
    healed = replacing.to(active, cond=acknowledged_by_all)
    conflict = (
        creating.to(quarantined, on=[close_door, stop_now])
        | active.to(quarantined, on=[close_door, stop_now])
        | idle.to(quarantined, on=[close_door, stop_now])
        | hibernating.to(quarantined, on=stop_now)
        | waking.to(quarantined, on=[stop_now, refuse_waiters])
        | replacing.to(quarantined, on=[close_door, stop_now])
    )
    promote = quarantined.to(hibernating, cond=exit_observed)
    drop = (
        creating.to(dropped, on=[stop_now, refuse_waiters, discard])
        | active.to(dropped, on=[close_door, stop_now, discard])
        | idle.to(dropped, on=[close_door, stop_now, discard])
        | hibernating.to(dropped, on=[stop_now, refuse_waiters, discard])
        | waking.to(dropped, on=[stop_now, refuse_waiters, discard])
        | replacing.to(dropped, on=[close_door, stop_now, refuse_waiters, discard])
        | failed.to(dropped, on=discard)
        | quarantined.to(dropped, on=[stop_now, discard])
    )


# --- the compiled table ---------------------------------------------------------------------------------------------

Guard = Callable[[Facts], bool]
Order = Callable[[Facts], None]


@frozen
class Transition:
    """One row of the table: taken when every guard holds; then the orders, in sequence, then the state is ``target``."""

    source: str
    event: str
    target: str
    guards: tuple[Guard, ...]
    orders: tuple[Order, ...]


class ChartError(TypeError):
    """The declaration uses a feature that the compiler does not model. Raised at import."""


def _plain(callbacks: Any, where: str) -> tuple[Callable[[Facts], Any], ...]:
    functions: list[Callable[[Facts], Any]] = []
    for spec in callbacks:
        if spec.is_convention:
            if isinstance(spec.func, str) and not hasattr(Lifecycle, spec.func):
                continue  # a name that python-statemachine would call if it existed
            raise ChartError(f"{where}: method {spec.func!r} would be called by its name alone; use plain functions")
        if not callable(spec.func):
            raise ChartError(f"{where}: {spec.func!r} is not a plain function")
        functions.append(cast("Callable[[Facts], Any]", spec.func))
    return tuple(functions)


def compile_chart(machine: type[StateMachine]) -> tuple[Transition, ...]:
    """The rows of a declaration, in declaration order. Raises ChartError for what the table does not model."""
    rows: list[Transition] = []
    for state in machine.states_map.values():
        if _plain((*state.enter, *state.exit), state.id):
            raise ChartError(f"{state.id}: enter and exit callbacks are not modelled")
        if state.states:
            raise ChartError(f"{state.id}: nested states are not modelled")
        for transition in state.transitions:
            where = f"{state.id} --{transition.event}"
            if transition.internal or len(transition.targets) != 1 or not transition.event:
                raise ChartError(f"{where}: needs one event and one target")
            for group in (transition.before, transition.after, transition.validators):
                if _plain(group, where):
                    raise ChartError(f"{where}: before, after and validators are not modelled")
            guards, orders = _plain(transition.cond, where), _plain(transition.on, where)
            target = transition.targets[0].id
            rows += [Transition(state.id, name, target, guards, orders) for name in str(transition.event).split()]
    return tuple(rows)


class Chart(Protocol):
    """Either engine: ``fire`` runs the orders of the transition taken and returns the new state, or returns None, and has
    done nothing, when the chart has no transition for this event here, or every guard refused."""

    name: str

    def fire(self, state: str, event: str, facts: Facts) -> str | None: ...


class TableChart:
    """The compiled table: what runs by default, and always in production."""

    name = "table"

    def __init__(self, rows: tuple[Transition, ...]) -> None:
        self.rows = rows
        self._by_key: dict[tuple[str, str], list[Transition]] = {}
        for row in rows:
            self._by_key.setdefault((row.source, row.event), []).append(row)

    def fire(self, state: str, event: str, facts: Facts) -> str | None:
        for row in self._by_key.get((state, event), ()):
            if all(guard(facts) for guard in row.guards):
                for order in row.orders:
                    order(facts)
                return row.target
        return None


class _Place:
    """The model object of the library's machine: nothing but where it stands."""

    def __init__(self, state: str) -> None:
        self.state = state


class LibraryChart:
    """python-statemachine's own interpreter: 250 times slower, kept as the reference."""

    name = "library"

    def fire(self, state: str, event: str, facts: Facts) -> str | None:
        place = _Place(state)
        machine = Lifecycle(model=place)
        try:
            cast("Any", machine).send(event, facts=facts)
        except machine.TransitionNotAllowed:
            return None
        return place.state


TABLE: Final = TableChart(compile_chart(Lifecycle))
LIBRARY: Final = LibraryChart()
CHARTS: Final[dict[str, Chart]] = {chart.name: chart for chart in (TABLE, LIBRARY)}
STATES: Final = tuple(Lifecycle.states_map)
EVENTS: Final = tuple(dict.fromkeys(row.event for row in TABLE.rows))
