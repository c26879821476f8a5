"""How much one peer may do. Law: the limit of a peer is looked at before any work is done for what it sent (F92), and what one
peer uses up is never taken from another.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from attrs import define

from runtime.transport import bounds


@define
class _Bucket:
    tokens: float
    at: float


class Rates:
    """A token bucket for each peer: ``rate`` for each second, ``burst`` at once. Bounded: the one unused for longest goes, which
    by then is full again in all but a contrived case."""

    def __init__(self, rate: float, burst: float) -> None:
        self._rate: Final = rate
        self._burst: Final = burst
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def take(self, peer: str, now: float) -> bool:
        """Take one token, if there is one."""
        bucket = self._at(peer, now)
        if bucket.tokens < 1.0:
            return False
        bucket.tokens -= 1.0
        return True

    def owed(self, peer: str, now: float) -> float:
        """Take one token, on credit if need be; gives the seconds to wait until it is earned."""
        bucket = self._at(peer, now)
        bucket.tokens -= 1.0
        return max(0.0, -bucket.tokens / self._rate)

    def _at(self, peer: str, now: float) -> _Bucket:
        bucket = self._buckets.get(peer)
        if bucket is None:
            while len(self._buckets) >= bounds.PEERS:
                self._buckets.popitem(last=False)
            bucket = self._buckets[peer] = _Bucket(self._burst, now)
        else:
            self._buckets.move_to_end(peer)
            bucket.tokens = min(self._burst, bucket.tokens + (now - bucket.at) * self._rate)
            bucket.at = now
        return bucket


@define
class _Offence:
    refused: int
    since: float
    until: float = 0.0
    term: float = bounds.BAN / 2


class Bans:
    """Who flooded, and until when it is not let in."""

    def __init__(self) -> None:
        self._offences: OrderedDict[str, _Offence] = OrderedDict()

    def banned(self, peer: str, now: float) -> bool:
        offence = self._offences.get(peer)
        return offence is not None and now < offence.until

    def refused(self, peer: str, now: float) -> bool:
        """One message of ``peer`` was refused for its rate; whether that makes it a flood, just now."""
        offence = self._offences.get(peer)
        if offence is None:
            while len(self._offences) >= bounds.PEERS:
                self._offences.popitem(last=False)
            offence = self._offences[peer] = _Offence(0, now)
        if now - offence.since > bounds.BAN:
            offence.refused, offence.since = 0, now
        offence.refused += 1
        if offence.refused <= bounds.FLOOD or now < offence.until:
            return False
        offence.term = min(bounds.BAN_MAX, 2 * offence.term)
        offence.refused, offence.until = 0, now + offence.term
        return True
