"""The TLS identity of one database, by which its members know each other on the Raft port. Law: whoever does not hold it
cannot speak there. Raft has no cluster id, so without it a leader of another database that remembers an address
could overwrite whoever listens there now.

One identity for each incarnation, shared by its members: a key and a certificate that it signed itself, trusted alone, for
both ends of a connection. It is one file in PEM, so that a crash leaves all of it or nothing, and rqlited takes the same
file as certificate, as key and as authority. Valid from 1970 to 9999: no clock of any machine can make it invalid.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

BYTES: Final = 4096
"""More than any identity has (about 900)."""
_FROM: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_UNTIL: Final = dt.datetime(9999, 12, 31, 23, 59, 59, tzinfo=dt.UTC)


class IdentityUnfit(Exception):
    """These bytes are no identity of this incarnation. One line, without any of the bytes."""


def server_name(incarnation: str) -> str:
    """The name that members verify and send (SNI): safe as a DNS label whatever an incarnation's text may hold."""
    return f"inc-{hashlib.sha256(incarnation.encode()).hexdigest()[:24]}"


def mint(incarnation: str) -> bytes:
    """A new identity for an incarnation. About a millisecond."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = server_name(incarnation)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(_FROM)
        .not_valid_after(_UNTIL)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    return _pem(key, certificate)


def _pem(key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> bytes:
    form = serialization.PrivateFormat.PKCS8
    secret = key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    return secret + certificate.public_bytes(serialization.Encoding.PEM)


def check(identity: bytes, incarnation: str) -> None:
    """Raises :class:`IdentityUnfit` unless these bytes are exactly one identity of this incarnation: one more certificate
    among them would be one more authority that rqlited trusts."""
    if not identity or len(identity) > BYTES:
        raise IdentityUnfit(f"{len(identity)} bytes are no TLS identity")
    try:
        key = serialization.load_pem_private_key(identity, None)
        certificate = x509.load_pem_x509_certificate(identity)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        named = names.get_values_for_type(x509.DNSName)
        certificate.verify_directly_issued_by(certificate)
    except (ValueError, TypeError, x509.ExtensionNotFound, InvalidSignature) as error:
        raise IdentityUnfit(f"no key with a certificate that it signed itself ({type(error).__name__})") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
        raise IdentityUnfit("key and certificate do not belong together")
    if named != [server_name(incarnation)]:
        raise IdentityUnfit("it is another incarnation's")
    if (certificate.not_valid_before_utc, certificate.not_valid_after_utc) != (_FROM, _UNTIL):
        raise IdentityUnfit("its validity depends on a clock")
    if identity != _pem(key, certificate):
        raise IdentityUnfit("there is more in it than one key and one certificate")
