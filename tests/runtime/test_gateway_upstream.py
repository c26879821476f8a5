"""The client to rqlited: turns, deadlines, and who is told when the other side is done. Against a server of a few lines that answers when it is told to."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from runtime.gateway.pool import Pool
from runtime.gateway.upstream import Upstream
from runtime.gateway.upstream_connection import Attempt, Broken, NotSent

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nsaid"


class Server:
    """Keeps every request until :meth:`answer`."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.connections = 0
        self._go_on = asyncio.Event()

    def answer(self) -> None:
        self._go_on.set()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while await reader.readuntil(b"body"):
                self.asked.set()
                await self._go_on.wait()
                writer.write(ANSWER)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client has ended it
        finally:
            writer.close()


def against(story: Callable[[Server, Upstream, str], Awaitable[None]], connections: int = 1) -> None:
    async def run() -> None:
        server = Server()
        async with asyncio.timeout(5), await asyncio.start_server(server, "127.0.0.1", 0) as listening:
            host, port = listening.sockets[0].getsockname()
            url = f"http://{host}:{port}"
            upstream = Upstream(connections)
            await story(server, upstream, url)
            server.answer()
            upstream.retire(url)

    asyncio.run(run())


def test_R37_a_late_read_ends_its_connection_and_its_turn() -> None:
    async def story(server: Server, upstream: Upstream, url: str) -> None:
        soon = asyncio.get_running_loop().time() + 0.05
        with pytest.raises(TimeoutError):
            await upstream.post(url, "/", b"body", 99, Attempt(), until=soon)
        server.answer()
        assert (await upstream.post(url, "/", b"body", 99, Attempt())).body == b"said"
        assert server.connections == 2

    against(story)


@pytest.mark.parametrize("given_up", ["late", "cancelled"])
def test_P30_F90_a_write_that_nobody_waits_for_goes_on_and_tells_when_it_is_done(given_up: str) -> None:
    async def story(server: Server, upstream: Upstream, url: str) -> None:
        loop = asyncio.get_running_loop()
        done = asyncio.Event()
        attempt = Attempt()
        until = loop.time() + 0.05 if given_up == "late" else None
        write = loop.create_task(upstream.post(url, "/", b"body", 99, attempt, until=until, done=done.set))
        await server.asked.wait()
        if given_up == "cancelled":
            write.cancel()
        with pytest.raises((TimeoutError, asyncio.CancelledError)):
            await write
        assert attempt.sent
        assert not done.is_set(), "rqlited has it still"
        server.answer()
        await done.wait()
        assert (await upstream.post(url, "/", b"body", 99, Attempt())).body == b"said"
        assert server.connections == 1, "its connection is of use again"

    against(story)


def test_R37_a_wait_for_a_turn_is_late_too_and_has_sent_nothing() -> None:
    async def story(server: Server, upstream: Upstream, url: str) -> None:
        loop = asyncio.get_running_loop()
        first = loop.create_task(upstream.post(url, "/", b"body", 99, Attempt()))
        await server.asked.wait()
        attempt, done = Attempt(), asyncio.Event()
        with pytest.raises(TimeoutError):
            await upstream.post(url, "/", b"body", 99, attempt, until=loop.time() + 0.05, done=done.set)
        assert not attempt.sent
        assert not done.is_set()
        server.answer()
        assert (await first).status == 200

    against(story)


def test_F86_a_connection_that_breaks_tells_that_it_is_done_once() -> None:
    async def story(_server: Server, upstream: Upstream, _url: str) -> None:
        told: list[str] = []

        async def breaks(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.transport.abort()

        async with await asyncio.start_server(breaks, "127.0.0.1", 0) as listening:
            port = listening.sockets[0].getsockname()[1]
            with pytest.raises((Broken, NotSent)) as broken:
                await upstream.post(
                    f"http://127.0.0.1:{port}", "/", b"no", 99, Attempt(), done=lambda: told.append("done")
                )
        assert told == (["done"] if broken.type is Broken else [])

    against(story)


def test_turns_go_to_who_waits_for_longest_and_none_is_lost() -> None:
    async def story() -> None:
        pool = Pool("http://x:1", "x", 1, 1, 30.0)
        await pool.turn()
        waiting = [asyncio.create_task(pool.turn()) for _ in range(4)]
        await asyncio.sleep(0)
        waiting[0].cancel()  # before its turn
        await asyncio.sleep(0)
        pool.leave()
        waiting[1].cancel()  # its turn has come, and it has not heard of it yet
        await asyncio.wait(waiting[:3])
        assert [each.cancelled() for each in waiting[:3]] == [True, True, False]
        assert not waiting[3].done()
        late = asyncio.create_task(pool.turn())
        pool.leave()
        await waiting[3]
        assert not late.done()
        pool.leave()
        await late
        pool.leave()
        await asyncio.wait_for(pool.turn(), 1)

    async def in_time() -> None:
        async with asyncio.timeout(5):
            await story()

    asyncio.run(in_time())
