"""Two applications, every endpoint, and no way across (F85, R36): not by names, headers, paths, keys of both, repeated requests or files. The
databases of both have the same name, and one holds a secret."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from runtime.gateway.frames import Ask, ListNames
from tests.runtime.gateway_world import Rqlited, World, gateway, kind_of, post, rqliteds

pytestmark = pytest.mark.real

SECRET = "the-secret-of-one"
REQUESTS: dict[str, tuple[str, dict[str, Any]]] = {
    "query": ("POST", {"sql": "SELECT * FROM t"}),
    "exec": ("POST", {"sql": "UPDATE t SET v = 'taken' RETURNING v"}),
    "transaction": ("POST", {"queries": ["UPDATE t SET v = 'taken'", "SELECT v FROM t"]}),
    "schema": ("POST", {}),
    "create-table": ("POST", {"schema": "CREATE TABLE IF NOT EXISTS x(a)"}),
    "drop-table": ("POST", {"table_name": "only_one"}),
    "list": ("GET", {}),
    "export": ("GET", {}),
    "import": ("POST", {}),
}
NAMES = (
    "one_users", "one/users", "../one/users", "one.users", "one:users", "one%2Fusers", "..%2fone%2fusers", "USERS", "Users", "users ", " users", "users\0", "users\n", "users/",
    "users?app=one", "one-users", "оne_users", "users\u200b", "", "*", "one_users.db", "%75sers", "users;one", "main", "/users", "C:users", "x" * 300,
)  # fmt: skip
HEADERS: tuple[dict[str, str], ...] = (
    {"X-Torpor-Application": "one"},
    {"x-torpor-application": "one", "X-Torpor-Milliseconds-Left": "9000", "X-Request-Id": "0123456789abcdef"},
    {"X-Forwarded-For": "127.0.0.1", "X-Forwarded-Host": "one", "X-Forwarded-User": "one", "Forwarded": "for=127.0.0.1;host=one"},
    {"X-Original-URL": "/v1/member/query", "X-Rewrite-URL": "/v1/member/query", "X-HTTP-Method-Override": "GET"},
    {"Host": "one", "Origin": "http://one", "Referer": "http://one"},
    {"Application": "one", "X-Application": "one", "X-App": "one", "Cookie": "app=one; application=one"},
)  # fmt: skip
PATHS = (
    "/v1/member/query", "/v1/member/exec", "/v1/member/list", "/v1/member/export", "/v1/member/hello", "/V1/database/query", "/v1/Database/query", "/v1/database/QUERY",
    "//v1/database/query", "/v1//database/query", "/v1/database//query", "/v1/database/query/", "/v1/database/./query", "/v1/database/../member/query", "/v1/member/../database/query",
    "/v1/database/%2e%2e/member/query", "/v1/database/query%00", "/v1/database/query;app=one", "/v1/database/query/../exec", "/v1/one/database/query", "/v1/database/one/query",
    "/v1/member", "/v1/", "/v1", "/db/query", "/db/execute", "/db/request", "/status", "/nodes", "/v1/database/query%2f..%2fexec", "/v2/database/query", "/\\v1/database/query",
)  # fmt: skip


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[tuple[World, dict[str, Rqlited]]]:
    with rqliteds(tmp_path, "one", "two") as running:
        for each in running.values():
            await each.ready()
        async with gateway({(app, "users"): r.url for app, r in running.items()}, within=300) as world:
            for app in running:
                async with world.client(app) as client:
                    await post(client, "create-table", schema="CREATE TABLE t (v)")
                    await post(client, "create-table", schema=f"CREATE TABLE only_{app} (a)")
                    value = SECRET if app == "one" else "of-two"
                    assert (await post(client, "exec", sql="INSERT INTO t VALUES (?)", args=[value])).status_code == 200
            yield world, running


async def ask(client: httpx.AsyncClient, endpoint: str, database: str, **options: Any) -> httpx.Response:
    method, members = REQUESTS[endpoint]
    path = options.pop("path", f"/v1/database/{endpoint}")
    if endpoint == "import":
        return await client.post(
            path, params={"database": database}, content=b"SQLite format 3\0" + bytes(600), **options
        )
    if method == "GET":
        return await client.get(path, params={"database": database} if endpoint != "list" else None, **options)
    return await client.post(path, json={"database": database} | members, **options)


async def untouched(world: World) -> None:
    """What is of one is there as it was, and nobody has asked the node for it but one."""
    async with world.client("one") as one:
        assert (await post(one, "query", sql="SELECT v FROM t")).json()["items"] == [{"v": SECRET}]
        tables = (await post(one, "schema")).json()["tables"]
        assert [table["name"] for table in tables] == ["only_one", "t"]


async def test_F85_R36_every_endpoint_is_tried(served: tuple[World, dict[str, Rqlited]]) -> None:
    world, _running = served
    async with world.client("") as client:
        document = (await client.get("/openapi.json")).json()
    assert {path.removeprefix("/v1/database/") for path in document["paths"] if "/v1/" in path} == set(REQUESTS)


async def test_F85_R36_no_endpoint_and_no_header_shows_or_changes_what_is_of_another(
    served: tuple[World, dict[str, Rqlited]],
) -> None:
    world, _running = served
    async with world.client("two") as two:
        for headers in ({}, *HEADERS):
            for endpoint in REQUESTS:
                answer = await ask(two, endpoint, "users", headers=headers)
                assert SECRET.encode() not in answer.content, (endpoint, headers)
                assert b"only_one" not in answer.content or endpoint == "drop-table", (endpoint, headers)
                assert answer.status_code == {"drop-table": 400, "import": 422}.get(endpoint, 200), answer.text
    asked = {(frame.app, frame.name) for frame in world.keeper.of(Ask)} | {
        (f.app, "") for f in world.keeper.of(ListNames)
    }
    assert asked <= {("one", "users"), ("two", "users"), ("two", "")}
    await untouched(world)


async def test_F82_F85_no_name_leads_out_of_the_application(served: tuple[World, dict[str, Rqlited]]) -> None:
    world, _running = served
    async with world.client("two") as two:
        for endpoint in REQUESTS.keys() - {"list"}:
            for name in NAMES:
                answer = await ask(two, endpoint, name)
                assert kind_of(answer) in ("invalid-name", "max-databases", "invalid-file"), (
                    endpoint,
                    name,
                    answer.text,
                )
    assert {frame.app for frame in world.keeper.of(Ask)} == {"one", "two"}
    assert {frame.name for frame in world.keeper.of(Ask) if frame.app == "one"} == {"users"}
    await untouched(world)


async def test_F93_F85_no_path_leads_to_what_only_other_gateways_may_ask(
    served: tuple[World, dict[str, Rqlited]],
) -> None:
    """As raw bytes: clients tidy paths up."""
    world, _running = served
    host, _, port = world.address.removeprefix("http://").rpartition(":")
    body = b'{"database": "users", "sql": "SELECT * FROM t"}'
    for target in (*PATHS, "http://one/v1/member/query", "*"):
        for method in ("POST", "GET", "PUT", "OPTIONS", "CONNECT"):
            head = (
                f"{method} {target} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {world.keys['two']}\r\n"
                f"X-Torpor-Application: one\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
            )
            stream = await trio.open_tcp_stream(host, int(port))
            with trio.fail_after(20):
                await stream.send_all(head.encode() + body)
                answer = b"".join([chunk async for chunk in stream])
            await stream.aclose()
            assert SECRET.encode() not in answer, (method, target)
            assert answer.split(b" ")[1:2] in ([b"404"], [b"400"], [b"405"]), (method, target, answer[:200])
    await untouched(world)


async def test_R36_two_keys_are_one_too_many_and_none_is_none(served: tuple[World, dict[str, Rqlited]]) -> None:
    world, _running = served
    one, two = world.keys["one"], world.keys["two"]
    async with world.client("") as client:
        for headers in (
            [("Authorization", f"Bearer {two}"), ("X-API-Key", one)],
            [("Authorization", f"Bearer {two}"), ("Authorization", f"Bearer {one}")],
            [("X-API-Key", two), ("X-API-Key", one)],
            [("Authorization", f"Bearer {two}, Bearer {one}")],
            [("Authorization", f"Bearer {two} {one}")],
            [("X-API-Key", f"{two},{one}")],
            [("Authorization", f"Basic {one}")],
            [("X-Api-Key", one[:-1])],
            [("X-API-Key", one.swapcase())],
            [("Cookie", f"X-API-Key={one}")],
        ):
            for endpoint in REQUESTS:
                answer = await ask(client, endpoint, "users", headers=headers)
                assert SECRET.encode() not in answer.content
                assert kind_of(answer) == "unauthorized", (headers[0][0], endpoint)
        for path in ("/v1/database/query?api_key=", "/v1/database/query?key=", "/v1/database/query?access_token="):
            assert kind_of(await ask(client, "query", "users", path=path + one)) == "unauthorized"
    await untouched(world)


async def test_F86_F85_the_same_key_and_the_same_request_of_two_applications_are_two(
    served: tuple[World, dict[str, Rqlited]],
) -> None:
    world, _running = served
    async with world.client("one") as one, world.client("two") as two:
        for client in (one, two):
            for endpoint in ("exec", "transaction"):
                answer = await ask(
                    client, endpoint, "users", headers={"Idempotency-Key": "same"} | {"X-Torpor-Application": "one"}
                )
                if endpoint == "exec":
                    assert "repeated" not in answer.json(), answer.text
                else:
                    assert kind_of(answer) == "idempotency-key-reused"
        for client in (one, two):
            assert (await post(client, "query", sql="SELECT v FROM t")).json()["items"] == [{"v": "taken"}]


async def test_F85_the_file_of_another_is_out_of_reach_though_its_path_is_known(
    served: tuple[World, dict[str, Rqlited]],
) -> None:
    world, running = served
    file = running["one"].directory / "db.sqlite"
    async with world.client("two") as two:
        for sql in (
            f"ATTACH '{file}' AS x",
            f"ATTACH 'file:{file}?mode=ro' AS x",
            f"VACUUM INTO '{file}'",
            f"CREATE VIRTUAL TABLE x USING csv(filename='{file}')",
            f"SELECT readfile('{file}')",
            f"SELECT * FROM fsdir('{file}')",
            "SELECT * FROM pragma_database_list",
            "CREATE VIRTUAL TABLE x USING fts5(file, content='pragma_database_list', content_rowid='seq')",
        ):
            for endpoint, members in (
                ("query", {"sql": sql}),
                ("exec", {"sql": sql}),
                ("transaction", {"queries": ["SELECT 1", sql]}),
                ("create-table", {"schema": sql}),
            ):
                assert kind_of(await post(two, endpoint, **members)) == "sql-refused", (endpoint, sql)
    await untouched(world)
