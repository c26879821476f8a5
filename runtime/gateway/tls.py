"""TLS between gateways, as a worker needs it. The law kept here is F93: both sides show a certificate of the cluster, and whose it is
is told by its fingerprint alone.
"""

from __future__ import annotations

import hashlib
import ssl


def fingerprint_of(connection: ssl.SSLObject | None) -> bytes:
    """SHA-256 of the certificate that the other side has shown; empty when it showed none."""
    shown = connection.getpeercert(binary_form=True) if connection is not None else None
    return hashlib.sha256(shown).digest() if shown else b""


def client(file: str, authority: str) -> ssl.SSLContext:
    """For connections to other gateways. ``file``: PEM of our key and certificate; ``authority``: PEM of what vouches for theirs."""
    return _context(ssl.PROTOCOL_TLS_CLIENT, file, authority)


def server(file: str, authority: str) -> ssl.SSLContext:
    """For connections from other gateways."""
    return _context(ssl.PROTOCOL_TLS_SERVER, file, authority)


def _context(purpose: int, file: str, authority: str) -> ssl.SSLContext:
    context = ssl.SSLContext(purpose)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False  # the fingerprint says who it is, wherever it is
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(file)
    context.load_verify_locations(cadata=authority)
    return context
