"""What stands between a client's connection and the application, as ASGI middlewares. The laws kept here:

- Every answer, whatever made it, tells browsers to keep nothing of it, to guess nothing about it, to run nothing in it, and to tell
  nobody where it came from.
- No other site's page reads an answer, unless its origin is configured (CORS is off by default). Keys are in headers, never in cookies, so
  no page can use a visitor's.
"""

from __future__ import annotations

from typing import Any, Final

from starlette.middleware.cors import CORSMiddleware

from runtime.gateway.endpoint import Message, Receive, Scope, Send

HEADERS: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
)
"""Of every answer that does not say otherwise itself."""
_TAKES: Final = ("Authorization", "X-API-Key", "Content-Type", "Idempotency-Key")
_SHOWS: Final = ("X-Request-Id", "Retry-After", "WWW-Authenticate", "Allow")
_PREFLIGHT_S: Final = 600
"""How long a browser may remember what it was allowed."""


class Hardened:
    """Adds :data:`HEADERS`. ``app``: an ASGI application."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def hardened(message: Message) -> None:
            if message["type"] == "http.response.start":
                given: list[tuple[bytes, bytes]] = list(message.get("headers", ()))
                names = {name for name, _ in given}
                message["headers"] = given + [header for header in HEADERS if header[0] not in names]
            await send(message)

        await self._app(scope, receive, hardened)


def edge(app: Any, origins: tuple[str, ...]) -> Any:
    """The application as clients reach it. ``origins``: whose pages may read its answers; ``*``: everybody's."""
    if origins:
        app = CORSMiddleware(
            app,
            allow_origins=origins,
            allow_methods=("GET", "POST"),
            allow_headers=_TAKES,
            expose_headers=_SHOWS,
            max_age=_PREFLIGHT_S,
        )
    return Hardened(app)
