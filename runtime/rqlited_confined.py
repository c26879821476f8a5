"""What an rqlited may open: the second wall behind the vetting of statements. The law kept here (F85): whatever SQL reaches it, however it
got there, an rqlited writes nowhere but in its own directories, and reads no other database and no secret of its node.

Its own are ``rqlite/`` and ``tmp/`` of its incarnation; it reads its TLS identity, and runs its binary. Beside these it reads what a C library
and Go look at: libraries, time zones, names of hosts, authorities, /proc, /dev/urandom. It listens on its two ports and no other; it
may connect to any, since where the other members listen is known to Raft alone.
"""

from __future__ import annotations

from typing import Final, Literal

from attrs import frozen

from runtime import landlock
from runtime.directories import Instance
from runtime.landlock import DEVICE, OWN, READ, RUN, Confinement, all_with
from runtime.rqlited_binary import Binary
from runtime.rqlited_start import StartSpec

Wanted = Literal["auto", "require", "off"]
TRY_S: Final = 10.0

_SYSTEM: Final = (
    *all_with(RUN, ("/lib", "/lib64", "/usr/lib", "/usr/lib64")),
    *all_with(
        READ,
        (
            "/proc/sys/net/core/somaxconn",
            "/sys/kernel/mm/transparent_hugepage",
            "/dev/urandom",
            "/dev/random",
            "/etc/hosts",
            "/etc/ld.so.cache",
            "/etc/localtime",
            "/etc/nsswitch.conf",
            "/etc/pki/tls/certs",
            "/etc/resolv.conf",
            "/etc/ssl/certs",
            "/usr/share/zoneinfo",
        ),
    ),
    *all_with(DEVICE, ("/dev/null",)),
)


class CannotConfine(Exception):
    """``rqlite.confine`` is ``require``, and it cannot be had. One line."""


@frozen
class Walls:
    """Whether rqlited is confined, and how that is said to an operator."""

    confine: bool
    said: str


def settle(wanted: Wanted, binary: Binary) -> Walls:
    """Raises :class:`CannotConfine`. The binary is tried once: one that needs libraries from elsewhere would else fail at each start."""
    if wanted == "off":
        return Walls(False, "not confined: rqlite.confine is off")
    version = landlock.abi()
    if version < landlock.LEAST:
        cause = f"this kernel has no Landlock (ABI {landlock.LEAST}, Linux 5.19; lsm= can switch it off)"
    elif not landlock.runs(Confinement(((binary.path, RUN), *_SYSTEM)), [str(binary.path), "-version"], TRY_S):
        cause = f"{binary.path} does not run confined; it may need files outside /lib and /usr/lib"
    else:
        return Walls(True, f"confined to its directories (Landlock ABI {version})")
    if wanted == "require":
        raise CannotConfine(f"rqlite.confine is require, but {cause}; write auto to run rqlited unconfined then")
    return Walls(False, f"not confined: {cause}")


def confinement(binary: Binary, place: Instance, spec: StartSpec) -> Confinement:
    """Of one start."""
    own = ((place.rqlite, OWN), (place.temporary, OWN), (place.tls, READ), (binary.path, RUN))
    return Confinement((*own, *_SYSTEM), (spec.http_port, spec.raft_port))
