"""A request as it came, and what goes with it on its one hop to a member's gateway.

The law kept here is F93: a call is forwarded whole, as the bytes that its client sent, with the application of the key that the first
gateway looked at; the member decodes and vets it again, and takes nothing from it that its client could not have said.
"""

from __future__ import annotations

from typing import Final

from attrs import frozen

from protocol.records import SCOPES

APPLICATION: Final = b"x-torpor-application"
MILLISECONDS: Final = b"x-torpor-milliseconds-left"
REQUEST_ID: Final = b"x-request-id"
IDEMPOTENCY_KEY: Final = b"idempotency-key"
JSON: Final = "application/json"

CLIENTS: Final = "/v1/database/"
MEMBERS: Final = "/v1/member/"
"""Where one endpoint stands for clients, and for the gateways of other nodes."""


@frozen
class Caller:
    """Who calls. ``scope``: what the key allows, of :data:`protocol.records.SCOPES`. ``forwarded``: another gateway has looked at the key."""

    app: str
    scope: str = "admin"
    key_id: str = ""
    forwarded: bool = False

    def may(self, scope: str) -> bool:
        return SCOPES.index(self.scope) >= SCOPES.index(scope)


@frozen
class Call:
    """One request. ``deadline``: loop time. ``timeout_s``: what it might take, for the text of a failure. ``endpoint``: its path below
    :data:`CLIENTS`, of an import with its query string, which names the ``database``. ``writes``: that it failed does not say that nothing has happened."""

    caller: Caller
    request_id: str
    endpoint: str
    body: bytes
    timeout_s: float
    deadline: float
    writes: bool = False
    idempotency_key: str = ""
    content_type: str = JSON
    database: str = ""

    @property
    def app(self) -> str:
        return self.caller.app

    @property
    def repeatable(self) -> bool:
        """It may be sent again although somebody may have taken it in: it only reads, or its key makes its effect one (F86)."""
        return not self.writes or self.idempotency_key != ""

    @property
    def too_late(self) -> str:
        return f"the request did not end within {self.timeout_s:g} s"

    def hop_headers(self, seconds_left: float) -> str:
        """What a member's gateway is told beside the body, each header with its line end."""
        headers = (
            f"{APPLICATION.decode()}: {self.app}\r\n{REQUEST_ID.decode()}: {self.request_id}\r\n"
            f"{MILLISECONDS.decode()}: {max(1, int(seconds_left * 1000))}\r\n"
        )
        return headers + (f"{IDEMPOTENCY_KEY.decode()}: {self.idempotency_key}\r\n" if self.idempotency_key else "")
