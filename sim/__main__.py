"""``python -m sim``: play a scenario, replay what a node recorded, look for seeds that break something, measure the simulator, compare
two traces. Exit code 0 only when every expectation held and no law was broken; 2 for a command or a file that cannot be read."""

from __future__ import annotations

import argparse
import json
import sys
from functools import partial
from pathlib import Path

from attrs import evolve

from protocol.recording import RecordingError
from sim import bench, cluster, coverage, fuzz, loader, play, replay, shrink, sweep, tale, twice, workers, writer
from sim.explore import command
from sim.scenario import MOST_NODES
from sim.trace import first_divergence


def _duration(text: str) -> int:
    try:
        return loader.duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"expected a whole number above 0, got {text!r}")
    return int(text)


def _nodes(text: str) -> int:
    if _positive(text) > MOST_NODES:
        raise argparse.ArgumentTypeError(f"expected at most {MOST_NODES} nodes, got {text}")
    return int(text)


def _scenario(arguments: argparse.Namespace) -> int:
    try:
        scenario = loader.load(loader.find(arguments.name))
    except loader.ScenarioError as error:
        print(error, file=sys.stderr)
        return 2
    if arguments.seed is not None and arguments.seed != scenario.seed:
        scenario = evolve(scenario, seed=arguments.seed, digest="")  # the file's digest is of the file's seed
    keep = arguments.trace is not None
    outcome = play.play(scenario, arguments.engine, keep, arguments.until)
    if keep:
        Path(arguments.trace).write_text("\n".join(outcome.trace.lines) + "\n", encoding="utf-8")
    if arguments.json:
        print(json.dumps(_as_json(outcome), ensure_ascii=False))
    else:
        print("\n".join(tale.lines(outcome)))
    return 0 if outcome.held else 1


def _as_json(outcome: play.Outcome) -> dict[str, object]:
    return {
        "title": outcome.scenario.title,
        "seed": outcome.scenario.seed,
        "held": outcome.held,
        "broken": outcome.broken,
        "expectations": [{"text": f.text, "held": f.held, "found": f.found} for f in outcome.findings],
        "digest": outcome.digest,
        "events": outcome.events,
        "story": [
            {
                "at_us": t.at,
                "node": t.node,
                "database": t.database,
                "event": t.event,
                "because": t.because,
                "law": t.law,
            }
            for t in outcome.story
        ],
    }


def _diff(arguments: argparse.Namespace) -> int:
    try:
        left, right = (
            Path(name).read_text(encoding="utf-8").splitlines() for name in (arguments.left, arguments.right)
        )
    except OSError as error:
        print(f"{error.filename}: {error.strerror}", file=sys.stderr)
        return 2
    parting = first_divergence(left, right)
    print(parting or "the traces are the same")
    return 1 if parting else 0


def _replay(arguments: argparse.Namespace) -> int:
    replayed = replay.Replay(arguments.engine, print, arguments.story, arguments.until)
    try:
        replayed.run(Path(arguments.where))
    except replay.Diverged as diverged:
        print(f"{replayed.steps} steps are alike, then they part\n{diverged}")
        return 1
    except (RecordingError, OSError) as error:
        print(f"{arguments.where}: {error}", file=sys.stderr)
        return 2
    print(f"segments: {replayed.segments}, steps: {replayed.steps}; every effect is the one recorded, byte for byte")
    return 0


def _fuzz(arguments: argparse.Namespace) -> int:
    if arguments.nodes and arguments.profile == "one":
        print("--nodes: the profile `one` has a node alone", file=sys.stderr)
        return 2
    found = fuzz.run(
        range(arguments.first, arguments.first + arguments.seeds),
        arguments.jobs,
        Path(arguments.save),
        lambda text: print(text, flush=True),
        partial(fuzz.scenario, profile=arguments.profile, nodes=arguments.nodes, kinds=tuple(arguments.kind)),
        arguments.coverage,
    )
    if arguments.coverage:
        print("\n".join(coverage.lines(found.paths)))
    if found.interrupted:
        return 130
    return 1 if found.failures else 0


def _corpus(_arguments: argparse.Namespace) -> int:
    kept = sorted((*loader.SCENARIOS.glob("*.yaml"), *loader.CORPUS.glob("*.yaml")))
    failures = 0
    for path in kept:
        outcome = play.play(loader.load(path))
        if not outcome.held:
            failures += 1
            found = outcome.broken or next(str(finding) for finding in outcome.findings if not finding.held)
            print(f"{path.stem}: {found}\n  replay: python -m sim scenario {path.stem}", flush=True)
    print(f"{len(kept)} kept scenarios, {failures} failures")
    return 1 if failures else 0


def _same(arguments: argparse.Namespace) -> int:
    try:
        path = loader.find(arguments.name)
        loader.load(path)
    except loader.ScenarioError as error:
        print(error, file=sys.stderr)
        return 2
    parting = twice.parting(path)
    print(parting or "both processes played the same, to the byte")
    return 1 if parting else 0


def _shrink(arguments: argparse.Namespace) -> int:
    try:
        path = loader.find(arguments.name)
        smaller = shrink.shrink(loader.load(path), lambda text: print(text, flush=True), arguments.plays)
    except (loader.ScenarioError, shrink.NothingToShrink) as error:
        print(error, file=sys.stderr)
        return 2
    target = Path(arguments.save) if arguments.save else path.with_suffix(".small.yaml")
    target.write_text(writer.dumps(smaller), encoding="utf-8")
    print(writer.dumps(smaller), end="")
    print(f"replay: python -m sim scenario {target}")
    return 0


def _sweep(arguments: argparse.Namespace) -> int:
    try:
        scenario = loader.load(loader.find(arguments.name))
    except loader.ScenarioError as error:
        print(error, file=sys.stderr)
        return 2
    played = failures = 0
    for victim, number, effect, outcome in sweep.sweep(scenario):
        played += 1
        if not outcome.held:
            failures += 1
            path = Path(arguments.save) / f"{Path(arguments.name).stem}-{victim}-{number}.yaml"
            path.write_text(writer.dumps(outcome.scenario), encoding="utf-8")
            print(f"{victim} killed at effect {number} ({effect}): {outcome.broken}", flush=True)
            print(f"  replay: python -m sim scenario {path}", flush=True)
    print(f"{played} runs, a victim killed at each effect; {failures} failures")
    return 1 if failures else 0


def _explore(arguments: argparse.Namespace) -> int:
    try:
        broken = command.run(
            arguments.stories,
            arguments.without,
            arguments.depth,
            arguments.states,
            arguments.jobs,
            lambda text: print(text, flush=True),
        )
    except command.Unknown as error:
        print(error, file=sys.stderr)
        return 2
    return 1 if broken else 0


def _bench(arguments: argparse.Namespace) -> int:
    found = bench.best(arguments.seed)
    print(json.dumps(bench.as_json(found)) if arguments.json else "\n".join(bench.lines(found)))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m sim", description="The deterministic simulator.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    one = commands.add_parser("scenario", help="play a scenario and tell its story")
    one.add_argument("name", help="a file, or the bare name of one in configs/scenarios/")
    one.add_argument("--seed", type=int, help="instead of the scenario's own")
    one.add_argument("--trace", metavar="FILE", help="write every input and effect to FILE")
    one.add_argument("--until", type=_duration, metavar="TIME", help="stop there, e.g. 12s, and judge nothing")
    one.add_argument("--engine", choices=("table", "library"), default="table", help="what runs the lifecycle chart")
    one.add_argument("--json", action="store_true", help="one JSON object instead of the story")
    one.set_defaults(run=_scenario)

    again = commands.add_parser("replay", help="step the engine through what a node's flight recorder kept")
    again.add_argument("where", metavar="FILE", help="a segment, or a directory of them (a node's data/recorder)")
    again.add_argument(
        "--story", action="store_true", help="tell every decision, with its time since the recording began"
    )
    again.add_argument(
        "--until", type=_positive, default=0, metavar="N", help="stop after N steps, and show the last one whole"
    )
    again.add_argument("--engine", choices=("table", "library"), default="table", help="what runs the lifecycle chart")
    again.set_defaults(run=_replay)

    many = commands.add_parser("fuzz", help="play generated scenarios, a seed each")
    many.add_argument("--seeds", type=_positive, default=1000, help="how many (1000)")
    many.add_argument("--first", type=int, default=1, metavar="SEED", help="the first of them (1)")
    many.add_argument("--jobs", type=_positive, default=1, help="processes (1)")
    many.add_argument("--profile", choices=fuzz.PROFILES, default="mixed", help="which family of scenarios (mixed)")
    many.add_argument("--nodes", type=_nodes, default=0, metavar="N", help="how many, instead of what each seed says")
    many.add_argument(
        "--kind",
        choices=tuple(cluster.KINDS),
        action="append",
        default=[],
        help="clusters suffer only this kind of faults; may be repeated",
    )
    many.add_argument("--coverage", action="store_true", help="which rare paths were gone how often, and which never")
    many.add_argument("--save", metavar="DIR", default="failures", help="where failing scenarios go (failures/)")
    many.set_defaults(run=_fuzz)

    kept = commands.add_parser(
        "corpus", help="play every scenario that is kept: the stories, and what searches have found"
    )
    kept.set_defaults(run=_corpus)

    small = commands.add_parser("shrink", help="make a failing scenario as small as it still fails in the same way")
    small.add_argument("name", help="as for scenario")
    small.add_argument("--plays", type=_positive, default=shrink.PLAYS, help=f"runs it may take ({shrink.PLAYS})")
    small.add_argument("--save", metavar="FILE", help="where it goes (NAME.small.yaml beside the file)")
    small.set_defaults(run=_shrink)

    every = commands.add_parser("sweep", help="kill rqlited, worker and node at each effect of a scenario")
    every.add_argument("name", help="as for scenario")
    every.add_argument("--save", metavar="DIR", default=".", help="where a failing scenario's YAML goes (.)")
    every.set_defaults(run=_sweep)

    search = commands.add_parser("explore", help="search all message orders, losses and a crash of small stories")
    search.add_argument("stories", nargs="*", metavar="STORY", help="which (all)")
    search.add_argument(
        "--without", action="append", default=[], metavar="LAW", help="switch its safeguards off, e.g. P31"
    )
    search.add_argument(
        "--depth", type=_positive, default=command.DEPTH, metavar="N", help="actions from the beginning"
    )
    search.add_argument("--states", type=_positive, default=command.STATES, help=f"of each search ({command.STATES})")
    search.add_argument("--jobs", type=_positive, default=1, help="processes, a story each (1)")
    search.set_defaults(run=_explore)

    speed = commands.add_parser("bench", help="measure events per second on one core")
    speed.add_argument("--json", action="store_true")
    speed.add_argument("--seed", type=int, default=1)
    speed.set_defaults(run=_bench)

    same = commands.add_parser("same", help="play a scenario in two processes, and show the first event that differs")
    same.add_argument("name", help="as for scenario")
    same.set_defaults(run=_same)

    diff = commands.add_parser("diff", help="show where two traces part")
    diff.add_argument("left")
    diff.add_argument("right")
    diff.set_defaults(run=_diff)
    return parser


def main(arguments: list[str] | None = None) -> int:
    chosen = _parser().parse_args(arguments)
    workers.calm_collector()
    return int(chosen.run(chosen))


if __name__ == "__main__":
    raise SystemExit(main())
