"""The certificate and key that the gateway shows to clients, as PEM. The law kept here: a pair is whole and fits together before
anybody uses it, and what is wrong with one is said of the file that has to be mended (R13).

A pair is held in memory, and every context is made of one such value: a worker never sees one file of today beside one of yesterday,
and a worker that starts while the files are broken still has what served so far.
"""

from __future__ import annotations

import contextlib
import os
import ssl
from collections.abc import Generator
from pathlib import Path
from typing import Final, Literal

from attrs import field, frozen

LARGEST: Final = 1 << 20
"""Bytes of either file. A larger one is some other file, named by mistake."""
_BEGIN: Final = b"-----BEGIN CERTIFICATE-----"


class PairUnfit(Exception):
    """The pair cannot be used. ``of``: the file that is at fault. Its text has no name of a file."""

    def __init__(self, of: Literal["certificate", "key"], reason: str) -> None:
        super().__init__(reason)
        self.of: Literal["certificate", "key"] = of


class _Encrypted(Exception):
    """OpenSSL asks for a passphrase."""


@frozen
class Pair:
    """PEM of the certificate (then those that vouch for it), and of its private key."""

    certificate: bytes = field(repr=False)
    key: bytes = field(repr=False)


def check(certificate: Path | None, key: Path | None, *, files: bool) -> None:
    """What settings name: both or neither, and a pair that can be served, if ``files`` may be read. Raises :class:`PairUnfit`, with the
    file's name."""
    if (certificate is None) != (key is None):
        raise (
            PairUnfit("key", "needs gateway.tls_certificate beside it")
            if certificate is None
            else PairUnfit("certificate", "needs gateway.tls_key beside it")
        )
    if files and certificate is not None and key is not None:
        try:
            read(certificate, key)
        except PairUnfit as unfit:
            raise PairUnfit(unfit.of, f"{key if unfit.of == 'key' else certificate} {unfit}") from None


def read(certificate: Path, key: Path) -> Pair:
    """The pair in two files, which may be one and the same. Raises :class:`PairUnfit`."""
    pair = Pair(_content("certificate", certificate), _content("key", key))
    context(pair)
    return pair


def context(pair: Pair) -> ssl.SSLContext:
    """For a server: TLS 1.2 or 1.3, HTTP/1.1, no client certificates. Raises :class:`PairUnfit`."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    made.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    made.set_alpn_protocols(["http/1.1"])
    _check_certificate(pair.certificate)
    with _named(pair.certificate) as certificate, _named(pair.key) as key:
        try:
            made.load_cert_chain(certificate, key, password=_no_passphrase)
        except _Encrypted:
            raise PairUnfit(
                "key", "holds a key with a passphrase; write it without one, readable by the node alone"
            ) from None
        except ssl.SSLError as error:
            raise _unfit(error) from None
    return made


def _check_certificate(pem: bytes) -> None:
    """Apart from the key: OpenSSL's error for the two together does not say which of them is none."""
    if _BEGIN not in pem:
        raise PairUnfit("certificate", f"holds no certificate in PEM ({_BEGIN.decode()})")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(cadata=pem.decode("ascii"))
    except (ssl.SSLError, UnicodeDecodeError):
        raise PairUnfit("certificate", "holds a certificate that cannot be read") from None


def _unfit(error: ssl.SSLError) -> PairUnfit:
    if error.reason == "KEY_VALUES_MISMATCH":
        return PairUnfit("key", "is not the key of the certificate")
    if error.reason in ("EE_KEY_TOO_SMALL", "CA_KEY_TOO_SMALL", "CA_MD_TOO_WEAK"):
        return PairUnfit("certificate", f"is too weak for OpenSSL ({error.reason.lower().replace('_', ' ')})")
    return PairUnfit("key", "holds no private key in PEM")


def _content(of: Literal["certificate", "key"], path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST + 1)
    except OSError as error:
        raise PairUnfit(of, f"cannot be read: {error.strerror or error}") from None
    if len(content) > LARGEST:
        raise PairUnfit(of, f"is larger than {LARGEST} bytes")
    return content


@contextlib.contextmanager
def _named(content: bytes) -> Generator[str]:
    """A name for bytes in memory, since OpenSSL takes names alone: the key is not written to any disk."""
    fd = os.memfd_create("torpor-tls", os.MFD_CLOEXEC)
    try:
        with os.fdopen(os.dup(fd), "wb") as file:
            file.write(content)
        yield f"/proc/self/fd/{fd}"
    finally:
        os.close(fd)


def _no_passphrase() -> str:
    raise _Encrypted
