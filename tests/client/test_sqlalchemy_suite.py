"""SQLAlchemy's own dialect suite against three real nodes, whose database falls asleep every 250 tests.

The suite's pytest plugin wants a process of its own; what it left out is counted here, and named with its reason in
``sqlalchemy_suite/requirements.py``. On a SQLite file, by SQLAlchemy's own driver and under the same requirements, as many tests pass.
"""

from __future__ import annotations

import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
import trio

from runtime.client.sqlalchemy import NothingRolledBack
from tests.client.sqlalchemy_suite.requirements import NOT_SQLITE, REFUSED, SQLITE, WITHOUT
from tests.runtime.cluster_world import cluster
from tests.runtime.node_world import APP, until_asleep

SUITE = Path(__file__).parent / "sqlalchemy_suite"
ROOT = Path(__file__).parents[2]
PASSED = 1150
"""At least: some depend on the version of Python."""


@pytest.mark.real
@pytest.mark.slow
async def test_R20_sqlalchemys_own_suite_passes_on_three_nodes_that_sleep_now_and_then(
    tmp_path: Path, rqlited_path: Path
) -> None:
    report = tmp_path / "report.xml"
    async with cluster(tmp_path, hibernation_timeout="1s") as nodes:
        first, *others = [node.node.gateway.removeprefix("http://") for node in nodes]
        peers = "&".join(f"peer={other}" for other in others)
        asking, ask = os.pipe()
        answer, answering = os.pipe()
        sleeps = 0

        async def let_it_sleep() -> None:
            nonlocal sleeps
            async with trio.lowlevel.FdStream(asking) as questions:
                while await questions.receive_some(1):
                    await until_asleep(nodes, "suite")
                    sleeps += 1
                    os.write(answering, b"!")

        category = f"{NothingRolledBack.__module__}.{NothingRolledBack.__qualname__}"
        command = [sys.executable, "-m", "pytest", "-q", "-c", str(SUITE / "setup.cfg"), str(SUITE / "suite.py")]
        command += ["--dburi", f"torpor://{nodes[0].key}@{first}/{APP}/suite?{peers}", f"--junit-xml={report}"]
        command += ["-W", f"ignore::{category}", "-p", "no:cacheprovider"]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(let_it_sleep)
            done = await trio.run_process(
                command,
                cwd=ROOT,
                env=os.environ | {"PYTHONPATH": str(ROOT), "TORPOR_SUITE_RESTS": f"{ask},{answer}"},
                pass_fds=(ask, answer),
                capture_stdout=True,
                stderr=subprocess.STDOUT,
                check=False,
            )
            for descriptor in (ask, answer):
                os.close(descriptor)
        os.close(answering)
    told = done.stdout.decode(errors="replace").replace(nodes[0].key, "KEY")
    assert done.returncode == 0, told[-20_000:]
    counts = ET.parse(report).getroot().find("testsuite")
    assert counts is not None
    run, failed, errors, skipped = (int(counts.attrib[name]) for name in ("tests", "failures", "errors", "skipped"))
    assert (failed, errors) == (0, 0)
    assert run - skipped >= PASSED
    assert sleeps == run // 250


def test_what_the_suite_may_not_ask_is_named_once() -> None:
    names = [*WITHOUT, *NOT_SQLITE, *SQLITE]
    assert len(names) == len(set(names))
    assert all(len(reason) > 10 for reason in (*WITHOUT.values(), *REFUSED.values()))
