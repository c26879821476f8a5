"""What a worker remembers of other nodes' gateways, and the certificate that its own has."""

from __future__ import annotations

from pathlib import Path

import pytest

from runtime.gateway import hops as hops_module
from runtime.gateway.certificates import FILE, Certificate, provide
from runtime.gateway.frames import Hop
from runtime.gateway.hops import ROUTE_S, Routes

SECRET = bytes(range(32))
HOPS = (Hop("p1", "h1:8443", b"1" * 32), Hop("p2", "h2:8443", b"2" * 32))


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_route_is_believed_for_some_seconds_and_dropped_when_it_failed() -> None:
    clock = Clock()
    routes = Routes(clock)
    assert routes.get("app", "users") == ()
    routes.learn("app", "users", HOPS)
    assert routes.get("app", "users") == HOPS
    assert routes.get("other", "users") == ()
    clock.now += ROUTE_S - 0.001
    assert routes.get("app", "users") == HOPS
    clock.now += 0.001
    assert routes.get("app", "users") == (), "the node is asked again, and may know better"
    routes.learn("app", "users", HOPS)
    routes.drop("app", "users")
    assert routes.get("app", "users") == ()


def test_routes_are_bounded_and_the_oldest_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hops_module, "ROUTES", 2)
    routes = Routes(Clock())
    for name in ("a", "b", "a", "c"):
        routes.learn("app", name, HOPS)
    assert [bool(routes.get("app", name)) for name in "abc"] == [True, False, True]


def provided(directory: Path, secret: bytes = SECRET) -> Certificate:
    return provide(directory, secret, "12D3KooWpeer")


def test_F93_a_gateway_keeps_its_certificate_over_restarts_and_its_key_to_itself(tmp_path: Path) -> None:
    first = provided(tmp_path)
    assert first.file.stat().st_mode & 0o777 == 0o600
    assert len(first.fingerprint) == 32
    assert provided(tmp_path).fingerprint == first.fingerprint
    assert "PRIVATE" not in repr(first)


@pytest.mark.parametrize("spoilt", ["half", "empty", "open", "other key", "other cluster"])
def test_F93_a_certificate_that_is_of_no_use_is_made_anew(tmp_path: Path, spoilt: str) -> None:
    first = provided(tmp_path)
    whole = first.file.read_bytes()
    match spoilt:
        case "half":
            first.file.write_bytes(whole[: len(whole) // 2])
        case "empty":
            first.file.write_bytes(b"")
        case "open":
            first.file.chmod(0o644)
        case "other key":
            other = tmp_path / "other"
            other.mkdir()
            key = provided(other).file.read_bytes().split(b"-----BEGIN CERT")[0]
            first.file.write_bytes(key + b"-----BEGIN CERT" + whole.split(b"-----BEGIN CERT")[1])
        case _:
            provided(tmp_path, bytes(32))
    second = provided(tmp_path)
    assert second.fingerprint != first.fingerprint
    assert second.file.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == [FILE]


def test_F43_a_certificate_is_valid_whatever_a_clock_says(tmp_path: Path) -> None:
    from cryptography import x509

    certificate = x509.load_pem_x509_certificate(provided(tmp_path).file.read_bytes())
    assert certificate.not_valid_before_utc.year == 2000
    assert certificate.not_valid_after_utc.year == 9999
