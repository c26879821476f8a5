"""A machine's operating system, as far as processes can tell: pids, bound ports, the disk, one clock. The law kept here is
that two processes never have one port: the system refuses the second bind, whoever holds the first (foreign processes too).
"""

from __future__ import annotations

from random import Random
from typing import Final, Literal

from attrs import Factory, define, frozen

from protocol.inputs import Cause
from sim.disk import Disk
from sim.laws import Violation
from sim.raft import Groups
from sim.schedule import Schedule

FOREIGN: Final = -1
"""The pid of everything that is not ours."""

Trap = Literal["http", "raft", "fail", "hang"]


@frozen
class Ambush:
    """What awaits the next start of an rqlited: one of its ports bound by a foreign process just before it would (and freed
    ``lasts`` µs later), a process that fails at once with ``cause``, or one that never comes up."""

    trap: Trap
    internal: str | None = None
    """Only a start of this database; None: of any."""
    cause: Cause = "crashed"
    lasts: int = 0


@define(eq=False)
class Host:
    """One machine without anything running on it yet."""

    schedule: Schedule
    chance: Random
    disk: Disk
    binary: bool = True
    """An rqlited can be executed."""
    heartbeat: int = 250_000
    bound: dict[int, int] = Factory(dict[int, int])
    """Port → pid."""
    ambushes: list[Ambush] = Factory(list[Ambush])
    pids: int = 100
    name: str = ""
    """What other machines know it by: the host of its Raft addresses."""
    groups: Groups = Factory(Groups)
    """Of the whole world."""

    def spawn(self) -> int:
        self.pids += 1
        return self.pids

    def bind(self, port: int, pid: int) -> bool:
        """Bind a port for a process; False when somebody has it."""
        return self.bound.setdefault(port, pid) == pid

    def release(self, pid: int) -> None:
        """A process is gone: its sockets are closed."""
        for port in [port for port, owner in self.bound.items() if owner == pid]:
            del self.bound[port]

    def steal(self, port: int, lasts: int) -> bool:
        """A foreign process binds a free port, for ``lasts`` µs (0: for ever)."""
        if port in self.bound:
            return False
        self.bound[port] = FOREIGN
        if lasts:
            self.schedule.after(lasts, self._give_back, port)
        return True

    def _give_back(self, port: int) -> None:
        if self.bound.get(port) == FOREIGN:
            del self.bound[port]

    def ambushed(self, internal: str) -> Ambush | None:
        """Take the ambush that awaits this start, if any."""
        for ambush in self.ambushes:
            if ambush.internal in (None, internal):
                self.ambushes.remove(ambush)
                return ambush
        return None


@frozen
class Full:
    """No free port in a range; ``raft``: in the one of Raft ports."""

    detail: str
    raft: bool


class Ports:
    """The node's own book of ports: which ticket holds which (R47). It dies with the node's process."""

    def __init__(self, host: Host, http: tuple[int, int], raft: tuple[int, int], chance: Random) -> None:
        """``http`` and ``raft``: first and last port of each range."""
        self._host = host
        self._ranges = (http, raft)
        self._chance = chance
        self.held: dict[int, tuple[int, int]] = {}
        """Ticket → (HTTP port, Raft port); 0: none."""
        self._taken: dict[int, int] = {}

    def reserve(self, ticket: int, http: int, raft: int) -> tuple[int, int] | Full:
        """Two ports for a ticket, the preferred ones if they can be bound; else which range is full, and nothing changes."""
        before = self.held.get(ticket, (0, 0))
        found: list[int] = []
        for preferred, mine, (first, last), name in zip(
            (http, raft), before, self._ranges, ("HTTP", "Raft"), strict=True
        ):
            port = self._pick(ticket, preferred, mine, first, last, found)
            if port is None:
                return Full(f"no free {name} port in {first}-{last}", name == "Raft")
            found.append(port)
        self._hold(ticket, found[0], found[1])
        return found[0], found[1]

    def _free(self, port: int, ticket: int) -> bool:
        return self._taken.get(port, ticket) == ticket and port not in self._host.bound

    def _pick(self, ticket: int, preferred: int, mine: int, first: int, last: int, other: list[int]) -> int | None:
        def free(port: int) -> bool:
            return port not in other and self._free(port, ticket)

        for port in (preferred, mine):
            if port and free(port):
                return port
        for _ in range(16):
            port = first + int(self._chance.random() * (last - first + 1))
            if free(port):
                return port
        return next((port for port in range(first, last + 1) if free(port)), None)

    def hold(self, ticket: int, raft: int) -> None:
        """Mark a sleeping database's Raft port as taken, without probing."""
        self._hold(ticket, self.held.get(ticket, (0, 0))[0], raft)

    def _hold(self, ticket: int, http: int, raft: int) -> None:
        self._drop(ticket)
        for port in (http, raft):
            if port and self._taken.get(port, ticket) != ticket:
                raise Violation("F84", f"port {port} is held by tickets {self._taken[port]} and {ticket}")
            if port:
                self._taken[port] = ticket
        if http and http == raft:
            raise Violation("F84", f"port {http} is both HTTP and Raft port of ticket {ticket}")
        self.held[ticket] = (http, raft)

    def _drop(self, ticket: int) -> None:
        for port in self.held.pop(ticket, (0, 0)):
            if port:
                del self._taken[port]

    def release(self, ticket: int, http: bool, raft: bool) -> None:
        """Give ports back; a ticket that holds none changes nothing (F83)."""
        if ticket in self.held:
            kept = self.held[ticket]
            self._hold(ticket, 0 if http else kept[0], 0 if raft else kept[1])
            if self.held[ticket] == (0, 0):
                del self.held[ticket]

    def owner(self, port: int) -> int | None:
        """The ticket that holds a port."""
        return self._taken.get(port)
