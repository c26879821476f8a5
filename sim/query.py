"""One client's query, from when it is wanted until it is over. The law kept here: it ends exactly once, and what its client
was told is the only thing that counts as acknowledged.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from sim.client import Client

Verdict = Literal["ok", "problem", "unknown", "timeout"]
"""``ok``: answered; a write is acknowledged. ``problem``: refused, nothing happened. ``unknown``: the connection broke: a
write may have happened (F86). ``timeout``: nobody answered within R37's 30 s; a write may have happened."""


class Query:
    """A write of one unique number (``value``), or a read of all of them. Times in microseconds."""

    __slots__ = (
        "as_of",
        "asked_again",
        "begun",
        "client",
        "current",
        "database",
        "detail",
        "forwarded",
        "lasts",
        "max_stale",
        "number",
        "strong",
        "value",
        "verdict",
    )

    def __init__(
        self, client: Client, number: int, value: int, strong: bool, lasts: int, begun: int, max_stale: int = 0
    ) -> None:
        self.client = client
        self.database = client.database
        """(application, name)."""
        self.number = number
        self.value = value
        """What it writes; 0: it reads."""
        self.strong = strong
        self.lasts = lasts
        """How long the statement itself takes in rqlited; 0: as long as such a statement does."""
        self.begun = begun
        self.max_stale = max_stale
        """While its database sleeps, a copy that is no older than this will do; 0: it has to be current."""
        self.current = not max_stale
        """Copies answer it no more: it goes the ordinary way."""
        self.as_of = -1
        """Answered from a sealed copy: since when (the world's time) the copy may lack something; -1: from rqlited."""
        self.forwarded = False
        """It came from another node's gateway (``sim.hop``)."""
        self.asked_again = False
        """Its gateway has asked its node once more where to send it."""
        self.verdict: Verdict | None = None
        self.detail: str

    @property
    def over(self) -> bool:
        """Its client was told."""
        return self.verdict is not None

    def end(self, verdict: Verdict, detail: str, rows: list[int], count: int) -> None:
        """Its client is told: the verdict, and for a read the rows that it saw (the first ``count`` of ``rows``)."""
        assert self.verdict is None, f"query {self.number} ended twice"
        self.verdict, self.detail = verdict, detail
        self.client.told(self, rows, count)
