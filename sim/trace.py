"""The trace of a run, and its digest. The law kept here: whatever an engine was told and whatever it wanted done is in the
digest, in one canonical text, so that two runs are the same exactly when their digests are.

One line is one fact: ``<node> > Input(fields)``, ``<node> = Write(key, bytes)``, ``<node> ! Effect(fields)``, and what the world did
(``* fault``, ``? client``). Fields are Python literals of numbers, texts, bytes and tuples; messages stand as their encoded
bytes. Nothing with an address, a set or a hash in it is ever written, so PYTHONHASHSEED cannot matter.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from itertools import zip_longest
from typing import Any, Final, cast

import attrs

from protocol import effects, inputs
from sim import wire

BATCH: Final = 512
"""Lines hashed at once: what a call costs is shared by so many."""


def _text(kind: type, name: str) -> Callable[[Any], str]:
    """A function to a value's canonical text, compiled once to one expression: this is done for every fact of a run."""
    fields = ", ".join(f"{{v.{field.name}!r}}" for field in attrs.fields(kind))
    return cast("Callable[[Any], str]", eval(f"lambda v: f'{name}({fields})'"))  # names come from our own classes only


def _texts(kinds: Iterable[type]) -> dict[type, Callable[[Any], str]]:
    return {kind: _text(kind, kind.__name__) for kind in kinds}


INPUTS: Final = _texts(inputs.Input.__args__)
INPUTS[inputs.Received] = lambda v: f"Received({v.now}, {v.sender!r}, {wire.text(v.message)})"
ACTIONS: Final = _texts(effects.Action.__args__)
_write = _text(effects.Write, "")
_decision = _text(effects.Decision, "")


class Trace:
    """A running digest, and the lines themselves when they are kept (they cost memory: a run has millions)."""

    def __init__(self, keep: bool = False) -> None:
        self._hash = hashlib.blake2b(digest_size=16)
        self._lines: list[str] = []
        self.note: Callable[[str], None] = self._lines.append
        """Add one line: what the world did."""
        self._kept: list[str] | None = [] if keep else None

    def step(self, node: str, given: inputs.Input, wanted: effects.Effects) -> None:
        """Add one step of an engine: its input, then its effects in their documented order."""
        add = self.note
        add(f"{node} > {INPUTS[type(given)](given)}")
        if wanted is not effects.NOTHING:
            for write in wanted.writes:
                add(f"{node} = {_write(write)}")
            for action in wanted.actions:
                add(f"{node} ! {ACTIONS[type(action)](action)}")
            for send in wanted.sends:
                add(f"{node} @ {send.to} {wire.text(send.message)}")
            for message in wanted.broadcasts:
                add(f"{node} @ * {wire.text(message)}")
            for decision in wanted.decisions:
                add(f"{node} : {_decision(decision)}")
        if len(self._lines) > BATCH:
            self.flush()

    def flush(self) -> None:
        if self._lines:
            if self._kept is not None:
                self._kept.extend(self._lines)
            self._lines.append("")
            self._hash.update("\n".join(self._lines).encode())
            self._lines.clear()

    def digest(self) -> str:
        """The digest of everything so far, 32 hex digits."""
        self.flush()
        return self._hash.hexdigest()

    @property
    def lines(self) -> list[str]:
        """Every line so far; only for a trace that keeps them."""
        assert self._kept is not None, "this trace keeps a digest alone"
        self.flush()
        return self._kept


def first_divergence(left: Iterable[str], right: Iterable[str], context: int = 3) -> str | None:
    """Where two traces part: the last common lines and the first different one of each; None when they are the same."""
    common: list[str] = []
    for number, (one, other) in enumerate(zip_longest(left, right), 1):
        if one != other:
            shown = [f"  {line}" for line in common[-context:]]
            ended = "(the trace ends here)"
            first, second = (ended if line is None else line for line in (one, other))
            return "\n".join([f"the traces part at line {number}:", *shown, f"- {first}", f"+ {second}"])
        assert one is not None
        common.append(one)
        if len(common) > context:
            del common[0]
    return None
