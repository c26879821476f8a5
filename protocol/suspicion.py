"""Who is there. Liveness comes from heartbeats alone, never from a connection's state. The laws kept here are R45 (a last-seen
time for each peer, three misses make it unheard), F75 (a coordinator must hear, and be heard by, a majority: who is deaf
is not waited for), F93 (a gateway is believed for the certificate that its node has signed), P61 (a node listens until it has merged the directories of a majority) and P64 (known nodes only grow)."""

from __future__ import annotations

from protocol import digest, limits
from protocol.effects import Believe
from protocol.ids import Peer
from protocol.messages import Heartbeat
from protocol.rows import Known
from protocol.state import PeerView
from protocol.turn import Turn


def majority(of: int) -> int:
    """The least number that is more than half of ``of``."""
    return of // 2 + 1


def hears(turn: Turn, peer: Peer) -> bool:
    """This node has heard ``peer`` within the health threshold; itself always."""
    if peer == turn.me:
        return True
    view = turn.state.peers.get(peer)
    return view is not None and turn.now - view.last_heard <= limits.HEALTH_MISSES * turn.state.config.health_interval


def eligible(turn: Turn, peer: Peer) -> bool:
    """``peer`` hears a majority of the known nodes, and a majority of them hears it, as far as this node was told."""
    if not hears(turn, peer):
        return False
    known, peers = turn.state.known, turn.state.peers
    needed = majority(len(known))
    ears = peers[peer].heard if peer != turn.me else {one for one in known if hears(turn, one)}
    heard_by = sum(
        one == peer or (hears(turn, peer) if one == turn.me else one in peers and peer in peers[one].heard)
        for one in known
        if hears(turn, one)
    )
    return len(ears | {peer}) >= needed and heard_by >= needed


def heartbeat(turn: Turn) -> Heartbeat:
    state = turn.state
    return Heartbeat(
        state.config.cluster,
        state.store,
        state.births,
        state.known,
        tuple(peer for peer in state.known if hears(turn, peer)),
        max(0, state.config.max_databases - state.load()),
        digest.root(state),
        state.listening,
        state.config.addresses,
        state.config.gateway,
        state.config.fingerprint,
    )


def beat(turn: Turn, _key: str = "") -> None:
    """Tell everyone; also those that this node does not know yet."""
    turn.broadcasts.append(heartbeat(turn))
    turn.after("heartbeat", "", turn.state.config.health_interval)


def on_connected(turn: Turn, peer: Peer) -> None:
    """A peer that has just connected hears of this node at once, not only at the next beat."""
    turn.send(peer, heartbeat(turn))


def meet(turn: Turn, *peers: Peer) -> None:
    """Know these nodes from now on, over restarts too: majorities count them."""
    new = sorted(set(peers) - set(turn.state.known))
    if new:
        turn.state.known = tuple(sorted({*turn.state.known, *new}))
        for peer in new:
            turn.write(f"known/{peer}", Known(peer))
            turn.decide("node joined", None, "its heartbeat carries this cluster's id", "P60", peer=peer)


def believed(turn: Turn) -> tuple[bytes, ...]:
    """Certificates of the other nodes' gateways, as they have signed for them."""
    views = turn.state.peers
    return tuple(sorted({views[peer].fingerprint for peer in turn.state.known if peer in views} - {b""}))


def on_heartbeat(turn: Turn, sender: Peer, beat: Heartbeat) -> bool:
    """Note what the sender said; whether it belongs to this cluster."""
    if beat.cluster != turn.state.config.cluster:
        strangers = turn.state.strangers
        if sender not in strangers and len(strangers) < limits.KNOWN_NODES:
            strangers.add(sender)  # said once: a stranger's heartbeats are not to fill the log
            turn.decide("heartbeat refused", None, f"it is of cluster {beat.cluster!r}", "P60", peer=sender)
        return False
    fresh = not hears(turn, sender)
    before = turn.state.peers.get(sender)
    meet(turn, sender, *beat.known)
    turn.state.peers[sender] = PeerView(turn.now, frozenset(beat.heard), beat.gateway, beat.fingerprint)
    if beat.fingerprint != (before.fingerprint if before is not None else b""):
        turn.act(Believe(None, believed(turn)))
    if fresh:
        turn.decide("node heard", None, "its heartbeat arrived", "R45", peer=sender)
    return True
