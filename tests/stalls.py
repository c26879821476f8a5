"""The tests on a machine that stands still now and then: again and again some process below them (a test's, a node's, a gateway worker's, an
rqlited) is stopped for a moment, and goes on. What a test or the product takes for granted about time shows in minutes, not once in
a hundred runs.

    python -m tests.stalls [--seed N] [--longest SECONDS] [arguments of pytest]

The seed says which pauses are made; what they meet is the machine's. A failing test shows the last lines of its nodes' logs.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import subprocess
import sys
import time

import psutil

SHORTEST = 0.2
BETWEEN = (0.2, 1.5)
"""Seconds a process is stopped for at least, and between two stops."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.stalls", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--longest", type=float, default=1.0, help="seconds a process is stopped for at most (1.0)")
    ours, theirs = parser.parse_known_args()
    chance = random.Random(ours.seed)
    running = subprocess.Popen([sys.executable, "-m", "pytest", *theirs])
    stops = 0
    while running.poll() is None:
        time.sleep(chance.uniform(*BETWEEN))
        with contextlib.suppress(psutil.Error):
            stops += stop_one(psutil.Process(running.pid), chance, ours.longest)
    print(f"{stops} pauses, seed {ours.seed}")
    return running.returncode


def stop_one(tests: psutil.Process, chance: random.Random, longest: float) -> bool:
    """Half of the time the process of a test, half of the time any."""
    chosen = tests.children(recursive=chance.random() < 0.5)
    if not chosen:
        return False
    one = chance.choice(chosen)
    one.suspend()
    try:
        time.sleep(chance.uniform(SHORTEST, longest))
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            one.resume()
    return True


if __name__ == "__main__":
    sys.exit(main())
