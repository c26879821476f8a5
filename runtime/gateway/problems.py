"""Every way in which a request can fail, in one table: RFC 9457 problem documents.

The law kept here: a failure is told by a stable ``type``, a title, a status and a cause that names what to do; never by a
traceback, and never with another status for the same type. ``may_have_committed`` is true exactly when a write may have
happened although it failed (F86): such a request must not be repeated blindly.
"""

from __future__ import annotations

from typing import Any, Final

import orjson
from attrs import frozen

PREFIX: Final = "urn:torpor:problem:"

_TABLE: Final[dict[str, tuple[int, str]]] = {
    # The request.
    "bad-request": (400, "The request is not understood"),
    "invalid-name": (400, "The database's name is not valid"),
    "sql-error": (400, "SQLite refused the statement"),
    "sql-refused": (400, "The statement is not allowed here"),
    "wrong-endpoint": (400, "Reads go to query, writes to exec"),
    "unauthorized": (401, "A valid API key or token is needed"),
    "forbidden": (403, "The key does not allow this"),
    "not-found": (404, "There is no such resource"),
    "method-not-allowed": (405, "The resource does not know this method"),
    "request-timeout": (408, "The request took too long to arrive"),
    "not-empty": (409, "The database has tables already"),
    "body-too-large": (413, "The request is too large"),
    "sql-too-long": (413, "The statement is too long"),
    "sql-too-deep": (422, "The statement is nested too deeply"),
    "too-many-parameters": (422, "The statement has too many parameters"),
    "file-too-large": (413, "The file is too large"),
    "invalid-file": (422, "The file is no database that could be taken in"),
    "idempotency-key-reused": (422, "The idempotency key belongs to another request"),
    "too-many-statements": (422, "The transaction has too many statements"),
    "too-many-rows": (422, "The result has too many rows"),
    "result-too-large": (422, "The result is too large"),
    "value-not-exact": (422, "The result holds a value that could not be told exactly"),
    "rate-limited": (429, "The key has made too many requests"),
    "head-too-large": (431, "The head of the request is too large"),
    "internal-error": (500, "The gateway failed"),
    "storage-failed": (500, "The database's storage failed"),
    # The database, now.
    "unavailable": (503, "The database cannot answer now"),
    "may-have-committed": (503, "The outcome of the write is not known"),
    "busy": (503, "Too many requests at once"),
    "stopping": (503, "This gateway is stopping"),
    "listening": (503, "This node does not know yet what there is"),
    "query-timeout": (504, "The query took too long"),
    # From the node: creation and wake.
    "insufficient-nodes": (503, "Too few nodes can host the database"),
    "not-a-member": (503, "This node does not host the database"),
    "members-unheard": (503, "No node that hosts the database is heard"),
    "max-databases": (503, "The node hosts as many databases as it may"),
    "no-ports": (503, "The node's port range is used up"),
    "instance-failed": (503, "rqlited did not start"),
    "create-timeout": (504, "The database was not created in time"),
    # From the node: an operator's command.
    "not-retired": (409, "The node is not retired"),
    "key-refused": (409, "The API key is neither created nor revoked"),
    "wake-timeout": (504, "The database did not open in time"),
}

NODE: Final = frozenset(
    {
        "insufficient-nodes",
        "not-a-member",
        "members-unheard",
        "max-databases",
        "no-ports",
        "instance-failed",
        "create-timeout",
        "wake-timeout",
    }
)
"""What a node can say of a database that is to be opened."""
TYPES: Final = frozenset(_TABLE)
RETRY_AFTER: Final = frozenset({"unavailable", "busy", "stopping", "listening"})
"""Types whose cause passes by itself within a second or so."""


def status_and_title(kind: str) -> tuple[int, str]:
    """Of a type; an unknown one (of a newer node) counts as unavailable."""
    return _TABLE.get(kind, _TABLE["unavailable"])


@frozen
class Refusal(Exception):
    """A request that fails, with its reason. Raised anywhere below an endpoint, rendered in one place."""

    type: str
    detail: str = ""
    may_have_committed: bool = False
    headers: tuple[tuple[str, str], ...] = ()

    @property
    def status(self) -> int:
        """The HTTP status of the type."""
        return status_and_title(self.type)[0]

    def document(self, request_id: str) -> bytes:
        """The ``application/problem+json`` body."""
        status, title = status_and_title(self.type)
        members: dict[str, Any] = {
            "type": PREFIX + self.type,
            "title": title,
            "status": status,
            "detail": self.detail or title,
            "request_id": request_id,
        }
        if self.may_have_committed:
            members["may_have_committed"] = True
        return orjson.dumps(members)
