"""Every scenario that is shipped holds, tells its story, and means the same in every process and on either engine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from attrs import evolve

from protocol.limits import SECOND
from sim import bench, loader, tale, twice
from sim.play import play
from sim.trace import first_divergence

ROOT = Path(__file__).parent.parent.parent
STORIES = sorted(loader.SCENARIOS.glob("*.yaml"))
SEVERAL = (
    *("create", "concurrent_create", "create_coordinator_dies", "stale_directory_first_access", "paused_coordinator"),
    *("sleep_with_dead_member", "wake_with_wiped_member", "taken_port", "late_joiner", "all_restart", "two_founders"),
    "failover",
)
"""Those that say what several nodes do; the other stories are regressions, whose faults matter to an engine that is mended."""


@pytest.mark.parametrize("path", STORIES, ids=lambda path: path.stem)
def test_a_shipped_scenario_holds_and_has_a_story(path: Path) -> None:
    scenario = loader.load(path)
    outcome = play(scenario)
    assert outcome.held, "\n".join(tale.lines(outcome))
    assert scenario.story
    assert scenario.expect


@pytest.mark.parametrize("path", STORIES, ids=lambda path: path.stem)
def test_the_library_and_the_table_give_one_digest(path: Path) -> None:
    scenario = loader.load(path)
    table, library = (play(scenario, engine, keep_trace=True) for engine in ("table", "library"))
    assert first_divergence(table.trace.lines, library.trace.lines) is None
    assert table.digest == library.digest


def _command(*arguments: str, seed: str = "0", cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "sim", *arguments],
        cwd=cwd,
        env=os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_digest_is_the_same_in_every_process_with_any_hash_seed_from_any_directory(tmp_path: Path) -> None:
    told = [
        json.loads(_command("scenario", "failover.yaml", "--json", seed=seed, cwd=cwd).stdout)
        for seed, cwd in (("0", ROOT), ("1", tmp_path), ("4711", ROOT))
    ]
    assert told[0]["held"]
    assert told[0]["digest"] == play(loader.load(loader.find("failover"))).digest
    assert told[1] == told[0]
    assert told[2] == told[0]


def test_the_story_gives_each_decision_with_its_reason_and_law_and_the_verdict() -> None:
    done = _command("scenario", "sleep_and_wake")
    assert done.returncode == 0
    assert "falling asleep — every member voted for it [P31]" in done.stdout
    assert "client" in done.stdout
    assert "✓ every query of myapp/users was answered" in done.stdout
    assert "verdict: held" in done.stdout


def test_a_scenario_whose_expectation_does_not_hold_says_what_it_found_and_exits_1(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(
        "title: wrong\nlasts: 3s\nworkload:\n  - {database: a/b, at: 1s}\nexpect:\n"
        "  - {state: hibernating, database: a/b}\n  - {never: database created}\n"
    )
    done = _command("scenario", str(wrong))
    assert done.returncode == 1
    assert "✗ a/b is hibernating at the end (it is active)" in done.stdout
    assert "✗ “database created” was never decided" in done.stdout
    assert "verdict: FAILED" in done.stdout


def test_until_stops_there_and_judges_nothing_and_a_trace_can_be_compared(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    done = _command("scenario", "failover", "--until", "2s", "--trace", str(one))
    assert done.returncode == 0
    assert "stopped at 2.000 s" in done.stdout
    assert _command("scenario", "failover", "--until", "2s", "--seed", "5", "--trace", str(other)).returncode == 0
    same, different = _command("diff", str(one), str(one)), _command("diff", str(one), str(other))
    assert (same.returncode, same.stdout) == (0, "the traces are the same\n")
    assert different.returncode == 1
    assert "the traces part at line" in different.stdout


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "1: the file is empty"),
        ("title: x\nfaluts: []\n", "2: unknown key 'faluts'; there are digest, expect, faults"),
        ("seed: 1\n", "1: a scenario needs a `title`"),
        ("title: x\nlasts: soon\n", "2: expected a duration such as 250ms, 3s or 1m, got 'soon'"),
        (
            "title: x\nworkload:\n  - {database: a/b, at: 1s}\n  - {database: A/b, at: 1s}\n",
            "4: 'A/b': the application",
        ),
        ("title: x\nworkload:\n  - {database: b, at: 1s}\n", "3: 'b': expected application/database"),
        ("title: x\nfaults:\n  - {kill: disk, at: 1s}\n", "3: expected one of rqlited, worker, node, got 'disk'"),
        ("title: x\nfaults:\n  - {at: 1s}\n", "3: a fault needs `at` and one of kill"),
        ("title: x\nfaults:\n  - {kill: node, at: {event: Sleep}}\n", "3: no input or effect is called 'Sleep'"),
        ("title: x\nexpect:\n  - {sate: active}\n", "3: unknown key 'sate'"),
        ("title: x\nworkload:\n  - {database: a/b, at: 1s, node: n7}\n", "1: no node is called 'n7'; there are n1"),
        ("title: x\nworkload:\n  - {database: a/b, at: 1s, at: 2s}\n", "3: key 'at' stands here twice"),
        ("title: [x\n", "2: not YAML"),
    ],
)
def test_a_mistake_in_a_scenario_is_one_line_with_file_and_line(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(loader.ScenarioError) as raised:
        loader.load(path)
    assert str(raised.value).startswith(f"{path}:{said}")
    assert "\n" not in str(raised.value)


def test_a_name_that_is_no_scenario_is_told_with_those_that_are() -> None:
    done = _command("scenario", "failovr")
    assert done.returncode == 2
    assert done.stderr.startswith("failovr: no such scenario; there are ")
    assert "failover" in done.stderr


def test_a_pinned_digest_is_held_against_the_run() -> None:
    scenario = loader.load(loader.find("first_access"))
    digest = play(scenario).digest
    assert play(evolve(scenario, digest=digest)).held
    wrong = play(evolve(scenario, digest="0" * 32))
    assert not wrong.held
    assert str(wrong.findings[-1]) == f"✗ the digest is {'0' * 32} ({digest})"


def test_fuzzing_says_how_it_went(tmp_path: Path) -> None:
    fuzzed = _command("fuzz", "--seeds", "3", "--save", str(tmp_path))
    assert fuzzed.returncode == 0, fuzzed.stdout
    assert "3 seeds, 0 failures" in fuzzed.stdout
    assert list(tmp_path.iterdir()) == []


def test_R63_the_bench_gives_one_object_with_what_is_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "LASTS", 2 * SECOND)
    monkeypatch.setattr(bench, "SEEDS", 2)
    best = bench.best(1)
    told = bench.as_json(best)
    assert json.loads(json.dumps(told)) == told
    cluster = told["figures"]["clusters"]
    assert cluster.keys() >= {"value", "unit", "accepted", "held", "seeds_per_s", "events", "digest"}
    assert cluster["held"] == (cluster["value"] >= bench.ACCEPTED)
    assert f"{cluster['value']:,} events/s on one core (accepted: ≥ 100,000)" in bench.lines(best)[0]


def test_two_processes_whose_hashes_differ_play_the_same() -> None:
    done = _command("same", "create")
    assert (done.returncode, done.stdout) == (0, "both processes played the same, to the byte\n")


def test_a_set_whose_order_leaks_is_shown_at_the_first_event_that_differs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    leak = tmp_path / "sitecustomize.py"  # every Python that starts reads it
    leak.write_text(
        "import sim.network\n"
        "sim.network.FAIR = sim.network.Weather(slowest=1000 + hash('a text') % 1000)\n"
        "real = sim.network.Network.__init__\n"
        "def init(self, *rest):\n"
        "    real(self, *rest)\n"
        "    self.weather = sim.network.FAIR\n"
        "sim.network.Network.__init__ = init\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{ROOT}")
    parting = twice.parting(loader.find("create"))
    assert parting is not None
    assert parting.startswith("the traces part at line ")
    assert "\n- " in parting
    assert "\n+ " in parting


@pytest.mark.parametrize("name", SEVERAL)
def test_a_story_of_several_nodes_is_another_one_without_its_clients_or_any_of_its_faults(name: str) -> None:
    """Its expectations can fail: each of its faults, and its clients, matter to what it expects."""
    scenario = loader.load(loader.find(name))
    assert scenario.machines.count >= 3
    without = [evolve(scenario, workload=(), lasts=scenario.end)]
    for number in range(len(scenario.faults)):
        fewer = scenario.faults[:number] + scenario.faults[number + 1 :]
        without.append(evolve(scenario, faults=fewer, lasts=scenario.end))
    for other in without:
        assert not play(other).held, f"it holds with {len(other.faults)} faults and {len(other.workload)} clients"
