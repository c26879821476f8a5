"""Which offers become members. Most room first, so that databases spread; then the lowest peer id, so that the choice is
the same whoever computes it. The founder is the first of them (P12). Who has no room but a sleeper's Raft port comes last, and is
taken for no more than the minority that may give its port up again (P42)."""

from __future__ import annotations

from collections.abc import Iterable

from protocol.membership import majority
from protocol.messages import CreateAnswer
from protocol.records import Member


def choose(answers: Iterable[CreateAnswer], count: int) -> tuple[Member, ...]:
    """At most ``count`` members, the founder first; fewer where the offers are not enough. A node is never selected twice (F5)."""
    offers = {answer.offer.peer: (answer.room, answer.offer) for answer in answers if answer.offer is not None}
    ranked = sorted(offers.values(), key=lambda pair: (-pair[0], pair[1].peer))
    roomy = [member for room, member in ranked if room]
    short = [member for room, member in ranked if not room]
    return tuple((*roomy, *short[: count - majority(count)])[:count])


def short_of_ports(answer: CreateAnswer) -> bool:
    """The offer is made on the Raft port of a database that sleeps, or could be only on one before long."""
    return answer.offer is not None and not answer.room
