"""Watching a node from outside: a process that ends while it is looked at is gone, and not an error (F91)."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import psutil
import pytest

from runtime.spawned import children

SLEEPS = (sys.executable, "-c", "import time; time.sleep(600)", "a-sleeper")


@pytest.fixture
def sleepers() -> Iterator[list[subprocess.Popen[bytes]]]:
    started = [subprocess.Popen(SLEEPS) for _ in range(2)]
    yield started
    for process in started:
        process.kill()
        process.wait()


def test_F91_children_are_found_by_what_they_run(sleepers: list[subprocess.Popen[bytes]]) -> None:
    assert {child.pid for child in children(os.getpid(), "a-sleeper")} == {process.pid for process in sleepers}
    assert children(os.getpid(), "no-such-program") == []


def test_F91_a_child_that_ends_between_being_listed_and_asked_is_gone(
    sleepers: list[subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = psutil.Process().children()
    ended, living = sleepers
    ended.kill()
    ended.wait()
    monkeypatch.setattr(psutil.Process, "children", lambda _self: listed)
    with pytest.raises(psutil.NoSuchProcess):
        next(child for child in listed if child.pid == ended.pid).name()
    assert [child.pid for child in children(os.getpid(), "a-sleeper")] == [living.pid]
