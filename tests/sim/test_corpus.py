"""Whatever a search has found stays found: the corpus of kept scenarios, and some seeds of every family, the same ones each time.

``TORPOR_SEEDS`` says how many seeds of each family; continuous integration plays 2,000 of clusters beside this (``make seeds``)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sim import fuzz, loader, tale
from sim.play import play

KEPT = sorted(loader.CORPUS.glob("*.yaml"))
SEEDS = int(os.environ.get("TORPOR_SEEDS", "30"))


def test_there_is_a_corpus() -> None:
    assert KEPT


@pytest.mark.parametrize("path", KEPT, ids=lambda path: path.stem)
def test_what_failed_once_holds(path: Path) -> None:
    scenario = loader.load(path)
    outcome = play(scenario)
    assert outcome.held, "\n".join(tale.lines(outcome))
    assert scenario.story
    assert loader.find(path.stem) == path


@pytest.mark.parametrize("profile", fuzz.PROFILES)
def test_no_seed_breaks_a_law(profile: str) -> None:
    broken = [
        f"{verdict.seed}: {verdict.why}"
        for verdict in (fuzz.judge(seed, lambda seed: fuzz.scenario(seed, profile)) for seed in range(1, SEEDS + 1))
        if verdict.why
    ]
    replay = f"replay: python -m sim fuzz --profile {profile} --first SEED --seeds 1"
    assert not broken, "\n".join([*broken, replay])
