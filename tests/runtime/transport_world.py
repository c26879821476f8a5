"""Nodes' networks on loopback, real sockets and real libp2p, several in one process, and a hostile peer in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio
from attrs import define, evolve, field

from protocol.inputs import Input, PeerConnected, Received
from protocol.messages import Heartbeat, Message
from runtime import identity
from runtime.identity import Identity
from runtime.transport.addresses import PeerAddress, advertised, settle
from runtime.transport.book import FILE, AddressBook
from runtime.transport.network import Network

SECRET = bytes(range(32))
WITHIN = 60.0
_ROOT = str(Path(__file__).resolve().parents[2])


def beat(word: str, addresses: tuple[str, ...] = ()) -> Heartbeat:
    """A message that is told apart by a word."""
    return Heartbeat(word, "store", 0, (), (), 1, b"", False, addresses)


@define(eq=False)
class Station:
    """One network and everything that it gave to its engine."""

    who: Identity
    listen: tuple[PeerAddress, ...]
    directory: Path
    bootstrap: tuple[str, ...] = ()
    known: tuple[str, ...] = ()
    inputs: list[Input] = field(factory=list)
    network: Network = field(init=False)
    full: bool = False
    _news: trio.Event = field(factory=trio.Event)
    _scope: trio.CancelScope = field(factory=trio.CancelScope)
    _ended: trio.Event = field(factory=trio.Event)

    @property
    def peer(self) -> str:
        return self.who.peer

    @property
    def addresses(self) -> tuple[str, ...]:
        return advertised(self.listen, "", self.peer)

    async def start(self, nursery: trio.Nursery, max_connections: int = 50) -> None:
        self._scope, self._ended = trio.CancelScope(), trio.Event()
        self.network = Network(
            self.who,
            self.listen,
            AddressBook(self.directory / FILE, self.peer, self.bootstrap),
            offer=self._offer,
            known=lambda: self.known,
            max_connections=max_connections,
            discovery_interval=2.0,
        )
        await nursery.start(self._run)

    async def _run(self, task_status: trio.TaskStatus[None]) -> None:
        with self._scope:
            await self.network.run(task_status=task_status)
        self._ended.set()

    async def stop(self) -> None:
        self._scope.cancel()
        await self._ended.wait()

    def _offer(self, input: Input) -> bool:
        if self.full:
            return False
        self.inputs.append(input)
        self._news.set()
        self._news = trio.Event()
        return True

    async def until(self, seen: Callable[[], Any]) -> None:
        """Until it is so; looked at whenever something arrives."""
        with trio.fail_after(WITHIN):
            while not seen():
                await self._news.wait()

    def heard(self, word: str) -> list[str]:
        """Senders of a word."""
        return [
            one.sender
            for one in self.inputs
            if isinstance(one, Received) and isinstance(one.message, Heartbeat) and one.message.cluster == word
        ]

    def met(self) -> set[str]:
        return {one.peer for one in self.inputs if isinstance(one, PeerConnected)}

    async def meets(self, *others: Station) -> None:
        await self.until(lambda: {other.peer for other in others} <= self.network.connected() & self.met())

    async def counts(self, counter: str) -> None:
        """Until a counter of the network is above zero."""
        with trio.fail_after(WITHIN):
            while not self.network.counters[counter]:  # noqa: ASYNC110 (nobody tells)
                await trio.sleep(0.05)

    async def loses(self, peer: str) -> None:
        """Until there is no connection to a peer."""
        with trio.fail_after(WITHIN):
            while peer in self.network.connected():  # noqa: ASYNC110 (nobody tells)
                await trio.sleep(0.05)

    async def says(self, message: Message, *others: Station) -> None:
        """Broadcast until all others have heard it, as the engine does with what matters: gossip may still be forming."""
        assert isinstance(message, Heartbeat)
        with trio.fail_after(WITHIN):
            while not all(self.peer in other.heard(message.cluster) for other in others):
                self.network.broadcast(message)
                await trio.sleep(0.2)


def station(directory: Path, name: str, *bootstrap: Station, secret: bytes = SECRET) -> Station:
    """Not started yet; its port is chosen."""
    place = directory / name
    place.mkdir()
    identity.mint(place)
    who = evolve(identity.load(place), secret=secret)
    addresses = tuple(address for one in bootstrap for address in one.addresses)
    return Station(who, settle(["/ip4/127.0.0.1/tcp/0"]), place, addresses)


@asynccontextmanager
async def stations(directory: Path, count: int) -> AsyncGenerator[list[Station]]:
    """So many that are connected, each with the first."""
    made: list[Station] = []
    async with trio.open_nursery() as nursery:
        for number in range(count):
            made.append(station(directory, f"s{number}", *made[:1]))
            await made[-1].start(nursery)
        for one in made[1:]:
            await one.meets(made[0])
            await made[0].meets(one)
        yield made
        for one in made:
            await one.stop()
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def hostile(
    what: str, victim: Station, other: Station, secret: bytes = SECRET
) -> AsyncGenerator[Callable[[], Any]]:
    """A hostile peer at its work (:mod:`tests.runtime.hostile_peer`) on ``victim``; ``other`` is whose name it may use. Gives a function that waits for the next line it says."""
    address = victim.addresses[0]
    process = await trio.lowlevel.open_process(
        [sys.executable, "-m", "tests.runtime.hostile_peer", what, address, secret.hex(), other.peer],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        cwd=_ROOT,
    )
    assert process.stdout is not None
    said = b""

    async def line() -> str:
        nonlocal said
        assert process.stdout is not None
        with trio.fail_after(WITHIN):
            while b"\n" not in said:
                chunk = await process.stdout.receive_some()
                assert chunk, f"the hostile peer ended with {await process.wait()}"
                said += chunk
        first, _, said = said.partition(b"\n")
        return first.decode()

    try:
        yield line
    finally:
        with trio.CancelScope(shield=True):
            process.kill()
            await process.wait()
            await process.stdout.aclose()
