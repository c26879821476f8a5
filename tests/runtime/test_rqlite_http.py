"""The conversation with rqlited: errors that come with HTTP 200, connections that died unseen, answers that never come."""

from functools import partial
from pathlib import Path

import pytest
import trio

from runtime.rqlite_http import Reply, RqliteError, RqliteHttp
from tests.runtime.rqlited_world import NODE_ID, world


@pytest.mark.real
async def test_errors_with_HTTP_200_are_errors(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        run = await w.start("found")
        async with run.client() as client:
            with pytest.raises(RqliteError, match="no such table: missing") as caught:
                await client.query("SELECT * FROM missing", 5)
            assert caught.value.heard
            with pytest.raises(RqliteError, match="syntax error"):
                await client.execute("CREATE TABLE t (n)", "INSERT INTO t SELEC 1", within=5)
            assert await client.query("SELECT count(*) FROM sqlite_master", 5, "strong") == [[0]], "all or nothing"
            store = await client.store(5)
            assert (store.leader_id, store.leads, store.voters) == (NODE_ID, True, (NODE_ID,))
        await run.stop()


@pytest.mark.real
async def test_a_kept_connection_that_died_with_its_rqlited_is_replaced_unseen(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        run = await w.start("found")
        async with run.client() as client:
            await client.strong_read(5)
            await run.stop()
            run = await w.start("restart", http_port=run.spec.http_port)
            await client.strong_read(5)
            await client.execute("CREATE TABLE t (n)", within=5)
            assert await client.query("SELECT count(*) FROM t", 5) == [[0]]
        await run.stop()


@pytest.mark.real
async def test_F89_a_client_that_keeps_its_connection_does_not_hold_up_a_stop(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        run = await w.start("found")
        async with run.client() as client:
            await client.strong_read(5)
            w.supervisor.terminate(run.spec.incarnation, run.spec.run, 30)
            with trio.fail_after(15):
                ended = await run.until_ended()
            assert ended.cause == "stopped"


def test_every_place_of_an_error_is_looked_at() -> None:
    assert Reply(200, b'{"results": [{"rows_affected": 1}]}').json() == {"results": [{"rows_affected": 1}]}
    for status, body, text in (
        (200, b'{"error": "leadership lost"}', "leadership lost"),
        (200, b'{"results": [{}, {"error": "stale read"}]}', "stale read"),
        (503, b"leader not found\n", "HTTP 503: leader not found"),
        (200, b"<html>", "not JSON"),
        (200, b"[1]", "no JSON object"),
    ):
        with pytest.raises(RqliteError, match=text):
            Reply(status, body).json()


@pytest.mark.parametrize(
    ("said", "text"),
    [
        (b"", "no answer to GET /status within 0.2 s"),
        (b"not http\r\n\r\n", "RemoteProtocolError"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{", "no answer"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5000000\r\n\r\n" + b"x" * 5000000, "longer than"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", "not as expected"),
    ],
)
async def test_a_server_that_is_no_rqlited_is_an_error_within_the_time_given(said: bytes, text: str) -> None:
    async def serve(stream: trio.SocketStream) -> None:
        try:
            await stream.receive_some(65536)
            await stream.send_all(said)
            await trio.sleep_forever()
        except trio.BrokenResourceError:
            pass

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, host="127.0.0.1"), serve, 0)
        port = listeners[0].socket.getsockname()[1]
        async with RqliteHttp("127.0.0.1", port) as client:
            with pytest.raises(RqliteError, match=text):
                await client.store(0.2 if not said or len(said) < 100 else 5)
        nursery.cancel_scope.cancel()


async def test_nobody_listening_is_an_error_that_was_not_heard() -> None:
    async with RqliteHttp("127.0.0.1", 1) as client:
        with pytest.raises(RqliteError, match="ConnectionRefused") as caught:
            await client.strong_read(1)
        assert not caught.value.heard
