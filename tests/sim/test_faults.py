"""Each fault does to the modelled world what it says, and the page says it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from attrs import evolve

from protocol.limits import MILLISECOND, SECOND
from sim import loader
from sim.disk import Disk
from sim.expect import KINDS
from sim.faults import STRIKES
from sim.play import play
from sim.scenario import VERBS, Fault, Machines, Scenario, Traffic
from sim.streams import Streams

ROOT = Path(__file__).parent.parent.parent
EACH = [(verb, target) for verb, targets in VERBS.items() for target in targets]
FOLLOWS = ("the node is started again", "node stops", "the operator is answered")
"""What comes of a fault is told like one."""
THREE = Scenario(
    "a database of three replicas sleeps and wakes under its clients",
    seed=5,
    lasts=30 * SECOND,
    machines=Machines(
        ("n1", "n2", "n3"), count=3, replication_factor=3, health_interval=SECOND, hibernation_timeout=3 * SECOND
    ),
    workload=(
        Traffic("a/b", 4 * SECOND, "n1", 8 * SECOND, 100 * MILLISECOND),
        Traffic("a/b", 18 * SECOND, "n2", 24 * SECOND, 100 * MILLISECOND),
    ),
)


def _victim(verb: str, target: str) -> str:
    """Who has clients at its gateway, or else who has none."""
    return "n1" if verb == "repeat" or target == "worker" else "n3"


def struck(verb: str, target: str) -> Scenario:
    at = {"steal": 16, "fail": 16, "hang": 16, "fill": 16, "remove": 16, "repeat": 20}.get(
        verb, 6
    ) * SECOND + SECOND // 2
    machines = evolve(THREE.machines, late=("n3",)) if verb == "start" else THREE.machines
    fault = Fault(
        verb,
        target,
        at,
        _victim(verb, target),
        "a/b" if verb in ("steal", "fail", "hang") else "",
        2 * SECOND,
        source="n2" if verb == "clone" else "",
        loss=0.5 if verb == "disturb" else 0.0,
        slowest=SECOND if verb == "disturb" else 0,
    )
    before = (Fault("copy", "disk", 5 * SECOND, "n3"),) if verb == "rollback" else ()
    return evolve(THREE, machines=machines, faults=(*before, fault))


@pytest.mark.parametrize(("verb", "target"), EACH)
def test_each_fault_is_told_and_changes_the_run(verb: str, target: str) -> None:
    outcome, undisturbed = (
        play(scenario, keep_trace=True, until=THREE.lasts - 1)
        for scenario in (struck(verb, target), evolve(struck(verb, target), faults=()))
    )
    told = [line for line in outcome.story if line.kind == "fault" and line.event not in FOLLOWS]
    assert len(told) == (2 if verb == "rollback" else 1)
    assert not any(line.because == "but there is none" for line in told)
    assert outcome.digest != undisturbed.digest
    beside = [line for line in outcome.trace.lines if not line.startswith(f"{_victim(verb, target)} * ")]
    # To be looked at changes nothing but the story.
    assert (beside == undisturbed.trace.lines) == (verb == "copy")


def test_each_fault_and_each_expectation_is_explained() -> None:
    page = (ROOT / "specs" / "simulator.md").read_text("utf-8")
    faults, expectations = page.partition("## Expectations")[::2]
    named = set(re.findall(r"`(\w+): (\w+)`", faults))
    assert {(verb, target) for verb, target in EACH if verb != "repeat"} <= named
    assert all(f"`{target}`" in faults or f": {target}`" in faults for target in VERBS["repeat"])
    assert all(f"`{kind}:" in expectations for kind in KINDS)
    assert STRIKES.keys() == VERBS.keys()


def test_P62_a_store_that_went_back_holds_what_it_held_and_nothing_newer() -> None:
    scenario = evolve(
        THREE,
        faults=(
            Fault("copy", "disk", 3 * SECOND, "n3"),
            Fault("rollback", "store", 9 * SECOND, "n3", back=SECOND),
        ),
    )
    outcome = play(scenario)
    assert any(told.event == "store rolled back" and told.node == "n3" for told in outcome.story)


def test_a_copy_of_a_disk_is_no_part_of_it() -> None:
    disk = Disk(Streams(1)["disk"])
    directory = disk.make("a_b", "s-1-x")
    directory.values.append(1)
    disk.rows["k"] = b"1"
    copy = disk.copy()
    directory.values.append(2)
    disk.rows["k"] = b"2"
    disk.restore(copy, whole=False)
    assert (disk.rows, disk.directories["s-1-x"].values) == ({"k": b"1"}, [1, 2])
    disk.rows["k"] = b"3"
    disk.restore(copy, whole=True)
    assert (disk.rows, disk.directories["s-1-x"].values) == ({"k": b"1"}, [1])
    disk.directories["s-1-x"].values.append(9)
    assert copy.directories["s-1-x"].values == [1], "it can be put back once more"


def test_the_source_of_a_clone_is_a_node() -> None:
    text = "title: x\nnodes: {count: 2}\nfaults:\n  - {clone: store, at: 1s, node: n1}\n"
    with pytest.raises(loader.ScenarioError, match="4: a clone needs the `source`"):
        loader.loads(text)
    with pytest.raises(loader.ScenarioError, match="no node is called 'n7'"):
        loader.loads(text.replace("node: n1", "node: n1, source: n7"))
