"""Listening and connections of a gateway worker around any ASGI application, in a thread of their own, and clients that write bytes."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import uvloop
from attrs import define
from uvicorn.config import Config

from runtime.gateway.connection import Connection
from runtime.gateway.listening import Listening
from runtime.gateway.log import Log
from runtime.gateway.server import Server


@define(eq=False)
class Served:
    """``address``: where. ``call``: have something done in the server's thread."""

    address: tuple[str, int]
    loop: asyncio.AbstractEventLoop
    server: Server

    def call(self, what: Callable[..., Any], *given: Any) -> None:
        self.loop.call_soon_threadsafe(what, *given)

    @contextmanager
    def client(self) -> Iterator[socket.socket]:
        with socket.create_connection(self.address, timeout=20) as connection:
            yield connection


@contextmanager
def serve(app: Any, *, patience: float = 20.0, most: int = 1000) -> Iterator[Served]:
    listener = socket.socket()
    listener.setblocking(False)
    listener.bind(("127.0.0.1", 0))
    listener.listen(64)
    ready = threading.Event()
    made: list[Served] = []

    async def run() -> None:
        config = Config(app, loop="none", http="httptools", ws="none", lifespan="off", log_config=None)
        serving = asyncio.Event()

        def listen(state: Any) -> list[Listening]:
            def make(keeper: Any) -> Connection:
                return Connection(config, state, app, patience, keeper)

            return [Listening(listener, make, lambda: None, most, Log("error", 0))]

        server = Server(config, listen, serving)
        made.append(Served(listener.getsockname(), asyncio.get_running_loop(), server))
        running = asyncio.create_task(server.serve())
        await serving.wait()
        ready.set()
        await running

    thread = threading.Thread(target=lambda: uvloop.run(run()))
    thread.start()
    try:
        assert ready.wait(20)
        yield made[0]
    finally:
        made[0].call(made[0].server.leave, 0.0, 0.0)
        thread.join(20)
        listener.close()
        assert not thread.is_alive()


def rest(connection: socket.socket) -> bytes:
    """All that comes until the other side ends."""
    got = b""
    try:
        while data := connection.recv(1 << 16):
            got += data
    except ConnectionError:
        pass
    return got


def answer(connection: socket.socket) -> bytes:
    """One answer with a length."""
    got = b""
    while b"\r\n\r\n" not in got:
        data = connection.recv(1 << 16)
        assert data, got
        got += data
    head, _, body = got.partition(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    while len(body) < length:
        body += connection.recv(1 << 16)
    return head + b"\r\n\r\n" + body
