"""F85 at the connection: slow, greedy and garbled clients end by themselves, and others are served meanwhile."""

from __future__ import annotations

import asyncio
import errno
import json
import threading
import time
from typing import Any

import pytest

from runtime.gateway import connection as connection_module
from runtime.gateway import listening as listening_module
from tests.runtime.edge_world import answer, rest, serve

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listening_module, "LOOK_S", 0.05)


async def ok(_scope: Any, receive: Any, send: Any) -> None:
    """Reads its body and says how long it was."""
    size = 0
    while True:
        message = await receive()
        size += len(message.get("body", b""))
        if message["type"] == "http.disconnect":
            return
        if not message.get("more_body"):
            break
    body = str(size).encode()
    await send(
        {"type": "http.response.start", "status": 200, "headers": [(b"content-length", str(len(body)).encode())]}
    )
    await send({"type": "http.response.body", "body": body})


def problem(said: bytes, status: int, kind: str) -> None:
    """That an answer is this problem, whole, and the last one."""
    head, _, body = said.partition(b"\r\n\r\n")
    assert head.startswith(f"HTTP/1.1 {status} ".encode()), said
    for line in (b"content-type: application/problem+json", b"connection: close", b"x-content-type-options: nosniff"):
        assert line in head, head
    document = json.loads(body)
    assert document["type"] == f"urn:torpor:problem:{kind}"
    assert f"x-request-id: {document['request_id']}".encode() in head


@pytest.mark.parametrize(
    "garbage", [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"hello\r\n\r\n", b"GET  / HTTP/9\r\n\r\n"]
)
def test_F85_bytes_that_are_no_HTTP_end_in_a_problem_document(garbage: bytes) -> None:
    with serve(ok) as served, served.client() as client:
        client.sendall(garbage)
        problem(rest(client), 400, "bad-request")


@pytest.mark.parametrize("begin", [b"GET / HTTP/1.1\r\nHost: x\r\nX-", GET + b"GET / HTTP/1.1\r\nX-"])
def test_F85_a_head_that_does_not_come_to_its_end_is_not_waited_for(begin: bytes) -> None:
    """On a new connection, and on one that was used: there, one byte of the next request ends what bounds an idle one."""
    with serve(ok, patience=0.3) as served, served.client() as client:
        client.sendall(begin)
        stop = threading.Event()

        def trickle() -> None:
            while not stop.wait(0.05):
                try:
                    client.sendall(b"y")
                except OSError:
                    return

        slow = threading.Thread(target=trickle)
        slow.start()
        said = rest(client)
        stop.set()
        slow.join()
        if begin.startswith(GET):
            said = said[said.index(b"HTTP/1.1 408") :]
        problem(said, 408, "request-timeout")


def test_F85_a_connection_without_a_request_is_ended() -> None:
    with serve(ok, patience=0.3) as served, served.client() as client:
        assert rest(client) == b""


def test_F85_a_connection_that_is_used_no_more_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "KEEP_ALIVE_S", 0.3)
    with serve(ok) as served, served.client() as client:
        client.sendall(GET)
        assert answer(client).endswith(b"\r\n\r\n0")
        assert rest(client) == b""


def test_requests_that_do_not_wait_for_the_answer_before_are_answered_in_their_order() -> None:
    with serve(ok) as served, served.client() as client:
        posts = [b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (n, bytes(n)) for n in (1, 2, 3)]
        client.sendall(b"".join(posts[:2]) + posts[2].replace(b"Host: x", b"Host: x\r\nConnection: close"))
        answers = rest(client).split(b"HTTP/1.1 200 OK")[1:]
        assert [each[-1:] for each in answers] == [b"1", b"2", b"3"]


def test_F85_a_body_that_trickles_is_ended_and_one_that_flows_takes_as_long_as_it_needs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with serve(ok, patience=0.4) as served:
        with served.client() as client:
            client.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nabc")
            problem(rest(client), 408, "request-timeout")
        monkeypatch.setattr(connection_module, "RATE", 1000)
        with served.client() as client:
            client.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2000\r\n\r\n")
            began = time.monotonic()
            for _ in range(20):
                time.sleep(0.05)
                client.sendall(bytes(100))
            assert time.monotonic() - began > 0.8, "twice its patience"
            assert answer(client).endswith(b"\r\n\r\n2000")


def test_F85_an_endless_head_and_endless_trailers_are_ended() -> None:
    with serve(ok) as served:
        for begin in (b"GET / HTTP/1.1\r\nX: ", b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: "):
            with served.client() as client:
                client.sendall(begin)
                for _ in range(20):
                    try:
                        client.sendall(b"y" * 8192)
                    except OSError:
                        break
                said = rest(client)
                if said:  # what we sent after its end may have taken the answer away
                    problem(said, 431, "head-too-large")
        with served.client() as client:  # as large as allowed, piece by piece
            client.sendall(b"GET / HTTP/1.1\r\nX: ")
            for _ in range(7):
                client.sendall(b"y" * 8192)
            client.sendall(b"\r\n\r\n")
            assert answer(client).startswith(b"HTTP/1.1 200")


def test_F85_an_answer_that_nobody_takes_does_not_stay() -> None:
    gone = threading.Event()

    async def much(_scope: Any, _receive: Any, send: Any) -> None:
        size = 64 << 20
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", str(size).encode())]})
        await send({"type": "http.response.body", "body": bytes(size)})

    class Watching(connection_module.Connection):
        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            gone.set()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tests.runtime.edge_world.Connection", Watching)
        patch.setattr(connection_module, "RATE", 1 << 30)
        with serve(much, patience=0.3) as served, served.client() as client:
            client.sendall(GET)
            assert gone.wait(20)


def test_F85_beyond_the_most_connections_the_idle_make_room_and_the_busy_do_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(listening_module, "SPARED_S", 0.2)
    began, go = threading.Event(), threading.Event()

    async def until_go(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/wait":
            began.set()
            await asyncio.get_running_loop().run_in_executor(None, go.wait, 20)
        await ok(scope, receive, send)

    with serve(until_go, most=2) as served, served.client() as busy, served.client() as idle:
        busy.sendall(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n")
        assert began.wait(20)
        began.clear()
        idle.sendall(GET)
        answer(idle)
        with served.client() as newcomer:
            newcomer.sendall(GET)
            assert answer(newcomer).startswith(b"HTTP/1.1 200")
            assert rest(idle) == b"", "it was idle for longest"
            newcomer.sendall(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n")
            assert began.wait(20)
            with served.client() as waits:
                waits.sendall(GET)
                waits.settimeout(0.5)
                with pytest.raises(TimeoutError):
                    waits.recv(1)
                go.set()
                answer(busy)
                waits.settimeout(20)
                assert answer(waits).startswith(b"HTTP/1.1 200"), "when one was answered, and was idle"


def test_F85_without_descriptors_a_worker_waits_and_goes_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with serve(ok) as served:
        listening = served.server._listening[0]
        really, left = listening._listener, [3]

        class Out:
            def fileno(self) -> int:
                return really.fileno()

            def accept(self) -> Any:
                left[0] -= 1
                if left[0] >= 0:
                    raise OSError(errno.EMFILE, "Too many open files")
                return really.accept()

        monkeypatch.setattr(listening, "_listener", Out())
        with served.client() as client:
            client.sendall(GET)
            assert answer(client).startswith(b"HTTP/1.1 200")
        assert left[0] < 0
    assert not caplog.records, "what the loop says of a callback that failed"
