"""Who calls (R36): the one place where what a request presents becomes an application and a scope, or is refused.

The laws kept here: the application comes from the key or the token alone; a request presents exactly one of them; each way to be refused has one
detail that says what is wrong with what was presented, and never repeats it; a key is refused from the moment at which its revocation has
arrived (F87). A worker that has just begun asks nobody to come again: it waits until it was told the keys.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from runtime.gateway.auth import KeyRing, id_of
from runtime.gateway.calls import Caller
from runtime.gateway.frames import Keys
from runtime.gateway.problems import Refusal
from runtime.gateway.tokens import Tokens, is_token, unauthorized
from runtime.gateway.worker_config import WorkerConfig

TOLD_S: Final = 5.0
"""How long a request with an unknown key, or one that asks whether the node is ready, waits in a worker that has not been told all yet."""

Headers = list[tuple[bytes, bytes]]


class Callers:
    """``wall``: Unix time; keys and tokens expire by it."""

    def __init__(self, config: WorkerConfig, wall: Callable[[], float]) -> None:
        self._ring = KeyRing(config.keys, config.scopes)
        self._tokens = Tokens(config.issuers, wall)
        self._wall = wall
        self._told = asyncio.Event()
        self._complete = False

    def told(self, frame: Keys) -> None:
        """The node's word about API keys of the directory."""
        self._ring.put(frame.keys)
        self._complete = frame.complete
        if not frame.keys or frame.complete:
            self._told.set()

    async def complete(self) -> bool:
        """Whether the node listens no more (P61): it knows what others know. Waits for the node's first word about it."""
        try:
            async with asyncio.timeout(TOLD_S):
                await self._told.wait()
        except TimeoutError:
            return False
        return self._complete

    def of(self, headers: Headers) -> Awaitable[Caller]:
        """Who presents these. Raises :class:`Refusal`."""
        return self.who(presented(headers))

    async def who(self, text: str) -> Caller:
        """Whose key or token this is. Raises :class:`Refusal`."""
        if is_token(text):
            return self._tokens.caller(text)
        key_id = id_of(text)
        if key_id is None:
            raise unauthorized("what was presented is neither an API key (torpor_…) nor a JSON Web Token")
        key = self._ring.find(text)
        if key is None and not self._told.is_set():
            await self.complete()
            key = self._ring.find(text)
        if key is None and not self._complete:
            raise Refusal(
                "unavailable", f"this gateway does not know the API key {key_id}, and not yet all that there are"
            )
        if key is None:
            raise unauthorized(f"the API key {key_id} is not known")
        if key.revoked:
            raise unauthorized(f"the API key {key_id} was revoked")
        if key.expires and key.expires <= self._wall():
            raise unauthorized(f"the API key {key_id} has expired")
        return Caller(key.app, key.scope, key_id)


def presented(headers: Headers) -> str:
    """The key or token of ``Authorization: Bearer …`` or ``X-API-Key: …``. Raises :class:`Refusal` when there is none, or more than one."""
    found: set[str] = set()
    for name, value in headers:
        if name == b"authorization":
            scheme, _, rest = value.decode("latin-1").partition(" ")
            if scheme.lower() != "bearer":
                raise unauthorized("Authorization has another scheme than Bearer")
            found.add(rest.strip())
        elif name == b"x-api-key":
            found.add(value.decode("latin-1").strip())
    found.discard("")
    if not found:
        raise unauthorized("send Authorization: Bearer <key or token>, or X-API-Key: <key>")
    if len(found) > 1:
        raise unauthorized("the request presents more than one key or token")
    return found.pop()
