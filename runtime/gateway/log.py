"""A worker's log: structlog, one JSON object a line, on its standard error, which its node has made what its own log goes to: a file, or standard
error (R60).

The laws kept here: a line is one write, so that it never stands within another process's, and one that cannot be written is lost, and nothing
else with it; no line holds a key, a statement or an argument, whatever a client writes and wherever. So a path is told only when it is
one of ours, and of an error that nobody expected its kind and the places in our code, not its words. structlog (with the rich tracebacks that it imports) takes
longer to load than the rest of a worker, so it is loaded after the worker serves, and a quiet worker never waits for it.
"""

from __future__ import annotations

import functools
import os
from contextlib import suppress
from traceback import extract_tb
from typing import Any, Final

import orjson

_STDERR: Final = 2
LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40}


class Log:
    """``level``: of :data:`LEVELS`. ``access``: every request is a line, whatever the level; else ordinary ones are debug lines."""

    def __init__(self, level: str, worker: int, *, access: bool = False) -> None:
        self._level = LEVELS.get(level, LEVELS["info"])
        self._worker = worker
        self._access = access

    def access(
        self, request_id: str, method: str, path: str, app: str, status: int, seconds: float, problem: str
    ) -> None:
        """One line for each request. ``path``: of ours, or empty. Failures of the gateway or its database are warnings."""
        bad = status >= 500
        if not self._access and self._level > (LEVELS["warning"] if bad else LEVELS["debug"]):
            return
        fields: dict[str, Any] = {"request_id": request_id, "method": method, "path": path, "status": status}
        fields |= {"requester": app, "ms": round(seconds * 1000, 2)}
        if problem:
            fields["problem"] = problem
        say = self._logger.warning if bad else self._logger.info if self._access else self._logger.debug
        say("request", **fields)

    def failed(self, request_id: str, error: Exception) -> None:
        """A bug of ours: where it happened belongs here, and only here."""
        places = [f"{place.filename}:{place.lineno} {place.name}" for place in extract_tb(error.__traceback__)]
        self._logger.error("request failed", request_id=request_id, kind=type(error).__qualname__, places=places)

    def say(self, event: str, **fields: Any) -> None:
        """An event of the worker itself."""
        if self._level <= LEVELS["info"]:
            self._logger.info(event, **fields)

    def debug(self, event: str, **fields: Any) -> None:
        """An event that only a search for a fault needs."""
        if self._level <= LEVELS["debug"]:
            self._logger.debug(event, **fields)

    @functools.cached_property
    def _logger(self) -> Any:
        import structlog

        structlog.configure(
            processors=[
                structlog.processors.add_log_level,
                structlog.processors.TimeStamper(fmt="iso", utc=True),
                structlog.processors.JSONRenderer(serializer=_json),
            ],
            logger_factory=_Lines,
            wrapper_class=structlog.make_filtering_bound_logger(
                min(self._level, LEVELS["info"]) if self._access else self._level
            ),
        )
        return structlog.get_logger("gateway").bind(worker=self._worker)


class _Lines:
    """What structlog writes with."""

    def __init__(self, *_name: object) -> None:
        pass

    def msg(self, line: bytes) -> None:
        with suppress(OSError):  # a full disk, or a reader that is gone: no reason to fail a request
            os.write(_STDERR, line)

    debug = info = warning = error = msg


def _json(value: Any, **_options: Any) -> bytes:
    return orjson.dumps(value, default=repr, option=orjson.OPT_APPEND_NEWLINE)
