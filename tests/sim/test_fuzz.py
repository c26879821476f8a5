"""What a seed means, and that a failing one outlives its search."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from attrs import evolve

from protocol.limits import SECOND
from sim import cluster, coverage, fuzz, generate, loader, shrink, writer
from sim.play import play
from sim.scenario import Expect, Fault, Scenario, Traffic
from tests.sim.test_scenarios import _command

SEEDS = range(1, 301)


def test_a_cluster_is_what_a_release_must_survive() -> None:
    sizes, replicas = Counter[int](), set[int]()
    for seed in SEEDS:
        scenario = cluster.scenario(seed)
        machines = scenario.machines
        sizes[machines.count] += 1
        replicas.add(machines.replication_factor)
        assert machines.health_interval == 10 * SECOND
        assert scenario.lasts - cluster.FORMED == 60 * SECOND
        assert len([fault for fault in scenario.faults if fault.verb not in ("copy", "start")]) >= 5
        assert {traffic.node for traffic in scenario.workload} == set(machines.names)
    assert min(sizes) == 3
    assert max(sizes) == 9
    assert sizes.most_common(1)[0][0] == 5
    assert replicas >= {1, 2, 3, 5}


def test_each_seed_enables_its_own_few_kinds_of_faults() -> None:
    verbs = [frozenset(fault.verb for fault in cluster.scenario(seed).faults) for seed in SEEDS]
    assert len(set(verbs)) > 100
    assert all(len(found) < len(cluster.KINDS) for found in verbs)


def test_no_seed_loses_the_disks_of_a_majority_or_more_than_one_store_by_rollback() -> None:
    for seed in SEEDS:
        scenario = cluster.scenario(seed, kinds=("disk lost", "store rolled back"))
        wiped, back = ({fault.node for fault in scenario.faults if fault.verb == verb} for verb in ("wipe", "rollback"))
        assert len(wiped) <= (scenario.machines.replication_factor - 1) // 2
        assert len(back) <= (0 if wiped else 1)


def test_every_kind_is_enabled_by_some_seed_and_may_be_asked_for_by_name() -> None:
    kinds = {kind for seed in SEEDS for kind in cluster.KINDS if kind in cluster.scenario(seed).story}
    assert kinds == set(cluster.KINDS)
    assert cluster.scenario(1, kinds=("held",)).story == "Enabled: held."


@pytest.mark.parametrize("nodes", [3, 6, 9])
def test_the_number_of_nodes_may_be_chosen(nodes: int) -> None:
    for seed in range(1, 30):
        assert cluster.scenario(seed, nodes).machines.names == tuple(f"n{i}" for i in range(1, nodes + 1))
        assert generate.together(seed, nodes).machines.count == nodes


@pytest.mark.parametrize("profile", fuzz.PROFILES)
def test_what_a_seed_means_can_be_written_down_and_read_back(profile: str) -> None:
    for seed in SEEDS:
        scenario = fuzz.scenario(seed, profile)
        assert loader.loads(writer.dumps(scenario)) == scenario


def test_the_file_of_a_seed_replays_it_to_the_byte() -> None:
    for seed in (3, 4, 5):
        scenario = cluster.scenario(seed)
        assert play(loader.loads(writer.dumps(scenario))).digest == play(scenario).digest


def impossible(seed: int) -> Scenario:
    """Every third seed expects what cannot be."""
    wrong = Expect("never", "database created")
    expect = (wrong,) if seed % 3 == 0 else ()
    return Scenario(f"seed {seed}", seed=seed, lasts=2 * SECOND, workload=(Traffic("a/b", SECOND),), expect=expect)


def no_scenario(seed: int) -> Scenario:
    raise KeyError(seed)


def test_a_failing_seed_leaves_its_file_with_the_command_that_replays_it(tmp_path: Path) -> None:
    said = list[str]()
    found = fuzz.run(range(1, 8), 2, tmp_path / "failures", said.append, impossible)
    assert (found.done, [verdict.seed for verdict in sorted(found.failures, key=lambda v: v.seed)]) == (7, [3, 6])
    assert sorted(path.name for path in (tmp_path / "failures").iterdir()) == ["seed-3.yaml", "seed-6.yaml"]
    told = next(text for text in said if text.startswith("seed 3: "))
    assert "“database created” was never decided" in told
    replay = told.partition("replay: python -m sim ")[2].split()
    done = _command(*replay)
    assert done.returncode == 1
    assert "✗ “database created” was never decided" in done.stdout
    assert said[-1].startswith("7 seeds, 2 failures, ")


def test_a_generator_that_fails_is_a_failure_too(tmp_path: Path) -> None:
    said = list[str]()
    found = fuzz.run(range(4, 5), 1, tmp_path, said.append, no_scenario)
    assert [verdict.seed for verdict in found.failures] == [4]
    assert "the simulator itself failed: KeyError: 4 [test_fuzz.py:" in said[0]
    assert list(tmp_path.iterdir()) == []


def test_the_command_exits_with_1_when_a_seed_failed_and_2_when_it_makes_no_sense(tmp_path: Path) -> None:
    assert _command("fuzz", "--profile", "one", "--nodes", "3").returncode == 2
    assert _command("fuzz", "--nodes", "10").returncode == 2
    done = _command("fuzz", "--seeds", "2", "--profile", "cluster", "--coverage", "--save", str(tmp_path))
    assert done.returncode == 0, done.stdout
    assert "transition idle --commit--> hibernating" in done.stdout
    assert "were never gone:" in done.stdout


# --- coverage ---


def test_paths_that_were_gone_are_counted_and_those_that_never_were_are_said() -> None:
    paths = Counter[str]()
    scenario = Scenario(
        "a life",
        lasts=9 * SECOND,
        workload=(Traffic("a/b", SECOND),),
        faults=(Fault("kill", "rqlited", 2 * SECOND), Fault("kill", "worker", 0)),
    )
    assert play(scenario, paths=paths).digest == play(scenario).digest, "counting changes nothing"
    assert paths["transition creating --acknowledged--> active"] == 1
    assert paths["decision “database created” [P13]"] == 1
    assert paths["fault kill rqlited"] == 1
    assert "fault kill worker" not in paths, "it came before there was any"
    assert paths["input Ask"] >= 1
    never = coverage.lines(paths)
    assert "           –  fault kill worker" in never
    assert "           –  message Heartbeat" in never
    assert paths.keys() - coverage.possible() <= {path for path in paths if path.startswith("decision")}


# --- shrinking ---


def test_a_failing_scenario_shrinks_to_what_makes_it_fail() -> None:
    noise = tuple(
        Fault(verb, target, at * SECOND)
        for at, (verb, target) in enumerate(
            (("pause", "node"), ("slow", "disk"), ("kill", "worker"), ("crash", "machine"))
        )
    )
    clients = tuple(Traffic("a/c", at * SECOND, queries=20) for at in range(1, 6))
    guilty = Traffic("a/b", 4 * SECOND, until=6 * SECOND, every=SECOND // 2, queries=3, writes=1.0)
    scenario = Scenario(
        "it sleeps, which it should not",
        lasts=20 * SECOND,
        workload=(*clients, guilty),
        faults=noise,
        expect=(Expect("never", "hibernated", database="a/b"),),
    )
    small = shrink.shrink(scenario, lambda _: None)
    assert small.faults == ()
    assert [traffic.database for traffic in small.workload] == ["a/b"]
    assert (small.workload[0].queries, small.workload[0].every) == (1, 0)
    assert small.lasts < scenario.lasts
    assert shrink.kind_of(play(small)) == shrink.kind_of(play(scenario)) != ""


def test_what_was_shrunk_can_be_written_down_and_read_back() -> None:
    made = Fault("create", "key", 2 * SECOND, node="n1", key="k7")
    scenario = Scenario("a key", lasts=9 * SECOND, faults=(made,), expect=(Expect("never", "key created"),))
    small = shrink.shrink(scenario, lambda _: None)
    assert small.faults == (made,)
    assert loader.loads(writer.dumps(small)) == small


def test_what_holds_is_not_shrunk_and_the_command_says_so() -> None:
    with pytest.raises(shrink.NothingToShrink):
        shrink.shrink(evolve(impossible(1)), lambda _: None)
    done = _command("shrink", "first_access")
    assert (done.returncode, done.stderr) == (2, "the scenario holds: there is nothing to shrink\n")
