"""The benches measure real nodes, say what they found in one form, and leave nothing running."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import trio

from runtime.bench.figures import Figure, Objective, as_json, broken
from runtime.spawned import NodeDidNotStart, port_blocks
from tests.runtime.test_demo import REPOSITORY, leftovers


async def bench(directory: Path, *arguments: str) -> tuple[int, Any]:
    """Exit code, and the one JSON object. What it starts is below ``directory``."""
    done = await trio.run_process(
        [sys.executable, "-m", "runtime.bench", *arguments, "--json"],
        cwd=REPOSITORY,
        env=os.environ | {"TMPDIR": str(directory)},
        capture_stdout=True,
        capture_stderr=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert leftovers(directory) == []
    assert not any(directory.iterdir())  # noqa: ASYNC240
    assert done.stdout, done.stderr.decode()
    return done.returncode, json.loads(done.stdout)


@pytest.mark.real
async def test_R40_R42_R43_R63_lifecycle_counts_the_messages_of_real_nodes(tmp_path: Path) -> None:
    code, told = await bench(tmp_path, "lifecycle", "--rf", "3", "--runs", "1")
    assert code == 0, told
    figures = told["figures"]
    assert figures["create_broadcasts"]["broadcast"] == {"CreateRequest": 1, "CreateConfirm": 1, "RecordNews": 1}
    assert figures["hibernation_broadcasts"]["broadcast"] == {"RecordNews": 1}
    assert figures["wake_broadcasts"]["broadcast"] == {"WakeIntent": 1, "RecordNews": 1}
    assert (figures["asleep_broadcasts"]["value"], figures["asleep_broadcasts"]["direct"]) == (0, {})
    for name in ("create", "wake"):
        assert figures[name]["ratio"] == pytest.approx(figures[name]["value"] / figures[name]["beside"], rel=0.01)
        assert figures[name]["accepted_of"] == "ratio"


@pytest.mark.real
async def test_R47_R63_heartbeats_do_not_grow_with_databases_that_sleep(tmp_path: Path) -> None:
    code, told = await bench(tmp_path, "thousand", "--databases", "12", "--awake", "3", "--window", "1")
    assert code == 0, told
    figures = told["figures"]
    assert list(figures["heartbeat_growth"]["bytes"]) == ["0", "1", "12"]
    assert figures["heartbeat_growth"]["accepted"] == "≤ 16"
    for name in ("node_cpu_asleep", "node_cpu_awake", "node_memory", "start_serving", "start_in_step"):
        assert figures[name]["beside"] > 0
    assert 20 < figures["disk"]["value"] < 1024
    assert figures["creation"]["value"] > 0


@pytest.mark.real
async def test_F51_F93_R63_queries_beside_the_raw_rqlited_and_a_flood_that_wakes_once(tmp_path: Path) -> None:
    code, told = await bench(tmp_path, "query", "--reads", "100", "--seconds", "1")
    assert code == 0, told
    figures = told["figures"]
    assert figures["read"]["accepted"] == "≤ 2.5"
    assert figures["read_with_a_hop"]["beside"] == figures["read"]["value"]
    assert figures["reads"]["accepted"] == "≥ 2000"
    assert figures["writes"]["ratio"] > 0
    assert figures["wakes_by_a_flood"]["value"] == 1


def test_R63_a_figure_is_told_with_what_is_accepted_of_it() -> None:
    free = Figure("files", 3, "")
    slow = Figure("wake", 300.0, "ms", beside=200.0, objective=Objective(most=1.3, of="ratio"))
    few = Figure("create_broadcasts", 4, "", objective=Objective(most=3, binding=True), details={"runs": 2})
    assert as_json("some", {"rf": 3}, [free, slow, few]) == {
        "bench": "some",
        "rf": 3,
        "figures": {
            "files": {"value": 3, "unit": ""},
            "wake": {
                "value": 300.0,
                "unit": "ms",
                "beside": 200.0,
                "ratio": 1.5,
                "accepted": "≤ 1.3",
                "accepted_of": "ratio",
                "held": False,
            },
            "create_broadcasts": {
                "value": 4,
                "unit": "",
                "accepted": "≤ 3",
                "accepted_of": "value",
                "held": False,
                "runs": 2,
            },
        },
    }
    assert broken([free, slow]) == [], "a machine's mood fails nobody"
    assert broken([free, slow, few]) == ["create_broadcasts: 4, accepted is ≤ 3"]


def test_F84_port_blocks_of_one_machine_never_share_a_port() -> None:
    blocks = port_blocks(3, http=128, raft=1200)
    ports = [port for block in blocks for first, last in (block.http, block.raft) for port in range(first, last + 1)]
    assert len(ports) == len(set(ports)) == 3 * (128 + 1200)
    assert max(ports) < 32_768, "Linux gives those to outgoing connections"
    with pytest.raises(NodeDidNotStart, match="free ports in a row"):
        port_blocks(3, raft=6_000)
