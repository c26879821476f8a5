"""What an operator is shown of a node: copies, never the state. The law kept here is R61: what does not work is said with its cause,
and with what to do about it."""

from __future__ import annotations

from attrs import frozen

from protocol import digest
from protocol.ids import Peer
from protocol.records import ApiKey, Member, Record, Scope, Seal
from protocol.state import Decided, Hosted, State
from protocol.suspicion import eligible, hears, majority
from protocol.turn import Turn


@frozen
class PeerStatus:
    """One known node as this one sees it. ``silent``: microseconds since its last heartbeat; None: never heard by this process."""

    peer: Peer
    me: bool
    heard: bool
    silent: int | None
    eligible: bool
    gateway: str


@frozen
class NodeView:
    """A node. ``awake`` counts against ``max_databases`` (F49). ``advice``: what is wrong, each with what to do (R61, F33)."""

    peer: Peer
    cluster: str
    store: str
    listening: bool
    root: bytes
    databases: int
    hosted: int
    awake: int
    max_databases: int
    workers: int
    peers: tuple[PeerStatus, ...]
    advice: tuple[str, ...]


@frozen
class DatabaseView:
    """One database: its record, and what this node does with it where it hosts it (``state`` is empty where it does not).
    ``decisions``: the last ones made here, oldest first, each with its time on this node's clock."""

    app: str
    name: str
    internal: str
    incarnation: str
    state: str
    phase: str
    epoch: int
    promised: int
    replication_factor: int
    members: tuple[Member, ...]
    seal: Seal | None
    process: str
    run: int
    http: int
    raft: int
    leader: bool
    open: bool
    waiting: int
    error: str
    decisions: tuple[Decided, ...]


@frozen
class KeyView:
    """One API key. ``expires``: Unix seconds, 0 for never. ``store``: of the node that created it."""

    id: str
    name: str
    app: str
    scope: Scope
    expires: int
    revoked: bool
    store: str


def keys(state: State) -> tuple[KeyView, ...]:
    """All API keys of the directory, sorted by application, name and id: those of the settings are each node's own."""
    views = [_key(one) for one in state.keys.values()]
    return tuple(sorted(views, key=lambda view: (view.app, view.name, view.id)))


def _key(one: ApiKey) -> KeyView:
    return KeyView(one.id, one.name, one.app, one.scope, one.expires, one.revoked, one.store)


def node(state: State, now: int) -> NodeView:
    turn = Turn(state, None, now)
    peers = tuple(_peer(turn, peer) for peer in state.known)
    return NodeView(
        peer=state.config.peer,
        cluster=state.config.cluster,
        store=state.store,
        listening=state.listening,
        root=digest.root(state),
        databases=len(state.records),
        hosted=len(state.hosted),
        awake=state.load(),
        max_databases=state.config.max_databases,
        workers=len(state.workers),
        peers=peers,
        advice=tuple(_advice(state, peers)),
    )


def _peer(turn: Turn, peer: Peer) -> PeerStatus:
    view = turn.state.peers.get(peer)
    me = peer == turn.me
    return PeerStatus(
        peer=peer,
        me=me,
        heard=hears(turn, peer),
        silent=0 if me else None if view is None else turn.now - view.last_heard,
        eligible=eligible(turn, peer),
        gateway=turn.state.config.gateway if me else "" if view is None else view.gateway,
    )


def _advice(state: State, peers: tuple[PeerStatus, ...]) -> list[str]:
    known = len(peers)
    missing = [one.peer for one in peers if not one.heard]
    needed, heard = majority(known), known - len(missing)
    gone = f"; where a machine is gone for good: torpor node retire PEER (silent: {', '.join(missing)})"
    said: list[str] = []
    if heard < needed:
        said.append(
            f"hears {heard} of {known} known nodes, {needed} are needed: nothing is created or replaced; "
            f"start the others, or see the network between them{gone}"
        )
    elif missing:
        said.append(f"hears {heard} of {known} known nodes{gone}")
    if state.listening and heard >= needed:
        said.append("listens: it serves what it has, and promises nothing until a majority's directories are merged")
    if known < state.config.replication_factor:
        said.append(
            f"database.replication_factor is {state.config.replication_factor} and {known} "
            f"{'node is' if known == 1 else 'nodes are'} known: creations fail until more have joined"
        )
    if state.load() >= state.config.max_databases:
        said.append(f"max_databases ({state.config.max_databases}) reached: nothing more can be created or woken here")
    said += [
        f"{one.internal}: {one.error}" for one in state.hosted.values() if one.error and one.state != "quarantined"
    ]
    said += [_parted(one) for one in state.records.values() if one.phase == "quarantined"]
    return said


def _parted(record: Record) -> str:
    internal, incarnation = record.birth.internal, record.incarnation
    return (
        f"CONFLICT: the name {internal} had two databases; {incarnation} is quarantined: nobody serves, changes or deletes it; "
        f"its data is in <data_dir>/{internal}/{incarnation} on {', '.join(record.peers)}; copy what is needed from there"
    )


def hosted(state: State) -> tuple[DatabaseView, ...]:
    """The databases that this node hosts, sorted by internal name."""
    views = [_database(one.record, one) for one in state.hosted.values()]
    return tuple(sorted(views, key=lambda view: view.internal))


def directory(state: State) -> tuple[DatabaseView, ...]:
    """All databases that this node knows of, sorted by internal name."""
    views = [_database(record, state.hosted.get(record.incarnation)) for record in state.records.values()]
    return tuple(sorted(views, key=lambda view: (view.internal, view.incarnation)))


def _database(record: Record, here: Hosted | None) -> DatabaseView:
    return DatabaseView(
        app=record.birth.app,
        name=record.birth.name,
        internal=record.birth.internal,
        incarnation=record.incarnation,
        state=here.state if here else "",
        phase=record.phase,
        epoch=record.version.epoch,
        promised=here.promise.epoch if here else 0,
        replication_factor=record.birth.replication_factor,
        members=record.members,
        seal=record.seal,
        process=here.process if here else "none",
        run=here.run if here else 0,
        http=here.http if here else 0,
        raft=here.raft if here else 0,
        leader=here.leader if here else False,
        open=here.open if here else False,
        waiting=len(here.waiters) if here else 0,
        error=here.error if here else _parted(record) if record.phase == "quarantined" else "",
        decisions=tuple(here.decisions) if here else (),
    )
