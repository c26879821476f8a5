"""How much one key may ask of a gateway worker: requests each second, and requests at one time. The law kept here: the limit is looked at before
any work is done, one key's use takes nothing from another's, and who is refused is told when to come again (F92).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Final

from runtime.gateway.calls import Caller
from runtime.gateway.problems import Refusal
from runtime.rates import Rates

KEYS: Final = 10_000
"""Keys whose use is remembered at one time."""

Whose = tuple[str, str]

_FREE: Final = nullcontext()


class Allowances:
    """``per_second``, ``at_once``: of each key; 0: no limit. ``clock``: seconds, never going back."""

    def __init__(self, per_second: int, at_once: int, clock: Callable[[], float]) -> None:
        self._rates: Rates[Whose] | None = Rates(per_second, per_second, KEYS) if per_second else None
        self._per_second = per_second
        self._at_once = at_once
        self._clock = clock
        self._running: dict[Whose, int] = {}

    def of(self, caller: Caller) -> AbstractContextManager[None]:
        """Room for one request of this caller's key, for as long as it lasts. Raises :class:`Refusal`. What another gateway sends was
        counted there, and what needs no key belongs to nobody."""
        return self._counted(caller) if caller.key_id and (self._rates or self._at_once) else _FREE

    @contextmanager
    def _counted(self, caller: Caller) -> Generator[None]:
        whose = (caller.app, caller.key_id)
        running = self._running.get(whose, 0)
        if self._at_once and running >= self._at_once:
            raise _limited(f"this key has {running} requests under way, and may have {self._at_once} at one time", 1)
        if self._rates is not None and not self._rates.take(whose, self._clock()):
            wait = self._rates.wait(whose, self._clock())
            raise _limited(f"this key may make {self._per_second} requests a second", wait)
        self._running[whose] = running + 1
        try:
            yield
        finally:
            self._running[whose] -= 1
            if not self._running[whose]:
                del self._running[whose]


def _limited(detail: str, wait: float) -> Refusal:
    return Refusal("rate-limited", detail, headers=(("retry-after", str(max(1, math.ceil(wait)))),))
