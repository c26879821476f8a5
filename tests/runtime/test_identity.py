"""A node's keys: minted once, private, in libp2p's own forms."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from runtime.identity import DIRECTORY, KEY, SECRET, IdentityUnusable, load, mint, peer_id


def test_P60_peer_id_is_libp2ps_for_a_published_key() -> None:
    # The public ed25519 key of libp2p's peer-ids specification, as a PublicKey message, and its base58 peer id.
    message = bytes.fromhex("080112201ed1e8fae2c4a144b8be8fd4b47bf3d3b34b871c3cacf6010f0e42d474fce27e")
    assert peer_id(message[4:]) == "12D3KooWBtg3aaRMjxwedh83aGiUkwSxDwUZkzuJcfaqUmo7R3pq"


def test_P60_minting_twice_keeps_what_is_there_and_only_the_owner_reads_it(tmp_path: Path) -> None:
    mint(tmp_path)
    first = load(tmp_path)
    mint(tmp_path)
    assert load(tmp_path) == first
    assert first.peer.startswith("12D3KooW")
    assert first.secret.hex() not in repr(first)
    public = Ed25519PrivateKey.from_private_bytes(first.key).public_key().public_bytes_raw()
    assert peer_id(public) == first.peer
    for path in (tmp_path / DIRECTORY / KEY, tmp_path / DIRECTORY / SECRET):
        assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("file", "content", "told"),
    [
        (KEY, None, "cannot read"),
        (KEY, b"short", "no libp2p ed25519 key"),
        (SECRET, b"/key/other\n", "no cluster secret"),
    ],
)
def test_R61_missing_and_damaged_keys_are_named(tmp_path: Path, file: str, content: bytes | None, told: str) -> None:
    mint(tmp_path)
    path = tmp_path / DIRECTORY / file
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    with pytest.raises(IdentityUnusable, match=told) as error:
        load(tmp_path)
    assert str(path) in str(error.value)


def test_P60_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    mint(tmp_path)
    (tmp_path / DIRECTORY / SECRET).chmod(0o644)
    with pytest.raises(IdentityUnusable, match="chmod 600"):
        load(tmp_path)
