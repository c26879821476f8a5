"""Anti-entropy: two nodes whose roots differ exchange the leaves, then only the records of leaves that differ (F25, R7). The law
kept here is P20: absence means dropped only for a dot that the sender's context names, in a range compared completely."""

from __future__ import annotations

from protocol import codec, digest, limits
from protocol.clocks import Context
from protocol.ids import Peer
from protocol.messages import Dropped, Heartbeat, SyncAsk, SyncDone, SyncPage
from protocol.records import Record
from protocol.state import State
from protocol.suspicion import majority
from protocol.suspicion import on_heartbeat as hear
from protocol.turn import Turn


def on_heartbeat(turn: Turn, sender: Peer, beat: Heartbeat) -> None:
    """Out of step, or not merged since this process began: ask, one exchange at a time with each peer."""
    if not hear(turn, sender, beat):
        return
    state = turn.state
    if beat.root == digest.root(state):
        if state.listening:
            _merged(turn, sender)
        return
    asked = state.asked.get(sender)
    if asked is None or turn.now - asked > limits.SYNC_PATIENCE:
        state.asked[sender] = turn.now
        turn.send(sender, SyncAsk(digest.leaves(state)))


def on_sync_ask(turn: Turn, sender: Peer, ask: SyncAsk) -> None:
    for leaf in digest.differing(turn.state, ask.leaves):
        for page in _pages(turn.state, leaf):
            turn.send(sender, page)
    turn.send(sender, SyncDone())


def _pages(state: State, leaf: int) -> list[SyncPage]:
    """All records of one leaf, in pages that fit into messages; together they cover the leaf completely."""
    context = tuple(state.context.rows())
    pages: list[SyncPage] = []
    after, size, batch = "", 0, list[Record]()
    for record in _in_leaf(state, leaf):
        cost = len(codec.encode(record))
        if batch and size + cost > limits.SYNC_PAGE:
            upto = batch[-1].incarnation
            pages.append(SyncPage(leaf, after, upto, tuple(batch), context, True))
            after, size, batch = upto, 0, []
        batch.append(record)
        size += cost
    return [*pages, SyncPage(leaf, after, "", tuple(batch), context, True)]


def _in_leaf(state: State, leaf: int) -> list[Record]:
    incarnations = sorted(one for one in state.records if digest.leaf_of(one) == leaf)
    return [state.records[one] for one in incarnations]


def on_sync_page(turn: Turn, sender: Peer, page: SyncPage) -> None:
    """Merge theirs; drop what they have seen and hold no more; send back what they miss."""
    theirs = {record.incarnation: record for record in page.records}
    seen = Context()
    for row in page.context:
        seen.load(row)
    more = False
    for record in _in_leaf(turn.state, page.leaf):
        incarnation = record.incarnation
        if incarnation <= page.after or (page.upto and incarnation > page.upto):
            continue
        if incarnation not in theirs and record.birth.dot in seen:
            turn.inbox.append(Dropped(incarnation))
        elif theirs.get(incarnation) != record:
            more = True
    for record in page.records:
        turn.learn(record)
    gone = [one for one in theirs if one not in turn.state.records and theirs[one].birth.dot in turn.state.context]
    if page.reply and (more or gone):
        mine = tuple(
            record
            for record in _in_leaf(turn.state, page.leaf)
            if page.after < record.incarnation and (not page.upto or record.incarnation <= page.upto)
        )
        context = tuple(turn.state.context.rows())
        turn.send(sender, SyncPage(page.leaf, page.after, page.upto, mine, context, False))


def on_sync_done(turn: Turn, sender: Peer, _done: SyncDone) -> None:
    turn.state.asked.pop(sender, None)
    _merged(turn, sender)


def _merged(turn: Turn, sender: Peer) -> None:
    """P61: listening ends with the directories of a majority: an intact store counts itself, an empty one only the others."""
    state = turn.state
    state.synced.add(sender)
    if not state.listening:
        return
    others = len(state.known) - 1
    needed = majority(len(state.known)) - 1 if state.intact else majority(others)
    if len(state.synced & set(state.known)) >= needed:
        state.listening = False
        because = f"the directories of {len(state.synced)} of {others} other nodes are merged"
        turn.after("listened", "", 0)
        turn.decide("reconciliation results", None, because, "P61", databases=len(state.records))
