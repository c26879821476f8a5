"""What is to be stored of a birth before it counts: the birth itself, by a majority of the known nodes, before its founder starts
(P11); and what a member decided to become of it once its coordinator was silent, by a majority of its members, before anybody is told
(P12). Each does nothing when it comes late, again or out of order (:mod:`protocol.messages`)."""

from __future__ import annotations

from attrs import frozen

from protocol.records import Attempt, Birth
from protocol.rows import Outcome


@frozen
class StoreBirth:
    """Direct, to every known node: store this birth under this attempt, durably, before the founder starts (P11). The attempt is
    that of the birth itself only where nobody carries it on."""

    birth: Birth
    attempt: Attempt


@frozen
class BirthAnswer:
    """Direct: the birth is stored under this attempt, or refused since the name is promised to an attempt of the number ``higher``."""

    incarnation: str
    attempt: Attempt
    stored: bool
    higher: int = 0


@frozen
class StoreOutcome:
    """Direct, to each member, from the holder of the outcome's epoch: promise that epoch and store this, durably, unless a newer one is
    promised (P12)."""

    outcome: Outcome


@frozen
class OutcomeStored:
    """Direct: it is stored. Who refuses tells how it stands instead (P4)."""

    incarnation: str
    epoch: int
