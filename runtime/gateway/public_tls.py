"""The public certificate of a running node, on trio. The law kept here: what serves is replaced by a pair that was looked at as a whole,
and by nothing else; while the files are wrong the last good pair goes on, and the log and ``torpor status`` say so.

A renewal writes two files, one after the other, or swaps links: the files are looked at once a second and read when they have stayed the
same for one such look. Polling a few numbers costs nothing, and misses nothing that a watch on a link, or on a network's file
system, would miss.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import Final

import structlog
import trio
from cryptography import x509

from runtime import tls_pair
from runtime.tls_pair import Pair, PairUnfit

LOOK_S: Final = 1.0
_SOON: Final = dt.timedelta(days=14)
_AGAIN_S: Final = 86400.0
"""Between two warnings of one certificate that ends soon."""

log = structlog.stdlib.get_logger("gateway")

_Signature = tuple[tuple[int, int, int] | None, ...]


class PublicTls:
    """The pair in two files. Raises :class:`PairUnfit` when it cannot be used at the start."""

    def __init__(self, certificate: Path, key: Path) -> None:
        self._files = (certificate, key)
        self._seen = self._look()
        self.pair: Pair = tls_pair.read(certificate, key)
        self.problem = ""
        """Why the files are not what serves; empty: they are."""

    @property
    def ends(self) -> dt.datetime:
        """When the certificate is valid no longer."""
        return x509.load_pem_x509_certificate(self.pair.certificate).not_valid_after_utc

    async def watch(self, changed: Callable[[Pair], None]) -> None:
        """Until cancelled: tell of each new pair."""
        warned = -_AGAIN_S
        before = self._seen
        while True:
            if trio.current_time() - warned >= _AGAIN_S and self.ends < dt.datetime.now(dt.UTC) + _SOON:
                warned = trio.current_time()
                log.warning("the gateway's certificate ends soon", ends=self.ends.isoformat(), file=str(self._files[0]))
            await trio.sleep(LOOK_S)
            now = await trio.to_thread.run_sync(self._look)
            if now == before and now != self._seen:  # changed, and at rest since
                self._seen = now
                if self._read():
                    changed(self.pair)
                    warned = -_AGAIN_S
            before = now

    def _read(self) -> bool:
        """Whether there is another pair."""
        try:
            pair = tls_pair.read(*self._files)
        except PairUnfit as unfit:
            file = self._files[unfit.of == "key"]
            self.problem = f"gateway.tls_{unfit.of} {file} {unfit}; the certificate that it had before still serves"
            log.error(  # noqa: TRY400  the cause is in the line, a traceback adds nothing
                "the gateway's certificate was not renewed", because=self.problem, ends=self.ends.isoformat()
            )
            return False
        self.problem = ""
        other = pair != self.pair
        self.pair = pair
        if other:
            log.info("the gateway's certificate was renewed", ends=self.ends.isoformat())
        return other

    def _look(self) -> _Signature:
        """What changes when a file is written, replaced or removed."""
        found: list[tuple[int, int, int] | None] = []
        for file in self._files:
            try:
                is_now = file.stat()
            except OSError:
                found.append(None)
            else:
                found.append((is_now.st_mtime_ns, is_now.st_size, is_now.st_ino))
        return tuple(found)
