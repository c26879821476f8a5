"""Who a gateway is to other nodes' gateways: a key of its own, and a certificate for it that the cluster signs. The law kept here is
F93: a gateway is believed for the certificate whose fingerprint its node has signed in a heartbeat, and for no other.

TLS in Python asks a client for its certificate only where an authority vouches for it, so there is one: its key is derived from the
cluster's secret, alike on every node, and never written down. Who lacks the secret gets no further than the handshake; who has it
is then held to the fingerprint (``decisions/0016``).

The validity is beyond doubt of any clock: a cluster must not stop because somebody's clock is wrong (F43).
"""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Final

from attrs import frozen
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.x509.oid import NameOID

from runtime.directories import write_whole

FILE: Final = "gateway.pem"
"""In the directory ``identity/``, mode 0600: private key and certificate."""

_BEGIN: Final = dt.datetime(2000, 1, 1, tzinfo=dt.UTC)
_END: Final = dt.datetime(9999, 12, 31, tzinfo=dt.UTC)
_AUTHORITY: Final = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "torpor cluster")])
_ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
"""Of the group of P-256: a private key is a number from 1 to this, less 1."""


@frozen
class Certificate:
    """``file``: PEM of the private key and the certificate. ``authority``: PEM of the certificate that vouches for all of the
    cluster. ``fingerprint``: SHA-256 of our certificate."""

    file: Path
    authority: str
    fingerprint: bytes


def provide(identity: Path, secret: bytes, peer: str) -> Certificate:
    """The certificate of this node's gateway, from the directory ``identity``; made where there is none of this cluster. Raises
    OSError."""
    key = _authority_key(secret)
    authority = _certificate(_AUTHORITY, key.public_key(), key, authority=True)
    file = identity / FILE
    certificate = _load(file, authority)
    if certificate is None:
        own = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, peer)])
        certificate = _certificate(name, own.public_key(), key, authority=False)
        private = own.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        # Not synced: what a crash takes is made again.
        write_whole(file, private + certificate.public_bytes(serialization.Encoding.PEM), private=True)
    pem = authority.public_bytes(serialization.Encoding.PEM).decode()
    return Certificate(file, pem, certificate.fingerprint(hashes.SHA256()))


def _authority_key(secret: bytes) -> ec.EllipticCurvePrivateKey:
    derived = HKDF(hashes.SHA256(), 48, salt=None, info=b"torpor gateway authority 1").derive(secret)
    return ec.derive_private_key(int.from_bytes(derived, "big") % (_ORDER - 1) + 1, ec.SECP256R1())


def _certificate(
    subject: x509.Name, public: ec.EllipticCurvePublicKey, signer: ec.EllipticCurvePrivateKey, *, authority: bool
) -> x509.Certificate:
    usage = x509.KeyUsage(
        digital_signature=not authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(_AUTHORITY)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(_BEGIN)
        .not_valid_after(_END)
        .add_extension(x509.BasicConstraints(ca=authority, path_length=0 if authority else None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
    )
    return builder.sign(signer, hashes.SHA256())


def _load(file: Path, authority: x509.Certificate) -> x509.Certificate | None:
    """What is there and usable: whole, ours alone, of this cluster. Anything else is made anew; nothing depends on the old one
    once the next heartbeat has told the new one's fingerprint."""
    try:
        if file.stat().st_mode & 0o077:
            return None
        content = file.read_bytes()
        certificate = x509.load_pem_x509_certificate(content)
        key = serialization.load_pem_private_key(content, password=None)
        certificate.verify_directly_issued_by(authority)
    except (FileNotFoundError, ValueError, TypeError, InvalidSignature):
        return None
    return certificate if key.public_key() == certificate.public_key() else None
