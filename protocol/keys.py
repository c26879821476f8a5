"""API keys: records of the directory, created and revoked by operators, known to every node (R36, F87). The law kept here is P23: a key is fixed
at birth, its revocation only grows and reaches every node that is heard, and no key is ever forgotten, so none comes back.

A key's state is a join of two facts that never change and one that only grows (F20), so creation and revocation need no coordinator and no
promise: a node that hears nobody can do both, and what it did is merged when it is heard. Its text is made and shown by the operator's own
program; here it is only a digest. Nothing here looks at a clock: whether a key has expired is for the gateway that is asked (F21).

News is broadcast. Who missed it has another root in its digest tree than everybody else: the next heartbeat that it hears makes it ask
(:mod:`protocol.gossip`). Keys that have expired are kept as well: to forget one safely all nodes would have to agree on the time.
"""

from __future__ import annotations

from collections.abc import Iterator

from attrs import evolve

from protocol import digest, limits
from protocol.effects import Keys
from protocol.ids import Peer
from protocol.inputs import CreateKey, RevokeKey
from protocol.messages import KeyNews
from protocol.records import ApiKey, join_keys
from protocol.state import State
from protocol.suspicion import hears
from protocol.turn import Turn

# --- an operator's word ---------------------------------------------------------------------------------------------


def on_create(turn: Turn, order: CreateKey) -> None:
    """Refused at the bound, for an id that is taken (its program draws another), and for what is no key."""
    state = turn.state
    try:
        key = ApiKey(order.id, order.sha256, order.app, order.scope, order.expires, order.name, state.store)
    except ValueError as error:
        turn.answer(order.request, "key-refused", str(error))
        return
    if any(known.id == key.id for known in state.keys.values()):
        turn.answer(order.request, "key-refused", f"there is a key {key.id} already: try again")
    elif len(state.keys) >= limits.KEYS:
        turn.answer(
            order.request,
            "key-refused",
            f"{limits.KEYS} keys are known, revoked and expired ones too: no more can be created",
        )
    else:
        turn.broadcast(KeyNews(key))
        turn.answer(
            order.request, None, f"key {key.id} of {key.app} is created, scope {key.scope}{_unheard(turn, 'learn of')}"
        )


def on_revoke(turn: Turn, order: RevokeKey) -> None:
    """Each key of that id: should there be two, none of them may go on."""
    found = [key for key in turn.state.keys.values() if key.id == order.id]
    if not found:
        listens = "; this node still listens, and may not know it yet" if turn.state.listening else ""
        turn.answer(order.request, "key-refused", f"no key {order.id[:64]!r} is known here{listens}")
        return
    left = [key for key in found if not key.revoked]
    for key in left:
        turn.broadcast(KeyNews(evolve(key, revoked=True)))
    said = f"is revoked{_unheard(turn, 'refuse')}" if left else "was revoked before"
    turn.answer(order.request, None, f"key {order.id} of {found[0].app} {said}")


def _unheard(turn: Turn, will: str) -> str:
    """Whom the news cannot reach now: an operator needs to know it of a revocation (R61)."""
    silent = [peer for peer in turn.state.known if not hears(turn, peer)]
    return f"; not heard now, and to {will} it once they are: {', '.join(silent)}" if silent else ""


# --- what others say ------------------------------------------------------------------------------------------------


def on_news(turn: Turn, sender: Peer, message: KeyNews) -> None:
    take_in(turn, sender, (message.key,))


def take_in(turn: Turn, sender: Peer, told: tuple[ApiKey, ...]) -> None:
    """Merge what was told, durably, and tell the gateway what is new."""
    state = turn.state
    changed: list[ApiKey] = []
    new = 0
    because = "an operator says so" if sender == turn.me else f"{sender} told"
    for key in told:
        known = state.keys.get(key.digest)
        joined = key if known is None else join_keys(known, key)
        if joined == known:
            continue
        digest.replace_key(state, joined)
        state.keys[key.digest] = joined
        turn.write(f"key/{key.digest}", joined)
        changed.append(joined)
        new += known is None
        if known is not None and joined.revoked and not known.revoked:
            turn.decide("key revoked", None, because, "P23", key=joined.id, app=joined.app)
    if new and sender == turn.me:
        turn.decide("key created", None, because, "P23", key=told[0].id, app=told[0].app)
    elif new:
        turn.decide("keys learned", None, because, "P23", keys=new)
    if changed:
        tell_all(turn, tuple(changed))


def differing(state: State, theirs: bytes) -> Iterator[tuple[ApiKey, ...]]:
    """All keys in leaves that differ from ``theirs``, in pages."""
    leaves = set(digest.differing_keys(state, theirs))
    if leaves:
        yield from _pages([key for _, key in sorted(state.keys.items()) if digest.key_leaf_of(key) in leaves])


def _pages(found: list[ApiKey]) -> Iterator[tuple[ApiKey, ...]]:
    for at in range(0, len(found), limits.KEYS_PAGE):
        yield tuple(found[at : at + limits.KEYS_PAGE])


# --- this node's gateway --------------------------------------------------------------------------------------------


def tell_all(turn: Turn, changed: tuple[ApiKey, ...]) -> None:
    """Every worker hears of these keys, and whether this node may lack others (P61)."""
    if turn.state.workers:
        turn.act(Keys(None, changed, not turn.state.listening))


def tell_worker(turn: Turn, worker: int) -> None:
    """A worker that has joined hears of every key; only with the last part may it take them for complete."""
    for some in _pages([key for _, key in sorted(turn.state.keys.items())]):
        turn.act(Keys(worker, some, False))
    turn.act(Keys(worker, (), not turn.state.listening))


# --- coming back ----------------------------------------------------------------------------------------------------


def load(state: State, rows: list[ApiKey]) -> None:
    """What an earlier process knew."""
    for key in rows:
        digest.replace_key(state, key)
        state.keys[key.digest] = key
