"""Writes that go to rqlited together: who waits for whom, and that each hears of its own statement and no other's. Against a server of a few lines
that answers when it is told to; then through a real worker, to a real rqlited."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
import trio

from runtime.gateway.group_commit import BYTES, STALLED_S, TOGETHER, GroupCommit
from runtime.gateway.upstream import Upstream
from runtime.gateway.upstream_connection import Attempt, Broken, NotSent, Response
from tests.runtime.gateway_world import gateway, kind_of, post, rqliteds

Write = asyncio.Task[Response]


class Server:
    """An rqlited that tells each statement its own name. ``says``: instead, for requests of several. ``heard``: the statements of each request."""

    def __init__(self) -> None:
        self.heard: list[list[str]] = []
        self.says: tuple[int, bytes] | None = None
        self.open = asyncio.Event()
        """Requests are answered; otherwise they hang."""
        self._heard = asyncio.Condition()

    async def until_heard(self, requests: int) -> None:
        async with self._heard:
            await self._heard.wait_for(lambda: len(self.heard) >= requests)

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                (length,) = [int(line[15:]) for line in head.split(b"\r\n") if line.startswith(b"Content-Length:")]
                statements = [statement[0] for statement in orjson.loads(await reader.readexactly(length))]
                async with self._heard:
                    self.heard.append(statements)
                    self._heard.notify_all()
                await self.open.wait()
                status, body = 200, orjson.dumps({"results": [{"name": one} for one in statements]})
                if self.says is not None and len(statements) > 1:
                    status, body = self.says
                if not status:
                    return
                writer.write(b"HTTP/1.1 %d x\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client has ended it
        finally:
            writer.close()


class Writers:
    """Those who write through one :class:`GroupCommit`."""

    def __init__(self, commits: GroupCommit, url: str) -> None:
        self.done: list[str] = []
        self.attempts: dict[str, Attempt] = {}
        self._commits = commits
        self._url = url

    def write(self, name: str, within: float = 4.0) -> Write:
        attempt = self.attempts[name] = Attempt()
        until = asyncio.get_running_loop().time() + within
        body = orjson.dumps([[name]])
        return asyncio.create_task(
            self._commits.post(self._url, body, attempt, until, lambda: self.done.append(name)), name=name
        )

    async def behind(self, first: Write, *names: str) -> list[Write]:
        """They wait while ``first`` is under way."""
        tasks = [self.write(name) for name in names]
        await asyncio.sleep(0)
        assert not first.done()
        assert not any(self.attempts[name].sent for name in names)
        return tasks


def against(story: Callable[[Server, Writers, Write], Awaitable[None]]) -> None:
    """The story begins with one write under way, which the server keeps."""

    async def run() -> None:
        server = Server()
        async with asyncio.timeout(10), await asyncio.start_server(server, "127.0.0.1", 0) as listening:
            host, port = listening.sockets[0].getsockname()
            upstream = Upstream(8)
            url = f"http://{host}:{port}"
            writers = Writers(GroupCommit(upstream, 1 << 20), url)
            first = writers.write("first")
            await server.until_heard(1)
            await story(server, writers, first)
            server.open.set()
            upstream.retire(url)

    asyncio.run(run())


def told(task: Write) -> Any:
    (result,) = orjson.loads(task.result().body)["results"]
    return result["name"]


def test_R61_what_comes_meanwhile_goes_together_and_each_hears_of_its_own() -> None:
    async def story(server: Server, writers: Writers, first: Write) -> None:
        rest = await writers.behind(first, "a", "b", "c")
        server.open.set()
        await asyncio.wait([first, *rest])
        assert server.heard == [["first"], ["a", "b", "c"]]
        assert [told(one) for one in (first, *rest)] == ["first", "a", "b", "c"]
        assert writers.done == ["first", "a", "b", "c"]
        alone = writers.write("alone")
        await alone
        assert server.heard[2:] == [["alone"]], "nothing is left of it that would make one wait"

    against(story)


def test_F82_one_request_has_bounds() -> None:
    async def story(server: Server, writers: Writers, first: Write) -> None:
        short = [f"n{n}" for n in range(TOGETHER + 3)]
        half = "x" * (BYTES // 2)
        rest = await writers.behind(first, *short, f"1{half}", f"2{half}", "y" * (BYTES + 1), "last")
        server.open.set()
        await asyncio.wait([first, *rest])
        assert [told(one) for one in rest] == [one.get_name() for one in rest]
        assert [len(request) for request in server.heard] == [1, TOGETHER, 4, 1, 1, 1]
        assert [one[:1] for one in server.heard[2]] == ["n", "n", "n", "1"]

    against(story)


@pytest.mark.parametrize(
    ("says", "error"),
    [
        ((0, b""), Broken),
        ((200, b'{"results":[{"name":"a"}]}'), Broken),
        ((200, b"{}"), Broken),
        ((200, b'{"results":null}'), Broken),
        ((200, b"gibberish"), Broken),
        ((400, b"invalid"), NotSent),
    ],
    ids=["it ends", "too few results", "no results", "null", "no JSON", "refused as a whole"],
)
def test_F86_what_is_known_of_a_request_that_failed_is_known_of_each(
    says: tuple[int, bytes], error: type[Exception]
) -> None:
    async def story(server: Server, writers: Writers, first: Write) -> None:
        rest = await writers.behind(first, "a", "b")
        server.says = says
        server.open.set()
        await asyncio.wait([first, *rest])
        assert told(first) == "first"
        assert [type(one.exception()) for one in rest] == [error, error]
        assert all(writers.attempts[name].sent for name in "ab")
        assert writers.done == ["first", "a", "b"], "each passage is given back once"

    against(story)


@pytest.mark.parametrize("says", [(503, b"leader not found"), (200, b'{"results":[],"error":"leadership lost"}')])
def test_F50_a_failure_of_rqlited_is_told_to_each(says: tuple[int, bytes]) -> None:
    async def story(server: Server, writers: Writers, first: Write) -> None:
        rest = await writers.behind(first, "a", "b")
        server.says = says
        server.open.set()
        assert [await one for one in rest] == [Response(*says)] * 2

    against(story)


@pytest.mark.parametrize("given_up", ["late", "cancelled"])
def test_R37_F86_who_gives_up_while_it_waits_was_never_sent(given_up: str) -> None:
    async def story(server: Server, writers: Writers, first: Write) -> None:
        (other,) = await writers.behind(first, "other")
        late = writers.write("late", within=STALLED_S / 5)
        await asyncio.sleep(0)
        if given_up == "cancelled":
            late.cancel()
        with pytest.raises((TimeoutError, asyncio.CancelledError)):
            await late
        assert not writers.attempts["late"].sent
        server.open.set()
        await asyncio.wait([first, other])
        assert server.heard == [["first"], ["other"]]
        assert writers.done == ["first", "other"]

    against(story)


@pytest.mark.parametrize("given_up", ["late", "cancelled"])
def test_P30_who_gives_up_on_its_way_stays_counted_until_rqlited_is_done(given_up: str) -> None:
    async def story(server: Server, writers: Writers, first: Write) -> None:
        rest = await writers.behind(first, "a")
        late = writers.write("late", within=STALLED_S * 2)
        await server.until_heard(2)
        if given_up == "cancelled":
            late.cancel()
        with pytest.raises((TimeoutError, asyncio.CancelledError)):
            await late
        assert writers.attempts["late"].sent
        assert writers.done == []
        server.open.set()
        await asyncio.wait([first, *rest])
        assert writers.done.count("late") == 1
        assert [told(one) for one in rest] == ["a"]

    against(story)


def test_F50_what_hangs_holds_nobody_up_for_long() -> None:
    async def story(server: Server, writers: Writers, first: Write) -> None:
        rest = await writers.behind(first, "a", "b")
        await server.until_heard(2)
        late = writers.write("c")
        await server.until_heard(3)
        assert server.heard == [["first"], ["a", "b"], ["c"]]
        server.open.set()
        await asyncio.wait([first, *rest, late])

    against(story)


WRITERS = 40
EACH = 12


@pytest.mark.real
async def test_R31_F86_of_many_writers_each_is_told_what_became_of_its_own(tmp_path: Path) -> None:
    told: list[tuple[int, int, str | int]] = []

    async def writes(client: httpx.AsyncClient, who: int) -> None:
        for n in range(EACH):
            if n % 4 == 3:
                answer = await post(client, "exec", sql="INSERT INTO t VALUES (?, 'twice')", args=[1])
                told.append((who, n, kind_of(answer)))
            elif n % 4 == 2:
                answer = await post(
                    client, "exec", sql="UPDATE t SET v = v || '!' WHERE v = ?", args=[f"{who} {n - 1}"]
                )
                told.append((who, n, answer.json()["rows_affected"]))
            else:
                answer = await post(client, "exec", sql="INSERT INTO t(v) VALUES (?)", args=[f"{who} {n}"])
                told.append((who, n, answer.json()["last_insert_id"]))

    with rqliteds(tmp_path, "one") as running:
        await running["one"].ready()
        async with gateway({("one", "users"): running["one"].url}) as world, world.client() as client:
            await post(client, "exec", sql="CREATE TABLE t (id INTEGER PRIMARY KEY, v)")
            await post(client, "exec", sql="INSERT INTO t VALUES (1, 'first')")
            before = await _index(running["one"].url)
            async with trio.open_nursery() as nursery:
                running["one"].signal(signal.SIGSTOP)
                for who in range(WRITERS):
                    nursery.start_soon(writes, client, who)
                await trio.sleep(2 * STALLED_S)
                running["one"].signal(signal.SIGCONT)
            entries = await _index(running["one"].url) - before
            rows = (await post(client, "query", sql="SELECT id, v FROM t")).json()["items"]
    inserted = {row["id"]: row["v"] for row in rows[1:]}
    assert len(told) == WRITERS * EACH
    for who, n, what in told:
        if n % 4 == 3:
            assert what == "sql-error"
        elif n % 4 == 2:
            assert what == 1
        else:
            assert inserted.pop(int(what)).rstrip("!") == f"{who} {n}"
    assert not inserted, "nobody was told of these"
    assert entries < WRITERS * EACH, f"{entries} entries of the log for {WRITERS * EACH} writes"


@pytest.mark.real
async def test_F86_a_kill_under_many_writers_loses_no_acknowledged_write_and_doubles_none(tmp_path: Path) -> None:
    acknowledged: list[str] = []
    unknown: list[str] = []
    enough = trio.Event()

    async def writes(client: httpx.AsyncClient, who: int) -> None:
        for n in range(4 * EACH):
            value = f"{who} {n}"
            answer = await post(client, "exec", sql="INSERT INTO t(v) VALUES (?)", args=[value])
            if answer.status_code == 200:
                acknowledged.append(value)
                if len(acknowledged) == 5 * WRITERS:
                    enough.set()
            else:
                assert answer.json()["may_have_committed"], answer.text
                unknown.append(value)
                return

    with rqliteds(tmp_path, "one") as running:
        rqlited = running["one"]
        await rqlited.ready()
        async with gateway({("one", "users"): rqlited.url}) as world, world.client() as client:
            await post(client, "exec", sql="CREATE TABLE t (v)")
            async with trio.open_nursery() as nursery:
                for who in range(WRITERS):
                    nursery.start_soon(writes, client, who)
                await enough.wait()
                rqlited.signal(signal.SIGSTOP)
                await trio.sleep(2 * STALLED_S)  # by then some are on their way, and nobody has taken them in
                rqlited.kill()
                rqlited.start()
            # Its log is applied then; before, a weak read may miss what was acknowledged before the kill.
            await rqlited.ready()
            rows = [row["v"] for row in (await post(client, "query", sql="SELECT v FROM t")).json()["items"]]
    assert unknown, "some were on their way"
    assert len(rows) == len(set(rows))
    assert set(acknowledged) <= set(rows) <= {*acknowledged, *unknown}


async def _index(url: str) -> int:
    async with httpx.AsyncClient() as client:
        status = (await client.get(f"{url}/status")).json()
    return int(status["store"]["raft"]["applied_index"])
