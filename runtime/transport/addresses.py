"""Where this node listens, and what it tells others of it. Laws: two nodes never share one port without noticing (libp2p would let
them, by SO_REUSEPORT), and a node advertises what others can dial: never a wildcard, never port 0.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Iterable
from typing import Final, NamedTuple

from runtime.ports import can_bind
from runtime.transport import bounds

_FORM: Final = re.compile(
    r"/(ip4|ip6|dns|dns4|dns6)/([^/\s]{1,255})/tcp/(\d{1,5})(?:/p2p/([1-9A-HJ-NP-Za-km-z]{40,64}))?"
)
_PRIMARY: Final = {socket.AF_INET: "192.0.2.1", socket.AF_INET6: "2001:db8::1"}
"""Documentation addresses (RFC 5737, RFC 3849): connecting a datagram socket sends nothing, it only asks for the route."""


class ListenTaken(Exception):
    """A listen address cannot be used. One line: the cause and what to do (R61)."""


class PeerAddress(NamedTuple):
    """``/<family>/<host>/tcp/<port>[/p2p/<peer>]``, in parts."""

    family: str
    host: str
    port: int
    peer: str = ""

    def __str__(self) -> str:
        return f"/{self.family}/{self.host}/tcp/{self.port}" + (f"/p2p/{self.peer}" if self.peer else "")


def parse(text: str) -> PeerAddress | None:
    """The parts of a multiaddr over TCP, or None for anything else: addresses come from the network, too."""
    match = _FORM.fullmatch(text) if len(text) <= bounds.ADDRESS_LENGTH else None
    if match is None or int(match[3]) > 65535:
        return None
    family, host = match[1], match[2]
    if family in ("ip4", "ip6"):
        try:
            if ipaddress.ip_address(host).version != int(family[2]):
                return None
        except ValueError:
            return None
    return PeerAddress(family, host, int(match[3]), match[4] or "")


def dialable(texts: Iterable[str], peer: str) -> tuple[str, ...]:
    """Of what ``peer`` says of itself, that which can be dialled, without the peer id, bounded."""
    good: list[str] = []
    for text in texts:
        address = parse(text)
        if address is None or address.peer not in ("", peer) or address.port == 0 or _wildcard(address.host):
            continue
        plain = str(address._replace(peer=""))
        if plain not in good:
            good.append(plain)
        if len(good) == bounds.ADDRESSES_PER_PEER:
            break
    return tuple(good)


def settle(listen: Iterable[str]) -> tuple[PeerAddress, ...]:
    """The listen addresses with a free port for each 0. Raises :class:`ListenTaken`."""
    settled: list[PeerAddress] = []
    for text in listen:
        address = parse(text)
        assert address is not None, "the settings have checked it"
        try:
            if address.port == 0:
                address = address._replace(port=_free_port(address.host))
            elif not can_bind(address.host, address.port):
                raise ListenTaken(
                    f"other nodes cannot reach this one at {text}: the port is taken; "
                    "stop its user, or set node.listen_addresses"
                )
        except OSError as error:
            raise ListenTaken(f"cannot listen on {text}: {error.strerror}; set node.listen_addresses") from None
        settled.append(address)
    return tuple(settled)


def advertised_host(listen: tuple[PeerAddress, ...], setting: str) -> str:
    """What others reach this node's Raft ports by: the setting, else the first address that it listens on; for a wildcard,
    the address that the machine's default route leaves from."""
    if setting:
        return setting
    first = listen[0].host
    return primary(first) if _wildcard(first) else first


def advertised(listen: tuple[PeerAddress, ...], setting: str, peer: str) -> tuple[str, ...]:
    """The multiaddrs to tell others, with the peer id."""
    told: list[str] = []
    for address in listen:
        host = setting or (primary(address.host) if _wildcard(address.host) else address.host)
        text = str(PeerAddress(_family(host), host, address.port, peer))
        if text not in told:
            told.append(text)
    return tuple(told[: bounds.ADDRESSES_PER_PEER])


def primary(wildcard: str) -> str:
    """The machine's own address in the family of ``wildcard``; loopback when it has no route to anywhere."""
    family = socket.AF_INET6 if ":" in wildcard else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((_PRIMARY[family], 9))
        except OSError:
            return "::1" if family == socket.AF_INET6 else "127.0.0.1"
        return str(probe.getsockname()[0])


def _wildcard(host: str) -> bool:
    return host in ("0.0.0.0", "::")  # noqa: S104 (compared with, not bound)


def _family(host: str) -> str:
    try:
        return f"ip{ipaddress.ip_address(host).version}"
    except ValueError:
        return "dns"


def _free_port(host: str) -> int:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])
