"""How often somebody may do something. Law: what one uses up is never taken from another."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Final, Generic, TypeVar

from attrs import define

Who = TypeVar("Who", bound=Hashable)


@define
class _Bucket:
    tokens: float
    at: float


class Rates(Generic[Who]):
    """A token bucket for each: ``rate`` for each second, ``burst`` at once. Bounded to ``most``: the one unused for longest goes, which
    by then is full again in all but a contrived case."""

    def __init__(self, rate: float, burst: float, most: int) -> None:
        self._rate: Final = rate
        self._burst: Final = burst
        self._most: Final = most
        self._buckets: OrderedDict[Who, _Bucket] = OrderedDict()

    def take(self, who: Who, now: float) -> bool:
        """Take one token, if there is one."""
        bucket = self._at(who, now)
        if bucket.tokens < 1.0:
            return False
        bucket.tokens -= 1.0
        return True

    def wait(self, who: Who, now: float) -> float:
        """Seconds until there is one."""
        return max(0.0, (1.0 - self._at(who, now).tokens) / self._rate)

    def owed(self, who: Who, now: float) -> float:
        """Take one token, on credit if need be; gives the seconds to wait until it is earned."""
        bucket = self._at(who, now)
        bucket.tokens -= 1.0
        return max(0.0, -bucket.tokens / self._rate)

    def _at(self, who: Who, now: float) -> _Bucket:
        bucket = self._buckets.get(who)
        if bucket is None:
            while len(self._buckets) >= self._most:
                self._buckets.popitem(last=False)
            bucket = self._buckets[who] = _Bucket(self._burst, now)
        else:
            self._buckets.move_to_end(who)
            bucket.tokens = min(self._burst, bucket.tokens + (now - bucket.at) * self._rate)
            bucket.at = now
        return bucket
