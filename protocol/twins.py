"""Two processes under one peer id. The law kept here is P63: both stop.

Each process draws a name of its own, which its heartbeats carry. Neither of two hears the other's heartbeats (the network drops what carries
one's own signature), so their peers tell: who hears a process, then another one, then the first again, says so to everybody. The node that it
is about takes the other process for its *twin*, and its heartbeats name it from then on.

A heartbeat of a dead predecessor may arrive at any time, however late, so that being told of another process proves nothing. But a process that
*names this very one* as its twin was alive after this one had begun to speak: no delay, repetition or reordering can make that up, and no fast
restart looks like it. The first of two that is told that it is named says so once more and stops; so the other is named too, and stops.

A peer that lies can stop a node by this; so it could by retiring it: whoever holds the cluster's secret is trusted that far."""

from __future__ import annotations

from protocol.effects import Halt
from protocol.ids import Peer
from protocol.messages import Heartbeat, Twin
from protocol.state import PeerView
from protocol.suspicion import heartbeat
from protocol.turn import Turn


def watch(turn: Turn, sender: Peer, beat: Heartbeat, before: PeerView | None) -> None:
    """Look whether a peer's earlier process speaks again, and keep the last two; ``before``: what was known of it."""
    view = turn.state.peers[sender]
    if before is None or before.process == beat.process:
        view.former = before.former if before is not None else ""
        return
    view.former = before.process
    if beat.process == before.former:
        turn.broadcasts.append(Twin(sender, beat.process, beat.twin))


def on_twin(turn: Turn, _sender: Peer, told: Twin) -> None:
    """A peer has heard another process under some peer id: this node's, perhaps."""
    state = turn.state
    if told.peer != turn.me or told.process == state.process:
        return
    named = told.twin == state.process
    if state.twin != told.process or named:
        state.twin = told.process
        turn.broadcasts.append(heartbeat(turn))
    if named:
        because = f"another process runs under peer id {turn.me}, and was told of this one: both stop (P63)"
        turn.decide("twin heard", None, because, "P63", twin=told.process)
        turn.act(Halt(because))
