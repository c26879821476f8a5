"""Who is there. Liveness comes from heartbeats alone, never from a connection's state. The laws kept here are R45 (a last-seen
time for each peer, three misses make it unheard), F75 (a coordinator must hear, and be heard by, a majority: who is deaf
is not waited for), F93 (a gateway is believed for the certificate that its node has signed) and P60 (a heartbeat of another
cluster is refused)."""

from __future__ import annotations

from protocol import digest, limits, membership, rollback
from protocol.effects import Believe
from protocol.ids import Peer
from protocol.membership import majority
from protocol.messages import Heartbeat
from protocol.state import PeerView
from protocol.turn import Turn


def hears(turn: Turn, peer: Peer) -> bool:
    """This node has heard ``peer`` within the health threshold; itself always."""
    state = turn.state
    config = state.config
    if peer == config.peer:
        return True
    view = state.peers.get(peer)
    return view is not None and turn.now - view.last_heard <= limits.HEALTH_MISSES * config.health_interval


def eligible(turn: Turn, peer: Peer) -> bool:
    """``peer`` may promise, hears a majority of the known nodes, and is heard by a majority, as far as this node was told."""
    known, peers, me = turn.state.known, turn.state.peers, turn.me
    if not hears(turn, peer) or (turn.state.listening if peer == me else peers[peer].listening):
        return False
    needed = majority(len(known))
    heard = [one for one in known if hears(turn, one)]
    ears = peers[peer].heard if peer != me else heard
    if len(ears) + (peer not in ears) < needed:
        return False
    # ``peer`` itself is heard; so it counts as heard by this node, and by itself.
    return sum([one in (peer, me) or peer in peers[one].heard for one in heard]) >= needed


def heartbeat(turn: Turn) -> Heartbeat:
    state = turn.state
    known = tuple(peer for peer in state.known if peer == turn.me or peer in state.nodes)
    return Heartbeat(
        state.config.cluster,
        state.store,
        state.births,
        known,
        tuple(peer for peer in known if hears(turn, peer)),
        max(0, state.config.max_databases - state.load()),
        digest.root(state),
        state.listening,
        state.config.addresses,
        state.config.gateway,
        state.config.fingerprint,
        life=state.life,
        process=state.process,
        promised=state.promised,
        trail=state.trail,
        whole=state.whole,
        joining=tuple(peer for peer in known if peer != turn.me and not state.nodes[peer].joined),
        retired=tuple(sorted(state.retired)),
        twin=state.twin,
    )


def beat(turn: Turn, _key: str = "") -> None:
    """Tell everyone; also those that this node does not know yet."""
    turn.broadcasts.append(heartbeat(turn))
    turn.after("heartbeat", "", turn.state.config.health_interval)


def enlighten(turn: Turn, coordinator: Peer) -> None:
    """A coordinator that knows fewer nodes than this one would count a majority too small: it is told of them first, on the same
    stream as the answer that it is about to get (P11)."""
    view = turn.state.peers.get(coordinator)
    if coordinator != turn.me and (view is None or not view.known.issuperset(turn.state.nodes)):
        turn.send(coordinator, heartbeat(turn))


def on_connected(turn: Turn, peer: Peer) -> None:
    """A peer that has just connected hears of this node at once, not only at the next beat."""
    turn.send(peer, heartbeat(turn))


def on_heartbeat(turn: Turn, sender: Peer, beat: Heartbeat) -> bool:
    """Note what the sender said; whether it is to be heard: of this cluster, and not retired."""
    if beat.cluster != turn.state.config.cluster:
        strangers = turn.state.strangers
        if sender not in strangers and len(strangers) < limits.KNOWN_NODES:
            strangers.add(sender)  # said once: a stranger's heartbeats are not to fill the log
            turn.decide("heartbeat refused", None, f"it is of cluster {beat.cluster!r}", "P60", peer=sender)
        return False
    fresh = not hears(turn, sender)
    if not membership.take_in(turn, sender, beat):
        return False
    rollback.note(turn, sender, beat)
    before = turn.state.peers.get(sender)
    turn.state.peers[sender] = PeerView(
        turn.now,
        frozenset(beat.heard),
        gateway=beat.gateway,
        fingerprint=beat.fingerprint,
        listening=beat.listening,
        known=frozenset(beat.known),
        process=beat.process,
    )
    if beat.fingerprint != (before.fingerprint if before is not None else b""):
        turn.act(Believe(None, membership.believed(turn)))
    if fresh:
        turn.decide("node heard", None, "its heartbeat arrived", "R45", peer=sender)
    return True
