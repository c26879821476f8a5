"""What a coordinator has asked the members to store, and who has stored it. The law kept here is that of P6 and P12: what is decided
under a promised epoch counts, and is told, only once a majority of the members has it durably. Both are volatile: a successor asks
for an epoch of its own."""

from __future__ import annotations

from attrs import Factory, define

from protocol.ids import Peer
from protocol.records import Record
from protocol.rows import Outcome


@define
class MembersRound:
    """Changed members, which a majority of the former ones is asked to store (P6)."""

    record: Record
    back: bool = False
    """To an address where its group knew it before."""
    stored: set[Peer] = Factory(set[Peer])


@define
class OutcomeRound:
    """What becomes of a birth, which a majority of its members is asked to store (P12). ``because``: why it was decided so."""

    outcome: Outcome
    because: str
    stored: set[Peer] = Factory(set[Peer])
