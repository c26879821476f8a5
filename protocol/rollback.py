"""Stores that went back: restored from an older copy, cloned, or lost. The law kept here is P62: peers remember, durably, the newest
that they heard of each other's stores, and echo it to one that is behind; that one takes a new store id, and promises again for a
database only after *every* other member has told it what it promised (F27, F32).

What is compared is how far a store had come: the n-th *life* (store) of this peer id, and within it, for each process, the count of steps in
which it promised anything, births among them. A count alone would not do: a copy that was put back counts on from where it was, and soon has
the same count for other promises. So a store remembers its last processes and how far each came, durably, and every heartbeat says so: a
peer that heard more of one of them than the store itself remembers knows that the store went back, however far it has come since. What was
promised after the last heartbeat that anybody heard is not seen to be missing.

Why *every* other member: a coordinator promises an epoch to itself before it asks anybody, so whoever holds a promise that this store
forgot tells an epoch that is at least as high. Promises of names are told with the directories, to whoever's store is not whole
(:mod:`protocol.gossip`).
"""

from __future__ import annotations

from protocol import limits, membership, promises
from protocol.ids import Peer, derived
from protocol.messages import Echo, Heartbeat, Recall, Recalled, SyncAsk, Told
from protocol.records import Record
from protocol.rows import Forgotten, Known, Stay
from protocol.state import Hosted, State
from protocol.turn import Turn


def behind(said: Heartbeat | SyncAsk | State, newest: Known | Echo) -> bool:
    """Whether a store that says this of itself was more than this once."""
    if said.life != newest.life:
        return said.life < newest.life
    if newest.store not in ("", said.store):
        return True
    stays = (*said.trail, Stay(said.process, said.promised))
    remembered = next((stay.promised for stay in stays if stay.process == newest.process), None)
    if remembered is None and (len(said.trail) == limits.TRAIL or not newest.process):
        remembered = said.promised
    return remembered is None or remembered < newest.promised


def note(turn: Turn, sender: Peer, said: Heartbeat | SyncAsk) -> bool:
    """Remember the newest of a peer's store; tell it when it is behind. Whether it is not."""
    row = turn.state.nodes.get(sender)
    if row is None:
        return False
    if behind(said, row):
        turn.send(sender, Echo(row.store, row.life, row.process, row.promised))
        return False
    now = Known(row.peer, row.joined, said.store, said.life, said.process, said.promised)
    if now != row:
        membership.write(turn, now)
    return True


def on_echo(turn: Turn, sender: Peer, echo: Echo) -> bool:
    """Whether this store is behind what it once was: then nothing that it promised, minted or knew is relied upon (P62)."""
    state = turn.state
    if not behind(state, echo):
        return False
    because = f"{sender} knows store {echo.store} of it, life {echo.life}, at {echo.promised} promises of process {echo.process}"
    _went_back(turn, echo.life, because)
    return True


def on_record(turn: Turn, record: Record) -> bool:
    """Whether a record betrays that this store is behind: it wrote that record itself, in an epoch above all that it knows to have
    promised. So a promise is missed even where no heartbeat told of it (P5, P62)."""
    hosted = turn.state.hosted.get(record.incarnation)
    version = record.version
    if hosted is None or version.writer != turn.state.store or version.epoch <= hosted.promise.epoch:
        return False
    because = f"it has written {hosted.internal} in epoch {version.epoch}, and knows of {hosted.promise.epoch} promised"
    _went_back(turn, turn.state.life, because)
    return True


def _went_back(turn: Turn, life: int, because: str) -> None:
    """Begin a new life after that one."""
    state = turn.state
    state.life = life + 1
    state.store = derived(state.entropy, "store", turn.me, state.life)
    state.births, state.promised, state.trail = 0, 0, ()
    state.whole, state.listening = False, True
    turn.write_identity()
    turn.decide("store rolled back", None, because, "P62", store=state.store)
    state.synced.clear()
    state.exchanges.clear()
    state.creations.clear()
    for hosted in state.hosted.values():
        # Whatever rests on the promises of this store is over: rounds, votes, sleeps that it coordinates; and who held its highest
        # promise by the copy may have lost it since, this node itself included.
        hosted.round, hosted.sleep, hosted.moving, hosted.deciding = None, None, None, None
        promises.spend(turn, hosted, hosted.promise.epoch)
        hosted.vote = 0
        state.forgotten[hosted.incarnation] = {}
        turn.write(f"forgotten/{hosted.incarnation}", Forgotten(hosted.incarnation))
    recall(turn)


def may_promise(turn: Turn, incarnation: str) -> bool:
    """Not while promises that this store gave for it may be forgotten."""
    return incarnation not in turn.state.forgotten


def recall(turn: Turn, _key: str = "") -> None:
    """Ask all other members of what was forgotten, until each has told."""
    state = turn.state
    asked: dict[Peer, list[str]] = {}
    for incarnation in list(state.forgotten):
        hosted = state.hosted.get(incarnation)
        if hosted is None:
            _remember(turn, incarnation)
        elif not _complete(turn, hosted):
            for peer in hosted.record.peers:
                if peer != turn.me and peer not in state.forgotten[incarnation]:
                    asked.setdefault(peer, []).append(incarnation)
    for peer, incarnations in sorted(asked.items()):
        for at in range(0, len(incarnations), limits.RECALL_BATCH):
            turn.send(peer, Recall(tuple(incarnations[at : at + limits.RECALL_BATCH])))
    if state.forgotten:
        turn.after("recall", "", limits.SYNC_PATIENCE)


def on_recall(turn: Turn, sender: Peer, message: Recall) -> None:
    """What this member promised, or saw used; nothing of what it forgot itself."""
    told: list[Told] = []
    for incarnation in message.incarnations:
        hosted = turn.state.hosted.get(incarnation)
        if hosted is not None and may_promise(turn, incarnation) and hosted.record.member(sender) is not None:
            told.append(Told(incarnation, max(hosted.promise.epoch, hosted.record.version.epoch)))
    if told:
        turn.send(sender, Recalled(tuple(told)))


def on_recalled(turn: Turn, sender: Peer, message: Recalled) -> None:
    for incarnation, epoch in message.told:
        hosted = turn.state.hosted.get(incarnation)
        if hosted is not None and incarnation in turn.state.forgotten and hosted.record.member(sender) is not None:
            turn.state.forgotten[incarnation][sender] = epoch
            _complete(turn, hosted)


def _complete(turn: Turn, hosted: Hosted) -> bool:
    """Promise again once all others have told, and the records are those of a majority: above all that was ever promised (P3)."""
    told = turn.state.forgotten[hosted.incarnation]
    if turn.state.listening or set(hosted.record.peers) - {turn.me} - told.keys():
        return False
    epoch = max(hosted.record.version.epoch, *told.values()) if told else hosted.record.version.epoch
    if epoch > hosted.promise.epoch:
        promises.spend(turn, hosted, epoch)
    turn.decide("promises again", hosted, f"every other member has told its own, up to epoch {epoch}", "P62")
    _remember(turn, hosted.incarnation)
    return True


def _remember(turn: Turn, incarnation: str) -> None:
    del turn.state.forgotten[incarnation]
    turn.erase(f"forgotten/{incarnation}")
