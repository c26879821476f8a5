"""How a database's TLS identity reaches its members: each asks one that has it, over the nodes' encrypted streams, before its
rqlited starts. Laws: only a member of the incarnation is answered; what was received is checked before it is used; the
identity shows in no log, no error and no recording.

An answer is ``+`` and the identity, or ``-`` and one line that says why not.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import trio

from runtime.database_tls import BYTES, IdentityUnfit, check
from runtime.directories import Directories

PROTOCOL: Final = "database-key"
"""The name of the question on the transport."""

Fetch = Callable[[str, str], Awaitable[bytes]]
"""(peer, incarnation) → the identity. Raises :class:`KeyRefused`."""

_ASK_FOR: Final = 1.0
"""Seconds for one member's answer, before the next one is asked."""
_FIRST_PAUSE: Final = 0.01
"""Seconds before the members are asked again: a joiner is often told of a birth before its founder is."""
_LAST_PAUSE: Final = 0.2
_SAID: Final = 200
_INCARNATION: Final = 255


class KeyRefused(Exception):
    """One member did not give the identity. One line: why."""


class KeyMissing(Exception):
    """No member gave the identity in time. One line: what each of them said last."""


class KeyService:
    """This node's side as one who has identities. ``member``: the internal name of an incarnation if the asking peer is one of
    its members by this node's records, else None."""

    def __init__(self, directories: Directories, member: Callable[[str, str], str | None]) -> None:
        self._directories = directories
        self._member = member

    async def answer(self, asker: str, question: bytes) -> bytes:
        """The answer to ``question``, an incarnation, of the authenticated peer that asks. Never raises: whatever came in is
        refused in the answer. (A handler of the transport's; it waits for nothing.)"""
        await trio.lowlevel.checkpoint()
        incarnation = question[:_INCARNATION].decode(errors="replace")
        name = self._member(asker, incarnation)
        if name is None:
            return b"-not a member of that database here"
        try:
            identity = self._directories.instance(name, incarnation).tls.read_bytes()
            check(identity, incarnation)
        except FileNotFoundError:
            return b"-not here yet"
        except (OSError, ValueError, IdentityUnfit) as error:
            return f"-{type(error).__name__}: it cannot be read here".encode()
        return b"+" + identity


def asking(
    request: Callable[[str, str, bytes, float], Awaitable[bytes]], failures: tuple[type[Exception], ...] = (OSError,)
) -> Fetch:
    """The other side: ``request`` is the transport's (peer, kind, question, seconds) → answer, which raises one of ``failures``
    where none comes."""

    async def fetch(peer: str, incarnation: str) -> bytes:
        try:
            answer = await request(peer, PROTOCOL, incarnation.encode(), _ASK_FOR)
        except failures as error:
            raise KeyRefused(str(error)[:_SAID] or type(error).__name__) from None
        if answer[:1] != b"+":
            raise KeyRefused(answer[1 : 1 + _SAID].decode(errors="replace") or "an empty answer")
        return answer[1 : 2 + BYTES]

    return fetch


async def obtain(fetch: Fetch, sources: Sequence[str], incarnation: str, within: float) -> bytes:
    """The identity of an incarnation from the first of ``sources`` (peers) that has a good one, asked in their order, again and
    again for ``within`` seconds. Raises :class:`KeyMissing`."""
    said = dict.fromkeys(sources, "no answer yet")
    pause = _FIRST_PAUSE
    with trio.move_on_after(within):
        while sources:
            for peer in sources:
                with trio.move_on_after(_ASK_FOR) as patience:
                    try:
                        identity = await fetch(peer, incarnation)
                        check(identity, incarnation)
                    except (KeyRefused, IdentityUnfit) as refused:
                        said[peer] = str(refused)
                    else:
                        return identity
                if patience.cancelled_caught:
                    said[peer] = f"no answer within {_ASK_FOR:g} s"
            await trio.sleep(pause)
            pause = min(2 * pause, _LAST_PAUSE)
    told = "; ".join(f"{peer}: {why}" for peer, why in said.items()) or "no other member is known"
    raise KeyMissing(f"no TLS identity of {incarnation} within {within:g} s ({told})")
