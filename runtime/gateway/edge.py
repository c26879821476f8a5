"""What stands between a client's connection and the application, as an ASGI middleware.

The law kept here: no other site's page reads an answer, unless its origin is configured (CORS is off by default). Keys are in headers, never in
cookies, so no page can use a visitor's.
"""

from __future__ import annotations

from typing import Any, Final

from starlette.middleware.cors import CORSMiddleware

_TAKES: Final = ("Authorization", "X-API-Key", "Content-Type", "Idempotency-Key")
_SHOWS: Final = ("X-Request-Id", "Retry-After", "WWW-Authenticate", "Allow")
_PREFLIGHT_S: Final = 600
"""How long a browser may remember what it was allowed."""


def edge(app: Any, origins: tuple[str, ...]) -> Any:
    """The application as clients reach it. ``origins``: whose pages may read its answers; ``*``: everybody's."""
    if not origins:
        return app
    return CORSMiddleware(
        app,
        allow_origins=origins,
        allow_methods=("GET", "POST"),
        allow_headers=_TAKES,
        expose_headers=_SHOWS,
        max_age=_PREFLIGHT_S,
    )
