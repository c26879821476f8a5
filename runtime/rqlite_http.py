"""The control plane's conversation with one rqlited over loopback: strong reads, indexes, counters, snapshots.

The law kept here is that an answer is only good when it says so everywhere it can say otherwise: rqlite reports errors with
HTTP 200, in a top-level ``error`` and in ``results[i].error``. Every read carries ``db_timeout``, since rqlited does not
notice a client that hangs up (F89). Connections are kept alive, but one that never carried a request is closed at once: Go
waits five seconds for such a one before it lets the process end.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Final, Literal, cast
from urllib.parse import quote

import h11
import trio
from attrs import frozen

_BODY: Final = 4 * 1024 * 1024
"""Bytes of an answer that are read; more is an error. ``/status`` and ``/debug/vars`` have a few KB."""
_IDLE: Final = 2
_CHUNK: Final = 65536
_COUNTED: Final = ("queries", "executions", "requests", "queued_executions", "backups", "loads")
"""What a client can make rqlited do over HTTP; it counts each request as it arrives, also one that then fails."""


class RqliteError(Exception):
    """rqlited did not do what it was asked: unreachable, too late, or it said so. One line, fit for a log. ``heard`` tells that
    it answered, and so has counted the request."""

    def __init__(self, text: str, *, heard: bool = True) -> None:
        super().__init__(text)
        self.heard = heard


@frozen
class Reply:
    status: int
    body: bytes

    def json(self) -> dict[str, Any]:
        """Raises :class:`RqliteError` unless this is a 200 with a JSON object that holds no error."""
        if self.status != 200:
            raise RqliteError(f"HTTP {self.status}: {self.body[:300].decode(errors='replace').strip()}")
        try:
            value: Any = json.loads(self.body)
        except ValueError:
            raise RqliteError(f"not JSON: {self.body[:100]!r}") from None
        if not isinstance(value, dict):
            raise RqliteError(f"no JSON object: {self.body[:100]!r}")
        fields = cast("dict[str, Any]", value)
        results: Any = fields.get("results", ())
        for part in (fields, *results):
            if "error" in part:
                raise RqliteError(str(part["error"])[:300])
        return fields


@frozen
class Store:
    """From ``/status``: the index of the last log entry applied to SQLite, the leader's node id (empty: unknown), whether
    this node leads, and its own Raft configuration's voters: node id → Raft address."""

    fsm_index: int
    leader_id: str
    leads: bool
    addresses: Mapping[str, str]

    @property
    def voters(self) -> tuple[str, ...]:
        """Their node ids, sorted."""
        return tuple(sorted(self.addresses))


class RqliteHttp:
    """A client of one rqlited, at most a few requests at a time. Every method takes the seconds that it may last and raises
    :class:`RqliteError`; none is retried, but on a kept connection that proves dead before anything of an answer came."""

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._idle: list[trio.SocketStream] = []

    async def __aenter__(self) -> RqliteHttp:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the kept connections. Needs no await: there is nothing to flush."""
        while self._idle:
            self._idle.pop().socket.close()

    async def strong_read(self, within: float) -> None:
        """``SELECT 1`` through the Raft log: passes only when a quorum has committed everything before it (F12)."""
        milliseconds = max(1, math.ceil(within * 1000))
        target = f"/db/query?level=strong&db_timeout={milliseconds}ms&q=SELECT%201"
        reply = (await self.request("GET", target, within)).json()
        if reply.get("results", [{}])[0].get("values") != [[1]]:
            raise RqliteError(f"SELECT 1 gave {str(reply)[:200]}")

    async def query(
        self, sql: str, within: float, level: Literal["none", "weak", "strong"] = "weak"
    ) -> list[list[Any]]:
        """The rows of one read."""
        milliseconds = max(1, math.ceil(within * 1000))
        target = f"/db/query?level={level}&db_timeout={milliseconds}ms&q={quote(sql)}"
        reply = (await self.request("GET", target, within)).json()
        return reply["results"][0].get("values", [])

    async def execute(self, *statements: str, within: float) -> None:
        """Writes, in one transaction. An error may leave it open whether they happened."""
        body = json.dumps([[statement] for statement in statements]).encode()
        (await self.request("POST", "/db/execute?transaction", within, body)).json()

    async def store(self, within: float) -> Store:
        """The store's state; rqlited walks its data directory for this: a few milliseconds, so ask rarely."""
        try:
            store = (await self.request("GET", "/status", within)).json()["store"]
            leader = store["leader"]["node_id"]
            voters = {node["id"]: node["addr"] for node in store["nodes"] or () if node["suffrage"] == "Voter"}
            return Store(int(store["fsm_index"]), leader, leader == store["node_id"] != "", voters)
        except (KeyError, TypeError, ValueError) as error:
            raise RqliteError(f"/status is not as expected: {error!r}") from None

    async def requests_counted(self, within: float) -> int:
        """Requests of clients that this process has counted since its start, ours included."""
        try:
            counters = (await self.request("GET", "/debug/vars?key=http", within)).json()["http"]
            return sum(int(counters.get(name, 0)) for name in _COUNTED)
        except (KeyError, TypeError, ValueError) as error:
            raise RqliteError(f"/debug/vars is not as expected: {error!r}") from None

    async def snapshot(self, within: float) -> None:
        """Fold the WAL into ``db.sqlite``; also well when there was nothing new."""
        reply = await self.request("POST", "/snapshot", within)
        if reply.status != 200 and b"nothing new to snapshot" not in reply.body:
            reply.json()

    async def request(self, method: str, target: str, within: float, body: bytes = b"") -> Reply:
        """One request, whatever its outcome; only transport failures raise."""
        try:
            with trio.fail_after(within):
                # A kept connection may have died unseen. A read is simply asked again; a POST never risks it.
                while self._idle and method == "GET":
                    reply = await self._exchange(self._idle.pop(), method, target, body, kept=True)
                    if reply is not None:
                        return reply
                reply = await self._exchange(await self._connect(), method, target, body, kept=False)
                assert reply is not None
                return reply
        except trio.TooSlowError:
            raise RqliteError(
                f"no answer to {method} {target.partition('?')[0]} within {within:g} s", heard=False
            ) from None
        except (OSError, trio.BrokenResourceError, trio.ClosedResourceError, h11.RemoteProtocolError) as error:
            raise RqliteError(f"{method} {target.partition('?')[0]}: {error!r}", heard=False) from error

    async def _connect(self) -> trio.SocketStream:
        # Not open_tcp_stream: the address needs no resolver and no race of families.
        sock = trio.socket.socket(trio.socket.AF_INET6 if ":" in self._host else trio.socket.AF_INET)
        try:
            await sock.connect((self._host, self._port))
        except BaseException:
            sock.close()
            raise
        return trio.SocketStream(sock)

    async def _exchange(
        self, stream: trio.SocketStream, method: str, target: str, body: bytes, *, kept: bool
    ) -> Reply | None:
        """None: a kept connection was dead before anything of an answer came."""
        machine = h11.Connection(h11.CLIENT)
        reusable = False
        try:
            head = h11.Request(
                method=method,
                target=target,
                headers=[
                    ("Host", f"{self._host}:{self._port}"),
                    ("Content-Type", "application/json"),
                    ("Content-Length", str(len(body))),
                ],
            )
            data = (machine.send(head) or b"") + (machine.send(h11.Data(data=body)) or b"")
            data += machine.send(h11.EndOfMessage()) or b""
            status = 0
            received = bytearray()
            try:
                await stream.send_all(data)
                while True:
                    event = machine.next_event()
                    if event is h11.NEED_DATA:
                        chunk = await stream.receive_some(_CHUNK)
                        if not chunk and not status and kept:
                            return None
                        machine.receive_data(chunk)
                    elif isinstance(event, h11.Response):
                        status = event.status_code
                    elif isinstance(event, h11.Data):
                        received += event.data
                        if len(received) > _BODY:
                            raise RqliteError(f"answer to {method} {target[:60]} is longer than {_BODY} bytes")
                    elif isinstance(event, h11.EndOfMessage):
                        break
            except trio.BrokenResourceError:
                if kept and not status:
                    return None
                raise
            reusable = machine.our_state is h11.DONE and machine.their_state is h11.DONE
            return Reply(status, bytes(received))
        finally:
            if reusable and len(self._idle) < _IDLE:
                self._idle.append(stream)
            else:
                stream.socket.close()
