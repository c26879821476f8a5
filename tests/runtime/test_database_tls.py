"""The TLS identity of a database: made, named, checked."""

import hashlib
from datetime import UTC, datetime

import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from runtime.database_tls import BYTES, IdentityUnfit, check, mint, server_name

INCARNATION = "a1b2-7-00ff00ff"
MINE = mint(INCARNATION)


def halves(identity: bytes) -> tuple[bytes, bytes]:
    at = identity.index(b"-----BEGIN CERTIFICATE")
    return identity[:at], identity[at:]


def test_P42_an_identity_is_of_its_incarnation_and_of_no_other() -> None:
    check(MINE, INCARNATION)
    with pytest.raises(IdentityUnfit, match="another incarnation"):
        check(MINE, "a1b2-8-00ff00ff")


def test_P42_no_clock_can_make_it_invalid() -> None:
    certificate = x509.load_pem_x509_certificate(MINE)
    assert certificate.not_valid_before_utc == datetime(1970, 1, 1, tzinfo=UTC)
    assert certificate.not_valid_after_utc.year == 9999


def test_P42_two_are_never_alike() -> None:
    assert mint(INCARNATION) != MINE


@given(st.text(max_size=300))
def test_P42_the_name_is_a_DNS_label_whatever_the_incarnation(incarnation: str) -> None:
    name = server_name(incarnation)
    assert len(name) <= 63
    assert name.removeprefix("inc-") == hashlib.sha256(incarnation.encode("utf-8", "replace")).hexdigest()[:24]


def test_P42_what_is_no_identity_is_refused() -> None:
    key, certificate = halves(MINE)
    other_key, other_certificate = halves(mint(INCARNATION))
    for wrong, why in (
        (b"", "0 bytes"),
        (b"x" * (BYTES + 1), "bytes are no TLS identity"),
        (b"nonsense", "no key with a certificate"),
        (key, "no key with a certificate"),
        (certificate, "no key with a certificate"),
        (MINE[:-40], "no key with a certificate"),
        (key + other_certificate, "do not belong together"),
        (other_key + certificate, "do not belong together"),
        (MINE + other_certificate, "more in it"),
        (MINE + b"\n# a word", "more in it"),
    ):
        with pytest.raises(IdentityUnfit, match=why) as caught:
            check(wrong, INCARNATION)
        assert "BEGIN" not in str(caught.value)
