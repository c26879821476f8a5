"""Replaying what a flight recorder has kept: the very engine is stepped through the very inputs. The law kept here: a replay holds only
when every step's effects are those that were recorded, byte for byte, an engine that failed fails again with the same words, and
each segment leads to the state with which the next one begins.
"""

from __future__ import annotations

import difflib
import traceback
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, cast

import attrs
from attrs import define

from protocol import recording
from protocol.chart import CHARTS
from protocol.effects import Effects
from protocol.inputs import Input
from protocol.node import Node
from protocol.recording import RecordingError, Segment, Step, Unbegun
from sim import tale
from sim.play import Engine
from sim.trace import INPUTS, Trace
from sim.world import Told

SUFFIX: Final = ".rec"


class Diverged(Exception):
    """What was recorded and what happens now are not the same; the text shows both."""


def files(where: Path) -> list[Path]:
    """A segment, or all of a directory in the order in which they were recorded. Raises :class:`RecordingError`."""
    if not where.is_dir():
        return [where]
    found = sorted((path for path in where.glob(f"*{SUFFIX}") if path.stem.isdigit()), key=lambda path: int(path.stem))
    if not found:
        raise RecordingError(f"no recording ({SUFFIX}) is in {where}")
    return found


@define
class Replay:
    """``tell`` takes each line that is to be read. ``story``: every decision too. ``until``: stop after so many steps, and show the last
    one; 0: never. ``steps``, ``segments``: how many were replayed."""

    engine: Engine
    tell: Callable[[str], None]
    story: bool = False
    until: int = 0
    steps: int = 0
    segments: int = 0
    _node: Node | None = None
    _last: tuple[Path, Segment] | None = None
    _began: int = 0

    def run(self, where: Path) -> None:
        """Replay everything. Raises :class:`RecordingError` for what cannot be read, OSError, :class:`Diverged`."""
        paths = files(where)
        for path in paths:
            try:
                segment = recording.read(path.read_bytes())
                self._begin(path, segment)
                for number, step in enumerate(segment.steps(), 1):
                    self._step(step, f"{path.name}, step {number}")
                    if self.steps == self.until:
                        return
            except Unbegun as unbegun:
                if len(paths) == 1:
                    raise
                self.tell(f"{path.name}: {unbegun}")
            except RecordingError as error:
                raise RecordingError(f"{path.name}: {error}") from error
            else:
                if segment.torn:
                    self.tell(f"{path.name}: its last {segment.torn} bytes are half a step, cut off by a crash")

    def _begin(self, path: Path, segment: Segment) -> None:
        """Take the state that the segment begins with; where its forerunner was replayed, that has to have led to it."""
        before, header = self._last, segment.header
        continues = before is not None and header.follows > 0 and int(before[0].stem) == header.follows
        if continues:
            assert before is not None
            assert self._node is not None
            if before[1].torn:
                raise RecordingError(f"it goes on from {before[0].name}, which ends in the middle of a step")
            if recording.checkpoint(self._node) != segment.state:
                then = _facts("", recording.restored(segment.state).state)
                parting = _parting([*then], [*_facts("", self._node.state)])
                parting = [line for line in parting if not line.startswith(" ")]
                heading = f"{before[0].name} does not lead to the state with which {path.name} begins:"
                raise Diverged("\n".join([heading, *parting]))
        self._node = recording.restored(segment.state, CHARTS[self.engine])
        if not continues:
            self._began = header.clock
            if header.follows:
                begins = f"goes on from {header.follows:06d}{SUFFIX}, which is not here"
            else:
                begins = "goes on after steps that were left out" if self._node.state.store else "a process begins"
            self.tell(f"{path.name}: torpor {header.version}, {_date(header.wall)}, {begins}")
        self._last = path, segment
        self.segments += 1

    def _step(self, step: Step, where: str) -> None:
        assert self._node is not None
        effects: Effects | None = None
        data, error, at = None, "", ""
        try:
            effects = self._node.step(step.input)
            data = recording.effects_as_bytes(effects)
        except Exception as failure:  # noqa: BLE001 (whatever the engine raises)
            frame = traceback.extract_tb(failure.__traceback__)[-1]
            error, at = recording.error_as_text(failure), f"{Path(frame.filename).name}:{frame.lineno}"
        seconds = (step.input.now - self._began) / 1e6
        heading = f"{where}, at {seconds:.6f} s"
        if (data, error) != (step.effects, step.error):
            then, now = _lines(step.input, step.effects, step.error), _lines(step.input, data, error, at)
            raise Diverged("\n".join([f"{heading}: {INPUTS[type(step.input)](step.input)}", *_parting(then, now)]))
        self.steps += 1
        if self.story and effects is not None:
            at_us = step.input.now - self._began
            for decision in effects.decisions:
                told = Told(at_us, "", decision.database, decision.event, decision.because, decision.law)
                self.tell(tale.line(told))
        if error:
            self.tell(f"{heading}: the engine failed, as it did then: {error} [{at}]")
        if self.steps == self.until:
            shown = _lines(step.input, step.effects, step.error)
            self.tell("\n".join([f"{heading}: {INPUTS[type(step.input)](step.input)}", *shown]))


def _date(wall: int) -> str:
    try:
        return f"{datetime.fromtimestamp(wall / 1e6, UTC):%Y-%m-%d %H:%M:%S} UTC"
    except (ValueError, OverflowError, OSError):
        raise RecordingError(f"it was never recorded {wall} µs after 1970") from None


def _lines(given: Input, effects: bytes | None, error: str, at: str = "") -> list[str]:
    """What came of a step, a line for each effect, as a trace has them."""
    if effects is None:
        return [f"raised {error}" + (f" [{at}]" if at else "")]
    trace = Trace(keep=True)
    trace.step("", given, recording.effects_of(effects))
    return [line.strip() for line in trace.lines[1:]] or ["nothing"]


def _facts(name: str, value: Any) -> Iterator[str]:
    """A state, a line for each of its values."""
    kind = cast("type[Any]", type(value))
    if attrs.has(kind):
        for field in [one for one in attrs.fields(kind) if one.init]:
            yield from _facts(f"{name}.{field.name}" if name else field.name, getattr(value, field.name))
    elif isinstance(value, dict):
        for key, item in cast("dict[Any, Any]", value).items():
            yield from _facts(f"{name}[{key!r}]", item)
    else:
        yield f"{name}: {value!r}"


def _parting(then: list[str], now: list[str]) -> list[str]:
    """Both lists as one: ``-`` was recorded, ``+`` happens now."""
    return [line for line in difflib.ndiff(then, now) if not line.startswith("?")]
