"""Nodes hear each other over real libp2p: each message with the name of who said it, however they found each other."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from runtime.transport import bounds
from runtime.transport.addresses import ListenTaken
from runtime.transport.network import PeerRefused, PeerUnreachable
from tests.runtime.transport_world import Station, beat, station, stations


async def test_R7_F81_messages_go_both_ways_in_order_and_name_their_speaker(tmp_path: Path) -> None:
    async with stations(tmp_path, 2) as (a, b):
        for number in range(500):  # a burst that libp2p's own queues of 32 would lose
            a.network.send(b.peer, beat(f"to b {number}"))
            b.network.send(a.peer, beat(f"to a {number}"))
        await b.until(lambda: b.heard("to b 499"))
        await a.until(lambda: a.heard("to a 499"))
        said = [one.message.cluster for one in b.inputs if hasattr(one, "message")]
        assert [word for word in said if word.startswith("to b")] == [f"to b {number}" for number in range(500)]
        assert {one.sender for one in a.inputs if hasattr(one, "sender")} == {b.peer}


async def test_R7_a_broadcast_burst_reaches_everyone_before_what_was_sent_after_it(tmp_path: Path) -> None:
    async with stations(tmp_path, 3) as (a, b, c):
        await b.says(beat("formed"), a, c)  # b and c know only a
        await a.says(beat("formed too"), b, c)
        for number in range(200):
            b.network.broadcast(beat(f"burst {number}"))
        for one in (a, c):
            await one.until(lambda one=one: all(one.heard(f"burst {number}") for number in range(200)))
            assert {sender for number in range(200) for sender in one.heard(f"burst {number}")} == {b.peer}
        assert not b.heard("burst 0")
        b.network.broadcast(beat("asked by all"))
        b.network.send(a.peer, beat("answered by one"))
        await a.until(lambda: a.heard("answered by one"))
        assert a.heard("asked by all")


async def test_R12_who_knows_one_peer_hears_all_and_dials_them(tmp_path: Path) -> None:
    a = station(tmp_path, "a")
    b = station(tmp_path, "b", a)
    c = station(tmp_path, "c", b)  # never told of a
    async with trio.open_nursery() as nursery:
        for one in (a, b, c):
            await one.start(nursery)
        await c.meets(b)
        await a.says(beat("here", a.addresses), c)  # handed on by b, believed for a's signature
        await c.meets(a)
        await b.stop()
        a.network.send(c.peer, beat("without b"))
        await c.until(lambda: c.heard("without b"))
        # What was learned outlives the process: c comes back without any bootstrap peer.
        await c.stop()
        again = Station(c.who, c.listen, c.directory)
        await again.start(nursery)
        await again.meets(a)
        nursery.cancel_scope.cancel()


async def test_R12_a_bootstrap_peer_that_comes_late_is_found(tmp_path: Path) -> None:
    a = station(tmp_path, "a")
    b = station(tmp_path, "b", a)
    async with trio.open_nursery() as nursery:
        await b.start(nursery)
        b.network.send(a.peer, beat("waits"))
        await trio.sleep(2.5)  # two dials fail meanwhile; libp2p itself would not dial again for a minute
        await a.start(nursery)
        await b.meets(a)
        await a.meets(b)
        nursery.cancel_scope.cancel()


async def test_a_peer_that_went_away_and_returned_is_spoken_to_again(tmp_path: Path) -> None:
    async with stations(tmp_path, 2) as (a, b), trio.open_nursery() as nursery:
        await b.stop()
        await a.loses(b.peer)
        again = Station(b.who, b.listen, b.directory, b.bootstrap)
        await again.start(nursery)
        await again.meets(a)
        a.network.send(again.peer, beat("again"))
        await again.until(lambda: again.heard("again"))
        await again.says(beat("broadcast again"), a)  # with a counter that only grows, these are no duplicates
        await again.stop()


async def test_a_port_that_another_node_has_is_refused_though_libp2p_would_share_it(tmp_path: Path) -> None:
    async with stations(tmp_path, 1) as (a,):
        other = station(tmp_path, "other")
        other.listen = a.listen
        with pytest.RaisesGroup(ListenTaken, flatten_subgroups=True):
            async with trio.open_nursery() as nursery:
                await other.start(nursery)
                nursery.cancel_scope.cancel()


async def test_a_request_is_answered_refused_or_unreachable(tmp_path: Path) -> None:
    async with stations(tmp_path, 2) as (a, b):

        async def turn(sender: str, payload: bytes) -> bytes:
            assert sender == b.peer
            return payload[::-1]

        async def refuse(_sender: str, _payload: bytes) -> bytes:
            raise PeerRefused("not today")

        async def fail(_sender: str, _payload: bytes) -> bytes:
            raise ZeroDivisionError

        async def hang(_sender: str, _payload: bytes) -> bytes:
            await trio.sleep_forever()
            raise AssertionError

        for kind, handler in (("turn", turn), ("refuse", refuse), ("fail", fail), ("hang", hang)):
            a.network.serve(kind, handler)
        assert await b.network.request(a.peer, "turn", b"abc", 20) == b"cba"
        whole = b"x" * (bounds.REQUEST_BYTES - 1) + b"y"
        assert await b.network.request(a.peer, "turn", whole, 20) == whole[::-1]
        with pytest.raises(PeerRefused, match="not today"):
            await b.network.request(a.peer, "refuse", b"", 20)
        with pytest.raises(PeerRefused, match="not served"):
            await b.network.request(a.peer, "what?", b"", 20)
        with pytest.raises(PeerRefused, match="failed there"):
            await b.network.request(a.peer, "fail", b"", 20)
        with pytest.raises(PeerUnreachable, match="within"):
            await b.network.request(a.peer, "hang", b"", 0.2)
        with pytest.raises(PeerUnreachable):
            await b.network.request("12D3KooWnobody", "turn", b"", 0.2)


async def test_F92_what_the_engine_cannot_take_is_dropped_and_counted(tmp_path: Path) -> None:
    async with stations(tmp_path, 2) as (a, b):
        b.full = True
        a.network.send(b.peer, beat("lost"))
        await b.counts("engine_busy")
        b.full = False
        a.network.send(b.peer, beat("taken"))
        await b.until(lambda: b.heard("taken"))
        assert not b.heard("lost")
