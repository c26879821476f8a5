"""Every safeguard matters to a run that somebody can read: switched off, a scenario that is named for it fails, or a story of the explorer
does. And the command says who noticed, and that nobody did."""

from __future__ import annotations

import json
from contextlib import nullcontext

import pytest

from sim import ablate, catch, loader
from sim.__main__ import main
from sim.safeguards import SAFEGUARDS, Safeguard, Twin
from sim.workers import Verdict

HARMLESS = Safeguard("P1", "nothing is different", nullcontext)


@pytest.mark.parametrize("safeguard", SAFEGUARDS, ids=str)
def test_a_safeguard_switched_off_is_noticed_without_any_seeds(safeguard: Safeguard) -> None:
    caught = catch.caught(0, safeguard, seeds=0)
    assert caught.why, f"no scenario and no story notices that {safeguard}"


def test_scenarios_notice_most_of_them() -> None:
    assert sum(bool(safeguard.scenarios) for safeguard in SAFEGUARDS) >= 40
    known = {path.stem for folder in (loader.SCENARIOS, loader.CORPUS) for path in folder.glob("*.yaml")}
    assert {name for safeguard in SAFEGUARDS for name in safeguard.scenarios} <= known


def test_the_command_says_who_noticed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ablate", "--only", "f45", "--seeds", "0"]) == 0
    told = capsys.readouterr().out
    assert "F45 outcomes of older runs count\n    scenario late_repeats: P41: " in told
    assert "1 safeguards, 1 caught: 1 by a scenario" in told


def test_a_law_that_is_kept_twice_needs_both_switched_off(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ablate", "--only", "older members", "--seeds", "0"]) == 0
    assert "kept twice: “a lower epoch is promised as well” was off too" in capsys.readouterr().out


def test_what_nobody_notices_is_told_and_fails(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ablate, "SAFEGUARDS", (HARMLESS, SAFEGUARDS[0]))
    assert main(["ablate", "--seeds", "1", "--jobs", "2"]) == 1
    told = capsys.readouterr().out
    assert "P1 nothing is different\n    NOT CAUGHT" in told
    assert told.endswith("  not caught: P1 nothing is different\n")
    assert main(["ablate", "--seeds", "0", "--json"]) == 1
    objects = json.loads(capsys.readouterr().out)
    assert [one["caught"] for one in objects] == [False, True]
    assert objects[1]["how"] == "scenario"
    assert objects[1]["seconds"] >= 0


def test_the_explorer_and_seeds_notice_what_no_scenario_is_named_for() -> None:
    off = next(safeguard for safeguard in SAFEGUARDS if safeguard.off == "the context is forgotten")
    explored = catch.caught(0, Safeguard(off.law, off.off, off.switch), seeds=0)
    assert (explored.how, explored.name) == ("story", "stale_node")
    assert explored.count > 10
    early = next(safeguard for safeguard in SAFEGUARDS if safeguard.off == "an unacknowledged birth is resumed")
    seeded = catch.caught(0, Safeguard("P12", early.off, early.switch), seeds=40)
    assert (seeded.how, seeded.name) == ("seeds", str(seeded.count))


def test_a_scenario_that_fails_anyhow_and_a_switch_that_fails_prove_nothing() -> None:
    missing = Safeguard("P1", "it does not exist", nullcontext, ("no_such_story",))
    with pytest.raises(loader.ScenarioError):
        catch.caught(0, missing, seeds=0)
    twin = Twin("the other", SAFEGUARDS[0].switch)
    with pytest.raises(catch.Unsound, match="does not hold with “the other” alone"):
        catch.caught(0, Safeguard("P1", "one of two", nullcontext, SAFEGUARDS[0].scenarios, twin), seeds=0)
    (lost,) = ablate.ablate((missing,), seeds=0, jobs=1)
    assert type(lost) is Verdict
    assert "no such scenario" in lost.why


def test_nothing_chosen_makes_no_sense(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ablate", "--only", "no such law"]) == 2
    assert "no safeguard has 'no such law' in its name" in capsys.readouterr().err
