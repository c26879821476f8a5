"""One turn: the narrow context that handlers get while ``Node.step`` runs, and the collector of its effects.

The law kept here is the order of effects: whatever a handler writes is in the same batch as what it sends, and the batch
is made durable first. A message to oneself is put in ``inbox`` and handled within the same step, which is safe for the
same reason: nothing of the step is visible outside before all of its writes are durable.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from protocol import codec
from protocol.effects import NOTHING, Action, Answer, Decision, Effects, Problem, Send, Write
from protocol.limits import DETAIL
from protocol.messages import Message, RecordNews
from protocol.records import Record
from protocol.rows import Identity, Seen
from protocol.state import Decided, Hosted, State

PROMISES = ("promise/", "name/")
"""Rows that others rely on: a step that writes one moves the store's mark, which a rollback would turn back (P62)."""


class Turn:
    __slots__ = (
        "actions",
        "broadcasts",
        "chart",
        "decisions",
        "inbox",
        "me",
        "now",
        "promised",
        "sends",
        "state",
        "writes",
    )

    def __init__(self, state: State, chart: Any, now: int) -> None:
        self.state = state
        self.me = state.config.peer
        self.chart = chart
        self.now = now
        self.writes: list[Write] = []
        self.actions: list[Action] = []
        self.sends: list[Send] = []
        self.broadcasts: list[Message] = []
        self.decisions: list[Decision] = []
        self.inbox: deque[Message] = deque()
        self.promised = False

    def effects(self) -> Effects:
        if self.promised:
            self.state.promised += 1
            self.write_identity()
        if not (self.writes or self.actions or self.sends or self.broadcasts or self.decisions):
            return NOTHING
        return Effects(
            tuple(self.writes), tuple(self.actions), tuple(self.sends), tuple(self.broadcasts), tuple(self.decisions)
        )

    # What is made durable.

    def write(self, key: str, row: Any) -> bytes:
        """The row as it is stored."""
        if key.startswith(PROMISES):
            self.promised = True
        data = codec.encode(row)
        self.writes.append(Write(key, data))
        return data

    def write_identity(self) -> None:
        """What others are told of this store (P62), with everything that it counts in the same transaction."""
        state = self.state
        counts = (state.births, state.life, state.process, state.promised)
        self.write("identity", Identity(self.me, state.store, *counts, state.trail, state.whole))

    def erase(self, key: str) -> None:
        self.writes.append(Write(key, None))

    def write_seen(self, row: Seen | None) -> None:
        if row is not None:
            self.write(f"seen/{row.store}", row)

    # What is done and said.

    def act(self, action: Action) -> None:
        self.actions.append(action)

    def answer(self, request: int, problem: Problem | None = None, detail: str = "") -> None:
        self.state.forwarded.discard(request)
        self.actions.append(Answer(request, problem, detail[:DETAIL]))

    def send(self, to: str, message: Message) -> None:
        if to == self.me:
            self.inbox.append(message)
        else:
            self.sends.append(Send(to, message))

    def broadcast(self, message: Message) -> None:
        """To every node, this one included."""
        self.inbox.append(message)
        if len(self.state.known) > 1:
            self.broadcasts.append(message)

    def learn(self, record: Record) -> None:
        """Take in a record that came with something else, as its news would have been (F28)."""
        self.inbox.append(RecordNews(record))

    def decide(
        self, event: str, hosted: Hosted | None = None, because: str = "", law: str = "", /, **fields: str | int | float
    ) -> None:
        """Note a decision with its reason; kept with the database too, to answer *why* later."""
        name = hosted.internal if hosted is not None else str(fields.pop("database", ""))
        decision = Decision(event, name, because, law, tuple(fields.items()))
        self.decisions.append(decision)
        if hosted is not None:
            hosted.decisions.append(Decided(self.now, decision))

    # When.

    def after(self, kind: str, key: str, delay: int) -> None:
        self.state.timers.set(kind, key, self.now + delay)

    def cancel(self, kind: str, key: str) -> None:
        self.state.timers.clear(kind, key)
