"""Process identity is pid and start time (F91): a zombie is not alive, a recycled pid is not ours."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import attrs
import trio

from runtime import processes

SLEEPER = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(600)"]
DEAF = [
    sys.executable,
    "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(600)",
]


def started(argv: list[str]) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(argv, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"up\n"
    process.stdout.close()
    return process


def test_F91_an_identity_holds_as_long_as_its_process() -> None:
    process = started(SLEEPER)
    who = processes.identity(process.pid)
    assert who is not None
    assert processes.alive(who)
    assert processes.identity(process.pid) == who
    process.kill()
    process.wait()
    assert not processes.alive(who)
    assert processes.identity(process.pid) is None


def test_F91_a_zombie_is_not_alive_though_a_signal_reaches_it() -> None:
    process = started(SLEEPER)
    who = processes.identity(process.pid)
    assert who is not None
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # ended, not reaped
    os.kill(process.pid, 0)
    assert not processes.alive(who)
    assert not processes.send(who, signal.SIGTERM)
    process.wait()


def test_F91_a_recycled_pid_is_not_signalled() -> None:
    process = started(SLEEPER)
    who = processes.identity(process.pid)
    assert who is not None
    earlier = attrs.evolve(who, started="another boot:12345")
    assert not processes.alive(earlier)
    assert not processes.send(earlier, signal.SIGKILL)
    assert process.poll() is None
    assert processes.send(who, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL


def test_F91_names_of_programs_do_not_confuse_the_start_time(tmp_path: Path) -> None:
    odd = tmp_path / "a) Z 1 2 (b"
    odd.symlink_to(sys.executable)
    process = started([str(odd), *SLEEPER[1:]])
    who = processes.identity(process.pid)
    assert who is not None
    assert processes.alive(who)
    process.kill()
    process.wait()


async def test_F61_stop_all_terminates_and_kills_who_does_not_listen() -> None:
    kind, deaf = started(SLEEPER), started(DEAF)
    both = [who for process in (kind, deaf) if (who := processes.identity(process.pid)) is not None]
    async with trio.open_nursery() as nursery:  # reap as a parent would, so that what is gone is gone
        nursery.start_soon(trio.to_thread.run_sync, kind.wait)
        nursery.start_soon(trio.to_thread.run_sync, deaf.wait)
        assert await processes.stop_all(both, terminate_for=0.2) == ()
    assert kind.returncode == -signal.SIGTERM
    assert deaf.returncode == -signal.SIGKILL


def test_R62_resources_of_a_process_and_of_none() -> None:
    mine = processes.resources(os.getpid())
    assert mine is not None
    assert mine.rss > 1_000_000
    assert mine.cpu > 0
    process = started(SLEEPER)
    process.kill()
    process.wait()
    assert processes.resources(process.pid) is None
