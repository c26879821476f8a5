"""``python -m runtime.node``: a node, from its command line to its exit code. Law: whatever keeps a node from starting is one
line on standard error that names the cause and what to do, and a non-zero exit, before anything was touched that it would
have to leave behind (R13, R61). A cluster is founded by an explicit act alone (P60).

Exit codes: 0 stopped as asked; 1 the node had to end (its log says why); 2 it did not start.
"""

from __future__ import annotations

import argparse
import gc
import sqlite3
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, cast

import structlog
import trio

from protocol.chart import TABLE, LibraryChart
from protocol.codec import CodecError
from runtime import identity, life, logs, rqlited_confined
from runtime.assembly import Means
from runtime.directories import Directories, DirectoryUnusable
from runtime.execute import Halted
from runtime.gateway.bind import GatewayFailed
from runtime.identity import IdentityUnusable
from runtime.ports import can_bind
from runtime.rqlited_binary import RqlitedMissing, find_binary
from runtime.rqlited_confined import CannotConfine
from runtime.settings import Address, Settings, SettingsError, load
from runtime.store import FILE, DirectoryLock, Store, StoreUnusable
from runtime.transport.addresses import ListenTaken, settle

CLUSTER: Final = "cluster"
PEER: Final = "peer"
JOINED: Final = "joined"
"""Facts of the store: the cluster's id, the peer that the store belongs to, and (any value) that it joined instead of founding."""

log = structlog.stdlib.get_logger("node")


class NotFounded(Exception):
    """There is no cluster here, or one already: founding is explicit (P60). One line."""


_WILL_NOT_START: Final = (
    SettingsError,
    RqlitedMissing,
    CannotConfine,
    StoreUnusable,
    IdentityUnusable,
    DirectoryUnusable,
    GatewayFailed,
    ListenTaken,
    NotFounded,
    life.OrphanUnstoppable,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the node; gives the exit code."""
    given = _parser().parse_args(arguments)
    try:
        settings = load(given.config, given.set, files=True)
        if given.check:
            sys.stdout.write("torpor: the configuration is valid\n")
            return 0
        return _run(settings, found=given.found, library=given.engine == "library")
    except _WILL_NOT_START as refusal:
        return _refuse(refusal)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m runtime.node", description="Run a Torpor node.")
    parser.add_argument("--config", type=Path, metavar="FILE", help="settings; without one, the defaults")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="over the file's value")
    parser.add_argument("--found", action="store_true", help="found a new cluster in an empty data directory, once")
    parser.add_argument("--check", action="store_true", help="only validate the settings")
    parser.add_argument(
        "--engine",
        choices=("table", "library"),
        default="table",
        help="what steps the lifecycle (library: the slow reference)",
    )
    return parser


def _run(settings: Settings, *, found: bool, library: bool) -> int:
    binary = find_binary(str(settings.rqlite.binary or ""))
    walls = rqlited_confined.settle(settings.rqlite.confine, binary)
    directories = Directories(settings.node.data_dir)
    new = not directories.data_dir.joinpath(FILE).exists()
    if new and not found and not settings.discovery.bootstrap_peers:
        raise NotFounded(
            f"no cluster in {directories.data_dir}, and discovery.bootstrap_peers names no node of one: run once with --found to "
            "found a new cluster, or set node.data_dir to where its data is"
        )
    # Looked at before founding: else the next try would find a founded cluster and refuse --found.
    listen = settle(settings.node.listen_addresses) if new else ()
    if new:
        for name in ("listen", "internal_listen"):
            address: Address = getattr(settings.gateway, name)
            if address.port and not can_bind(*address):
                raise GatewayFailed(
                    f"the gateway cannot listen on {address}: the port is taken; stop its user, or set gateway.{name}"
                )
    lock = DirectoryLock(directories.data_dir)
    # After the lock, which says plainer than a taken port that the node runs already.
    listen = listen or settle(settings.node.listen_addresses)
    directories.prepare()
    if found:
        found_cluster(directories.data_dir)
    elif settings.discovery.bootstrap_peers:
        join_cluster(directories.data_dir, settings.security.cluster_secret_file)
    with Store(directories.data_dir) as store:
        facts = store.facts()
        if not facts:
            raise NotFounded(f"the founding in {directories.data_dir} was cut off half way; run once more with --found")
        who = identity.load(directories.data_dir)
        cluster = _cluster(store, facts[CLUSTER], who.secret)
        if facts.get(PEER) != who.peer:
            raise StoreUnusable(
                f"{store.path} belongs to peer {facts.get(PEER) or 'nobody'}, the key here to {who.peer}; "
                "restore the identity/ directory that belongs to this store"
            )
        logs.configure(settings.logging, who.peer)
        chart = LibraryChart() if library else TABLE
        try:
            means = Means(settings, who, cluster, JOINED in facts, listen, store, binary, directories, walls, chart)
            trio.run(life.live, means)
        except Halted as halted:
            return _refuse(halted, 1)
        except BaseExceptionGroup as group:
            return _ended(group)
    lock.release()
    return 0


def found_cluster(data_dir: Path) -> None:
    """Found a cluster in a locked, empty data directory: keys first, then one transaction that makes it so (P60). Raises
    :class:`NotFounded` when there is one already."""
    with Store(data_dir, create=True) as store:
        cluster = store.facts().get(CLUSTER)
        if cluster is not None:
            raise NotFounded(
                f"cluster {cluster} was founded in {data_dir} already; start without --found, "
                "or give a new cluster an empty node.data_dir"
            )
        identity.mint(data_dir)
        who = identity.load(data_dir)
        store.found({CLUSTER: identity.cluster_id(who.secret), PEER: who.peer})


def join_cluster(data_dir: Path, secret_file: Path | None) -> None:
    """Make a locked, empty data directory that of a node of the cluster whose secret this is; one that has a store already stays
    as it is. The node belongs to the cluster from the first heartbeat that it hears (P61)."""
    if data_dir.joinpath(FILE).exists():
        with Store(data_dir) as store:
            if store.facts():
                return
    identity.adopt(data_dir, secret_file)
    who = identity.load(data_dir)
    with Store(data_dir, create=True) as store:
        store.found({CLUSTER: identity.cluster_id(who.secret), PEER: who.peer, JOINED: "yes"})


def _cluster(store: Store, stored: str, secret: bytes) -> str:
    """The cluster's id. Raises :class:`NotFounded` when the secret is another cluster's: ids never merge (P60)."""
    cluster = identity.cluster_id(secret)
    if stored != cluster:
        raise NotFounded(
            f"{store.path} belongs to cluster {stored}, the secret in {identity.DIRECTORY}/{identity.SECRET} to {cluster}; "
            "restore the secret that belongs to this store"
        )
    return cluster


def _ended(group: BaseExceptionGroup[BaseException]) -> int:
    """A fault ended the node. One that the operator can mend is one line; ours go to the log with their traceback."""
    leaves = list(_leaves(group))
    for leaf in leaves:
        if isinstance(leaf, _WILL_NOT_START):
            return _refuse(leaf)
    for leaf in leaves:
        if isinstance(leaf, sqlite3.Error):
            return _refuse(
                StoreUnusable(f"the store cannot be written ({leaf}), so nothing may be done: see the disk"), 1
            )
        if isinstance(leaf.__cause__, CodecError):
            text = f"the store holds a row that cannot be read ({leaf.__cause__}); restore it from a copy"
            return _refuse(StoreUnusable(text))
        if isinstance(leaf, KeyboardInterrupt):
            return 130
    log.critical("node failed", exc_info=group)
    return _refuse(leaves[0], 1)


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for each in cast("BaseExceptionGroup[BaseException]", error).exceptions:
            yield from _leaves(each)
    else:
        yield error


def _refuse(error: BaseException, code: int = 2) -> int:
    text = " ".join(str(error).split()) or type(error).__name__
    sys.stderr.write(f"torpor: {text}\n")
    return code


if __name__ == "__main__":
    code = main()
    gc.freeze()  # else the interpreter's end goes through all that libp2p brought: half a second and more
    sys.exit(code)
