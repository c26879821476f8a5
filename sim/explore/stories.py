"""The stories that are explored: where each begins, and within which bounds. The law kept here: a bound is stated, never implied; each story
names what it leaves out, and with the safeguard of a law switched off the story that is named for the law finds its violation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from attrs import frozen

from protocol.messages import IdleNews, Message, PromiseAsk, RecordNews, SleepCommit, SleepProposal
from protocol.node import Node
from sim.explore.stage import Stage
from sim.explore.world import Bounds


@frozen
class Story:
    """``bounds``: each is searched on its own. ``laws``: those whose violation it finds once
    their safeguards are switched off."""

    name: str
    title: str
    begin: Callable[[], Stage]
    bounds: tuple[Bounds, ...]
    laws: tuple[str, ...]


def _state(wanted: str) -> Callable[[Node], bool]:
    return lambda engine: all(view.state == wanted for view in engine.view())


def _created(nodes: int, replication_factor: int, lost: tuple[int, ...] = ()) -> Stage:
    """All know each other; a client of p1 has created the database. What is sent to ``lost`` meanwhile never arrives."""
    stage = Stage(nodes, replication_factor)
    stage.found()
    stage.query(0)
    _finish(stage, lost)
    return stage


def _finish(stage: Stage, lost: tuple[int, ...] = ()) -> None:
    def gone(_from: int, to: int, _message: Message) -> bool:
        return to in lost

    stage.settle(gone)
    for node in stage.nodes:
        stage.until(node, lambda engine: _state("active")(engine) and not engine.state.creations, gone)


def idle() -> Stage:
    """Three members, idle everywhere; p2 and p3 are just telling p1, who would coordinate the sleep."""
    stage = _created(3, 3)
    for node in stage.nodes:
        stage.until(node, _state("idle"), None)
    stage.drop(lambda _from, _to, message: not isinstance(message, IdleNews))
    return stage


def asleep() -> Stage:
    """Three members sleep, sealed. What asked, ordered and recorded that sleep may still arrive, again or for the first time."""
    stage = idle()
    stage.late(stage.settle())
    stage.drop(
        lambda _from, _to, message: not isinstance(message, PromiseAsk | SleepProposal | SleepCommit | RecordNews)
    )
    return stage


def paused_coordinator() -> Stage:
    """All are idle, and p1 is just hearing so. p2 and p3 have not heard p1 for a while: to them, p2 coordinates."""
    stage = idle()
    late = stage.under_way
    stage.pause(1, 2)
    stage.pause(2, 1)
    stage.late(late)
    stage.drop(lambda _from, _to, message: not isinstance(message, IdleNews))
    return stage


def two_creators() -> Stage:
    """Five known nodes; p4 and p5 are silent. p1 hears p2 and p3. p2 has not heard p1 for a while, and a
    client has just asked it for a name that nobody knows."""
    stage = Stage(5, 1)
    stage.found()
    stage.pause(0, 1)
    stage.hear((2, 0))
    stage.pause(2, 0)
    stage.hear((1, 2))
    stage.pause(1, 2)
    stage.query(1)
    return stage


def stale() -> Stage:
    """Five known nodes. The database was dropped while p5 was away, and made anew while p4 was cut off too. p5 is back; it and the others
    are just telling each other of themselves."""
    stage = _created(5, 1)
    first = next(iter(stage.look(0).state.records))
    stage.crash(4)
    stage.drop_database(first, (0, 1, 2, 3))
    stage.query(0)
    _finish(stage, (3, 4))
    stage.boot(4)
    stage.drop()
    for node in (0, 1, 2, 3):
        stage.meet(node, 4)
        stage.meet(4, node)
    return stage


def wiped() -> Stage:
    """Five known nodes. A database lives at p1; p2 and p3 know of it, p4 and p5 missed it and do not hear p1 and p2. p3 has lost its disk, is back
    under its own name, and hears p4 and p5; the heartbeats of p1 and p2 are under way to it."""
    stage = _created(5, 1, (3, 4))
    stage.drop()
    stage.crash(2)
    stage.wipe(2)
    stage.pause(3, 4)
    stage.pause(4, 3)
    stage.boot(2)
    stage.drop()
    three = (2, 3, 4)
    stage.hear(*((a, b) for a in three for b in three if a != b))
    stage.drop()
    stage.meet(0, 2)
    stage.meet(1, 2)
    return stage


STORIES: Final = (
    Story(
        "sleep",
        "three members fall asleep",
        idle,
        (
            Bounds(),
            Bounds(failures=1),
            Bounds(direct=1),
            Bounds(again=2),
            Bounds(timers=2),
            Bounds(timers=1, queries=(1,)),
            Bounds(crashes=1),
            Bounds(timers=1, crashes=1, queries=(1,)),
        ),
        ("P31", "P34"),
    ),
    Story(
        "wake",
        "three members wake, and messages of their sleep come late",
        asleep,
        (
            Bounds(queries=(2,)),
            Bounds(queries=(0, 2)),
            Bounds(queries=(2,), timers=1),
            Bounds(queries=(2,), crashes=1),
            Bounds(queries=(2,), failures=1),
        ),
        (),
    ),
    Story(
        "two_coordinators",
        "p1 and p2 both coordinate the sleep of three members",
        paused_coordinator,
        (
            Bounds(),
            Bounds(again=1),
            Bounds(timers=1),
            Bounds(crashes=1),
            Bounds(queries=(2,)),
        ),
        ("P32",),
    ),
    Story(
        "two_creators",
        "p1 and p2 both create one name, of five known nodes three answer",
        two_creators,
        (
            Bounds(queries=(0,), silent=(3, 4)),
            Bounds(queries=(0,), silent=(3, 4), again=1),
            Bounds(queries=(0,), silent=(3, 4), timers=1),
            Bounds(queries=(0,), silent=(3, 4), crashes=1),
        ),
        ("P10",),
    ),
    Story(
        "stale_node",
        "a node that missed a drop returns, of five known nodes",
        stale,
        (
            Bounds(silent=(1, 2, 3)),
            Bounds(silent=(1, 2), queries=(3, 4)),
            Bounds(),
            Bounds(queries=(4,), timers=1, crashes=1),
        ),
        ("P20",),
    ),
    Story(
        "wiped_node",
        "a node that lost its disk returns, and a name is asked for that exists",
        wiped,
        (
            Bounds(queries=(3,), silent=(0, 1)),
            Bounds(queries=(3,), silent=(0, 1), again=1, timers=1),
            Bounds(queries=(3,), silent=(0, 1), crashes=1),
            Bounds(queries=(3,)),
            Bounds(queries=(3,), timers=1),
        ),
        ("P61",),
    ),
)
