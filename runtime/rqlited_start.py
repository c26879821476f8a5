"""What one start of rqlited needs: the files before it, the flags, the environment. The laws kept here: without marker and
Raft state a directory never starts by itself (P54, F54); any ``peers.json`` that this start did not write is removed first,
since one left by a crash would be consumed by a much later start and make a second leader (P42, F55); the Raft port speaks
mutual TLS under the database's own identity, whatever the caller wants.

The flags follow facts measured on 8.26 to 10.x: the node id is always given, so that a new port is no new identity; HTTP
binds to loopback alone; step-down at shutdown is off, since a member stops only when all do; a node never removes itself.
The command line names the identity's file and holds nothing of what is in it.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal

from attrs import field, frozen, validators

from runtime import database_tls
from runtime.database_keys import Fetch, KeyMissing, obtain
from runtime.database_tls import IdentityUnfit
from runtime.directories import Directories, Instance, write_whole
from runtime.rqlited_binary import Binary
from runtime.rqlited_snapshots import mend

LOOPBACK: Final = "127.0.0.1"
"""Where rqlited's HTTP binds, whatever host its Raft port is advertised at: only this node talks to it."""
JOIN_INTERVAL: Final = 0.05
"""Seconds between attempts: measured, 200 ms cost a creation about 80 ms, 20 ms gained nothing more."""
JOIN_WITHIN: Final = 10.0
"""Seconds of a start that joins, the wait for the TLS identity included: a joiner never tries for ever (P52)."""
KEY_WITHIN: Final = 5.0
"""Seconds in which another member has to give the TLS identity: half of what a joiner has in all."""
QUORUM_WITHIN: Final = 3.0
"""Seconds in which a quorum of the others has to listen, before a changed address is told to them."""

_INHERITED: Final = ("PATH", "HOME", "LANG", "TZ")
"""rqlited gets these of our environment and no more: secrets of the node are none of its business."""


class DataMissing(Exception):
    """A restart without its marker or Raft state: it must join or be founded anew, never start as it is (P54)."""


@frozen
class Timers:
    """Raft's timers in seconds, for the whole life of a process. The election timeout equals the heartbeat timeout, and the
    leader's lease too: rqlite demands election ≥ heartbeat ≥ lease, all ≥ 5 ms."""

    heartbeat: float = field(default=0.25, validator=[validators.ge(0.005), validators.le(60.0)])


@frozen
class StartSpec:
    """One start. ``name``: internal name. ``run``: the caller's number for this run. ``mode``: ``found`` makes the directory
    and founds a Raft group, ``join`` makes it and joins ``join`` (Raft addresses), ``restart`` uses what is there.
    ``raft_host``: the IP address that the Raft port binds to and is advertised at. ``join`` on a restart: tell these members a
    changed address, under the same node id (P42). ``peers``: (node id, Raft address) pairs for a ``peers.json`` of this start,
    None for none. ``sources``: peers that may have the TLS identity, in the order to ask them. ``heartbeat``: the
    heartbeat timeout in seconds, 0 for the supervisor's."""

    name: str
    incarnation: str
    run: int
    node_id: str
    http_port: int
    raft_port: int
    raft_host: str = LOOPBACK
    mode: Literal["found", "join", "restart"] = "restart"
    join: tuple[str, ...] = ()
    peers: tuple[tuple[str, str], ...] | None = None
    sources: tuple[str, ...] = ()
    heartbeat: float = 0.0

    @property
    def raft_address(self) -> str:
        return address(self.raft_host, self.raft_port)

    @property
    def makes_identity(self) -> bool:
        """The founder makes the TLS identity, once. A lone replica that lost it makes another: nobody else has to know it. If
        there were others, unknown here, they would not know this one: it would be shut out, and never speak for them."""
        return self.mode == "found" or (self.mode == "restart" and not self.sources)


def prepare(directories: Directories, spec: StartSpec) -> Instance:
    """Make the files ready for this start. Raises :class:`DataMissing`, OSError (disk), ValueError (names). What a ``found``
    or ``join`` finds that is not this very copy goes to the trash, it is never deleted or started. The marker still
    owes its :func:`runtime.directories.make_durable`."""
    place = directories.instance(spec.name, spec.incarnation)
    if not directories.intact(place, spec.node_id):
        if spec.mode == "restart":
            raise DataMissing(
                f"{place.path} has no intact marker and Raft state of {spec.node_id}: it does not start by itself"
            )
        # A founder or joiner that failed before its first log entry comes here again, too: its remains hold nothing but the
        # identity, which joiners may have by now.
        identity = identity_of(place)
        directories.to_trash(place)
        directories.create(spec.name, spec.incarnation, spec.node_id)
        if identity is not None:
            write_whole(place.tls, identity, private=True)
    mend(place)
    _settle_peers(place, spec.peers)
    if place.temporary.exists():
        shutil.rmtree(place.temporary)
    place.temporary.mkdir(mode=0o700)
    return place


async def identify(place: Instance, spec: StartSpec, fetch: Fetch | None) -> bool:
    """See to the TLS identity of this start; gives whether it had to be written. Raises OSError (disk) and :class:`KeyMissing`.
    ``fetch``: asks another member; None: this node knows no other."""
    if identity_of(place) is not None:
        return False
    if spec.makes_identity:
        identity = database_tls.mint(spec.incarnation)
    elif fetch is None:
        raise KeyMissing(f"the TLS identity of {spec.incarnation} is not here, and this node knows no other to ask")
    else:
        identity = await obtain(fetch, spec.sources, spec.incarnation, KEY_WITHIN)
    write_whole(place.tls, identity, private=True)
    return True


def identity_of(place: Instance) -> bytes | None:
    """The TLS identity in a directory; None when there is none that is fit, which is then as good as lost. Raises OSError
    (disk)."""
    try:
        identity = place.tls.read_bytes()
        database_tls.check(identity, place.incarnation)
    except (FileNotFoundError, NotADirectoryError, IdentityUnfit):
        return None
    return identity


def _settle_peers(place: Instance, peers: tuple[tuple[str, str], ...] | None) -> None:
    place.peers.unlink(missing_ok=True)
    if peers is None:
        return
    place.peers.parent.mkdir(exist_ok=True)
    # 10.x's fast restart trusts clean_snapshot, and a recovery must not: it rebuilds from snapshot and log instead.
    place.rqlite.joinpath("clean_snapshot").unlink(missing_ok=True)
    text = json.dumps([{"id": node_id, "address": address, "non_voter": False} for node_id, address in peers])
    write_whole(place.peers, text.encode())


def arguments(
    binary: Binary,
    spec: StartSpec,
    timers: Timers,
    directory: Path,
    identity: Path | None,
    join_within: float = JOIN_WITHIN,
) -> list[str]:
    """The whole command line. ``identity``: the file with the TLS identity; None, without TLS, is for the raw floor of the
    benchmarks. ``join_within``: seconds. The directory comes last: that is how an orphan without a record is
    recognised (F61)."""
    http, raft = address(LOOPBACK, spec.http_port), spec.raft_address
    timeout = _duration(timers.heartbeat)
    flags = {
        "node-id": spec.node_id,
        "http-addr": http,
        "http-adv-addr": http,
        "raft-addr": raft,
        "raft-adv-addr": raft,
        binary.heartbeat_flag: timeout,
        "raft-election-timeout": timeout,
        "raft-leader-lease-timeout": timeout,
    }
    if identity is not None:
        flags |= dict.fromkeys(("node-cert", "node-key", "node-ca-cert"), str(identity))
        name = database_tls.server_name(spec.incarnation)
        flags |= {"node-verify-client": "true", "node-verify-server-name": name}
    if spec.join:
        attempts = max(1, round(join_within / JOIN_INTERVAL))
        flags |= {
            "join": ",".join(spec.join),
            "join-interval": _duration(JOIN_INTERVAL),
            "join-attempts": str(attempts),
        }
    for flag, value in (("raft-shutdown-stepdown", "false"), ("auto-optimize-int", "0h")):
        if binary.has(flag):
            flags[flag] = value
    return [str(binary.path), *(f"-{flag}={value}" for flag, value in flags.items()), str(directory)]


def _duration(seconds: float) -> str:
    return f"{max(1, round(seconds * 1000))}ms"


def environment(extra: Mapping[str, str], temporary: Path | None = None) -> dict[str, str]:
    """The environment of an rqlited: the few inherited variables, ``extra`` (GOMAXPROCS, GOMEMLIMIT), and where its temporary files go,
    which hold rows."""
    inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    where = {} if temporary is None else dict.fromkeys(("TMPDIR", "SQLITE_TMPDIR"), str(temporary))
    return inherited | where | dict(extra)


def address(host: str, port: int) -> str:
    """As Go writes it: an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
