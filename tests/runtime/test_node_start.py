"""What keeps a node from starting is one line that names the cause and what to do, and an exit code that is not zero; and
nothing is touched before (R13, R61, P60, F61)."""

from __future__ import annotations

import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runtime.gateway import certificates
from runtime.identity import DIRECTORY, KEY, SECRET
from runtime.rqlited_binary import VARIABLE
from runtime.spawned import sections, spawned, write_settings
from runtime.store import FILE, Store
from tests.runtime.node_world import world

REPOSITORY = Path(__file__).resolve().parents[2]


def node(config: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    import os

    return subprocess.run(
        [sys.executable, "-m", "runtime.node", "--config", str(config), *arguments],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=os.environ | environment,
    )


def refused(done: subprocess.CompletedProcess[str], *words: str) -> None:
    assert done.returncode == 2, done
    assert done.stdout == ""
    assert done.stderr.startswith("torpor: ")
    assert done.stderr.count("\n") == 1, done.stderr
    for word in words:
        assert word in done.stderr


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return write_settings(tmp_path / "node.yaml", sections(tmp_path, {}))


def changed(config: Path, **overrides: dict[str, Any]) -> Path:
    settings = sections(config.parent, {})
    for section, values in overrides.items():
        settings[section] = settings.get(section, {}) | values
    return write_settings(config, settings)


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_R13_a_bad_configuration_is_one_line_with_key_and_line_and_touches_nothing(config: Path) -> None:
    refused(node(changed(config, database={"replication_factor": 0}), "--found"), "node.yaml:5", "replication_factor")
    refused(node(changed(config, database={"replicas": 3}), "--found"), "database.replicas")
    refused(node(changed(config), "--found", "--set", "database.rqlite_port=4001"), "database.rqlite_port")
    assert not (config.parent / "data").exists()


def test_R13_check_validates_and_touches_nothing(config: Path) -> None:
    done = node(config, "--check")
    assert (done.returncode, done.stderr) == (0, "")
    assert not (config.parent / "data").exists()


def test_R61_a_missing_rqlited_is_named_and_nothing_is_founded(config: Path) -> None:
    refused(node(config, "--found", **{VARIABLE: "/nowhere/rqlited"}), "/nowhere/rqlited")
    assert not (config.parent / "data").exists()


def test_P60_without_found_and_without_a_store_it_says_so_and_touches_nothing(config: Path) -> None:
    refused(node(config), "--found", "no cluster in")
    assert not (config.parent / "data").exists()


@pytest.mark.parametrize("name", ["listen", "internal_listen"])
def test_R61_a_taken_gateway_port_is_named_before_anything_is_founded(config: Path, taken: int, name: str) -> None:
    refused(node(changed(config, gateway={name: f"127.0.0.1:{taken}"}), "--found"), str(taken), f"gateway.{name}")
    assert not (config.parent / "data").exists()


def test_R61_an_unwritable_data_directory_is_named(config: Path) -> None:
    (config.parent / "data").write_text("a file is in the way")
    refused(node(config, "--found"), str(config.parent / "data"), "node.data_dir")


@pytest.mark.real
async def test_P60_F61_of_a_running_node_a_second_one_and_a_second_founding_are_refused(
    tmp_path: Path, taken: int
) -> None:
    async with world(tmp_path) as w:
        refused(node(w.config), f"pid {w.node.pid}", "in use")
        assert await w.node.stop() == 0
        refused(node(w.config, "--found"), "founded", "already")
        for name in ("gateway.listen", "gateway.internal_listen"):
            refused(node(w.config, "--set", f"{name}=127.0.0.1:{taken}"), str(taken), name)
        assert w.leftovers() == []
        identity = tmp_path / "data" / DIRECTORY
        modes = {path.name: path.stat().st_mode & 0o777 for path in identity.iterdir()}
        assert modes == {KEY: 0o600, SECRET: 0o600, certificates.FILE: 0o600}
        (identity / KEY).rename(identity / "kept")
        refused(node(w.config), KEY)
        (identity / "kept").rename(identity / KEY)
        (tmp_path / "data" / FILE).rename(tmp_path / "kept.db")
        (tmp_path / "data" / FILE).write_bytes(b"not a store" * 1000)
        refused(node(w.config), FILE, "damaged")
        (tmp_path / "kept.db").rename(tmp_path / "data" / FILE)
        await w.start()
        await w.execute("orders", "CREATE TABLE t (n INT)")


@pytest.mark.real
async def test_P60_keys_of_another_node_are_refused(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    async with world(tmp_path / "one") as one, world(tmp_path / "two") as two:
        assert await one.node.stop() == 0
        assert await two.node.stop() == 0
        (one.data / DIRECTORY / KEY).write_bytes((two.data / DIRECTORY / KEY).read_bytes())
        refused(node(one.config), "belongs to peer")


@pytest.mark.real
async def test_a_row_that_cannot_be_read_is_not_guessed_at(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        assert await w.node.stop() == 0
        db = sqlite3.connect(w.data / FILE)
        db.execute("INSERT INTO rows VALUES ('record/x', x'ff00ff')")
        db.commit()
        db.close()
        done = node(w.config)
        assert done.returncode == 2
        assert "cannot be read" in done.stderr.splitlines()[-1]
        assert w.leftovers() == []


@pytest.mark.real
async def test_P60_a_founding_that_was_cut_off_is_repeated(tmp_path: Path) -> None:
    config = write_settings(tmp_path / "node.yaml", sections(tmp_path, {}))
    (tmp_path / "data").mkdir()
    Store(tmp_path / "data", create=True).close()  # all that was done before the crash
    refused(node(config), "cut off", "--found")
    async with spawned(config, "--found", data=tmp_path / "data") as running:
        assert running.status()["pid"] == running.pid
