"""Invariants of the world, checked while it runs. Laws that need only one node's state are ``protocol.invariants``; here are those
that need processes, ports, doors and durable rows beside it.

Checking everything after every event would cost a hundred times the event (facts: 48 µs against 0.33), so each law is
checked where it could break, on the database that was touched, and all of them on a sample and whenever the world is at rest.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, cast

from attrs import evolve

from protocol import digest, invariants
from protocol.effects import Door, Effects, Forget, Probe, SealedCopy, Snapshot, Start, Terminate, Trash, Write
from protocol.records import ApiKey, Record, Version, quarantined
from protocol.rows import EpochPromise, NamePromise
from sim import wire
from sim.laws import Violation

if TYPE_CHECKING:
    from sim.execute import Executor
    from sim.machine import Machine
    from sim.process import NodeProcess
    from sim.rqlite import Rqlited

OF_DATABASE: Final = frozenset((Start, Probe, Snapshot, Terminate, Trash, Door, Forget, SealedCopy))
"""Effects that name an incarnation: what their step touched."""
ASLEEP: Final = "hibernating"


class Checks:
    """All machines' invariants. Raises :class:`sim.laws.Violation` from within the event that broke one."""

    def __init__(self) -> None:
        self._promised: dict[tuple[str, str], int] = {}
        """(machine, incarnation) → the highest epoch ever made durable there."""
        self._named: dict[tuple[str, str], tuple[int, str]] = {}

        self._writers: dict[tuple[str, int, int], str] = {}
        """(incarnation, generation, epoch) → the store id that wrote records under it, anywhere."""
        self._versions: dict[tuple[str, Version], tuple[Record, set[str]]] = {}
        """What each version of a record says, and the machines that have ever stored it; ``members`` is a register of its own."""
        self._founded: set[str] = set()
        self._keys: dict[str, ApiKey] = {}
        """SHA-256 → how the key was born, anywhere."""
        self._revoked: set[tuple[str, str]] = set()
        """(machine, SHA-256): the revocation was ever durable there."""
        self._looks: Final[dict[str, tuple[type, Callable[[Machine, Any], None]]]] = {
            "promise": (EpochPromise, self._promise),
            "name": (NamePromise, self._name),
            "record": (Record, self._record),
            "key": (ApiKey, self._key),
        }
        """What a key begins with → the class of its row, and what is looked at once it is durable."""

    # After a step, and after its commit.

    def durable(self, machine: Machine, writes: tuple[Write, ...]) -> None:
        """Promises never go back. Only what became durable counts: a promise that a crash took within its commit was never
        told to anybody."""
        for write in writes:
            look = self._looks.get(write.key.partition("/")[0])
            if look is not None and write.value is not None:
                kind, check = look
                row = wire.decode_row(write.value)
                assert isinstance(row, kind)
                check(machine, row)

    def stepped(self, machine: Machine, wanted: Effects) -> None:
        """Nothing that a step touched is unsound."""
        node = machine.node
        assert node is not None
        for action in wanted.actions:
            if type(action) in OF_DATABASE:
                for violation in invariants.of_database(node.engine.state, cast("Any", action).incarnation):
                    raise Violation("invariant", violation)

    def _promise(self, machine: Machine, row: EpochPromise) -> None:
        key = (machine.name, row.incarnation)
        before = self._promised.get(key, -1)
        if row.epoch < before:
            raise Violation("P3", f"{machine.name} promised {before} and now {row.epoch} of {row.incarnation}")
        self._promised[key] = row.epoch

    def _name(self, machine: Machine, row: NamePromise) -> None:
        key = (machine.name, row.internal)
        before = self._named.get(key)
        if before is not None and row.attempt < before:
            raise Violation("P10", f"{machine.name} promised {row.internal} to {before} and now to {row.attempt}")
        self._named[key] = row.attempt

    def _record(self, machine: Machine, row: Record) -> None:
        """One writer for each epoch, whoever stores what it wrote: two would make versions that nothing orders."""
        version = row.version
        writer = self._writers.setdefault((row.incarnation, version.generation, version.epoch), version.writer)
        if writer != version.writer:
            raise Violation(
                "P5", f"epoch {version.epoch} of {row.incarnation} has two writers: {writer}, {version.writer}"
            )
        first, stored = self._versions.setdefault((row.incarnation, version), (row, set[str]()))
        stored.add(machine.name)
        if "quarantined" in (row.phase, first.phase):
            first = quarantined(first)  # a register of its own, as the members are (P15)
            row = quarantined(row)
        if row is not first and evolve(row, members=first.members, stamp=first.stamp) != first:
            raise Violation("P5", f"two records of {row.incarnation} have version {version}: {first}, {row}")

    def _key(self, machine: Machine, row: ApiKey) -> None:
        """A key stays what it was born as, wherever it is known, and no revocation comes undone."""
        unrevoked = evolve(row, revoked=False)
        born = self._keys.setdefault(row.digest, unrevoked)
        if born != unrevoked:
            raise Violation("P23", f"{machine.name} knows a key {row} that was born as {born}")
        if row.revoked:
            self._revoked.add((machine.name, row.digest))
        elif (machine.name, row.digest) in self._revoked:
            raise Violation("P23", f"the key {row.id} was revoked on {machine.name}, and is so no more")

    def wiped(self, machine: Machine) -> None:
        """What this machine promised is gone with its disk: P61 sees to it that the rest is enough. So is a record that it alone ever
        stored, unless the disk that takes the place of the former has it: nobody can tell it that its epoch was used (P62). Where one that
        was under way is stored after all, the two count as two."""
        self._promised = {key: epoch for key, epoch in self._promised.items() if key[0] != machine.name}
        self._named = {key: attempt for key, attempt in self._named.items() if key[0] != machine.name}
        self._revoked = {key for key in self._revoked if key[0] != machine.name}
        alone = {machine.name}
        for key in [key for key, (_, stored) in self._versions.items() if stored == alone]:
            kept = machine.disk.rows.get(f"record/{key[0]}")
            if kept is None or wire.decode_row(kept).version != key[1]:
                del self._versions[key]

    # Where processes begin and end.

    def starts(self, node: Executor, start: Start) -> None:
        """A start uses ports that this node has reserved, both for one ticket (F84), and follows an observed exit (P41) and the end of all
        readers (P34)."""
        if start.mode == "found":
            if start.incarnation in self._founded:
                raise Violation("P12", f"{node.machine.name} founds {start.internal} once more ({start.incarnation})")
            self._founded.add(start.incarnation)
        owner = node.ports.owner(start.http)
        if owner is None or owner != node.ports.owner(start.raft):
            raise Violation(
                "F84", f"{start.internal} starts on ports {start.http}, {start.raft}, which are not reserved"
            )
        readers = sum(worker.copies.reading(start.incarnation) for worker in node.workers.values() if worker.alive)
        if readers:
            raise Violation("P34", f"{start.internal} starts while its copy has {readers} readers")
        if start.incarnation in node.runs:
            raise Violation(
                "P41", f"{start.internal}: run {start.run} starts before the exit of its predecessor is seen"
            )

    def stops(self, machine: Machine, rqlited: Rqlited) -> None:
        """SIGTERM for sleep comes when no query of any worker is inside (P30)."""
        node = machine.node
        assert node is not None
        hosted = node.engine.state.hosted.get(rqlited.start.incarnation)
        if hosted is None or hosted.state != ASLEEP or hosted.record.phase == "creating":
            return
        inside = sum(worker.inside(rqlited.start.incarnation) for worker in node.hands.workers.values() if worker.alive)
        if inside:
            raise Violation("P30", f"{hosted.internal} is stopped with {inside} queries in flight")

    def passes(self, rqlited: Rqlited, incarnation: str) -> None:
        """A query reaches the rqlited of its own database, and none that was told to sleep."""
        if rqlited.start.incarnation != incarnation:
            raise Violation("R1", f"a query of {incarnation} reached the rqlited of {rqlited.start.internal}")
        if rqlited.sentenced == ASLEEP:
            raise Violation("P30", f"a query reached {rqlited.start.internal} after SIGTERM for its sleep")

    def slept(self, machine: Machine, internal: str) -> None:
        """A hibernating database holds no process and no HTTP port (R42)."""
        node = machine.node
        assert node is not None
        state = node.engine.state
        for incarnation in state.by_name.get(internal, ()):
            hosted = state.hosted.get(incarnation)
            if hosted is None or hosted.state != ASLEEP or hosted.process != "none":
                continue
            self._holds_nothing(machine, node, incarnation, hosted.ticket, internal)

    def _holds_nothing(self, machine: Machine, node: NodeProcess, incarnation: str, ticket: int, internal: str) -> None:
        directory = machine.disk.directory(incarnation)
        if directory is not None and directory.pid:
            raise Violation("R42", f"{internal} sleeps, and pid {directory.pid} runs on its directory")
        http = node.hands.ports.held.get(ticket, (0, 0))[0]
        if http:
            raise Violation("R42", f"{internal} sleeps, and its HTTP port {http} is still reserved")

    # On a sample, and at rest.

    def scan(self, machine: Machine) -> None:
        """Everything, for one machine whose node is up, if anything can have changed since the last scan: processes are started
        by steps alone, and what ends them puts nothing beside another."""
        node = machine.node
        if node is None or not node.alive or not node.booted or not node.stepped:
            return
        node.stepped = False
        for violation in invariants.violations(node.engine.state):
            raise Violation("invariant", f"{machine.name}: {violation}")
        directories = set[int]()
        for pid, rqlited in machine.processes.items():
            key = id(rqlited.directory)
            if key in directories:
                raise Violation("F45", f"two rqlited on {rqlited.start.internal}'s directory (pid {pid} is one)")
            directories.add(key)
        for hosted in node.engine.state.hosted.values():
            if hosted.process == "none" and hosted.incarnation in node.hands.runs:
                raise Violation("F61", f"{hosted.internal}: a process runs that the engine does not know of")

    def agreed(self, cluster: list[Machine]) -> None:
        """At rest all directories of a cluster are one (F20), and each name has one living incarnation (P10, P15)."""
        nodes = {one.name: one.node.engine.state for one in cluster if one.node is not None and one.node.alive}
        roots: dict[bytes, list[str]] = {}
        for name, state in nodes.items():
            roots.setdefault(digest.root(state), []).append(name)
            for internal, living in state.by_name.items():
                if sum(state.records[one].phase != "quarantined" for one in living) > 1:
                    raise Violation("P10", f"{name} knows {len(living)} living incarnations of {internal}: {living}")
        if len({tuple(sorted(state.keys.items(), key=lambda one: one[0])) for state in nodes.values()}) > 1:
            raise Violation("F87", f"{', '.join(nodes)} know other API keys at rest")
        if len(roots) > 1:
            raise Violation("F20", f"the directories of {' and '.join(map(' '.join, roots.values()))} differ at rest")

    def rest(self, machine: Machine, longest: int) -> None:
        """Nothing happens any more: every question was answered, nothing sleeps with a process."""
        self.scan(machine)
        node = machine.node
        if node is None or not node.alive:
            return
        now = machine.schedule.now
        for request, (_, asked_at) in node.hands.asks.items():
            if now - asked_at > longest:
                raise Violation(
                    "R38", f"{machine.name}: request {request} has waited {now - asked_at} µs for an answer"
                )
        keys = {key.sha256: not key.revoked for key in node.engine.state.keys.values()}
        for worker in machine.accepting:
            if worker.keys != keys:
                raise Violation("F87", f"{machine.name}: worker {worker.number} knows other API keys than its node")
        for hosted in node.engine.state.hosted.values():
            if hosted.state == ASLEEP and hosted.process == "none":
                self._holds_nothing(machine, node, hosted.incarnation, hosted.ticket, hosted.internal)
