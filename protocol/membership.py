"""Who the known nodes are. The laws kept here are P60 (ids never merge: only heartbeats of this cluster are looked at) and P64 (known nodes
become fewer only by an operator's ``retire``, which is final).

A node is *known* as soon as its heartbeat, or a whole node's word, names it: from then on majorities count it. It has *joined*
once its store was whole, for only then can it have taken part in anything that was decided (P61). A node whose own store is not whole
has nothing to say about others: what a fresh joiner was configured with, or heard of another fresh joiner, never spreads.

Retirement is a set that only grows, so two operators, on two nodes, at once, in any order, end in the same set. It does not wait for a
majority, since the nodes that are gone may have been one (F33): an operator who retires a node that lives on, out of reach, splits the
cluster by hand. A node that hears that it was retired stops; nobody hears it any more anyway. Of two that retire each other at most one goes on.
"""

from __future__ import annotations

from attrs import evolve

from protocol import limits
from protocol.effects import Believe, Halt
from protocol.ids import Peer
from protocol.inputs import Retire
from protocol.messages import Heartbeat
from protocol.rows import Known, Retired
from protocol.turn import Turn


def majority(of: int) -> int:
    """The least number that is more than half of ``of``."""
    return of // 2 + 1


def count(turn: Turn) -> None:
    """Whom majorities count: this node, those of the configuration, all that were heard of, less the retired."""
    state = turn.state
    state.known = tuple(sorted({turn.me, *state.config.known, *state.nodes} - state.retired))


def joined(turn: Turn) -> set[Peer]:
    """The other known nodes whose stores were whole once."""
    return {peer for peer, row in turn.state.nodes.items() if row.joined}


def take_in(turn: Turn, sender: Peer, beat: Heartbeat) -> bool:
    """Know the sender, and whom it knows, from now on, over restarts too. Whether the sender is to be heard."""
    because = f"{sender} knows that an operator retired it"
    if turn.me in beat.retired:
        retire(turn, turn.me, because=because)  # whoever says so: they do not hear this node any more
    if sender in turn.state.retired:
        return False
    if beat.retired:
        retire(turn, *beat.retired, because=because)
    if sender in turn.state.retired or not _note(turn, sender, beat.whole):
        return False
    if beat.whole:
        nodes = turn.state.nodes
        for peer in beat.known:
            if peer not in nodes or not nodes[peer].joined:  # of the others nothing can be new
                _note(turn, peer, peer not in beat.joining)
    return True


def _note(turn: Turn, peer: Peer, has_joined: bool) -> bool:
    state = turn.state
    row = state.nodes.get(peer)
    if row is not None:
        if has_joined and not row.joined:
            write(turn, evolve(row, joined=True))
        return True
    if peer == turn.me or peer in state.retired:
        return False
    if len(state.known) >= limits.KNOWN_NODES and peer not in state.known:
        if peer not in state.strangers and len(state.strangers) < limits.KNOWN_NODES:
            state.strangers.add(peer)
            turn.decide("node not admitted", None, f"{limits.KNOWN_NODES} nodes are known", "P64", peer=peer)
        return False
    write(turn, Known(peer, has_joined))
    count(turn)
    turn.decide("node joined", None, "its heartbeat carries this cluster's id", "P60", peer=peer)
    return True


def write(turn: Turn, row: Known) -> None:
    turn.state.nodes[row.peer] = row
    turn.write(f"known/{row.peer}", row)


def believed(turn: Turn) -> tuple[bytes, ...]:
    """Certificates of the other nodes' gateways, as they have signed for them."""
    views = turn.state.peers
    return tuple(sorted({views[peer].fingerprint for peer in turn.state.known if peer in views} - {b""}))


def retire(turn: Turn, *peers: Peer, because: str) -> None:
    """Take these out of all that is counted, for good. This node itself stops when it is one of them."""
    state = turn.state
    new = [peer for peer in sorted(set(peers)) if peer not in state.retired]
    for peer in new:
        state.retired.add(peer)
        turn.write(f"retired/{peer}", Retired(peer))
        if state.nodes.pop(peer, None) is not None:
            turn.erase(f"known/{peer}")
        state.peers.pop(peer, None)
        state.exchanges.pop(peer, None)
        turn.decide("node retired", None, because, "P64", peer=peer)
    if new:
        count(turn)
        turn.act(Believe(None, believed(turn)))
    if turn.me in new:
        turn.act(Halt("an operator retired this node: its peer id is never heard again in this cluster (P64)"))


def on_retire(turn: Turn, order: Retire) -> None:
    """An operator's word. Refused for this very node, which could not spread it, and for a peer that nobody knows: a mistyped id
    would never be noticed."""
    state, peer = turn.state, order.peer
    if peer == turn.me:
        turn.answer(order.request, "not-retired", "a node does not retire itself: give the command to another one")
    elif peer in state.retired:
        turn.answer(order.request, None, f"{peer} was retired before")
    elif peer not in state.known:
        turn.answer(order.request, "not-retired", f"{peer} is no known node; known are {', '.join(state.known)}")
    elif len(state.retired) >= limits.RETIRED:
        turn.answer(order.request, "not-retired", f"{limits.RETIRED} nodes are retired, which is the bound")
    else:
        left = sorted(one.birth.internal for one in state.records.values() if one.member(peer) is not None)
        retire(turn, peer, because="an operator says that it is gone for good")
        turn.after("heartbeat", "", 0)
        lost = (
            f"databases with a member there: {len(left)}: {', '.join(left)}"
            if left
            else "no database had a member there"
        )
        turn.answer(order.request, None, f"{peer} is retired for good; {len(state.known)} nodes are known; {lost}")
