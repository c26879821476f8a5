"""The edge of the gateway: headers of every answer, other sites' pages, readiness, and what the log never holds."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
from uvicorn.config import Config
from uvicorn.server import ServerState

from runtime.gateway.connection import Connection
from runtime.gateway.exchange import HEADERS
from runtime.gateway.frames import Problem
from runtime.gateway.log import Log
from runtime.settings import SettingsError, load
from tests.runtime.edge_world import answer as answered
from tests.runtime.edge_world import rest, serve
from tests.runtime.gateway_world import SLOW, Rqlited, gateway, kind_of, post, rqliteds
from tests.runtime.test_gateway_life import in_flight

SITE = "https://app.example.org"
MARKER = "marker-in-no-log"


@pytest.fixture
async def rqlited(tmp_path: Path) -> AsyncIterator[Rqlited]:
    with rqliteds(tmp_path, "one") as running:
        await running["one"].ready()
        yield running["one"]


def hardened(answer: httpx.Response) -> httpx.Response:
    for name, value in HEADERS:
        assert answer.headers.get_list(name.decode()) == [value.decode()], answer.request.url
    return answer


async def test_every_answer_is_hardened_and_no_other_site_may_read_it() -> None:
    async with gateway() as world, world.client() as client:
        for path in ("/healthz", "/readyz", "/nothing", "/v1/database/list", "/v1/database/query"):
            for method in ("GET", "POST", "OPTIONS", "DELETE"):
                asks = {"Origin": SITE, "Access-Control-Request-Method": "POST"}
                answer = hardened(await client.request(method, path, headers=asks))
                assert not [name for name in answer.headers if name.startswith("access-control")]
                assert len(answer.headers["x-request-id"]) == 16
        async with world.client("") as stranger:
            hardened(await stranger.get("/v1/database/list"))


async def test_the_pages_of_a_configured_origin_may_call_and_read_and_those_of_others_may_not() -> None:
    async with gateway(origins=(SITE,)) as world, world.client() as client:
        asks = {"Origin": SITE, "Access-Control-Request-Method": "POST"}
        asks["Access-Control-Request-Headers"] = "authorization, content-type, idempotency-key"
        preflight = hardened(await client.options("/v1/database/query", headers=asks))
        assert preflight.status_code == 200
        assert preflight.headers["access-control-allow-origin"] == SITE
        assert "access-control-allow-credentials" not in preflight.headers
        answer = hardened(await client.get("/v1/database/list", headers={"Origin": SITE}))
        assert answer.headers["access-control-allow-origin"] == SITE
        assert "X-Request-Id" in answer.headers["access-control-expose-headers"]
        async with world.client("") as stranger:  # a page can read why it was refused
            refused = await stranger.get("/v1/database/list", headers={"Origin": SITE})
            assert refused.headers["access-control-allow-origin"] == SITE
        for other in ("https://evil.example.org", "null", f"{SITE}.evil.example.org"):
            answer = await client.get("/v1/database/list", headers={"Origin": other})
            assert "access-control-allow-origin" not in answer.headers
            assert (await client.options("/v1/database/query", headers=asks | {"Origin": other})).status_code == 400


GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


def saying(*headers: tuple[bytes, bytes], body: bytes = b"said") -> Any:
    """An application that answers this."""

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": list(headers)})
        await send({"type": "http.response.body", "body": body})

    return app


def test_what_an_answer_says_itself_stays() -> None:
    app = saying((b"Content-Security-Policy", b"default-src 'self'"), (b"content-length", b"4"))
    with serve(app) as served, served.client() as client:
        client.sendall(GET)
        head = answered(client).partition(b"\r\n\r\n")[0]
        lines = (line.partition(b": ") for line in head.split(b"\r\n")[1:])
        headers = [(name, value) for name, _, value in lines]
        assert len(headers) == len(HEADERS) + 1 == len(dict(headers))
        assert dict(headers) == dict(HEADERS) | {
            b"content-security-policy": b"default-src 'self'",
            b"content-length": b"4",
        }


class Nobody:
    """Counts no connection."""

    def began(self, connection: Connection) -> None: ...

    def ended(self, connection: Connection) -> None: ...


class Writes(asyncio.Transport):
    """Remembers each write."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []

    def write(self, data: Any) -> None:
        self.writes.append(bytes(data))

    def is_closing(self) -> bool:
        return False


@pytest.mark.parametrize("headers", [[(b"content-length", b"4")], []])
def test_an_answer_is_one_write_whatever_its_length_is_told_by(headers: list[tuple[bytes, bytes]]) -> None:
    async def ask() -> list[bytes]:
        app = saying(*headers)
        config = Config(app, loop="none", http="httptools", ws="none", lifespan="off", log_config=None)
        connection, transport = Connection(config, ServerState(), app, 20.0, Nobody()), Writes()
        connection.connection_made(transport)
        connection.data_received(GET)
        await asyncio.gather(*connection.tasks)
        assert not connection.tasks, "what has ended is not waited for"
        return transport.writes

    (whole,) = asyncio.run(ask())
    assert whole.startswith(b"HTTP/1.1 200")
    assert b"said" in whole.partition(b"\r\n\r\n")[2]


@pytest.mark.parametrize(
    "spoilt",
    [
        saying((b"x-id", b"1\r\nset-cookie: a=b"), (b"content-length", b"4")),
        saying((b"x-id", b"1\n"), (b"content-length", b"4")),
        saying((b"x-id", b"\0"), (b"content-length", b"4")),
        saying((b"x-id: 1\r\nx", b"1"), (b"content-length", b"4")),
        saying((b"content-length", b"5")),
        saying((b"content-length", b"3")),
    ],
)
def test_an_answer_that_is_none_ends_the_connection_and_no_part_of_it_is_sent(spoilt: Any) -> None:
    with serve(spoilt) as served, served.client() as client:
        client.sendall(GET)
        said = rest(client)
        assert b"set-cookie" not in said
        assert b"said" not in said
        assert not said.startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("wrong", [f"{SITE}/", "app.example.org", "ftp://x", "https://x:y", "*.example.org"])
def test_R13_what_is_no_origin_is_refused(wrong: str) -> None:
    with pytest.raises(SettingsError, match="is not an origin"):
        load(None, [f'gateway.cors_origins=["{wrong}"]'])


async def test_P61_a_gateway_is_ready_while_its_node_does_not_listen_and_lives_all_the_same() -> None:
    async with gateway() as world, world.client() as client:
        for complete in (True, False, True):
            world.host.keys(None, (), complete=complete)
            with trio.fail_after(20):
                while (answer := await client.get("/readyz")).is_success != complete:
                    pass  # until the frame has been read
            assert complete or kind_of(answer) == "listening"
            assert (await client.get("/healthz")).status_code == 200
            rqlite = await client.get(f"{world.host.rqlite_url}/readyz", auth=("users", world.keys["one"]))
            assert ("[+]leader ok" in rqlite.text, rqlite.text.startswith("listening: ")) == (complete, not complete)
            assert rqlite.status_code == (200 if complete else 503)


@pytest.mark.real
async def test_a_gateway_that_stops_is_not_ready_and_still_answers(rqlited: Rqlited) -> None:
    async with gateway({("one", "users"): rqlited.url}, drain_s=20.0) as world, world.client() as client:
        assert (await client.get("/readyz")).json() == {"status": "ready"}
        async with world.client() as probe, trio.open_nursery() as nursery:
            await probe.get("/readyz")  # a connection that stays
            nursery.start_soon(lambda: post(client, "query", sql=SLOW.format(rows=3_000_000)))
            await in_flight(world)
            nursery.start_soon(world.host.stop_accepting)
            answer = await probe.get("/readyz")
            while answer.status_code == 200 and "connection" not in answer.headers:
                answer = await probe.get("/readyz")  # the worker has not heard its signal yet
            assert kind_of(answer) == "stopping"


@pytest.mark.real
async def test_F85_no_log_line_holds_a_statement_an_argument_or_a_key(
    rqlited: Rqlited, capfd: pytest.CaptureFixture[str]
) -> None:
    async with gateway({("one", "users"): rqlited.url}, log_level="debug", access=True) as world:
        bodies: list[dict[str, Any]] = [
            {"sql": f"SELECT '{MARKER}' AS x"},
            {"sql": f"SELECT {MARKER}"},
            {"sql": f"{MARKER} {MARKER}"},
            {"sql": "SELECT ? AS x", "args": [MARKER]},
            {"sql": "SELECT ? AS x", "args": [MARKER, {MARKER: MARKER}]},
            {"sql": f"ATTACH '{MARKER}' AS x"},
            {"sql": f'CREATE TABLE "{MARKER}" (v)'},
            {"sql": f'INSERT INTO "{MARKER}" VALUES (?) RETURNING v', "args": [MARKER]},
            {"queries": [f"INSERT INTO \"{MARKER}\" VALUES ('{MARKER}')", {"sql": f"INSERT INTO {MARKER}"}]},
            {"schema": f"CREATE TABLE x ('{MARKER}')"},
            {"table_name": MARKER},
            {MARKER: MARKER},
            {"database": MARKER * 30, "sql": "SELECT 1"},
        ]
        endpoints = ["query", "exec", "transaction", "schema", "create-table", "drop-table", "list", MARKER]
        answered = 0
        for key in (world.keys["one"], MARKER):
            for headers in ({"Authorization": f"Bearer {key}"}, {"X-API-Key": key}, {"Authorization": MARKER}):
                async with world.client("", headers=headers | {"Cookie": MARKER}) as client:
                    for endpoint in endpoints:
                        for body in bodies if headers.get("X-API-Key") == world.keys["one"] else bodies[:1]:
                            await client.post(f"/v1/database/{endpoint}?{MARKER}", json={"database": "users"} | body)
                            answered += 1
                        await client.post(f"/v1/database/{endpoint}", content=MARKER.encode())
                        await client.get(f"/v1/database/{endpoint}?database={MARKER}")
                        answered += 2
        world.keeper.refuse = Problem("instance-failed", "rqlited did not start")
        async with world.client() as client:
            failed = await client.post("/v1/database/query", json={"database": "other", "sql": f"SELECT '{MARKER}'"})
            assert failed.status_code == 503
        port = int(world.address.rpartition(":")[2])
        for garbage in (f"{MARKER}\r\n\r\n", f"GET /{MARKER} HTTP/1.1\r\n{MARKER}\r\n\r\n"):
            async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
                await stream.send_all(garbage.encode())
                assert b"400" in await stream.receive_some()
    said = capfd.readouterr().err
    lines = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    requests = [line for line in lines if line["event"] == "request"]
    assert len(requests) == answered + 1
    assert {line["level"] for line in requests} == {"info", "warning"}
    assert {"query", "exec", "transaction"} <= {line["path"].rpartition("/")[2] for line in requests}
    for secret in (MARKER, world.keys["one"]):
        assert secret not in said


def test_an_error_that_nobody_expected_is_told_by_its_kind_and_place_alone(capfd: pytest.CaptureFixture[str]) -> None:
    def fails(argument: str) -> None:
        raise KeyError(argument)

    try:
        try:
            fails(MARKER)
        except KeyError as error:
            raise ValueError(f"from {MARKER}") from error
    except ValueError as error:
        Log("info", 1).failed("0123456789abcdef", error)
    line = json.loads(capfd.readouterr().err)
    assert (line["kind"], line["request_id"]) == ("ValueError", "0123456789abcdef")
    assert any("test_gateway_edge.py" in place for place in line["places"])
    assert MARKER not in json.dumps(line)


async def test_without_an_access_log_ordinary_requests_are_no_lines(capfd: pytest.CaptureFixture[str]) -> None:
    async with gateway() as world, world.client() as client:
        assert (await client.get("/healthz")).status_code == 200
    assert "request_id" not in capfd.readouterr().err


def test_R60_a_line_that_cannot_be_written_is_lost_and_nothing_else() -> None:
    program = (
        "from runtime.gateway.log import Log; "
        "[Log('info', 1, access=True).access('0' * 16, 'GET', '/healthz', '', 200, 0.001, '') for _ in range(1000)]"
    )
    with Path("/dev/full").open("ab") as full:
        assert subprocess.run([sys.executable, "-c", program], stderr=full, check=False).returncode == 0
