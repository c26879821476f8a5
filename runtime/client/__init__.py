"""The client library (R20): :class:`Client`, and :class:`AsyncClient` for asyncio and trio. What a call may raise is one tree, below
:class:`TorporError`; what it gives are frozen values. No event loop, server or libp2p is imported for it.

>>> with Client(app="myapp", peers=["http://127.0.0.1:8080"], key=key) as client:
...     users = client.database("users")
...     users.execute("INSERT INTO people (name) VALUES (?)", ["Ada"], idempotency_key=True)
...     users.query("SELECT * FROM people").dicts()
"""

from runtime.client.awaiting import AsyncClient, AsyncDatabase
from runtime.client.blocking import Client, Database
from runtime.client.errors import (
    Forbidden,
    MayHaveCommitted,
    Problem,
    Refused,
    ServerFailed,
    SQLError,
    SQLRefused,
    Timeout,
    TooLarge,
    TorporError,
    Unauthorized,
    Unavailable,
    Unreachable,
)
from runtime.client.values import Rows, Schema, Table, Value, Written

__all__ = [
    "AsyncClient",
    "AsyncDatabase",
    "Client",
    "Database",
    "Forbidden",
    "MayHaveCommitted",
    "Problem",
    "Refused",
    "Rows",
    "SQLError",
    "SQLRefused",
    "Schema",
    "ServerFailed",
    "Table",
    "Timeout",
    "TooLarge",
    "TorporError",
    "Unauthorized",
    "Unavailable",
    "Unreachable",
    "Value",
    "Written",
]
