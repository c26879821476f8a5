"""Which offers become members. Most room first, so that databases spread; then the lowest peer id, so that the choice is
the same whoever computes it. The founder is the first of them (P12)."""

from __future__ import annotations

from collections.abc import Iterable

from protocol.messages import CreateAnswer
from protocol.records import Member


def choose(answers: Iterable[CreateAnswer], count: int) -> tuple[Member, ...]:
    """At most ``count`` members, the founder first. A node is never selected twice (F5)."""
    offers = {answer.offer.peer: (answer.room, answer.offer) for answer in answers if answer.offer is not None}
    ranked = sorted(offers.values(), key=lambda pair: (-pair[0], pair[1].peer))
    return tuple(member for _room, member in ranked[:count])
