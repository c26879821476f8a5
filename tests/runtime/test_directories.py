"""Directories: where data is, when it may start, and that nothing is deleted at once (R50, F80, F82, P54)."""

import json
import time
from pathlib import Path

import pytest

from runtime.directories import Directories, DirectoryUnusable

NAME, INCARNATION, NODE = "my__app_users", "s1-7-00ff", "QmPeer.s1-7-00ff.1"


@pytest.fixture
def directories(tmp_path: Path) -> Directories:
    made = Directories(tmp_path / "data")
    made.prepare()
    return made


def with_raft_state(directories: Directories) -> Path:
    place = directories.create(NAME, INCARNATION, NODE)
    place.raft_log.write_bytes(b"raft")
    return place.path


def test_R50_the_layout_is_name_incarnation_rqlite(directories: Directories) -> None:
    place = directories.create(NAME, INCARNATION, NODE)
    assert place.path == directories.data_dir / "my__app_users" / "s1-7-00ff"
    assert sorted(each.name for each in place.path.iterdir()) == ["marker", "rqlite"]
    assert json.loads(place.marker.read_bytes()) == {"format": 1, "incarnation": INCARNATION, "node_id": NODE}


@pytest.mark.parametrize("bad", ["", ".", "..", ".trash", "a/b", "a\\b", "A", "a\x00", "a b", "é", "a" * 256, "a\n"])
def test_F82_no_name_leads_out_of_the_data_directory(directories: Directories, bad: str) -> None:
    for name, incarnation in ((bad, INCARNATION), (NAME, bad)):
        with pytest.raises(ValueError, match="cannot be the name of a directory"):
            directories.instance(name, incarnation)


def test_P54_intact_is_marker_and_raft_state_and_nothing_less(directories: Directories) -> None:
    place = directories.instance(NAME, INCARNATION)
    assert not directories.intact(place)
    directories.create(NAME, INCARNATION, NODE)
    assert not directories.intact(place), "no Raft state yet"
    place.raft_log.write_bytes(b"")
    assert not directories.intact(place), "an empty file is no state"
    place.raft_log.write_bytes(b"raft")
    assert directories.intact(place)
    assert directories.intact(place, NODE)
    assert not directories.intact(place, "QmPeer.s1-7-00ff.2"), "a copy of another join stamp"
    for torn in (b"", b"{", b"[]", b'{"incarnation": "s1-7-0000"}', b"\xff"):
        place.marker.write_bytes(torn)
        assert not directories.intact(place)
    place.marker.unlink()
    assert not directories.intact(place)


def test_F80_a_directory_moves_to_the_trash_whole_and_its_name_is_free_again(directories: Directories) -> None:
    path = with_raft_state(directories)
    aim = directories.to_trash(directories.instance(NAME, INCARNATION))
    assert aim is not None
    assert not path.parent.exists()
    assert (aim / "rqlite" / "raft.db").read_bytes() == b"raft"
    assert aim.parts[-2:] == (NAME, INCARNATION), "it says where it belongs"
    again = with_raft_state(directories)
    assert directories.to_trash(directories.instance(NAME, INCARNATION)) not in (None, aim)
    assert not again.exists()
    assert directories.to_trash(directories.instance(NAME, INCARNATION)) is None
    assert list(directories.instances()) == [], "the trash holds no instances"


def test_F80_the_longest_names_fit_into_the_trash(directories: Directories) -> None:
    place = directories.create("a" * 190, "b" * 200, NODE)
    assert directories.to_trash(place) is not None


def test_F80_trash_is_swept_only_after_its_retention_and_only_what_is_ours(directories: Directories) -> None:
    with_raft_state(directories)
    aim = directories.to_trash(directories.instance(NAME, INCARNATION))
    assert aim is not None
    stranger = directories.data_dir / ".trash" / "notes"
    stranger.mkdir()
    assert directories.sweep_trash(3600) == 0
    entry = aim.parent.parent
    entry.rename(entry.with_name(f"{int(time.time()) - 7200}-0"))
    assert directories.sweep_trash(3600) == 1
    assert [each.name for each in (directories.data_dir / ".trash").iterdir()] == ["notes"]


def test_F80_only_what_is_recognisably_ours_is_listed(directories: Directories) -> None:
    with_raft_state(directories)
    (directories.data_dir / "README.txt").write_text("hello")
    (directories.data_dir / "node.sqlite").write_text("hello")
    (directories.data_dir / "elsewhere").symlink_to("/")
    (directories.data_dir / NAME / "note.md").write_text("hello")
    assert [(each.name, each.incarnation) for each in directories.instances()] == [(NAME, INCARNATION)]


def test_P34_an_absent_and_an_empty_WAL_are_empty(directories: Directories) -> None:
    place = directories.create(NAME, INCARNATION, NODE)
    wal = place.rqlite / "db.sqlite-wal"
    assert place.wal_empty
    wal.write_bytes(b"")
    assert place.wal_empty
    wal.write_bytes(b"x")
    assert not place.wal_empty


def test_R61_an_unusable_data_directory_is_one_line_with_its_cause(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for data in (tmp_path / "file", tmp_path / "file" / "data", Path("/proc/torpor-data")):
        with pytest.raises(DirectoryUnusable, match=r"cannot be written \(.+\): set node.data_dir") as caught:
            Directories(data).prepare()
        assert "\n" not in str(caught.value)
