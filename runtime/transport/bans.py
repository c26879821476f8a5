"""Who flooded. Law: the limit of a peer is looked at before any work is done for what it sent (F92; :mod:`runtime.rates` counts), and who goes on all
the same is not let in for a while.
"""

from __future__ import annotations

from collections import OrderedDict

from attrs import define

from runtime.transport import bounds


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
