"""The one form of every bench: a figure, what it is measured beside, and what is accepted. Law: an objective is shown with its figure, and one
that is *binding* decides the exit code; what varies with the machine's mood is shown, not asserted.

With ``--json``: ``{"bench": …, what it was given, "figures": {name: {"value", "unit", "beside", "ratio", "accepted", "held", details}}}``, where what
does not apply is left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

from attrs import Factory, frozen
from rich.table import Table

_SMALL: Final = 10.0
"""Below it, decimals are shown."""


class BenchFailed(Exception):
    """What was to be measured did not happen. One line."""


@frozen
class Objective:
    """At most ``most``, or at least ``least``, of the value or of its ratio to what it stands beside."""

    most: float | None = None
    least: float | None = None
    of: Literal["value", "ratio"] = "value"
    binding: bool = False

    def __str__(self) -> str:
        return " ".join(
            f"{sign} {bound:g}" for sign, bound in (("≤", self.most), ("≥", self.least)) if bound is not None
        )

    def holds(self, measured: float) -> bool:
        return (self.most is None or measured <= self.most) and (self.least is None or measured >= self.least)


@frozen
class Figure:
    """``beside``: the same of what it is compared with, in the same unit. ``note`` is for people, ``details`` for programs."""

    name: str
    value: float
    unit: str
    beside: float | None = None
    objective: Objective | None = None
    note: str = ""
    details: Mapping[str, Any] = Factory(dict[str, Any])

    @property
    def ratio(self) -> float | None:
        return self.value / self.beside if self.beside else None

    @property
    def held(self) -> bool:
        if self.objective is None:
            return True
        measured = self.value if self.objective.of == "value" else self.ratio
        return measured is not None and self.objective.holds(measured)

    def as_json(self) -> dict[str, Any]:
        told: dict[str, Any] = {"value": round(self.value, 3), "unit": self.unit}
        if self.beside is not None:
            told["beside"] = round(self.beside, 3)
        if self.ratio is not None:
            told["ratio"] = round(self.ratio, 3)
        if self.objective is not None:
            told |= {"accepted": str(self.objective), "accepted_of": self.objective.of, "held": self.held}
        return told | dict(self.details)


def as_json(bench: str, given: Mapping[str, Any], figures: Sequence[Figure]) -> dict[str, Any]:
    return {"bench": bench, **given, "figures": {figure.name: figure.as_json() for figure in figures}}


def broken(figures: Sequence[Figure]) -> list[str]:
    """A line for each binding objective that was missed."""
    return [
        f"{figure.name}: {_measure(figure.value, figure.unit)}, accepted is {figure.objective}"
        for figure in figures
        if figure.objective is not None and figure.objective.binding and not figure.held
    ]


def table(figures: Sequence[Figure], beside: str) -> Table:
    """``beside``: what the figures stand beside, as a heading."""
    shown = Table("", "measured", beside, "ratio", "accepted", "", box=None)
    for column in shown.columns[1:5]:
        column.justify = "right"
        column.no_wrap = True
    for figure in figures:
        shown.add_row(
            figure.name.replace("_", " "),
            _measure(figure.value, figure.unit),
            "" if figure.beside is None else _measure(figure.beside, figure.unit),
            "" if figure.ratio is None else f"{figure.ratio:.2f}",
            "" if figure.objective is None else f"{figure.objective}{'' if figure.held else ' MISSED'}",
            figure.note,
        )
    return shown


def _measure(value: float, unit: str) -> str:
    """As a person reads it."""
    number = f"{value:,.0f}" if value >= _SMALL or value == round(value) else f"{value:.2f}"
    return f"{number} {unit}".strip()
