"""Certificates for tests of the public listener: an authority of the test's own, and pairs that it signs."""

from __future__ import annotations

import datetime as dt
import ipaddress
import ssl
from pathlib import Path

from attrs import field, frozen
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

_NOW = dt.datetime.now(dt.UTC)


@frozen
class Pem:
    """What somebody who renews writes."""

    certificate: bytes
    key: bytes
    serial: int

    def write(self, directory: Path) -> tuple[Path, Path]:
        certificate, key = directory / "tls.pem", directory / "tls.key"
        certificate.write_bytes(self.certificate)
        key.write_bytes(self.key)
        return certificate, key


@frozen
class Authority:
    """Vouches for certificates of 127.0.0.1."""

    key: ec.EllipticCurvePrivateKey = field(factory=lambda: ec.generate_private_key(ec.SECP256R1()))

    @property
    def _name(self) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])

    def trusting(self) -> ssl.SSLContext:
        """What a client of the test has."""
        builder = self._builder(self._name, self.key.public_key(), 3650)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        pem = builder.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()
        return ssl.create_default_context(cadata=pem)

    def pair(
        self, *, days: float = 90, rsa_key: bool = False, passphrase: bytes = b"", key_of: Pem | None = None
    ) -> Pem:
        """A new one. ``key_of``: with the key of another."""
        key = rsa.generate_private_key(65537, 2048) if rsa_key else ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "gateway")])
        builder = self._builder(name, key.public_key(), days)
        names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        signed = builder.add_extension(names, critical=False).sign(self.key, hashes.SHA256())
        locked = serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
        pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, locked)
        return Pem(signed.public_bytes(serialization.Encoding.PEM), key_of.key if key_of else pem, signed.serial_number)

    def _builder(
        self, subject: x509.Name, public: ec.EllipticCurvePublicKey | rsa.RSAPublicKey, days: float
    ) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(_NOW - dt.timedelta(days=1))
            .not_valid_after(_NOW + dt.timedelta(days=days))
        )
