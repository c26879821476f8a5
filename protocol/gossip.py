"""Anti-entropy, and the end of listening. Two nodes whose roots differ compare the leaves of their digest trees, then lists of what
is in the leaves that differ, and send only the records that differ (F25, R7). The laws kept here are P20 and P61.

P20: absence from a list says nothing by itself. Who misses a record is asked whether it has *seen* it: seen but absent means dropped
(F26, F31), and is told by name; what was never seen is asked for.

P61: a node listens at every start until it has merged the directories of a majority of those that may have taken part in decisions: of the
*joined* nodes. A node whose store is whole counts itself: it remembers all that it ever promised, and only wants to hear what it
missed. One with an empty or a rolled-back store counts the others alone, since it may have promised, once, what it does not know: of n others
it needs a majority, so that it meets every majority of n + 1 to which it may have belonged itself. It asks for promises of names too, not
only for records: a denial that it forgot was given to a coordinator that has others' denials as well.

Only whole stores count as directories. So two fresh nodes never make each other's silence a majority, while nodes that all restart at
once do count each other: each remembers what it had (F33). A peer answers only nodes that it knows, durably: a joiner that has merged
a majority's directories is therefore counted by that majority before it says anything of its own. A node that founded alone and knows no other
that has joined needs nobody.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

from protocol import digest, directory, keys, limits, membership, rollback, twins
from protocol.ids import Peer
from protocol.inputs import Retire
from protocol.membership import majority
from protocol.messages import (
    Dropped,
    Echo,
    Entry,
    Heartbeat,
    SyncAsk,
    SyncDone,
    SyncKeys,
    SyncNames,
    SyncPage,
    SyncRecords,
    SyncWant,
)
from protocol.records import Attempt, join
from protocol.rows import NamePromise
from protocol.state import Exchange, State
from protocol.suspicion import hears, heartbeat
from protocol.suspicion import on_heartbeat as hear
from protocol.turn import Turn


def on_heartbeat(turn: Turn, sender: Peer, beat: Heartbeat) -> None:
    """Out of step, or not merged since this process began: ask, one exchange at a time with each peer. Who has no whole store
    asks by itself."""
    state = turn.state
    before = state.peers.get(sender)
    if not hear(turn, sender, beat):
        return
    twins.watch(turn, sender, beat, before)
    if not beat.whole:
        return
    consider(turn)
    if beat.root == digest.root(state) and not (state.listening and sender not in state.synced):
        return
    under_way = state.exchanges.get(sender)
    if under_way is None or turn.now - under_way.asked > limits.SYNC_PATIENCE:
        ask(turn, sender)


def ask(turn: Turn, peer: Peer) -> None:
    """Begin an exchange with one peer; an earlier one with it is given up."""
    state = turn.state
    state.asks += 1
    state.exchanges[peer] = Exchange(state.asks, turn.now)
    if state.listening:
        turn.send(peer, heartbeat(turn))  # it answers only whom it knows, and may not have heard this node yet
    store = (state.store, state.life, state.process, state.promised, state.trail, state.whole)
    turn.send(peer, SyncAsk(state.asks, digest.leaves(state), digest.key_leaves(state), *store))


def on_echo(turn: Turn, sender: Peer, echo: Echo) -> None:
    """A store that was rolled back asks everybody whom it hears for what it lost, at once."""
    if rollback.on_echo(turn, sender, echo):
        begin_listening(turn)


def begin_listening(turn: Turn) -> None:
    """The store turned out to be behind: until it has listened, a key that its gateway does not know may be one all the same."""
    keys.tell_all(turn, ())
    on_listening(turn)


def on_listening(turn: Turn, _key: str = "") -> None:
    """Still listening: what was asked, or answered, may be lost. An operator is told whom it waits for, when that changes (F33)."""
    state = turn.state
    if not state.listening:
        return
    turn.after("listen", "", limits.SYNC_PATIENCE)
    missing = tuple(sorted(membership.joined(turn) - state.synced))
    for peer in missing:
        if hears(turn, peer):
            ask(turn, peer)
    silent = ", ".join(peer for peer in missing if not hears(turn, peer))
    because = "it has heard nobody of its cluster yet: see discovery.bootstrap_peers"
    if silent:
        because = f"the directories of a majority are not merged, and {silent} cannot be heard; retire those that are gone for good"
    if because != state.waits and (silent or not missing):
        state.waits = because
        turn.decide("still listening", None, because[: limits.DETAIL], "P61")


def on_retire(turn: Turn, order: Retire) -> None:
    """With fewer known nodes a majority may be there already."""
    membership.on_retire(turn, order)
    consider(turn)


# --- as the one that is asked ---------------------------------------------------------------------------------------


def on_sync_ask(turn: Turn, sender: Peer, ask: SyncAsk) -> None:
    """List what differs. Who is behind what is known of its store is told that, and nothing else (P62)."""
    if not rollback.note(turn, sender, ask):
        return
    pages = count()
    for leaf in digest.differing(turn.state, ask.leaves):
        for after, upto, entries in _listed(turn.state, leaf):
            turn.send(sender, SyncPage(ask.number, next(pages), leaf, after, upto, entries))
    for some in keys.differing(turn.state, ask.keys):
        turn.send(sender, SyncKeys(ask.number, next(pages), some))
    if not ask.whole:
        held = [turn.state.names[internal] for internal in sorted(turn.state.names)]
        for at in range(0, len(held), limits.NAMES_PAGE):
            turn.send(sender, SyncNames(ask.number, next(pages), tuple(held[at : at + limits.NAMES_PAGE])))
    turn.send(sender, SyncDone(ask.number, next(pages), turn.state.whole))


def _listed(state: State, leaf: int) -> Iterator[tuple[str, str, tuple[Entry, ...]]]:
    """All of one leaf, in pages that together cover it completely."""
    incarnations = sorted(state.in_leaf.get(leaf, ()))
    after = ""
    for at in range(0, max(1, len(incarnations)), limits.SYNC_PAGE):
        page = incarnations[at : at + limits.SYNC_PAGE]
        upto = page[-1] if at + limits.SYNC_PAGE < len(incarnations) else ""
        yield after, upto, tuple(Entry(one, digest.short(state, one)) for one in page)
        after = upto


def on_sync_want(turn: Turn, sender: Peer, message: SyncWant) -> None:
    """Send what is wanted; say of the others which are dropped, and which are wanted in return."""
    state = turn.state
    _drop(turn, message.gone)
    records = tuple(state.records[one] for one in message.want if one in state.records)
    absent = [one for one in (*message.want, *message.have) if one not in state.records]
    gone = tuple(one for one in absent if directory.dropped(state, one))
    wanted = tuple(one for one in message.have if one in absent and one not in gone)
    turn.send(sender, SyncRecords(message.number, message.batch, records, wanted, gone))


def _drop(turn: Turn, incarnations: tuple[str, ...]) -> None:
    for incarnation in incarnations:
        if incarnation in turn.state.records:
            turn.inbox.append(Dropped(incarnation))


# --- as the one that asked ------------------------------------------------------------------------------------------


def _under_way(turn: Turn, sender: Peer, number: int) -> Exchange | None:
    exchange = turn.state.exchanges.get(sender)
    return exchange if exchange is not None and exchange.number == number else None


def on_sync_page(turn: Turn, sender: Peer, page: SyncPage) -> None:
    """Compare one range completely: what is wanted, what they miss, what they hold and this node has seen dropped."""
    exchange, state = _under_way(turn, sender, page.number), turn.state
    if exchange is None or page.page in exchange.pages:
        return
    exchange.pages.add(page.page)
    listed = dict(page.entries)
    differing: list[tuple[str, str]] = []
    for incarnation, short in page.entries:
        if incarnation not in state.records:
            differing.append((incarnation, "gone" if directory.dropped(state, incarnation) else "want"))
        elif digest.short(state, incarnation) != short:
            differing.append((incarnation, "want"))
    differing += [
        (incarnation, "have")
        for incarnation in sorted(state.in_leaf.get(page.leaf, ()))
        if incarnation not in listed and page.after < incarnation and (not page.upto or incarnation <= page.upto)
    ]
    for at in range(0, len(differing), limits.SYNC_BATCH):
        batch = differing[at : at + limits.SYNC_BATCH]
        parts = {kind: tuple(one for one, what in batch if what == kind) for kind in ("want", "have", "gone")}
        exchange.sent += 1
        exchange.batches.add(exchange.sent)
        turn.send(sender, SyncWant(page.number, exchange.sent, **parts))
    _conclude(turn, sender, exchange)


def on_sync_names(turn: Turn, sender: Peer, message: SyncNames) -> None:
    """Promise what this node may have promised itself: the highest attempt for each name (P10), and the birth that was stored last (P11)."""
    exchange, state = _under_way(turn, sender, message.number), turn.state
    if exchange is None:
        return
    nobody = Attempt(0, "")
    for told in message.promises:
        held = state.names.get(told.internal, NamePromise(told.internal, nobody))
        latest = told if (told.stored or nobody) > (held.stored or nobody) else held
        joined = NamePromise(told.internal, max(held.attempt, told.attempt), latest.birth, latest.stored)
        if joined != held:
            state.names[told.internal] = joined
            turn.write(f"name/{told.internal}", joined)
    exchange.pages.add(message.page)
    _conclude(turn, sender, exchange)


def on_sync_keys(turn: Turn, sender: Peer, message: SyncKeys) -> None:
    """Take in their keys; what they lack they learn by their own asking, since their roots differ as well (P23)."""
    keys.take_in(turn, sender, message.keys)
    exchange = _under_way(turn, sender, message.number)
    if exchange is not None:
        exchange.pages.add(message.page)
        _conclude(turn, sender, exchange)


def on_sync_records(turn: Turn, sender: Peer, message: SyncRecords) -> None:
    """Merge theirs, drop what they have seen dropped, send what they want or know less of."""
    state = turn.state
    back = [state.records[one] for one in message.want if one in state.records]
    for record in message.records:
        mine = state.records.get(record.incarnation)
        if mine is not None and (joined := join(mine, record)) != record:
            back.append(joined)
        turn.learn(record)
    _drop(turn, message.gone)
    if back:
        turn.send(sender, SyncRecords(0, 0, tuple(back), (), ()))
    exchange = _under_way(turn, sender, message.number)
    if exchange is not None:
        exchange.batches.discard(message.batch)
        _conclude(turn, sender, exchange)


def on_sync_done(turn: Turn, sender: Peer, done: SyncDone) -> None:
    exchange = _under_way(turn, sender, done.number)
    if exchange is not None:
        exchange.total, exchange.whole = done.pages, done.whole
        _conclude(turn, sender, exchange)


def _conclude(turn: Turn, sender: Peer, exchange: Exchange) -> None:
    """Everything that was listed is compared, whatever the order in which it came: this directory is merged."""
    if exchange.total is None or len(exchange.pages) < exchange.total or exchange.batches:
        return
    del turn.state.exchanges[sender]
    if exchange.whole:
        turn.state.synced.add(sender)
    consider(turn)


def consider(turn: Turn) -> None:
    """Listening ends as soon as the directories of a majority are merged (P61): all know it at once."""
    state = turn.state
    if not state.listening or not enough(turn):
        return
    state.listening = False
    if not state.whole:
        state.whole = True
        turn.write_identity()
    for timer in ("heartbeat", "listened", *(("recall",) if state.forgotten else ())):
        turn.after(timer, "", 0)
    keys.tell_all(turn, ())
    because = f"the directories of {len(state.synced)} other nodes are merged"
    turn.decide("reconciliation results", None, because, "P61", databases=len(state.records))


def enough(turn: Turn) -> bool:
    """Whether the directories merged since this process began are those of a majority (P61)."""
    state = turn.state
    others = membership.joined(turn)
    needed = majority(len(others) + 1) - 1 if state.whole else majority(len(others))
    return len(state.synced & others) >= needed
