"""The durable store: batches are whole, foreign and damaged files are refused in one line, one process owns a directory."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from protocol.effects import Write
from runtime.store import FILE, FORMAT, DirectoryLock, Store, StoreUnusable


def one_line(error: pytest.ExceptionInfo[StoreUnusable]) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


async def test_F24_rows_are_there_after_a_reopen_and_deletions_too(tmp_path: Path) -> None:
    with Store(tmp_path, create=True) as store:
        await store.commit([Write("b", b"2"), Write("a", b"1"), Write("gone", b"x")])
        await store.commit([Write("a", b"11"), Write("gone", None), Write("never", None)])
    with Store(tmp_path) as store:
        assert store.rows() == (("a", b"11"), ("b", b"2"))


KILLED_IN_BATCH = """
import os, signal, sys
from pathlib import Path
from protocol.effects import Write
from runtime.store import Store
store = Store(Path(sys.argv[1]), create=True)
store.write([Write("whole", b"1")])
def batch():
    yield Write("half", b"1")
    os.kill(os.getpid(), signal.SIGKILL)
store.write(batch())
"""


def test_F24_a_kill_inside_a_batch_leaves_nothing_of_it(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED_IN_BATCH, str(tmp_path)], check=False)
    assert done.returncode == -9
    with Store(tmp_path) as store:
        assert store.rows() == (("whole", b"1"),)


FULL_DISK = """
import resource, sqlite3, sys
from pathlib import Path
from protocol.effects import Write
from runtime.store import Store
store = Store(Path(sys.argv[1]), create=True)
store.write([Write("before", b"1")])
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    store.write([Write("small", b"1"), Write("large", b"x" * 100_000)])
except sqlite3.Error as error:
    print("refused:", error)
"""


def test_P1_a_batch_that_does_not_fit_on_the_disk_raises_and_leaves_nothing(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", FULL_DISK, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("refused:")
    with Store(tmp_path) as store:
        assert store.rows() == (("before", b"1"),)


def test_P60_facts_are_written_once(tmp_path: Path) -> None:
    with Store(tmp_path, create=True) as store:
        assert store.facts() == {}
        store.found({"cluster": "c1"})
        with pytest.raises(sqlite3.IntegrityError):
            store.found({"cluster": "c2"})
        assert store.facts() == {"cluster": "c1"}


def test_R61_a_missing_store_is_not_made_by_opening_it(tmp_path: Path) -> None:
    with pytest.raises(StoreUnusable) as error:
        Store(tmp_path)
    assert "does not exist" in one_line(error)
    assert not (tmp_path / FILE).exists()


def test_R61_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"certainly not SQLite, " * 100)
    with pytest.raises(StoreUnusable) as error:
        Store(tmp_path)
    assert "damaged or no store of ours" in one_line(error)
    assert (tmp_path / FILE).read_bytes().startswith(b"certainly")


def test_R61_a_database_of_another_program_is_refused_and_left_alone(tmp_path: Path) -> None:
    db = sqlite3.connect(tmp_path / FILE)
    db.execute("CREATE TABLE theirs (x)")
    db.commit()
    db.close()
    before = (tmp_path / FILE).read_bytes()
    with pytest.raises(StoreUnusable) as error:
        Store(tmp_path, create=True)
    assert "another program" in one_line(error)
    assert (tmp_path / FILE).read_bytes() == before


def test_R61_a_damaged_page_is_refused(tmp_path: Path) -> None:
    with Store(tmp_path, create=True) as store:
        store.write([Write(f"key{n}", bytes(500)) for n in range(200)])
    content = bytearray((tmp_path / FILE).read_bytes())
    content[4096 * 4 : 4096 * 5] = b"\xa5" * 4096
    (tmp_path / FILE).write_bytes(content)
    with pytest.raises(StoreUnusable) as error:
        Store(tmp_path)
    assert "damaged" in one_line(error)


def test_R61_a_newer_format_is_refused(tmp_path: Path) -> None:
    Store(tmp_path, create=True).close()
    db = sqlite3.connect(tmp_path / FILE)
    db.execute(f"PRAGMA user_version = {FORMAT + 1}")
    db.close()
    with pytest.raises(StoreUnusable) as error:
        Store(tmp_path)
    assert f"format {FORMAT + 1}" in one_line(error)


HOLDER = """
import sys
from pathlib import Path
from runtime.store import DirectoryLock
lock = DirectoryLock(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


def test_F61_a_second_process_is_refused_with_the_owners_pid_until_the_owner_is_gone(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(StoreUnusable) as error:
            DirectoryLock(tmp_path)
        assert f"(pid {holder.pid})" in one_line(error)
        holder.kill()
        holder.wait()
    DirectoryLock(tmp_path).release()


def test_R61_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreUnusable) as error:
        DirectoryLock(tmp_path / "file" / "data")
    assert "is not accessible" in one_line(error)
    assert "node.data_dir" in str(error.value)
