"""A path told: what happened, in numbered lines, with the reasons that the engine gives for what it did. The law kept here: the story is played
once more on the real engine, from the same beginning, and must end in the same violation."""

from __future__ import annotations

from collections.abc import Iterator

from protocol.effects import Decision
from sim.explore.search import Found
from sim.explore.world import Action, State, World
from sim.laws import Violation


def told(world: World, start: State, found: Found) -> Iterator[str]:
    """The numbered story, what never arrived, and the broken law."""
    state = start
    for number, action in enumerate(found.path, 1):
        yield f"{number:3}. {happened(world, action)}"
        decisions: list[tuple[str, Decision]] = []
        world.told = decisions
        broken: Violation | None = None
        try:
            state = world.after(state, action)
        except Violation as violation:
            broken = violation
        finally:
            world.told = None
        for peer, decision in decisions:
            law = f" ({decision.law})" if decision.law else ""
            because = f": {decision.because}" if decision.because else ""
            yield f"       {peer} — {decision.event}{because}{law}"
        if broken is not None:
            yield from (f"     lost or late: {line}" for line in _messages(world, state.sent & ~start.sent))
            yield f"     broken: {broken}"
            return
    raise AssertionError("the story does not end as it was found: the engine is not a function of its inputs")


def _messages(world: World, bits: int) -> Iterator[str]:
    for number in range(bits.bit_length()):
        if bits >> number & 1:
            yield _message(world, number)


def _message(world: World, number: int) -> str:
    sender, to, message = world.lives.mail.all[number]
    epoch = getattr(message, "epoch", None)
    granted = getattr(message, "granted", None)
    stance = getattr(message, "stance", None)
    record = getattr(message, "record", None)
    facts = [f"epoch {epoch}"] if epoch is not None else []
    facts += [{True: "granted", False: "refused"}[granted]] if granted is not None else []
    facts += [stance] if stance is not None else []
    facts += [f"{record.phase} in epoch {record.version.epoch}"] if record is not None else []
    detail = f" ({', '.join(facts)})" if facts else ""
    return f"{type(message).__name__}{detail} of {world.peers[sender]} to {world.peers[to]}"


def happened(world: World, action: Action) -> str:
    """One action in words."""
    peer, which = world.peers[action.node], action.which
    match action.what:
        case "message":
            return f"{_message(world, which)} arrives"
        case "again":
            return f"{_message(world, which)} arrives, and will once more"
        case "deadline":
            return f"{peer}'s next deadline passes"
        case "crash":
            return f"{peer} crashes, and its rqlited with it"
        case "boot":
            return f"{peer} comes back"
        case "query":
            return f"a client queries at {peer}"
        case "direct":
            return f"a client writes to the rqlited of {peer}, past every gateway"
        case "outcome":
            done = {
                "ready": "is ready",
                "snapshot": "has its snapshot",
                "exit": "stops cleanly",
                "missing": "has no data",
            }
            return f"the rqlited of {peer} {done[which.what]}"
        case _:
            failed = {
                "ready": "dies before it is ready",
                "snapshot": "cannot take its snapshot",
                "exit": "has to be killed",
            }
            return f"the rqlited of {peer} {failed[which.what]}"
