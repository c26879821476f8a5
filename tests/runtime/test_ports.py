"""Ports: random in range, probed by binding, owned by one (R47, F83, F84)."""

import random
import socket

import pytest

from runtime.ports import Ports, PortsExhausted, can_bind


def listener(host: str = "127.0.0.1", port: int = 0) -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((host, port))
    sock.listen()
    return sock


def free_run(length: int) -> int:
    """The first of ``length`` neighbouring ports that can all be bound now."""
    rng = random.Random()
    while True:
        first = rng.randint(20000, 30000)
        if all(can_bind("127.0.0.1", port) for port in range(first, first + length)):
            return first


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "::"])
def test_R47_a_living_listener_refuses_the_port_on_loopback_and_on_the_wildcards(host: str) -> None:
    with listener(host) as taken:
        assert not can_bind("127.0.0.1", taken.getsockname()[1])


def test_R47_a_connection_in_TIME_WAIT_does_not_refuse_the_port() -> None:
    with listener() as server:
        port = server.getsockname()[1]
        client = socket.create_connection(("127.0.0.1", port))
        accepted, _ = server.accept()
        accepted.close()  # the server's side closes first: TIME_WAIT is on the server's port
        assert client.recv(1) == b""
        client.close()
    assert can_bind("127.0.0.1", port)


def test_R47_choices_are_random_in_their_ranges() -> None:
    ports = Ports((20000, 24999), (25000, 29999))
    pairs = {ports.reserve(owner) for owner in range(8)}
    assert len(pairs) == 8
    assert all(20000 <= http <= 24999 and 25000 <= raft <= 29999 for http, raft in pairs)


def test_R47_preferred_ports_are_given_when_they_can_be_bound_and_others_when_not() -> None:
    first = free_run(8)
    ports = Ports((first, first + 3), (first + 4, first + 7))
    assert ports.reserve(1, http=first + 2, raft=first + 6) == (first + 2, first + 6)
    ports.release(1)
    with listener(port=first + 2):
        http, raft = ports.reserve(1, http=first + 2, raft=first + 6)
    assert http != first + 2
    assert raft == first + 6


def test_R47_an_owner_keeps_its_Raft_port_as_preferred_while_HTTP_was_given_back() -> None:
    ports = Ports((20000, 24999), (25000, 29999))
    _, raft = ports.reserve(1)
    ports.release(1, raft=False)
    assert ports.held(1) == (0, raft)
    assert ports.reserve(1)[1] == raft


def test_R47_a_held_Raft_port_is_nobody_elses_though_nothing_listens_there() -> None:
    first = free_run(4)
    ports = Ports((first, first + 1), (first + 2, first + 3))
    ports.hold(1, first + 2)
    assert ports.reserve(2) in {(first, first + 3), (first + 1, first + 3)}
    with pytest.raises(ValueError, match="belongs to another"):
        ports.hold(3, first + 2)
    assert ports.reserve(1)[1] == first + 2


def test_F83_a_release_by_one_who_does_not_own_them_changes_nothing() -> None:
    ports = Ports((20000, 24999), (25000, 29999))
    pair = ports.reserve(1)
    ports.release(2)
    assert ports.held(1) == pair
    ports.release(1)
    ports.release(1)
    assert ports.snapshot().http_used == ports.snapshot().raft_used == 0


def test_F84_nearly_full_ranges_still_give_the_last_free_pair_and_then_name_the_range() -> None:
    first = free_run(400)
    ports = Ports((first, first + 199), (first + 200, first + 399), rng=random.Random(7))
    pairs = [ports.reserve(owner) for owner in range(200)]
    assert len({port for pair in pairs for port in pair}) == 400
    with pytest.raises(PortsExhausted, match=f"no free HTTP port in {first}-{first + 199}"):
        ports.reserve(200)
    ports.release(117)
    assert ports.reserve(200) == pairs[117]


def test_F84_HTTP_and_Raft_never_get_one_port_even_in_one_range() -> None:
    first = free_run(4)
    ports = Ports((first, first + 3), (first, first + 3))
    one, two = ports.reserve(1), ports.reserve(2)
    assert len({*one, *two}) == 4
    with pytest.raises(PortsExhausted):
        ports.reserve(3)
    ports.release(1)
    assert set(ports.reserve(3)) == set(one)


def test_F84_a_refused_reservation_changes_nothing() -> None:
    first = free_run(3)
    ports = Ports((first, first + 1), (first + 2, first + 2))
    ports.reserve(1)
    before = ports.snapshot()
    with pytest.raises(PortsExhausted, match="Raft"):
        ports.reserve(2)
    assert ports.snapshot() == before
    assert ports.held(2) == (0, 0)


def test_R47_a_Raft_port_is_probed_where_Raft_binds_and_an_HTTP_port_on_loopback() -> None:
    first = free_run(4)
    ports = Ports((first, first + 1), (first + 2, first + 3), "127.0.0.2")
    with listener("127.0.0.1", first), listener("127.0.0.2", first + 2), listener("127.0.0.2", first + 1):
        assert ports.reserve(1) == (first + 1, first + 3)
    with listener("127.0.0.1", first + 2):
        assert ports.reserve(1, raft=first + 2)[1] == first + 2
