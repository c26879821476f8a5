"""The time by which a copy ages. The law kept here is F53: it goes on while a process is stopped, and while the machine is suspended; all
processes of one machine have the same; and nobody sets it."""

from __future__ import annotations

import time
from typing import Final

_CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""Where a system has no such clock, its monotonic one is the nearest (macOS)."""


def microseconds() -> int:
    """Since this machine was started, the time in which it was suspended included."""
    return time.clock_gettime_ns(_CLOCK) // 1_000


def suspended() -> int:
    """How much of it the machine was suspended, µs, as seen from the engine's clock."""
    return microseconds() - time.monotonic_ns() // 1_000
