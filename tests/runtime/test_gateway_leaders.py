"""While the Raft group behind a door has no leader, or loses it, clients wait; what is tried again, and what must not be, by what rqlited
was measured to say (``specs/rqlite.md``). In rqlited's place is a server that says just that."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from attrs import define, field

from tests.runtime.gateway_world import gateway, kind_of, post

_REMOTE = "node failed to process Execute on remote node at 127.0.0.1:7001: "
REFUSED = (200, f'{{"results":[],"error":"{_REMOTE}pool get: dial tcp 127.0.0.1:7001: connect: connection refused"}}')
BROKEN = (200, f'{{"results":[],"error":"{_REMOTE}write protobuf bytes: write tcp a->b: write: broken pipe"}}')
RESET = (
    200,
    f'{{"results":[],"error":"{_REMOTE}read protobuf length: read tcp a->b: read: connection reset by peer"}}',
)
LOST = (200, '{"results":[],"error":"leadership lost while committing log"}')
NO_LEADER = (503, "leader not found\n")
DIES = (0, "")
"""It ends before it has answered."""
ROWS = (200, '{"results":[{"columns":["x"],"types":["integer"],"values":[[1]]}]}')
DONE = (200, '{"results":[{"last_insert_id":1,"rows_affected":1}]}')

Said = tuple[int, str]


@define(eq=False)
class Rqlited:
    """``says``: its answers, the last one again and again. ``heard``: the targets of the requests."""

    says: list[Said]
    url: str = ""
    heard: list[str] = field(factory=list)

    async def serve(self, stream: trio.SocketStream) -> None:
        data = b""
        while True:
            while b"\r\n\r\n" not in data:
                more = await stream.receive_some()
                if not more:
                    return
                data += more
            head, _, data = data.partition(b"\r\n\r\n")
            (length,) = [int(line[15:]) for line in head.split(b"\r\n") if line.startswith(b"Content-Length:")]
            while len(data) < length:
                data += await stream.receive_some()
            data = data[length:]
            self.heard.append(head.split()[1].decode().partition("?")[0])
            status, body = self.says.pop(0) if len(self.says) > 1 else self.says[0]
            if not status:
                return
            await stream.send_all(f"HTTP/1.1 {status} x\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())


@asynccontextmanager
async def saying(*says: Said) -> AsyncIterator[Rqlited]:
    it = Rqlited(list(says))
    async with trio.open_nursery() as nursery:
        (listener, *_) = await nursery.start(trio.serve_tcp, it.serve, 0)
        it.url = f"http://127.0.0.1:{listener.socket.getsockname()[1]}"
        yield it
        nursery.cancel_scope.cancel()


async def test_F50_a_read_is_tried_again_until_the_group_has_a_leader() -> None:
    says = (REFUSED, BROKEN, RESET, LOST, NO_LEADER, ROWS)
    async with saying(*says) as rqlited, gateway({("one", "users"): rqlited.url}) as world, world.client() as client:
        assert (await post(client, "query", sql="SELECT 1 AS x")).json()["items"] == [{"x": 1}]
        assert rqlited.heard == ["/db/query"] * len(says)


async def test_F50_F85_a_read_that_ends_its_rqlited_is_tried_once_more_and_never_again() -> None:
    """Else one statement could end all replicas, one after the other."""
    async with (
        saying(DIES, ROWS) as rqlited,
        gateway({("one", "users"): rqlited.url}) as world,
        world.client() as client,
    ):
        assert (await post(client, "query", sql="SELECT 1 AS x")).json()["items"] == [{"x": 1}]
    async with saying(DIES) as rqlited, gateway({("one", "users"): rqlited.url}) as world, world.client() as client:
        assert kind_of(await post(client, "query", sql="SELECT 1 AS x")) == "unavailable"
        assert rqlited.heard == ["/db/query"] * 2


async def test_F50_F86_a_write_is_tried_again_when_no_leader_has_had_it() -> None:
    says = (REFUSED, BROKEN, NO_LEADER, DONE)
    async with saying(*says) as rqlited, gateway({("one", "users"): rqlited.url}) as world, world.client() as client:
        assert (await post(client, "exec", sql="INSERT INTO t VALUES (1)")).json()["rows_affected"] == 1
        assert rqlited.heard == ["/db/execute"] * len(says)


@pytest.mark.parametrize("said", [RESET, LOST])
async def test_F86_a_write_that_a_leader_may_have_had_is_not_sent_again(said: Said) -> None:
    async with saying(said) as rqlited, gateway({("one", "users"): rqlited.url}) as world, world.client() as client:
        answer = await post(client, "exec", sql="INSERT INTO t VALUES (1)")
        assert (kind_of(answer), answer.json()["may_have_committed"]) == ("may-have-committed", True)
        assert rqlited.heard == ["/db/execute"]


@pytest.mark.parametrize("said", [RESET, LOST])
async def test_F86_with_an_idempotency_key_it_is(said: Said) -> None:
    """The key's row is the fourth of six statements, the client's the fifth."""
    keyed = [{}, {}, {}, {"rows_affected": 1}, {"rows_affected": 1, "last_insert_id": 7}, {"rows_affected": 1}]
    done = (200, json.dumps({"results": keyed}))
    insert = {"database": "users", "sql": "INSERT INTO t VALUES (1)"}
    once = {"Idempotency-Key": "once"}
    async with (
        saying(said, done) as rqlited,
        gateway({("one", "users"): rqlited.url}) as world,
        world.client() as client,
    ):
        answer = await client.post("/v1/database/exec", json=insert, headers=once)
        assert answer.json() == {"rows_affected": 1, "last_insert_id": 7}
        assert rqlited.heard == ["/db/execute"] * 2
    failed = (200, json.dumps({"results": [{}, {}, {}, {}, {"error": "no such table: t"}]}))
    async with (
        saying(said, failed) as rqlited,
        gateway({("one", "users"): rqlited.url}) as world,
        world.client() as client,
    ):
        refused = await client.post("/v1/database/exec", json=insert, headers=once)
        assert kind_of(refused) == "sql-error"
        assert refused.json()["may_have_committed"] is True, "the first try may be carried out yet"


@pytest.mark.parametrize(("endpoint", "sql"), [("query", "SELECT 1"), ("exec", "INSERT INTO t VALUES (1)")])
async def test_R37_a_group_that_stays_without_a_leader_is_told_as_that(endpoint: str, sql: str) -> None:
    async with (
        saying(NO_LEADER) as rqlited,
        gateway({("one", "users"): rqlited.url}, wait_timeout_s=0.5) as world,
        world.client() as client,
    ):
        answer = await post(client, endpoint, sql=sql)
        assert (answer.status_code, kind_of(answer)) == (503, "unavailable")
        assert "leader not found" in answer.json()["detail"]
        assert len(rqlited.heard) > 2
