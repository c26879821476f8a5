"""The parts of the transport that need no network: who is let in, how much of each, what is believed, what waits."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import trio

from runtime.rates import Rates
from runtime.transport import bounds
from runtime.transport.addresses import ListenTaken, PeerAddress, advertised, advertised_host, dialable, parse, settle
from runtime.transport.admission import Pending, Places, Refused
from runtime.transport.bans import Bans
from runtime.transport.book import AddressBook
from runtime.transport.framing import HEAD, Frames, FrameTooLong, framed
from runtime.transport.outbox import Outbox
from tests.runtime.transport_world import beat

ME = "12D3KooW" + "m" * 44
PEER = "12D3KooW" + "p" * 44
OTHER = "12D3KooW" + "q" * 44


def test_F92_a_bucket_gives_its_burst_then_its_rate_and_each_peer_has_its_own() -> None:
    rates = Rates[str](10.0, 5.0, bounds.PEERS)
    assert [rates.take("a", 0.0) for _ in range(6)] == [True] * 5 + [False]
    assert rates.take("b", 0.0)
    assert rates.take("a", 0.1)
    assert not rates.take("a", 0.1)
    assert [rates.owed("c", 0.0) for _ in range(7)] == [0, 0, 0, 0, 0, pytest.approx(0.1), pytest.approx(0.2)]
    for number in range(bounds.PEERS):
        rates.take(f"peer {number}", 1.0)
    assert len(rates._buckets) == bounds.PEERS


def test_F92_a_flood_is_banned_for_longer_each_time_and_a_slow_excess_is_not() -> None:
    bans = Bans()
    assert not any(bans.refused("slow", number * bounds.BAN / bounds.FLOOD * 1.1) for number in range(3 * bounds.FLOOD))
    now = 0.0
    for term in (bounds.BAN, 2 * bounds.BAN):
        assert [bans.refused("a", now) for _ in range(bounds.FLOOD + 1)] == [False] * bounds.FLOOD + [True]
        assert bans.banned("a", now + term - 0.1)
        assert not bans.banned("b", now)
        now += term
        assert not bans.banned("a", now)


def test_F92_the_oldest_of_the_most_crowded_address_gives_way() -> None:
    pending, gone = Pending(), list[str]()

    def hold(address: str, name: str) -> object:
        held = pending.one(address, lambda: gone.append(name))
        held.__enter__()
        return held

    kept = [hold("friend", "friend")]
    kept += [hold("crowd", f"crowd {number}") for number in range(bounds.PENDING + 1)]
    assert gone == ["crowd 0", "crowd 1"]
    assert len(pending) == bounds.PENDING
    with pending.one("newcomer", lambda: gone.append("newcomer")):
        assert gone[2:] == ["crowd 2"]
    assert len(pending) == bounds.PENDING - 1
    kept.clear()


class Doorkeeper:
    def __init__(self, most: int, *known: str) -> None:
        self.places = Places(most, lambda: known)
        self.closed: list[str] = []

    def enter(self, handle: str, peer: str) -> None:
        self.places.enter(handle, peer, lambda: self.closed.append(handle))


def test_F92_a_peers_own_oldest_connection_gives_way_to_its_newest() -> None:
    door = Doorkeeper(50, "a")
    for number in range(250):
        door.enter(f"a{number}", "a")
    assert len(door.places) == bounds.CONNECTIONS_PER_PEER
    assert door.closed == [f"a{number}" for number in range(250 - bounds.CONNECTIONS_PER_PEER)]


def test_F92_places_are_kept_for_known_peers_and_each_keeps_one() -> None:
    door = Doorkeeper(8, *"abcdefghi")
    door.enter("s1", "stranger 1")
    door.enter("s2", "stranger 2")
    with pytest.raises(Refused, match="unknown"):
        door.enter("s3", "stranger 3")
    for peer in "abcdef":
        door.enter(peer, peer)
    door.enter("g", "g")
    door.enter("h", "h")
    assert door.closed == ["s1", "s2"]
    with pytest.raises(Refused, match="max_connections"):
        door.enter("i", "i")
    door.places.leave("a")
    door.enter("h2", "h")
    door.enter("i", "i")
    assert door.closed[2:] == ["h"]
    with pytest.raises(Refused):
        door.enter("s4", "stranger 4")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/ip4/192.0.2.7/udp/4001",
        "/ip4/192.0.2.7/tcp/70000",
        "/ip4/192.0.2/tcp/1",
        "/ip6/192.0.2.7/tcp/1",
        "/ip4/192.0.2.7/tcp/1/ws",
        "/unix/tmp",
        "/dns/" + "x" * 300 + "/tcp/1",
        "/ip4/192.0.2.7/tcp/1\n",
    ],
)
def test_F81_what_is_no_address_over_tcp_is_not_believed(text: str) -> None:
    assert parse(text) is None
    assert dialable([text], PEER) == ()


def test_F81_a_peer_is_believed_of_itself_only_and_within_bounds(tmp_path: Path) -> None:
    book = AddressBook(
        tmp_path / "peers.json", ME, [f"/ip4/192.0.2.1/tcp/4001/p2p/{OTHER}", f"/ip4/192.0.2.9/tcp/1/p2p/{ME}"]
    )
    assert book.peers() == (OTHER,)
    assert not book.learn(PEER, [f"/ip4/192.0.2.7/tcp/4001/p2p/{OTHER}", "/ip4/0.0.0.0/tcp/1", "/ip4/192.0.2.7/tcp/0"])
    assert not book.learn(ME, ["/ip4/192.0.2.7/tcp/1"])
    assert book.learn(PEER, [f"/ip4/192.0.2.7/tcp/{port}/p2p/{PEER}" for port in range(1, 100)])
    assert len(book.addresses(PEER)) == bounds.ADDRESSES_PER_PEER
    assert book.learn(OTHER, ["/ip4/192.0.2.8/tcp/5"])
    assert book.addresses(OTHER) == ("/ip4/192.0.2.8/tcp/5", "/ip4/192.0.2.1/tcp/4001")
    for number in range(2 * bounds.PEERS):
        book.learn(f"peer {number}", ["/ip4/192.0.2.7/tcp/1"])
    assert len(book.peers()) == bounds.PEERS


def test_R12_the_address_book_outlives_the_process_and_a_damaged_one_is_no_obstacle(tmp_path: Path) -> None:
    path = tmp_path / "peers.json"
    book = AddressBook(path, ME)
    book.learn(PEER, ["/dns4/db1.example.org/tcp/4001"])
    book.save()
    assert AddressBook(path, ME).addresses(PEER) == ("/dns4/db1.example.org/tcp/4001",)
    for damaged in (b"{", b"[]", b"\xff", json.dumps({PEER: 3, OTHER: [5, "/ip4/1/tcp/1"]}).encode()):
        path.write_bytes(damaged)
        assert AddressBook(path, ME).peers() == ()


def test_R10_free_ports_are_chosen_taken_ones_are_named_and_wildcards_are_not_advertised() -> None:
    import socket

    (chosen,) = settle(["/ip4/127.0.0.1/tcp/0"])
    assert chosen.port
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(ListenTaken, match=r"node\.listen_addresses"):
            settle([f"/ip4/127.0.0.1/tcp/{taken.getsockname()[1]}"])
    with pytest.raises(ListenTaken, match=r"node\.listen_addresses"):
        settle(["/ip4/192.0.2.7/tcp/4001"])
    listen = (PeerAddress("ip4", "0.0.0.0", 4001), PeerAddress("ip4", "127.0.0.1", 4002))
    assert advertised(listen, "db1.example.org", PEER) == (
        f"/dns/db1.example.org/tcp/4001/p2p/{PEER}",
        f"/dns/db1.example.org/tcp/4002/p2p/{PEER}",
    )
    assert advertised_host(listen, "192.0.2.7") == "192.0.2.7"
    assert advertised_host(listen[1:], "") == "127.0.0.1"
    chosen_host = advertised_host(listen, "")
    assert chosen_host != "0.0.0.0"
    assert advertised(listen, "", PEER)[0] == f"/ip4/{chosen_host}/tcp/4001/p2p/{PEER}"


async def test_the_oldest_and_the_stale_leave_an_outbox_and_are_counted() -> None:
    outbox = Outbox(3, 60.0)
    now = trio.current_time()
    outbox.put(beat("stale"), now - 61)
    for number in range(3):
        outbox.put(beat(f"{number}"), now)
    assert outbox.dropped == 1
    assert await outbox.get() == beat("0")
    outbox.put(beat("old"), now - 61)
    assert await outbox.get() == beat("1")
    assert await outbox.get() == beat("2")
    assert outbox.ready(now) is None
    assert (outbox.dropped, len(outbox)) == (2, 0)


class Trickle:
    """A stream that gives one byte at a time."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    async def read(self, n: int | None = None) -> bytes:
        byte, self.data = self.data[:1], self.data[1:]
        return byte

    async def write(self, data: bytes) -> None:
        raise AssertionError


async def test_F92_frames_come_in_any_number_of_pieces_and_none_above_its_bound() -> None:
    frames = Frames(Trickle(framed(b"x" * 500) + framed(b"") + HEAD.pack(501) + b"y"), 500)
    assert await frames.next() == b"x" * 500
    assert await frames.next() == b""
    with pytest.raises(FrameTooLong, match="501"):
        await frames.next()
    with pytest.raises(EOFError):
        await Frames(Trickle(framed(b"cut")[:-1]), 500).next()
