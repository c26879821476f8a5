"""What the runtime knows of a database's file at rest."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import patch

from runtime import since_boot
from runtime.directories import Directories, Instance
from runtime.gateway.frames import SealedCopy
from runtime.gateway.sealed_file import Stamp
from runtime.resting import Resting

COPY = SealedCopy("app", "name", "inc", 3)


def at_rest(tmp_path: Path) -> Instance:
    place = Directories(tmp_path).instance("app_name", "inc")
    place.database.parent.mkdir(parents=True)
    place.database.write_bytes(b"database")
    return place


def test_P34_a_copy_is_told_as_it_was_when_its_run_ended(tmp_path: Path) -> None:
    place, resting = at_rest(tmp_path), Resting()
    resting.begins(place)
    resting.ended(place)
    stamp = Stamp.of(str(place.database))
    place.database.write_bytes(b"somebody else's")
    told = resting.told(COPY, place, 5)
    assert (told.open, told.generation, told.path) == (True, 3, str(place.database))
    assert Stamp(*told.stamp) == stamp != Stamp.of(str(place.database))


def test_F53_time_in_which_the_machine_was_suspended_counts(tmp_path: Path) -> None:
    """An hour before the run is over and forgotten; one since it began makes the copy an hour older, whenever it was."""
    place, resting = at_rest(tmp_path), Resting()
    hour = 3_600_000_000
    with patch.object(since_boot, "suspended", lambda: hour):
        resting.begins(place)
    with patch.object(since_boot, "suspended", lambda: 2 * hour):
        resting.ended(place)
        assert resting.told(COPY, place, 5).current_at == 5 + hour, (
            "on a clock that shows two hours more than the engine's"
        )


def test_F53_a_run_that_left_no_file_left_nothing_to_read(tmp_path: Path) -> None:
    place, resting = at_rest(tmp_path), Resting()
    place.database.unlink()
    resting.begins(place)
    resting.ended(place)
    assert resting.told(COPY, place, 5) == SealedCopy("app", "name")
