"""The operator's door into a running node: a Unix socket in its data directory. Laws: only the node's own user may open it (mode
0600, in a directory that the node owns); one request and one answer for each connection, both bounded; whatever a request does
wrong ends in an answer that says so, never in the node.

A request is one line of JSON, ``{"do": "status"}``; the answer is one line, ``{"ok": …}`` or ``{"error": "…"}``. ``torpor`` (:mod:`runtime.ctl`)
speaks it. What changes something goes through the engine as an input like any other, so the flight recorder has it.
"""

from __future__ import annotations

import contextlib
import inspect
import json
import os
import socket
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final

import attrs
import structlog
import trio

from protocol import views
from protocol.effects import Answer
from protocol.inputs import CreateKey, Input, Retire, RevokeKey
from protocol.node import Node
from protocol.records import SCOPES, Scope
from runtime.gateway.host import NotRestarted

SOCKET: Final = "control.sock"
LINE: Final = 64 * 1024
"""Bytes of a request."""
PATIENCE: Final = 30.0
"""Seconds for a request to arrive and to be answered."""
CONNECTIONS: Final = 32

log = structlog.stdlib.get_logger("control")


class Refused(Exception):
    """A request that cannot be done; one line that names the cause."""


class Unreachable(Exception):
    """No node answers at that data directory. One line: why, and what to do."""


def ask(data_dir: Path, do: str, **arguments: str | None) -> Any:
    """The other side of the socket, for programs: what the node of ``data_dir`` answers. Waits for it. Raises :class:`Refused`,
    :class:`Unreachable`."""
    said = b""
    try:
        with socket.socket(socket.AF_UNIX) as connection, short(data_dir) as directory:
            connection.settimeout(PATIENCE)
            connection.connect(f"{directory}/{SOCKET}")
            connection.sendall(json.dumps({"do": do, **arguments}).encode() + b"\n")
            while more := connection.recv(1 << 20):
                said += more
    except PermissionError:
        raise Unreachable(f"{data_dir / SOCKET} belongs to another user; be that user, or root") from None
    except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError):
        raise Unreachable(
            f"no node serves {data_dir}; start it, or name its data directory with --data-dir (or --config)"
        ) from None
    except OSError as error:
        raise Unreachable(f"the node of {data_dir} does not answer: {error}") from None
    answer = json.loads(said) if said else {"error": "the node ended before it answered"}
    if "error" in answer:
        raise Refused(answer["error"])
    return answer["ok"]


class Control:
    """``engine``: looked at, never changed. ``feed``: :meth:`runtime.driver.Driver.feed`. ``about``: what the node's process adds to its
    status (version, pid, addresses). ``restart``: :meth:`runtime.gateway.host.GatewayHost.restart`. ``clock``: the driver's."""

    def __init__(
        self,
        engine: Node,
        feed: Callable[[Input], None],
        clock: Callable[[], int],
        about: Callable[[], Mapping[str, Any]],
        restart: Callable[[], Awaitable[int]],
    ) -> None:
        self._engine = engine
        self._feed = feed
        self._clock = clock
        self._about = about
        self._restart = restart
        self._asked = 0
        self._waiting: dict[int, tuple[trio.Event, list[Answer]]] = {}
        self._do: dict[str, Callable[[Mapping[str, Any]], Any]] = {
            "status": self._status,
            "nodes": self._nodes,
            "databases": self._databases,
            "inspect": self._inspect,
            "retire": self._retire,
            "restart-gateway": self._restart_gateway,
            "keys": self._keys,
            "key create": self._key_create,
            "key revoke": self._key_revoke,
        }

    async def run(self, data_dir: Path, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled. Raises OSError when the socket cannot be made."""
        path = data_dir / SOCKET
        path.unlink(missing_ok=True)  # the directory's lock is ours: whoever made it is gone
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with short(data_dir) as directory:
                # Bound under a mask: between bind and chmod anyone could connect.
                mask = os.umask(0o177)
                try:
                    listening.bind(f"{directory}/{SOCKET}")
                finally:
                    os.umask(mask)
            listening.listen(CONNECTIONS)
            listening.setblocking(False)
            slots = trio.CapacityLimiter(CONNECTIONS)

            async def one(stream: trio.SocketStream) -> None:
                async with slots, stream:
                    with trio.move_on_after(PATIENCE), contextlib.suppress(trio.BrokenResourceError):
                        await stream.send_all(json.dumps(await self._reply(stream)).encode() + b"\n")

            listener = trio.SocketListener(trio.socket.from_stdlib_socket(listening))
            task_status.started()
            await trio.serve_listeners(one, [listener])
        finally:
            listening.close()
            path.unlink(missing_ok=True)

    async def _reply(self, stream: trio.SocketStream) -> dict[str, Any]:
        try:
            request = await _line(stream)
            do = self._do.get(str(request.get("do")))
            if do is None:
                raise Refused(f"{request.get('do')!r} is not known; there are {', '.join(sorted(self._do))}")
            answer = do(request)
            return {"ok": await answer if inspect.isawaitable(answer) else answer}
        except Refused as refused:
            return {"error": str(refused)}
        except Exception:  # a bug in a view must not end the node; its operator sees it in the log
            log.exception("control request failed")
            return {"error": "the node could not answer; see its log"}

    async def _operate(self, make: Callable[[int], Input]) -> Answer:
        """Put an operator's input, made for the request number given, to the engine; its answer. Numbers are negative: those of gateway
        workers are not."""
        self._asked -= 1
        arrived = self._waiting[self._asked] = (trio.Event(), list[Answer]())
        request = self._asked
        try:
            self._feed(make(request))
            await arrived[0].wait()
            return arrived[1][0]
        finally:
            del self._waiting[request]

    def answered(self, answer: Answer) -> None:
        """The engine's answer to an operator's input. One that nobody waits for any more is nobody's."""
        waiting = self._waiting.get(answer.request)
        if waiting is not None:
            waiting[1].append(answer)
            waiting[0].set()

    # What is asked.

    def _status(self, _request: Mapping[str, Any]) -> Any:
        return {**_plain(views.node(self._engine.state, self._clock())), **self._about()}

    def _nodes(self, _request: Mapping[str, Any]) -> Any:
        return _plain(views.node(self._engine.state, self._clock()))["peers"]

    def _databases(self, request: Mapping[str, Any]) -> Any:
        app = request.get("app")
        found = [_database(view, self._clock()) for view in views.directory(self._engine.state)]
        return [one for one in found if app in (None, one["app"])]

    def _inspect(self, request: Mapping[str, Any]) -> Any:
        app, name = str(request.get("app")), str(request.get("name"))
        found = [view for view in views.directory(self._engine.state) if (view.app, view.name) == (app, name)]
        if not found:
            raise Refused(f"no database {app}/{name} is known here; torpor databases lists those that are")
        return [_database(view, self._clock()) for view in found]

    async def _retire(self, request: Mapping[str, Any]) -> Any:
        return await self._done(lambda number: Retire(0, number, str(request.get("peer"))))

    def _keys(self, request: Mapping[str, Any]) -> Any:
        app = request.get("app")
        return [_plain(view) for view in views.keys(self._engine.state) if app in (None, view.app)]

    async def _key_create(self, request: Mapping[str, Any]) -> Any:
        """The key's text stays with the program that made it: what arrives here, and is recorded, is its digest (F87)."""
        scope: Scope | None = next((one for one in SCOPES if one == request.get("scope")), None)
        if scope is None:
            raise Refused(f"a key's scope is one of {', '.join(SCOPES)}")
        try:
            digest, expires = bytes.fromhex(str(request.get("sha256"))), int(str(request.get("expires", 0)))
        except ValueError:
            raise Refused(
                "a key is created by its SHA-256 in hex, and expires at a whole number of Unix seconds"
            ) from None
        who = (str(request.get("id")), digest, str(request.get("app")))
        name = str(request.get("name", ""))
        return await self._done(lambda number: CreateKey(0, number, *who, scope, expires, name))

    async def _key_revoke(self, request: Mapping[str, Any]) -> Any:
        return await self._done(lambda number: RevokeKey(0, number, str(request.get("id"))))

    async def _done(self, make: Callable[[int], Input]) -> dict[str, str]:
        answer = await self._operate(make)
        if answer.problem is not None:
            raise Refused(answer.detail)
        return {"detail": answer.detail}

    async def _restart_gateway(self, _request: Mapping[str, Any]) -> Any:
        try:
            return {"workers": await self._restart()}
        except NotRestarted as failed:
            raise Refused(str(failed)) from None


async def _line(stream: trio.SocketStream) -> Mapping[str, Any]:
    data = b""
    while not data.endswith(b"\n"):
        more = await stream.receive_some(LINE)
        data += more
        if not more or len(data) > LINE:
            raise Refused("a request is one line of JSON")
    try:
        request = json.loads(data)
    except ValueError:
        request = None
    if not isinstance(request, dict):
        raise Refused("a request is one JSON object on one line")
    return request  # pyright: ignore[reportUnknownVariableType] (its values are looked at one by one)


def _database(view: views.DatabaseView, now: int) -> dict[str, Any]:
    """With the time of each decision as seconds ago, since clocks of nodes mean nothing to a person."""
    told = [
        {
            "ago_s": round((now - one.at) / 1e6, 3),
            "event": one.decision.event,
            "because": one.decision.because,
            "law": one.decision.law,
            "fields": dict(one.decision.fields),
        }
        for one in view.decisions
    ]
    return {**_plain(attrs.evolve(view, decisions=())), "decisions": told}


def _plain(view: Any) -> dict[str, Any]:
    """JSON's types: bytes as hex, times in seconds."""
    plain = attrs.asdict(
        view, value_serializer=lambda _of, _field, value: value.hex() if isinstance(value, bytes) else value
    )
    for peer in plain.get("peers", ()):
        silent = peer.pop("silent")
        peer["silent_s"] = None if silent is None else round(silent / 1e6, 3)
    if (seal := getattr(view, "seal", None)) is not None:
        plain["seal"] = seal._asdict()
    return plain


@contextlib.contextmanager
def short(directory: Path):
    """A name for the directory that is short enough for a Unix socket's address (108 bytes), whatever its own is."""
    fd = os.open(directory, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{fd}"
    finally:
        os.close(fd)
