"""One scenario played by two processes whose hashes differ. The law kept here: a seed means the same in every process, and where it
does not, the first event that differs is shown: a set whose order leaked, a clock that was read.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from sim.trace import first_divergence

ROOT: Final = Path(__file__).resolve().parent.parent
HASH_SEEDS: Final = ("1", "4711")


def parting(scenario: Path) -> str | None:
    """Where two plays of this file part, or None."""
    with tempfile.TemporaryDirectory() as directory:
        traces = [Path(directory) / f"trace-{seed}" for seed in HASH_SEEDS]
        for seed, trace in zip(HASH_SEEDS, traces, strict=True):
            _play(scenario, seed, trace)
        left, right = (trace.read_text(encoding="utf-8").splitlines() for trace in traces)
    return first_divergence(left, right)


def _play(scenario: Path, hash_seed: str, trace: Path) -> None:
    command = [sys.executable, "-m", "sim", "scenario", str(scenario.resolve()), "--trace", str(trace)]
    environment = os.environ | {"PYTHONHASHSEED": hash_seed}
    subprocess.run(
        command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, check=False
    )  # it may well fail: alike
