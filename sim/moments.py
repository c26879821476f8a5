"""Moments of the protocol: what a fault can wait for. The law kept here: a moment is named by what the engine was told, wanted
or decided, never by a line of code, so that a scenario stays true when the code moves.

A moment is the name of an input (``InstanceReady``), of an effect (``Start``, or ``Write`` for a step's durable rows), or of a
decision (``hibernated``). An effect's moment is just before it is carried out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from attrs import define

from protocol import effects, inputs

if TYPE_CHECKING:
    from sim.machine import Machine

EFFECTS: Final = frozenset({kind.__name__ for kind in effects.Action.__args__} | {"Write"})
INPUTS: Final = frozenset(kind.__name__ for kind in inputs.Input.__args__)


@define
class Watch:
    """Call ``then(machine)`` at the ``nth`` time that ``name`` is seen (of one machine and database, when they are given).
    An empty name counts every effect of the machine, whatever it is."""

    name: str
    nth: int
    then: Callable[[Machine], None]
    machine: str = ""
    database: str = ""
    """Internal name."""


class Moments:
    """Who waits for what."""

    def __init__(self) -> None:
        self._watches: list[Watch] = []
        self.names: frozenset[str] = frozenset()
        """Of moments that somebody waits for: only of these does anybody need to say that they are there."""

    def wait(self, watch: Watch) -> None:
        self._watches.append(watch)
        self._index()

    def _index(self) -> None:
        names = {watch.name for watch in self._watches}
        self.names = frozenset(names | EFFECTS if "" in names else names)

    def seen(self, machine: Machine, name: str, database: str) -> None:
        for watch in tuple(self._watches):
            wanted = watch.name == name or (not watch.name and name in EFFECTS)
            if not wanted or watch.machine not in ("", machine.name) or watch.database not in ("", database):
                continue
            watch.nth -= 1
            if watch.nth == 0:
                self._watches.remove(watch)
                self._index()
                watch.then(machine)
