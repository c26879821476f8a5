"""What must hold of every node after every step, whatever happened: checked by the simulator while it runs, by the explorer in
every state, and cheap enough to be checked always. What needs the world (processes, acknowledged writes) is in ``sim.checks``.

Each check names the law; a violation is a sentence."""

from __future__ import annotations

from collections.abc import Iterator

from protocol.membership import majority
from protocol.state import Hosted, State


def violations(state: State) -> Iterator[str]:
    """All violations in one node's state; nothing when it is sound."""
    for hosted in state.hosted.values():
        for law in _of_hosted(state, hosted):
            yield f"{hosted.internal} ({hosted.state}): {law}"
    for incarnation, seeking in state.seeking.items():
        if incarnation not in state.records or not seeking.waiters:
            yield f"{len(seeking.waiters)} clients wait for {incarnation} elsewhere, and nothing will come of it (R38)"
    if not state.awake <= state.hosted.keys():
        yield "a database that is not hosted counts against max_databases (F49)"
    for internal, living in state.by_name.items():
        if len(living) > 1 and sum(state.records[one].phase not in ("creating", "quarantined") for one in living) > 1:
            yield f"{internal} has more than one database: {', '.join(living)} (P15)"
    tickets = [hosted.ticket for hosted in state.hosted.values()] + list(state.leases)
    if len(tickets) != len(set(tickets)):
        yield "two owners of one port ticket (F83)"


def of_database(state: State, incarnation: str) -> Iterator[str]:
    """The same for one database only: what a simulator checks after each step that touched it."""
    hosted = state.hosted.get(incarnation)
    if hosted is not None:
        for law in _of_hosted(state, hosted):
            yield f"{hosted.internal} ({hosted.state}): {law}"


def _of_hosted(state: State, hosted: Hosted) -> Iterator[str]:
    if hosted.open and (hosted.state not in ("active", "idle", "replacing") or hosted.process != "ready"):
        yield f"its door is open although its process is {hosted.process} (F12)"
    if hosted.vote and (hosted.open or hosted.vote != hosted.promise.epoch):
        yield f"voted for {hosted.vote} with the door open or {hosted.promise.epoch} promised (P30, P32)"
    if hosted.process in ("snapshotting", "stopping") and hosted.open:
        yield "stopping with an open door (P30)"
    version = hosted.record.version
    # Who listens may find that it was rolled back (P62).
    if version.epoch > hosted.promise.epoch and version.writer == state.store and not state.listening:
        yield f"wrote epoch {version.epoch} with only {hosted.promise.epoch} promised (P5)"
    if hosted.waiters and hosted.state in ("active", "idle", "failed", "dropped"):
        yield f"{len(hosted.waiters)} clients wait for nothing (R38)"
    if hosted.state == "hibernating" and hosted.process == "none" and hosted.waiters and not hosted.wanted:
        yield f"{len(hosted.waiters)} clients wait, and no wake is under way (F51)"
    if hosted.state == "idle" and hosted.closing and hosted.open:
        yield "a sleep is being prepared behind an open door (P30)"
    incarnation = hosted.record.birth.incarnation
    if hosted.readers.told and hosted.held is None and hosted.process not in ("none", "reserving"):
        yield f"{len(hosted.readers.told)} workers may read its copy although its process is {hosted.process} (P34)"
    if hosted.held is not None and (hosted.process != "starting" or not hosted.readers.told):
        yield "a start is held back that nothing stands against (P34)"
    if hosted.state == hosted.record.phase == "hibernating" and not hosted.raft:
        peers = hosted.record.peers
        if state.config.peer not in peers[majority(len(peers)) :]:
            yield "its Raft port was given up, and other members may give up theirs (P42)"
    if hosted.awake != (incarnation in state.awake):
        yield f"counted as {'asleep' if hosted.awake else 'awake'} against max_databases, wrongly (F49)"
    if state.records.get(incarnation) not in (hosted.record, None):
        yield "its record is not the directory's"
