"""What every test may rely on: a real rqlited or a plain word that there is none, hypothesis profiles that give the same
examples everywhere, and the law that a test run leaves no process behind (F61).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import structlog
from hypothesis import HealthCheck, settings

from runtime.rqlited_binary import RqlitedMissing, find_binary

# ci: the same examples on every machine, a failing one printed so that it can be replayed. No deadline and no complaint about
# slowness: how fast a machine is says nothing about what is true. long: `make fuzz`, new examples every time.
settings.register_profile(
    "ci", derandomize=True, print_blob=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("long", settings.get_profile("ci"), derandomize=False, max_examples=5_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))

MARK = "TORPOR_TEST_SESSION"
"""In the environment of this process, and so of the programs that tests start, their children included."""

PATIENCE = 5.0
"""Seconds in which a process that was told to end may still do so after the last test."""


def pytest_report_header() -> str:
    try:
        found = find_binary()
    except RqlitedMissing as missing:
        return f"rqlited: {missing}"
    return f"rqlited: {found.path} (rqlite {found.major})"


@pytest.fixture(scope="session")
def rqlited_path() -> Path:
    """The rqlited that the node itself would run. Without one, an error where it is required (`make test`), else a skip."""
    try:
        return find_binary().path
    except RqlitedMissing as missing:
        if os.environ.get("TORPOR_REQUIRE_RQLITED") == "1":
            raise
        pytest.skip(str(missing))


@pytest.fixture(autouse=True)
def logs_are_nobodys() -> Iterator[None]:
    """A test may set up logs as a node or a worker does; the next one must not write to what it has closed."""
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="session", autouse=True)
def nothing_is_left_behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Fails the run when a process outlived it: a child or its children, or an orphan that still names our directories (an
    rqlited gets none of our environment) or carries our mark (a node, a worker). Whatever is found is ended, by its pid."""
    temporary = str(tmp_path_factory.getbasetemp())
    os.environ[MARK] = str(os.getpid())
    before = {process.pid for process in psutil.Process().children(recursive=True)}
    yield
    found = {process.pid: process for process in _ours(temporary) if process.pid not in before}
    _, alive = psutil.wait_procs(found.values(), timeout=PATIENCE)
    words = [_words(process) for process in alive]
    for process in alive:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    del os.environ[MARK]
    assert not words, "left behind by the tests:\n" + "\n".join(words)


def _ours(temporary: str) -> Iterator[psutil.Process]:
    yield from psutil.Process().children(recursive=True)
    for process in psutil.process_iter():
        try:
            named = any(temporary in argument for argument in process.cmdline())
            marked = process.environ().get(MARK) == str(os.getpid())
        except psutil.Error:  # not ours to look at, or gone by now
            continue
        if (named or marked) and process.pid != os.getpid() and process.pid not in _ancestors():
            yield process
            with suppress(psutil.NoSuchProcess):
                yield from process.children(recursive=True)


def _ancestors() -> set[int]:
    """Whoever started this run may have named its directory, in `--basetemp` for example."""
    return {process.pid for process in psutil.Process().parents()}


def _words(process: psutil.Process) -> str:
    try:
        return f"  {process.pid} {process.status()}: {' '.join(process.cmdline()) or process.name()}"
    except psutil.Error:
        return f"  {process.pid}"
