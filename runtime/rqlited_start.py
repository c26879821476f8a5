"""What one start of rqlited needs: the files before it, the flags, the environment. The laws kept here: without marker and
Raft state a directory never starts by itself (P54, F54); any ``peers.json`` that this start did not write is removed first,
since one left by a crash would be consumed by a much later start and make a second leader (P42, F55).

The flags follow facts measured on 8.26 to 10.x: the node id is always given, so that a new port is no new identity; HTTP
binds to loopback alone; step-down at shutdown is off, since a member stops only when all do; a node never removes itself.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal

from attrs import field, frozen, validators

from runtime.directories import Directories, Instance, write_whole
from runtime.rqlited_binary import Binary

JOIN_INTERVAL: Final = "200ms"
JOIN_ATTEMPTS: Final = 50
"""10 s in all; running out of attempts ends the process, so a joiner never waits for ever (P52)."""

_INHERITED: Final = ("PATH", "HOME", "TMPDIR", "LANG", "TZ")
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
    ``peers``: (node id, Raft address) pairs for a ``peers.json`` of this start, None for none. ``heartbeat``: the heartbeat
    timeout in seconds, 0 for the supervisor's."""

    name: str
    incarnation: str
    run: int
    node_id: str
    http_port: int
    raft_port: int
    host: str = "127.0.0.1"
    mode: Literal["found", "join", "restart"] = "restart"
    join: tuple[str, ...] = ()
    peers: tuple[tuple[str, str], ...] | None = None
    heartbeat: float = 0.0


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
        # A founder or joiner that failed before its first log entry comes here again, too: its remains hold nothing.
        directories.to_trash(place)
        directories.create(spec.name, spec.incarnation, spec.node_id, durable=False)
    _settle_peers(place, spec.peers)
    return place


def _settle_peers(place: Instance, peers: tuple[tuple[str, str], ...] | None) -> None:
    place.peers.unlink(missing_ok=True)
    if peers is None:
        return
    place.peers.parent.mkdir(exist_ok=True)
    # 10.x's fast restart trusts clean_snapshot, and a recovery must not: it rebuilds from snapshot and log instead.
    place.rqlite.joinpath("clean_snapshot").unlink(missing_ok=True)
    text = json.dumps([{"id": node_id, "address": address, "non_voter": False} for node_id, address in peers])
    write_whole(place.peers, text.encode())


def arguments(binary: Binary, spec: StartSpec, timers: Timers, directory: Path) -> list[str]:
    """The whole command line. The directory comes last: that is how an orphan without a record is recognised (F61)."""
    http, raft = _address(spec.host, spec.http_port), _address(spec.host, spec.raft_port)
    timeout = f"{max(1, round(timers.heartbeat * 1000))}ms"
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
    if spec.mode == "join":
        flags |= {"join": ",".join(spec.join), "join-interval": JOIN_INTERVAL, "join-attempts": str(JOIN_ATTEMPTS)}
    for flag, value in (("raft-shutdown-stepdown", "false"), ("auto-optimize-int", "0h")):
        if binary.has(flag):
            flags[flag] = value
    return [str(binary.path), *(f"-{flag}={value}" for flag, value in flags.items()), str(directory)]


def environment(extra: Mapping[str, str]) -> dict[str, str]:
    """The environment of an rqlited: the few inherited variables, and ``extra`` (GOMAXPROCS, GOMEMLIMIT)."""
    return {name: os.environ[name] for name in _INHERITED if name in os.environ} | dict(extra)


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
