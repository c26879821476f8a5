"""Conformance, the model's half: each script plays on the model of rqlited as it is written. ``tests/runtime/test_conformance.py``
plays the very same scripts on real processes."""

import pytest

from tests.scripts.script import SCRIPTS, Script
from tests.sim.model_script import Stage


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_the_model_does_what_the_script_says(script: Script, seed: int) -> None:
    assert Stage(seed).play(script) == script.outcomes
