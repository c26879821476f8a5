"""The public listener over TLS: what is shown to clients, when it is renewed, and what is said of files that are wrong (R13)."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path

import httpx
import pytest
import trio
from cryptography import x509
from structlog.testing import capture_logs

from runtime import tls_pair
from runtime.gateway.public_tls import PublicTls
from runtime.settings import SettingsError, load
from runtime.tls_pair import PairUnfit
from tests.runtime.gateway_world import World, gateway
from tests.runtime.tls_world import Authority, Pem

AUTHORITY = Authority()


def served(world: World, **options: int) -> tuple[int, str, str | None]:
    """What a new connection is shown: the serial number of the certificate, the version of TLS, and the protocol."""
    context = AUTHORITY.trusting()
    context.set_alpn_protocols(["h2", "http/1.1"])
    for name, value in options.items():
        setattr(context, name, value)
    port = int(world.address.rpartition(":")[2])
    plain = socket.create_connection(("127.0.0.1", port), timeout=20)
    with plain, context.wrap_socket(plain, server_hostname="127.0.0.1") as connection:
        shown = connection.getpeercert(binary_form=True)
        assert shown is not None
        version = connection.version()
        assert version is not None
        return x509.load_der_x509_certificate(shown).serial_number, version, connection.selected_alpn_protocol()


async def shows(world: World, pair: Pem) -> None:
    """Waits until new connections are shown this pair."""
    with trio.fail_after(20):
        while (await trio.to_thread.run_sync(served, world))[0] != pair.serial:  # noqa: ASYNC110  it is what a client can see
            await trio.sleep(0.05)


async def test_a_client_is_served_over_TLS_and_of_its_old_versions_none(tmp_path: Path) -> None:
    pair = AUTHORITY.pair()
    async with gateway(public=PublicTls(*pair.write(tmp_path))) as world:
        assert world.address.startswith("https://127.0.0.1:")
        async with world.client(verify=AUTHORITY.trusting()) as client:
            assert (await client.get("/healthz")).json() == {"status": "ok"}
        assert await trio.to_thread.run_sync(served, world) == (pair.serial, "TLSv1.3", "http/1.1")
        old = {"maximum_version": ssl.TLSVersion.TLSv1_2}
        assert (await trio.to_thread.run_sync(lambda: served(world, **old)))[1] == "TLSv1.2"
        older = {"minimum_version": ssl.TLSVersion.TLSv1_1, "maximum_version": ssl.TLSVersion.TLSv1_1}
        with pytest.warns(DeprecationWarning, match="TLSv1_1"), pytest.raises((ssl.SSLError, ConnectionError)):
            await trio.to_thread.run_sync(lambda: served(world, **older))
        plain = world.address.replace("https", "http")
        with pytest.raises(httpx.TransportError):
            await httpx.AsyncClient().get(f"{plain}/healthz")


async def test_a_renewed_pair_is_shown_to_new_connections_and_those_that_are_open_go_on(tmp_path: Path) -> None:
    first, second = AUTHORITY.pair(), AUTHORITY.pair(rsa_key=True)
    async with gateway(public=PublicTls(*first.write(tmp_path)), workers=2) as world:
        async with world.client(verify=AUTHORITY.trusting()) as client:
            await client.get("/healthz")
            before = world.workers()
            second.write(tmp_path)
            await shows(world, second)
            assert (await client.get("/healthz")).status_code == 200
        for worker in before:  # those workers, and one that is started later
            worker.kill()
        await shows(world, second)


async def test_a_broken_renewal_keeps_what_serves_says_so_and_is_mended_by_the_next(tmp_path: Path) -> None:
    good, broken, mended = AUTHORITY.pair(), AUTHORITY.pair(key_of=AUTHORITY.pair()), AUTHORITY.pair()
    public = PublicTls(*good.write(tmp_path))
    with capture_logs() as said:
        async with gateway(public=public) as world:
            certificate, key = broken.write(tmp_path)
            with trio.fail_after(20):
                while not public.problem:  # noqa: ASYNC110  it is what `torpor status` shows
                    await trio.sleep(0.05)
            assert public.problem.startswith(f"gateway.tls_key {key} is not the key of the certificate; ")
            (loud,) = [line for line in said if line["log_level"] == "error"]
            assert loud["because"] == public.problem
            await shows(world, good)
            (worker,) = world.workers()
            worker.kill()  # the next worker cannot read a good pair from the disk either
            await world.keeper.until(lambda: len(world.workers()) == 1 and world.workers() != [worker])
            await shows(world, good)
            certificate.unlink()
            with trio.fail_after(20):
                while f"gateway.tls_certificate {certificate} cannot be read" not in public.problem:  # noqa: ASYNC110
                    await trio.sleep(0.05)
            mended.write(tmp_path)
            await shows(world, mended)
            assert not public.problem


@pytest.mark.parametrize(
    ("certificate", "key", "of", "reason"),
    [
        (None, b"", "certificate", "cannot be read: No such file or directory"),
        (b"hello", b"", "certificate", "holds no certificate in PEM"),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", b"", "certificate", "cannot be read"),
        (b"x" * (tls_pair.LARGEST + 1), b"", "certificate", "is larger than"),
        ("good", None, "key", "cannot be read: No such file or directory"),
        ("good", b"hello", "key", "holds no private key in PEM"),
        ("good", "other", "key", "is not the key of the certificate"),
        ("good", "locked", "key", "holds a key with a passphrase"),
    ],
)
def test_R13_a_wrong_pair_is_said_of_its_file_key_and_line_before_anything_is_touched(
    tmp_path: Path, certificate: bytes | str | None, key: bytes | str | None, of: str, reason: str
) -> None:
    files = {"certificate": tmp_path / "c.pem", "key": tmp_path / "k.pem"}
    good = AUTHORITY.pair()
    contents = {
        "good": good.certificate,
        "other": AUTHORITY.pair().key,
        "locked": AUTHORITY.pair(passphrase=b"secret").key,
    }
    for file, content in zip(files.values(), (certificate, key), strict=True):
        if content is not None:
            file.write_bytes(contents[content] if isinstance(content, str) else content)
    config = tmp_path / "node.yaml"
    lines = ["gateway:", f"  tls_certificate: {files['certificate']}", f"  tls_key: {files['key']}"]
    config.write_text("\n".join(lines))
    load(config)  # what another program may read, it need not
    with pytest.raises(SettingsError) as wrong:
        load(config, files=True)
    line = 2 if of == "certificate" else 3
    assert str(wrong.value).startswith(f"{config}:{line}: gateway.tls_{of}: {files[of]} ")
    assert reason in str(wrong.value)
    with pytest.raises(PairUnfit) as unfit:
        tls_pair.read(files["certificate"], files["key"])
    assert unfit.value.of == of


@pytest.mark.parametrize(("given", "other"), [("certificate", "key"), ("key", "certificate")])
def test_R13_one_without_the_other_is_refused(given: str, other: str) -> None:
    with pytest.raises(SettingsError, match=f"gateway.tls_{given}: needs gateway.tls_{other} beside it"):
        load(None, [f"gateway.tls_{given}=x.pem"])
