"""The files of databases at rest, as this process saw them come to rest: what a sealed copy is recognised by, and how it ages. The laws kept here
are P34 (a copy is that of the clean stop, or none: whoever has written to it since has made it another file) and F53 (time in which the machine
was suspended counts; where that is not known exactly, the copy is taken to be older).
"""

from __future__ import annotations

from attrs import define, evolve, field

from runtime import since_boot
from runtime.directories import Instance
from runtime.gateway.frames import SealedCopy
from runtime.gateway.sealed_file import Stamp


@define
class _Rest:
    suspended: int
    """How much of this machine's time was none on the engine's clock, when the run began (µs)."""
    stamp: Stamp | None = None


@define
class Resting:
    """Of all databases whose runs this process has seen."""

    _rests: dict[str, _Rest] = field(factory=dict[str, _Rest], init=False)

    def begins(self, place: Instance) -> None:
        """A run of this database begins."""
        self._rests[place.incarnation] = _Rest(since_boot.suspended())

    def ended(self, place: Instance) -> None:
        """It is over, however it went: this is the file that it left."""
        try:
            self._rests[place.incarnation].stamp = Stamp.of(str(place.database))
        except OSError:
            return  # it left none: then there is nothing that could be read

    def forget(self, incarnation: str) -> None:
        self._rests.pop(incarnation, None)

    def told(self, copy: SealedCopy, place: Instance, current_at: int) -> SealedCopy:
        """The copy as a worker is told of it. ``current_at``: on the engine's clock. What was suspended since the run began counts as if it had
        been after it: the copy may be younger than is said, and never older."""
        rest = self._rests[place.incarnation]
        if rest.stamp is None:
            return SealedCopy(copy.app, copy.name)
        stamp = (rest.stamp.inode, rest.stamp.size, rest.stamp.modified, rest.stamp.changed)
        return evolve(copy, open=True, path=str(place.database), stamp=stamp, current_at=current_at + rest.suspended)
