"""The listening sockets of a node's gateway. The law kept here: a place that cannot be had is one line that names the setting (R61)."""

from __future__ import annotations

import errno
import ipaddress
import socket
from typing import Final

import trio

PORT_RETRY_S: Final = 2.0
"""How long a taken port is tried again: workers of a killed node hold it for the moment that they need to notice."""
_BACKLOG: Final = 2048


class GatewayFailed(Exception):
    """The gateway cannot start; the text is one line that names the cause and what to do (R61)."""


async def bound(listen: str, setting: str) -> socket.socket:
    """A listening socket, at what the setting of that name says. Raises :class:`GatewayFailed`."""
    host, _, port = listen.rpartition(":")
    host = host.strip("[]")
    if not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise GatewayFailed(f"{setting} {listen!r} is no host:port")
    began = trio.current_time()
    while True:
        listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((host, int(port)))
            listener.listen(_BACKLOG)
            listener.setblocking(False)
        except OSError as error:
            listener.close()
            taken = error.errno == errno.EADDRINUSE
            if not taken:
                raise GatewayFailed(f"the gateway cannot listen on {listen}: {error.strerror}") from error
            if trio.current_time() - began > PORT_RETRY_S:
                raise GatewayFailed(
                    f"the gateway cannot listen on {listen}: the port is taken; stop its user, or set {setting}"
                ) from error
            await trio.sleep(0.05)
        else:
            return listener


def reached_at(listener: socket.socket, host: str) -> str:
    """``host:port`` of a bound socket for other nodes: ``host`` is the machine's name where it listens on every address."""
    address, port = listener.getsockname()[:2]
    name = host if ipaddress.ip_address(address).is_unspecified else address
    return f"[{name}]:{port}" if ":" in name else f"{name}:{port}"
