"""One client's query, from when it is wanted until it is over. The law kept here: it ends exactly once, and what its client
was told is the only thing that counts as acknowledged.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

Verdict = Literal["ok", "problem", "unknown", "timeout"]
"""``ok``: answered; a write is acknowledged. ``problem``: refused, nothing happened. ``unknown``: the connection broke: a
write may have happened (F86). ``timeout``: nobody answered within R37's 30 s; a write may have happened."""


class Query:
    """A write of one unique number, or a read of all of them. Times in microseconds."""

    __slots__ = (
        "app",
        "begun",
        "detail",
        "done",
        "kind",
        "lasts",
        "name",
        "number",
        "over",
        "sent",
        "strong",
        "value",
        "verdict",
        "writes",
    )

    def __init__(
        self,
        number: int,
        app: str,
        name: str,
        writes: bool,
        value: int,
        strong: bool,
        lasts: int,
        begun: int,
        done: Callable[[Query, Verdict, str, list[int], int], None],
    ) -> None:
        self.number = number
        self.app = app
        self.name = name
        self.writes = writes
        self.value = value
        self.strong = strong
        self.lasts = lasts
        """How long the statement itself takes in rqlited; 0: as long as such a statement does."""
        self.begun = begun
        self.done = done
        """Called once: query, verdict, detail, rows, how many of them the read saw."""
        self.sent = False
        """It reached an rqlited at least once."""
        self.over = False
        self.verdict: Verdict = "unknown"
        self.detail = ""

    def end(self, verdict: Verdict, detail: str, rows: list[int], count: int) -> None:
        assert not self.over, f"query {self.number} ended twice"
        self.over = True
        self.verdict, self.detail = verdict, detail
        self.done(self, verdict, detail, rows, count)
