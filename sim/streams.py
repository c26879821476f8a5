"""Chance, in one stream for each subsystem, all from one seed. The law kept here: what one subsystem draws never shifts what
another one draws, so that a changed fault or client leaves the rest of a run as it was, and schedules shrink.
"""

from __future__ import annotations

import random


class Streams:
    """Named streams of one seed. ``random.Random`` seeded with text gives the same numbers on every CPython from 3.9, in
    every process, whatever PYTHONHASHSEED."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._streams: dict[str, random.Random] = {}

    def __getitem__(self, name: str) -> random.Random:
        stream = self._streams.get(name)
        if stream is None:
            stream = self._streams[name] = random.Random(f"torpor/{self.seed}/{name}")
        return stream


def between(stream: random.Random, bounds: tuple[int, int]) -> int:
    """A whole number of microseconds from ``bounds``, both ends possible; ten times cheaper than ``randint``."""
    low, high = bounds
    return low + int(stream.random() * (high - low + 1))
