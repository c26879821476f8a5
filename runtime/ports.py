"""Ports, at random in their ranges and probed by binding (R47). The laws kept here: no two owners share a port and HTTP
and Raft never get the same one, even where the ranges meet (F84); a release by one who does not own a port changes
nothing (F83); a Raft port stays with its sleeping database until the engine gives it up (P42).

A probe cannot hold a port until rqlited binds it; who loses that race sees the exit cause ``port_taken`` and asks again.
"""

from __future__ import annotations

import errno
import random
import socket
from typing import Final

from attrs import frozen

Range = tuple[int, int]
"""First and last port, both included."""

_RANDOM_TRIES: Final = 16
"""Random ports tried before all free ones are scanned in order: enough that a range half full is hardly ever scanned."""


class PortsExhausted(Exception):
    """No free port is left in a range. The text names the range and what to do (R61). ``raft``: the range of Raft ports."""

    def __init__(self, text: str, raft: bool) -> None:
        super().__init__(text)
        self.raft = raft


@frozen
class PortUse:
    """For metrics: ports of each range, and how many of them have an owner."""

    http_total: int
    http_used: int
    raft_total: int
    raft_used: int


def can_bind(host: str, port: int) -> bool:
    """Whether a server could listen there now. SO_REUSEADDR as Go's listener sets it: a connection in TIME_WAIT does not
    refuse the port, a living listener on this address or on the wildcard does."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno in (errno.EADDRINUSE, errno.EACCES):
                return False
            raise
        return True


class Ports:
    """Who owns which port on this node. Owners are numbers that the caller chooses (the engine's tickets)."""

    def __init__(
        self, http_range: Range, raft_range: Range, raft_host: str = "127.0.0.1", rng: random.Random | None = None
    ) -> None:
        """``raft_host``: the IP address at which Raft ports are bound; HTTP ports are bound on loopback."""
        for first, last in (http_range, raft_range):
            if not 0 < first <= last < 65536:
                raise ValueError(f"{first}-{last} is no range of ports")
        self._ranges: dict[str, Range] = {"HTTP": http_range, "Raft": raft_range}
        self._hosts = {"HTTP": "127.0.0.1", "Raft": raft_host}
        self._random = rng or random.SystemRandom()
        self._owned: dict[str, dict[int, int]] = {"HTTP": {}, "Raft": {}}  # kind -> owner -> port
        self._owner: dict[int, int] = {}  # port -> owner: one book for both kinds, so that no port has two uses

    def reserve(self, owner: int, http: int = 0, raft: int = 0) -> tuple[int, int]:
        """An HTTP and a Raft port for ``owner``, the preferred ones (0: those it holds already, if any) when they can be
        bound, else others. Ports that the owner held and is not given again are free afterwards.
        Raises :class:`PortsExhausted`, and then nothing has changed."""
        before = {kind: owned.get(owner, 0) for kind, owned in self._owned.items()}
        chosen_http = self._choose("HTTP", owner, http or before["HTTP"])
        chosen_raft = self._choose("Raft", owner, raft or before["Raft"], never=chosen_http)
        for kind, port in (("HTTP", chosen_http), ("Raft", chosen_raft)):
            self._give_back(kind, owner)
            self._owned[kind][owner] = port
        self._owner[chosen_http] = owner
        self._owner[chosen_raft] = owner
        return chosen_http, chosen_raft

    def hold(self, owner: int, raft: int) -> None:
        """Mark a Raft port as that of a sleeping database, without probing: nothing listens there, and nothing else of ours
        may. Raises ValueError when another owner has it, which is a fault of the caller's records."""
        if self._owner.get(raft, owner) != owner:
            raise ValueError(f"Raft port {raft} belongs to another database")
        self._give_back("Raft", owner)
        self._owned["Raft"][owner] = raft
        self._owner[raft] = owner

    def release(self, owner: int, http: bool = True, raft: bool = True) -> None:
        """Give back what ``owner`` holds; nothing of anyone else's (F83)."""
        if http:
            self._give_back("HTTP", owner)
        if raft:
            self._give_back("Raft", owner)

    def held(self, owner: int) -> tuple[int, int]:
        """The HTTP and the Raft port of ``owner``, 0 where it has none."""
        return self._owned["HTTP"].get(owner, 0), self._owned["Raft"].get(owner, 0)

    def snapshot(self) -> PortUse:
        def size(kind: str) -> int:
            first, last = self._ranges[kind]
            return last - first + 1

        return PortUse(size("HTTP"), len(self._owned["HTTP"]), size("Raft"), len(self._owned["Raft"]))

    def _give_back(self, kind: str, owner: int) -> None:
        port = self._owned[kind].pop(owner, 0)
        self._owner.pop(port, None)

    def _choose(self, kind: str, owner: int, preferred: int, never: int = 0) -> int:
        first, last = self._ranges[kind]

        def free(port: int) -> bool:
            # A port is free for its owner again, but only in the use that it had: this keeps HTTP and Raft apart (F84).
            if port == never or (port in self._owner and self._owned[kind].get(owner) != port):
                return False
            return can_bind(self._hosts[kind], port)

        if preferred and free(preferred):
            return preferred
        for _ in range(_RANDOM_TRIES):
            port = self._random.randint(first, last)
            if free(port):
                return port
        start = self._random.randint(first, last)
        for port in (*range(start, last + 1), *range(first, start)):
            if free(port):
                return port
        raise PortsExhausted(
            f"no free {kind} port in {first}-{last}: widen database.port_range_{kind.lower()}_start/end, or drop databases",
            raft=kind == "Raft",
        )
