"""Seeds judged by processes: no seed is lost in silence, whatever happens to a process."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

from sim import workers
from sim.workers import Verdict, judged

ROOT = Path(__file__).parent.parent.parent


def fine(seed: int) -> Verdict:
    return Verdict(seed)


def fails_at_five(seed: int) -> Verdict:
    if seed == 5:
        raise ZeroDivisionError("a bug of the simulator")
    return Verdict(seed)


def dies_at_five(seed: int) -> Verdict:
    if seed == 5:
        os._exit(3)
    return Verdict(seed)


def killed_at_five(seed: int) -> Verdict:
    if seed == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    return Verdict(seed)


def by_seed(verdicts: list[Verdict]) -> dict[int, str]:
    found = {verdict.seed: verdict.why for verdict in verdicts}
    assert len(found) == len(verdicts)
    return found


def test_every_seed_is_judged_once_by_however_many_processes() -> None:
    assert by_seed(list(judged(fine, range(10, 33), 3))) == dict.fromkeys(range(10, 33), "")


def test_a_simulator_that_raises_is_a_failure_of_that_seed_with_its_place() -> None:
    found = by_seed(list(judged(fails_at_five, range(1, 12), 1)))
    why = found.pop(5)
    assert "ZeroDivisionError: a bug of the simulator [test_workers.py:" in why
    assert set(found.values()) == {""}
    assert len(found) == 10


def test_a_process_that_dies_is_a_failure_of_the_seed_that_it_was_at_and_the_others_are_judged() -> None:
    found = by_seed(list(judged(dies_at_five, range(1, 12), 2)))
    assert found.pop(5) == "its process ended with 3"
    assert found == dict.fromkeys([*range(1, 5), *range(6, 12)], "")


def test_a_process_that_is_killed_is_named_with_its_signal() -> None:
    found = by_seed(list(judged(killed_at_five, range(4, 7), 1)))
    assert found == {4: "", 5: "its process ended with -9, which is signal 9", 6: ""}


def silent() -> None:
    threading.Event().wait()


def test_a_process_that_says_nothing_is_killed() -> None:
    context = multiprocessing.get_context("fork")
    process = context.Process(target=silent, daemon=True)
    process.start()
    ours, _theirs = context.Pipe()
    worker = workers._Worker(process, ours)
    worker.todo.append(7)
    assert workers._lost(worker, 300.0) == Verdict(7, "no verdict within 300 s: it was killed")
    assert process.exitcode == -signal.SIGKILL


def test_ctrl_c_ends_the_search_with_a_summary_and_leaves_no_process() -> None:
    command = [sys.executable, "-m", "sim", "fuzz", "--seeds", "100000", "--jobs", "2"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True) as search:
        assert search.stdout is not None
        assert search.stdout.readline()  # it is under way
        os.killpg(search.pid, signal.SIGINT)  # as a terminal does: to every process of the group
        rest = search.stdout.read()
        assert search.wait() == 130
    assert "interrupted before the other" in rest.splitlines()[-1]
    assert "Traceback" not in rest
    left = subprocess.run(["pgrep", "-g", str(search.pid)], capture_output=True, text=True, check=False)
    assert left.stdout == ""
