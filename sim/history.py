"""What clients were told, and whether it stayed true. The laws kept here: every acknowledged write is in every read that began
after its acknowledgement, and once only; a read never shows what was never written (F41, F86); a strong read shows everything, in
the same order, that any strong read showed which ended before it began.

Together that is linearizability of writes and strong reads, for a table that only grows by unique rows (as in Wing and Gong, 1993, where
each value names its write): the rows' order is the order of writes, and each read stands right after the last one that it shows.

Reads hand over a list that only grows, and how much of it they saw, so each row is looked at once and not once for each read.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque

from sim.laws import Violation
from sim.query import Query


class History:
    """One database's clients, over all its sleeps, crashes and restarts."""

    def __init__(self, database: str) -> None:
        self.database = database
        self.sent: set[int] = set()
        """Every value that a client ever wanted written."""
        self.acknowledged = 0
        self.answered = 0
        self.asked = 0
        self.failed: list[tuple[int, Query]] = []
        """When, and which, of all that were not answered."""
        self.stale = 0
        """How many were answered from sealed copies."""
        self.slowest_stale = 0
        """The longest wait for one of those, µs."""
        self.slowest = 0
        """The longest wait for an answer, µs."""
        self._due: deque[tuple[int, int]] = deque()
        """(acknowledged at, value), not yet seen in a read."""
        self._confirmed: list[tuple[int, int]] = []
        """The same, once a read has shown it."""
        self._rows: list[int] = []
        self._checked = 0
        self._where: dict[int, int] = {}
        """Value → its row, in the rows checked so far."""
        self._high: list[tuple[int, int]] = []
        """(acknowledged at, highest row of all acknowledged until then), growing in both: what an older read must hold."""

        self._shown: list[tuple[int, int]] = []
        """(a strong read ended at, how many rows any had shown by then), growing in both: what a later one must show at least."""
        self._order: list[int] = []
        """The rows that strong reads have shown, as of the last table that held them all."""

    def acknowledge(self, value: int, now: int) -> None:
        """A client was told that its write is there: from now on it has to be."""
        self.acknowledged += 1
        self._due.append((now, value))

    def saw(self, rows: list[int], count: int, begun: int, ended: int | None = None) -> None:
        """A read that began at ``begun`` saw the first ``count`` of ``rows``. ``ended``: when, if it was a strong one."""
        if rows is not self._rows:
            self._another_table(rows)
        if count > self._checked:
            self._look_at(count)
        due = self._due
        while due and due[0][0] <= begun:
            at, value = due.popleft()
            self._confirmed.append((at, value))
            row = self._where.get(value)
            if row is None:
                raise Violation("F41", f"{self.database}: write {value}, acknowledged at {at} µs, is lost")
            if not self._high or row > self._high[-1][1]:
                self._high.append((at, row))
        if self._high and count <= self._high[-1][1]:
            self._older_read(count, begun)
        if ended is not None:
            self._strong_read(count, begun, ended)

    def saw_copy(self, rows: list[int], as_of: int) -> None:
        """A read of a sleeping database's copy, which said that it is no older than ``as_of``: a beginning of the table, with everything that had
        been acknowledged by then."""
        self.stale += 1
        common = min(len(rows), self._checked)
        if rows[:common] != self._rows[:common]:
            raise Violation("F53", f"{self.database}: a sealed copy is no beginning of the table that reads have shown")
        held = set(rows)
        if not held <= self.sent or len(held) < len(rows):
            raise Violation("F53", f"{self.database}: a sealed copy shows what nobody wrote, or a write twice")
        for at, value in (*self._confirmed, *self._due):
            if at <= as_of and value not in held:
                what = f"write {value}, acknowledged at {at} µs"
                raise Violation("F53", f"{self.database}: a sealed copy that is said to be of {as_of} µs lacks {what}")

    def _strong_read(self, count: int, begun: int, ended: int) -> None:
        shown = self._shown
        known = bisect_left(shown, (begun, 0))
        if known and shown[known - 1][1] > count:
            at, rows = shown[known - 1]
            raise Violation(
                "F41",
                f"{self.database}: a strong read begun at {begun} µs shows {count} rows, one ended at {at} µs {rows}",
            )
        if not shown or count > shown[-1][1]:
            shown.append((ended, count))

    def _look_at(self, count: int) -> None:
        rows, where, sent = self._rows, self._where, self.sent
        for row in range(self._checked, count):
            value = rows[row]
            if value not in sent:
                raise Violation("F41", f"{self.database}: a read shows {value}, which nobody wrote")
            if value in where:
                raise Violation("F86", f"{self.database}: write {value} is there twice")
            where[value] = row
        self._checked = count

    def _another_table(self, rows: list[int]) -> None:
        """The table was rebuilt from other files: everything acknowledged so far has to be in it again, and what strong reads
        have shown stands in the same order."""
        if self._shown:
            shown = self._shown[-1][1]
            if len(self._rows) >= shown:  # not a replica that was behind
                self._order = self._rows[:shown]
            common = min(len(self._order), len(rows))
            if rows[:common] != self._order[:common]:
                raise Violation(
                    "F41", f"{self.database}: the first {common} rows are not those that a strong read showed"
                )
        self._due = deque([*self._confirmed, *self._due])
        self._confirmed.clear()
        self._rows, self._checked, self._where, self._high = rows, 0, {}, []

    def _older_read(self, count: int, begun: int) -> None:
        """A read that others overtook: it must hold what had been acknowledged when *it* began."""
        known = bisect_right(self._high, (begun, len(self._rows)))
        if known and self._high[known - 1][1] >= count:
            at = self._high[known - 1][0]
            raise Violation("F41", f"{self.database}: a read begun at {begun} µs lacks a write acknowledged at {at} µs")
