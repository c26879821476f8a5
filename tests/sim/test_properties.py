"""Whatever clients do and whatever goes wrong: nothing acknowledged is lost, no law is broken, and everything works again.

Hypothesis generates the clients and the faults; the seed drives the simulator's own streams, so that hypothesis never has to
decide about single messages. A failing example is shrunk, written down as a scenario, and comes with the command that replays it.
``HYPOTHESIS_PROFILE=long`` searches on."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from protocol.limits import MILLISECOND, SECOND
from sim import loader, writer
from sim.generate import DATABASES, LASTS, MOMENTS, STRIKES
from sim.play import play
from sim.scenario import Fault, Machines, Moment, Scenario, Traffic

EXAMPLES = None if os.environ.get("HYPOTHESIS_PROFILE") == "long" else 60
MS = MILLISECOND


def times(last: int = 25_000) -> st.SearchStrategy[int]:
    return st.integers(0, last).map(lambda ms: ms * MS)


moments = st.builds(
    Moment, st.sampled_from(MOMENTS), st.integers(1, 8), st.sampled_from((0, 200, 5_000, 60_000, 400_000))
)
strikes = st.sampled_from(STRIKES)


@st.composite
def faults(draw: st.DrawFn) -> Fault:
    verb, target = draw(strikes)
    return Fault(
        verb,
        target,
        draw(st.one_of(moments, times())),
        database=draw(st.sampled_from(("", *DATABASES))) if verb in ("kill", "pause", "steal", "fail", "hang") else "",
        lasts=draw(st.sampled_from((50, 300, 1000, 4000, 7000))) * MS,
        back=draw(st.sampled_from((0, 50, 500, 3000))) * MS,
        times=draw(st.integers(1, 4)) if target == "start" else 1,
    )


@st.composite
def traffic(draw: st.DrawFn) -> Traffic:
    database, at, writes = draw(st.sampled_from(DATABASES)), draw(times()), draw(st.sampled_from((0.0, 0.5, 1.0)))
    if draw(st.booleans()):
        every = draw(st.sampled_from((20, 100, 300, 900, 1600))) * MS
        until = min(LASTS, at + every * draw(st.integers(1, 40)))
        return Traffic(database, at, until=until, every=every, writes=writes, strong=draw(st.booleans()))
    if draw(st.booleans()):
        return Traffic(database, at, writes=writes, direct=True)
    takes = draw(st.sampled_from((0, 300, 3000))) * MS
    return Traffic(
        database, at, queries=draw(st.sampled_from((1, 1, 50))), writes=writes if not takes else 0.0, takes=takes
    )


scenarios = st.builds(
    Scenario,
    title=st.just("found by hypothesis"),
    seed=st.integers(0, 2**32),
    lasts=st.just(LASTS),
    machines=st.builds(
        Machines,
        workers=st.integers(1, 3),
        hibernation_timeout=st.sampled_from((400 * MS, 1 * SECOND, 3 * SECOND)),
        heartbeat=st.sampled_from((50 * MS, 250 * MS, 1 * SECOND)),
        stop_timeout=st.sampled_from((200 * MS, 1 * SECOND, 5 * SECOND)),
    ),
    workload=st.lists(traffic(), min_size=1, max_size=8).map(tuple),
    faults=st.lists(faults(), max_size=30).map(tuple),
)


def judge(scenario: Scenario) -> None:
    outcome = play(scenario)
    if not outcome.held:
        text = writer.dumps(scenario)
        path = Path(tempfile.gettempdir()) / "torpor-failing-example.yaml"
        path.write_text(text, encoding="utf-8")
        pytest.fail(f"{outcome.broken}\nreplay: python -m sim scenario {path}\n\n{text}", pytrace=False)


@pytest.mark.hypothesis
@given(scenarios)
@settings(max_examples=EXAMPLES or settings.get_profile("long").max_examples, suppress_health_check=list(HealthCheck))
def test_no_schedule_of_faults_breaks_a_law_or_loses_an_acknowledged_write(scenario: Scenario) -> None:
    judge(scenario)


@given(scenarios)
@settings(max_examples=60)
def test_every_scenario_can_be_written_down_and_read_back(scenario: Scenario) -> None:
    assert loader.loads(writer.dumps(scenario)) == scenario


def test_a_failing_example_prints_the_command_and_the_file_that_replay_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The report itself, on a world whose rqlite forgets what it has acknowledged."""
    from sim.disk import Directory

    def forget(self: Directory, chance: object) -> None:
        self.values, self.unsynced, self.pid = self.values[:-1], [], 0

    monkeypatch.setattr(Directory, "crash", forget)
    written = (Traffic("a/b", 1 * SECOND, writes=1.0),)
    lost = Scenario("x", lasts=5 * SECOND, workload=written, faults=(Fault("crash", "machine", 2 * SECOND),))
    with pytest.raises(pytest.fail.Exception, match=r"F41: .*lost[\s\S]*replay: python -m sim scenario") as raised:
        judge(lost)
    assert "workload:" in str(raised.value)
