"""Two processes under one peer id. The law kept here is P63: both stop.

Each process draws a name of its own, and its heartbeats carry it, beside the name of the *twin* that it hears under its own peer id. A
heartbeat of a predecessor may arrive at any time, however late, so that hearing another name proves nothing. But whoever *names this very
process* as its twin was alive after this process had begun to speak: no delay, repetition or reordering can make that up, and no fast restart
looks like it. The first of two that hears itself named says so once more and stops; so the other hears itself named, and stops too."""

from __future__ import annotations

from protocol.effects import Halt
from protocol.messages import Heartbeat
from protocol.suspicion import heartbeat
from protocol.turn import Turn


def on_own_heartbeat(turn: Turn, beat: Heartbeat) -> None:
    """A heartbeat that carries this node's own signature."""
    state = turn.state
    if beat.process in ("", state.process) or beat.cluster != state.config.cluster:
        return
    named = beat.twin == state.process
    if state.twin != beat.process or named:
        state.twin = beat.process
        turn.broadcasts.append(heartbeat(turn))
    if named:
        because = f"another process runs under peer id {turn.me}, and hears this one: both stop (P63)"
        turn.decide("twin heard", None, because, "P63", twin=beat.process)
        turn.act(Halt(because))
