"""F92 on real sockets: whatever a hostile peer does, with the cluster's secret or without it, the others are served meanwhile."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from runtime.transport import bounds
from tests.runtime.transport_world import SECRET, Station, beat, hostile, station, stations


@asynccontextmanager
async def a_pair(directory: Path) -> AsyncGenerator[tuple[Station, Station]]:
    async with stations(directory, 2) as (a, b):
        a.known = b.known = tuple(sorted((a.peer, b.peer)))

        async def echo(_sender: str, payload: bytes) -> bytes:
            return payload

        a.network.serve("echo", echo)
        await b.says(beat("formed"), a)
        yield a, b


async def served(a: Station, b: Station, word: str) -> None:
    """``a`` serves ``b`` in every way: direct, broadcast, request."""
    b.network.send(a.peer, beat(f"direct {word}"))
    await a.until(lambda: a.heard(f"direct {word}") == [b.peer])
    await b.says(beat(f"broadcast {word}"), a)
    assert await b.network.request(a.peer, "echo", word.encode(), 30) == word.encode()


async def newcomer(directory: Path, a: Station, *, known: bool) -> None:
    """Someone new connects to ``a`` meanwhile, and is heard."""
    c = station(directory, "newcomer", a)
    if known:
        a.known = tuple(sorted((*a.known, c.peer)))
    async with trio.open_nursery() as nursery:
        await c.start(nursery)
        await c.meets(a)
        c.network.send(a.peer, beat("new"))
        await a.until(lambda: a.heard("new") == [c.peer])
        await c.stop()


async def test_F92_without_the_secret_nobody_gets_past_the_handshake(tmp_path: Path) -> None:
    async with a_pair(tmp_path) as (a, b), hostile("outsider", a, b, bytes(32)) as says:
        assert (await says()).startswith("refused")
        assert a.network.counters["connections_refused"] >= 1
        await served(a, b, "x")
        assert a.network.connected() == {b.peer}


async def test_F92_with_another_clusters_secret_two_nodes_never_meet(tmp_path: Path) -> None:
    assert bytes(32) != SECRET
    async with a_pair(tmp_path) as (a, b), trio.open_nursery() as nursery:
        stranger = station(tmp_path, "stranger", a, secret=bytes(32))
        await stranger.start(nursery)
        await a.counts("connections_refused")
        assert stranger.network.connected() == frozenset()
        await served(a, b, "x")
        await stranger.stop()


@pytest.mark.parametrize("attack", ["silent", "noise"])
async def test_F92_connections_that_prove_nothing_lock_nobody_out(tmp_path: Path, attack: str) -> None:
    async with a_pair(tmp_path) as (a, b), hostile(attack, a, b) as says:
        assert await says() == "ready"
        await newcomer(tmp_path, a, known=False)
        await served(a, b, "x")


async def test_F92_garbage_on_every_protocol_ends_its_streams_and_nothing_else(tmp_path: Path) -> None:
    async with a_pair(tmp_path) as (a, b), hostile("garbage", a, b) as says:
        assert await says() == "ready"
        await served(a, b, "x")
        assert a.network.counters["direct_too_long"] >= 1
        assert a.network.counters["undecodable"] >= 1
        assert a.network.counters["gossip_unsigned"] + a.network.counters["gossip_failed"] >= 1
        assert a.network.counters["restarts"] == 0


async def test_F92_three_hundred_streams_of_one_peer_are_cut_to_a_few(tmp_path: Path) -> None:
    async with a_pair(tmp_path) as (a, b), hostile("streams", a, b) as says:
        assert await says() == "ready"
        await newcomer(tmp_path, a, known=False)
        await served(a, b, "x")
        assert a.network.counters["streams_refused"] >= 1


async def test_F92_two_hundred_and_fifty_connections_of_one_peer_leave_it_three(tmp_path: Path) -> None:
    async with a_pair(tmp_path) as (a, b), hostile("connections", a, b) as says:
        assert (await says()).startswith("ready")
        await newcomer(tmp_path, a, known=False)
        await served(a, b, "x")
        assert a.network.places <= bounds.CONNECTIONS_PER_PEER * 3


async def test_F92_a_crowd_of_unknown_peers_leaves_the_places_of_known_ones(tmp_path: Path) -> None:
    async with a_pair(tmp_path) as (a, b), hostile("crowd", a, b) as says:
        assert await says() == "ready"
        assert len(a.network.connected()) <= 50 // bounds.STRANGERS + 1
        await newcomer(tmp_path, a, known=True)
        await served(a, b, "x")


async def test_F92_a_flood_of_signed_broadcasts_is_cut_and_not_handed_on(tmp_path: Path) -> None:
    async with a_pair(tmp_path) as (a, b), hostile("flood", a, b) as says:
        flooder = (await says()).split()[1]
        await served(a, b, "during")
        await a.counts("floods")
        await a.loses(flooder)
        handed_on = sum(1 for one in b.inputs if getattr(one, "sender", "") == flooder)
        assert handed_on <= bounds.AUTHOR_BURST + bounds.AUTHOR_RATE * 60
        await served(a, b, "after")


async def test_F92_a_torrent_of_direct_messages_is_read_at_its_share(tmp_path: Path) -> None:
    async with a_pair(tmp_path) as (a, b), hostile("torrent", a, b) as says:
        assert await says() == "ready"
        await a.counts("direct_slowed")
        await served(a, b, "x")


async def test_F81_nobody_speaks_in_anothers_name(tmp_path: Path) -> None:
    async with a_pair(tmp_path) as (a, b), hostile("forger", a, b) as says:
        assert await says() == "ready"
        with trio.fail_after(60):
            while a.network.counters["gossip_unsigned"] < 2:  # noqa: ASYNC110 (nobody tells)
                await trio.sleep(0.05)
        assert not a.heard("forged")
        assert not a.heard("tampered")
        await served(a, b, "x")


async def test_F92_a_peer_that_reads_nothing_costs_its_own_messages_alone(tmp_path: Path) -> None:
    async with a_pair(tmp_path) as (a, b), hostile("deaf", a, b) as says:
        deaf = (await says()).split()[1]
        await a.until(lambda: deaf in a.met())
        for _ in range(bounds.OUTBOX + 50):
            a.network.send(deaf, beat("x" * 10_000))
        assert a.network.counters["unsent"] >= 50
        await served(a, b, "during")
        await a.counts("direct_hung")
        await served(a, b, "after")


async def test_F92_a_fault_of_libp2ps_own_costs_connections_and_not_the_node(tmp_path: Path) -> None:
    async def fault() -> None:
        raise ZeroDivisionError

    async with a_pair(tmp_path) as (a, b):
        a.network._session._host.network.manager.run_task(fault)
        await a.counts("restarts")
        a.inputs.clear()
        await a.until(lambda: b.peer in a.met())
        await served(a, b, "again")
