"""Who may read the copy of a sleeping database on this node: a book of what workers were told. The law kept here is P34: a worker counts as
reading from when it was told of the copy until it has acknowledged, under the newest generation, that it is closed with nothing in
flight; or until it is gone.
"""

from __future__ import annotations

from attrs import Factory, define


@define
class Readers:
    """Of one database. Volatile: a process that did not see the stop itself knows neither what the copy holds nor how old it is."""

    epoch: int = 0
    """Of the sleep for which this very process saw the copy left behind by a clean stop; 0: of none."""
    index: int = -1
    """Applied index of the copy."""
    current_at: int = 0
    """When everything that was acknowledged until then is in the copy for certain (µs, the node's own clock)."""
    generation: int = 0
    closing: bool = False
    told: set[int] = Factory(set[int])
    """Workers that may have a reader, or open one."""

    def keep(self, epoch: int, index: int, current_at: int) -> None:
        """A clean stop has left this copy."""
        self.epoch, self.index, self.current_at = epoch, index, current_at

    def admit(self, worker: int) -> None:
        """This worker is told that it may read: acknowledgements of an earlier closing count no more."""
        if self.closing or not self.generation:
            self.generation += 1
            self.closing = False
        self.told.add(worker)

    def close(self) -> tuple[int, ...]:
        """Nobody may read it any more, nor will it ever be read again. Those that have to be told so."""
        self.epoch, self.index, self.current_at = 0, -1, 0
        if not self.told:
            return ()
        self.generation += 1
        self.closing = True
        return tuple(sorted(self.told))

    def acknowledge(self, worker: int, generation: int, in_flight: int) -> None:
        """What a worker says of the closing of ``generation``."""
        if self.closing and generation == self.generation and not in_flight:
            self.told.discard(worker)
