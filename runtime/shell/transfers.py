"""A whole database into a file, and back. Law: a file is there when all of it is there; one that is there already is not written over."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import BinaryIO

import httpx

from runtime.client import TorporError, calls
from runtime.client.errors import error_of
from runtime.client.policy import Answered, problem_of
from runtime.client.wire import timeouts, wire
from runtime.shell.target import LATE_S, Failed, Target, Unasked, failed


def export(target: Target, file: Path) -> int:
    """Bytes written. Raises :class:`Failed`."""
    if file.exists():
        raise Failed(f"{file} is there already")
    part = file.with_name(f".{file.name}.part")
    try:
        with part.open("xb") as into:
            size = _fetch(target, into)
            into.flush()
            os.fsync(into.fileno())
        part.rename(file)
    except OSError as error:
        raise Failed(f"{error.filename or file}: {error.strerror}") from None
    finally:
        part.unlink(missing_ok=True)
    return size


def _fetch(target: Target, into: BinaryIO) -> int:
    """Piece by piece: a database may be larger than the memory. Once begun it is not begun again."""
    call = calls.backup(target.database)
    spoken = wire([target.url], target.key, None, 1)
    size = 0
    try:
        with (
            httpx.Client(**spoken.options()) as http,
            http.stream(call.method, target.url.rstrip("/") + call.path, timeout=timeouts(LATE_S)) as answer,
        ):
            if answer.status_code != 200:
                told = Answered(time.monotonic(), answer.status_code, answer.headers, answer.read())
                raise failed(error_of(problem_of(told, unsure=False)))
            for piece in answer.iter_bytes():
                into.write(piece)
                size += len(piece)
    except httpx.RequestError as error:
        raise (Failed if size else Unasked)(f"{target.url}: {error}") from None
    return size


def load(target: Target, file: Path) -> None:
    """Raises :class:`Failed`."""
    try:
        octets = file.read_bytes()
    except OSError as error:
        raise Failed(f"{file}: {error.strerror}") from None
    with target.client(LATE_S) as client:
        try:
            client.carry_out(calls.load(target.database, octets))
        except TorporError as error:
            raise failed(error) from None
