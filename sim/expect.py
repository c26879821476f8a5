"""Whether a scenario went as it says. The law kept here: an expectation looks only at what an operator or a client could have
seen: decisions, answers, processes, states; and it says what it found, not only that it did not hold.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from attrs import define, frozen

from sim.faults import internal_of, key_of
from sim.scenario import Expect, Scenario
from sim.writer import duration

if TYPE_CHECKING:
    from sim.history import History
    from sim.machine import Machine
    from sim.world import Told, World


@frozen
class Finding:
    """One expectation, and what was found. ``found`` is empty when there is nothing to add."""

    text: str
    held: bool
    found: str = ""

    def __str__(self) -> str:
        return f"{'✓' if self.held else '✗'} {self.text}" + (f" ({self.found})" if self.found else "")


@define
class Expectations:
    """Those of one scenario: what is to be looked at in the middle is looked at then, the rest at the end."""

    world: World
    scenario: Scenario
    _early: dict[int, Finding]

    @classmethod
    def of(cls, world: World, scenario: Scenario) -> Expectations:
        self = cls(world, scenario, {})
        for number, expect in enumerate(scenario.expect):
            if expect.at is not None and expect.kind in ("state", "processes", "admits", "refuses"):
                world.schedule.at(expect.at, self._look, number, expect)
        return self

    def _look(self, number: int, expect: Expect) -> None:
        self._early[number] = KINDS[expect.kind](self, expect)

    def findings(self) -> list[Finding]:
        """All of them, in the scenario's order. To be called when the scenario has ended."""
        return [
            self._early.get(number) or KINDS[expect.kind](self, expect)
            for number, expect in enumerate(self.scenario.expect)
        ]

    # What is looked at.

    def _machines(self, expect: Expect) -> list[Machine]:
        machines = self.world.machines
        return [machines[expect.node]] if expect.node else list(machines.values())

    def _histories(self, expect: Expect) -> list[History]:
        found = {
            id(client.history): client.history
            for (node, database), client in self.world.clients.items()
            if expect.node in ("", node) and expect.database in ("", database)
        }
        return list(found.values())

    def _told(self, expect: Expect, event: str) -> list[Told]:
        internal = internal_of(expect.database)
        return [
            told
            for told in self.world.story
            if told.kind == "decision"
            and told.event == event
            and expect.node in ("", told.node)
            and internal in ("", told.database)
            and told.at >= expect.after
            and (expect.at is None or told.at <= expect.at)
        ]

    def _whose(self, expect: Expect) -> str:
        return "".join(f" of {who}" for who in (expect.database, expect.node) if who)

    def _when(self, expect: Expect) -> str:
        after = f" after {duration(expect.after)}" if expect.after else ""
        return after + (f" by {duration(expect.at)}" if expect.at is not None else "")

    # The kinds.

    def state(self, expect: Expect) -> Finding:
        internal = internal_of(expect.database)
        found = sorted({machine.state_of_name(internal) for machine in self._machines(expect)})
        if len(found) > 1 and expect.text != "absent":
            found = [state for state in found if state != "absent"]  # who is no member has no state of its own
        at = f" at {duration(expect.at)}" if expect.at is not None else " at the end"
        held = found == [expect.text]
        return Finding(f"{expect.database} is {expect.text}{at}", held, "" if held else f"it is {', '.join(found)}")

    def seen(self, expect: Expect) -> Finding:
        count = len(self._told(expect, expect.text))
        held = count == expect.times if expect.times is not None else count > 0
        times = "" if expect.times is None else f" {expect.times} times"
        return Finding(
            f"“{expect.text}”{self._whose(expect)} was decided{times}{self._when(expect)}",
            held,
            "" if held else f"{count} times",
        )

    def never(self, expect: Expect) -> Finding:
        told = self._told(expect, expect.text)
        text = f"“{expect.text}”{self._whose(expect)} was never decided{self._when(expect)}"
        return Finding(text, not told, f"at {told[0].at / 1e6:.3f} s: {told[0].because}" if told else "")

    def acknowledged(self, expect: Expect) -> Finding:
        count = sum(history.acknowledged for history in self._histories(expect))
        # Whether each is still there is no expectation but a law: the history raises when one is missing.
        text = f"at least {expect.times} writes{self._whose(expect)} were acknowledged, and every one is there"
        return Finding(text, count >= (expect.times or 0), f"{count} were")

    def answered(self, expect: Expect) -> Finding:
        histories = self._histories(expect)
        answered, asked = sum(one.answered for one in histories), sum(one.asked for one in histories)
        if expect.times == -1:
            return Finding(
                f"every query{self._whose(expect)} was answered", answered == asked > 0, f"{answered} of {asked}"
            )
        text = f"at least {expect.times} queries{self._whose(expect)} were answered"
        return Finding(text, answered >= (expect.times or 0), f"{answered} of {asked}")

    def stale(self, expect: Expect) -> Finding:
        count = sum(one.stale for one in self._histories(expect))
        if expect.within:
            slowest = max((one.slowest_stale for one in self._histories(expect)), default=0)
            text = f"at least {expect.times} queries{self._whose(expect)} were answered from sealed copies, each in {duration(expect.within)}"
            held = count >= (expect.times or 0) and slowest <= expect.within
            return Finding(text, held, f"{count} were, the slowest in {slowest / 1000:.1f} ms")
        if expect.times == 0:
            return Finding(f"no query{self._whose(expect)} was answered from a sealed copy", not count, f"{count} were")
        text = f"at least {expect.times} queries{self._whose(expect)} were answered from sealed copies"
        return Finding(text, count >= (expect.times or 0), f"{count} were")

    def failed(self, expect: Expect) -> Finding:
        failed = [one for history in self._histories(expect) for one in history.failed]
        found = f"{len(failed)} were" + (f", the first: {failed[0][1].verdict} {failed[0][1].detail}" if failed else "")
        return Finding(
            f"{expect.times} queries{self._whose(expect)} were not answered", len(failed) == expect.times, found
        )

    def told(self, expect: Expect) -> Finding:
        said = sorted({query.detail for history in self._histories(expect) for _, query in history.failed})
        held = any(expect.text in detail for detail in said)
        return Finding(f"a client{self._whose(expect)} was told “{expect.text}”", held, "" if held else f"told: {said}")

    def slowest(self, expect: Expect) -> Finding:
        slowest = max((history.slowest for history in self._histories(expect)), default=0)
        text = f"no answer{self._whose(expect)} took longer than {duration(expect.within)}"
        return Finding(text, slowest <= expect.within, f"the slowest {slowest / 1000:.1f} ms")

    def processes(self, expect: Expect) -> Finding:
        internal = internal_of(expect.database)
        count = sum(
            internal in ("", one.start.internal)
            for machine in self._machines(expect)
            for one in machine.processes.values()
        )
        at = f" at {duration(expect.at)}" if expect.at is not None else " at the end"
        held = count == expect.times
        return Finding(f"{expect.times} rqlited run{self._whose(expect)}{at}", held, "" if held else f"{count} do")

    def starts(self, expect: Expect) -> Finding:
        internal = internal_of(expect.database)
        count = sum(n for one in self._machines(expect) for name, n in one.started.items() if internal in ("", name))
        held = count == expect.times
        text = f"rqlited{self._whose(expect)} was started {expect.times} times"
        return Finding(text, held, "" if held else f"{count} times")

    def between(self, expect: Expect) -> Finding:
        text = f"from “{expect.text}” to “{expect.other}”{self._whose(expect)} in {duration(expect.within)}"
        first = self._told(expect, expect.text)
        later = [told for told in self._told(expect, expect.other) if first and told.at >= first[0].at]
        if not first or not later:
            return Finding(text, False, f"“{expect.other if first else expect.text}” was not seen")
        took = later[0].at - first[0].at
        return Finding(text, took <= expect.within, f"{took / 1000:.0f} ms")

    def key(self, expect: Expect) -> Finding:
        """What the workers' own copies say, whatever the engines know."""
        digest, wanted = key_of(expect.text)[1], expect.kind == "admits"
        at = f" at {duration(expect.at)}" if expect.at is not None else " at the end"
        machines = self._machines(expect)
        said = {one.name: [worker.keys.get(digest, False) for worker in one.accepting] for one in machines}
        other = [name for name, answers in said.items() if not answers or any(one != wanted for one in answers)]
        text = f"every worker{self._whose(expect)} {expect.kind} the key {expect.text}{at}"
        return Finding(text, not other, f"not those of {', '.join(other)}" if other else "")


KINDS: Final[dict[str, Callable[[Expectations, Expect], Finding]]] = {
    "state": Expectations.state,
    "seen": Expectations.seen,
    "never": Expectations.never,
    "acknowledged": Expectations.acknowledged,
    "answered": Expectations.answered,
    "failed": Expectations.failed,
    "told": Expectations.told,
    "slowest": Expectations.slowest,
    "processes": Expectations.processes,
    "starts": Expectations.starts,
    "between": Expectations.between,
    "admits": Expectations.key,
    "refuses": Expectations.key,
    "stale": Expectations.stale,
}
