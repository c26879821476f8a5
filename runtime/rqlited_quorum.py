"""Whether the other members of a database listen. Law: a member that moves is told to the others only while a quorum of them
is there (P42). The leader first takes its old address out of the Raft configuration, and then puts the new one in; where
that leaves one living member of two, no leader can be elected any more, and if the dead one is dead for good, never again.

Listening means a TLS handshake under the database's identity: a stranger on a member's port does not count.
"""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import trio

_HANDSHAKE: Final = 1.0
"""Seconds for one member: one that takes longer is not there for this purpose."""
_AGAIN: Final = 0.05


class TooFewMembers(Exception):
    """No quorum of the others listens. One line."""


async def await_quorum(addresses: Sequence[str], identity: Path, name: str, within: float) -> None:
    """Wait until a majority of ``addresses`` (of the others, all of them) listens as members. Raises :class:`TooFewMembers`
    after ``within`` seconds. ``name``: the server name of the identity, which is in the file ``identity``."""
    context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=str(identity))
    context.load_cert_chain(identity)
    needed = len(addresses) // 2 + 1
    there: set[str] = set()

    async def wait_for(address: str, enough: trio.CancelScope) -> None:
        while not await _listens(address, context, name):  # noqa: ASYNC110 (another process starts to listen)
            await trio.sleep(_AGAIN)
        there.add(address)
        if len(there) >= needed:
            enough.cancel()

    with trio.move_on_after(within):
        async with trio.open_nursery() as nursery:
            for address in addresses:
                nursery.start_soon(wait_for, address, nursery.cancel_scope)
    if len(there) >= needed:
        return
    raise TooFewMembers(
        f"not started: {len(there)} of the {len(addresses)} other members listen, and a new Raft address takes {needed}"
    )


async def _listens(address: str, context: ssl.SSLContext, name: str) -> bool:
    host, _, port = address.rpartition(":")
    with trio.move_on_after(_HANDSHAKE):
        try:
            stream = await trio.open_tcp_stream(host.strip("[]"), int(port))
            async with trio.SSLStream(stream, context, server_hostname=name, https_compatible=True) as secure:
                await secure.do_handshake()
                return True
        except (OSError, trio.BrokenResourceError):
            return False
    return False
