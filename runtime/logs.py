"""Structured logs (R60): an event and its fields, never a sentence with values glued in. The law kept here: a log line is the
one place where an operator reads what happened, so each carries the node, and a line that cannot be written never ends the node.

The core's decisions arrive here with their reason (``because``) and law; standard library loggers of libraries (uvicorn)
come out in the same form, warnings and above; libp2p's own only at level ``debug``.
"""

from __future__ import annotations

import logging
import sys
from contextlib import suppress
from typing import Any, Final, TextIO, cast

import structlog
from structlog.typing import EventDict, WrappedLogger

from runtime.settings import SettingsError
from runtime.settings_file import Place
from runtime.settings_sections import LoggingSettings

_LEVELS: Final = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}

_SHORT: Final = 12
"""Characters of a peer id on the console, from its end: the beginnings are all alike."""


def configure(settings: LoggingSettings, node_id: str = "") -> None:
    """Send all logs of this process where ``settings`` says, each with ``node_id`` if there is one. Raises
    :class:`SettingsError` when the file cannot be opened. May be called again: the last call holds."""
    stream = _open(settings)
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.stdlib.ExtraAdder(),
        _with_node(node_id),
    ]
    if settings.format == "json":
        last: list[Any] = [
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(ensure_ascii=False, default=str),
        ]
    else:
        last = [_short_node, structlog.dev.ConsoleRenderer(colors=stream.isatty(), pad_event_to=32)]
    handler = _Handler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared, processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last]
        )
    )
    if settings.level != "debug":
        handler.addFilter(lambda record: record.name != "root")  # nothing of ours is so named; libp2p chats there
    root = logging.getLogger()
    for old in root.handlers[:]:
        if isinstance(old, _Handler):
            root.removeHandler(old)
            old.close()
    root.addHandler(handler)
    root.setLevel(_LEVELS[settings.level])
    for noisy in ("httpx", "httpcore", "multiaddr", "uvicorn", "asyncio"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, _LEVELS[settings.level]))
    take_libp2p_over()
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *(part for part in shared if not isinstance(part, structlog.stdlib.ExtraAdder)),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,  # a module's logger made before this call must follow it
    )


def descriptor() -> int | None:
    """Of the file that logs go to, for processes whose lines belong there, too; None: they go to standard error, which is everybody's. It is
    opened for appending, so that a line that is one write never stands within another process's."""
    files = (handler.file for handler in logging.getLogger().handlers if isinstance(handler, _Handler))
    return next((file.fileno() for file in files if file is not None), None)


def take_libp2p_over() -> None:
    """libp2p's own logs by the level of ours. To be called once more when it has been imported: its import cuts its loggers off from our
    handler, and their warnings would come out on standard error, wherever ours go."""
    logger = logging.getLogger("libp2p")
    logger.propagate = True
    # To libp2p each failed dial and each connection that breaks is an error; ours says what became of a peer.
    debugging = logging.getLogger().level == logging.DEBUG
    logger.setLevel(logging.WARNING if debugging else logging.CRITICAL)


def _open(settings: LoggingSettings) -> TextIO:
    if settings.file is None:
        return sys.stderr
    try:
        return settings.file.open("a", encoding="utf-8")
    except OSError as error:
        raise SettingsError(
            Place(str(settings.file)), "logging.file", f"cannot be opened: {error.strerror or error}; name another file"
        ) from None


class _Handler(logging.StreamHandler[TextIO]):
    """Closes the file that it was given, never standard error. A full disk or a reader that went away costs lines, not
    the node: errors while writing are dropped."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (the name is logging's)
        pass

    @property
    def file(self) -> TextIO | None:
        return None if self.stream in (sys.stderr, sys.__stderr__) else self.stream

    def close(self) -> None:
        super().close()
        if self.file is not None:
            with suppress(OSError):  # a full disk, again: closing writes what is still buffered
                self.file.close()


def _with_node(node_id: str) -> structlog.typing.Processor:
    def add(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        if node_id:
            event.setdefault("node_id", node_id)
        return event

    return add


def _short_node(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    for key in ("node_id", "requester"):
        if key in event:
            event[key] = cast(str, event[key])[-_SHORT:]
    return event
