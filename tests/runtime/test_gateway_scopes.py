"""What a key of a smaller scope may do. No worker: the endpoint decides before it reads anything."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from protocol.records import SCOPES
from runtime.gateway.calls import Caller
from runtime.gateway.endpoint import CALLER, REQUEST
from runtime.gateway.endpoints import Endpoints
from runtime.gateway.problems import Refusal
from runtime.gateway.worker_config import WorkerConfig

NEEDS = {
    "query": "read",
    "schema": "read",
    "list": "read",
    "export": "read",
    "exec": "write",
    "transaction": "write",
    "create-table": "write",
    "drop-table": "write",
    "import": "admin",
}


def test_R36_each_endpoint_needs_its_scope_and_each_scope_implies_the_smaller_ones() -> None:
    nothing: Any = None
    exports: Any = type("Exports", (), {"run": None})
    table = Endpoints(WorkerConfig({}), nothing, nothing, nothing, exports).table()
    assert {each.path: each.scope for each in table} == NEEDS
    assert [[have for have in SCOPES if Caller("app", have).may(need)] for need in SCOPES] == [
        ["read", "write", "admin"],
        ["write", "admin"],
        ["admin"],
    ]

    async def receive() -> Any:
        pytest.fail("it read the body of a request that may not be")

    async def refused(path: str, scope: str) -> Refusal:
        endpoint = next(each for each in table if each.path == path)
        request = {"path": f"/v1/database/{path}", "method": "POST", CALLER: Caller("app", scope), REQUEST: "id"}
        with pytest.raises(Refusal) as told:
            await endpoint(request, receive, cast("Any", None))
        return told.value

    for path, need in NEEDS.items():
        for scope in SCOPES[: SCOPES.index(need)]:
            refusal = asyncio.run(refused(path, scope))
            assert (refusal.type, refusal.status) == ("forbidden", 403)
            assert need in refusal.detail
