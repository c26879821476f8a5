"""Who this node is. Laws: a cluster is founded once, by an explicit act, which mints its secret (P60), and its id follows from the
secret, so that nobody can hold the one of one cluster and the other of another; what a node is known by never leaves its directory and
is readable by its user alone.

Two files under ``<data_dir>/identity/`` (directory 0700, files 0600), both in libp2p's own forms so that its tools read them:
``node.key``, the ed25519 private key as libp2p's protobuf, and ``cluster.secret``, the pre-shared key of its private networks
("swarm key v1"). The peer id is the base58 text of the public key's identity multihash (``12D3KooW…``), computed here, since
importing libp2p costs 0.5-0.9 s that a start needs not pay.
"""

from __future__ import annotations

import hashlib
import secrets
from pathlib import Path
from typing import Final

from attrs import field, frozen

from runtime.directories import sync_directory, write_whole

DIRECTORY: Final = "identity"
KEY: Final = "node.key"
SECRET: Final = "cluster.secret"

_PRIVATE_HEAD: Final = bytes((0x08, 0x01, 0x12, 0x40))
"""libp2p's ``PrivateKey`` message: type Ed25519, then 64 bytes: seed and public key."""
_PEER_HEAD: Final = bytes((0x00, 0x24, 0x08, 0x01, 0x12, 0x20))
"""Identity multihash of 36 bytes: libp2p's ``PublicKey`` message, type Ed25519, then the 32 bytes of the key."""
_SECRET_HEAD: Final = "/key/swarm/psk/1.0.0/\n/base16/\n"
_BASE58: Final = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"


class IdentityUnusable(Exception):
    """The node's keys cannot be used. The text is one line: the cause and what to do."""


@frozen
class Identity:
    """``peer``: libp2p peer id. ``key``: the ed25519 seed, 32 bytes. ``secret``: the cluster's pre-shared key, 32 bytes."""

    peer: str
    key: bytes = field(repr=False)
    secret: bytes = field(repr=False)


def peer_id(public: bytes) -> str:
    """The libp2p peer id of an ed25519 public key of 32 bytes (libp2p peer-ids specification)."""
    raw = _PEER_HEAD + public
    number = int.from_bytes(raw, "big")
    text = ""
    while number:
        number, digit = divmod(number, 58)
        text = _BASE58[digit] + text
    return "1" * (len(raw) - len(raw.lstrip(b"\0"))) + text


def cluster_id(secret: bytes) -> str:
    """The id of the cluster whose secret this is, 32 hex digits. One way: heartbeats carry it, and tell nothing of the secret."""
    return hashlib.sha256(b"torpor cluster id 1\0" + secret).hexdigest()[:32]


def mint(data_dir: Path) -> None:
    """Found: make key and secret, durably, where they are missing; what is there stays, so that a founding that crashed half
    way can be repeated. Raises OSError."""
    _settle(data_dir, secrets.token_bytes(32))


def adopt(data_dir: Path, secret_file: Path | None) -> None:
    """Join: make a key, and copy the cluster's secret from ``secret_file``; without one it must lie in its place already. Raises
    OSError, :class:`IdentityUnusable`."""
    own = data_dir / DIRECTORY / SECRET
    if secret_file is None:
        if not own.exists():
            raise IdentityUnusable(
                f"no cluster secret: copy {DIRECTORY}/{SECRET} from the data directory of a node of the cluster to {own} "
                "(mode 0600), or name a copy in security.cluster_secret_file"
            )
        _settle(data_dir, _secret(own))
        return
    secret = _secret(secret_file)
    if own.exists() and _secret(own) != secret:
        raise IdentityUnusable(f"{secret_file} and {own} are secrets of two clusters; remove the one that is not meant")
    _settle(data_dir, secret)


def _settle(data_dir: Path, secret: bytes) -> None:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # 40 ms, needed here only

    directory = data_dir / DIRECTORY
    directory.mkdir(mode=0o700, exist_ok=True)
    if not (directory / KEY).exists():
        key = Ed25519PrivateKey.generate()
        text = _PRIVATE_HEAD + key.private_bytes_raw() + key.public_key().public_bytes_raw()
        write_whole(directory / KEY, text, durable=True, private=True)
    if not (directory / SECRET).exists():
        write_whole(directory / SECRET, f"{_SECRET_HEAD}{secret.hex()}\n".encode(), durable=True, private=True)
    for each in (directory, data_dir):  # also what an earlier start wrote, and ended before it was synced
        sync_directory(each)


def load(data_dir: Path) -> Identity:
    """The identity that was made here. Raises :class:`IdentityUnusable`: missing, damaged, or open to other users."""
    key = _read(data_dir / DIRECTORY / KEY)
    if len(key) != len(_PRIVATE_HEAD) + 64 or not key.startswith(_PRIVATE_HEAD):
        raise IdentityUnusable(f"{data_dir / DIRECTORY / KEY} is no libp2p ed25519 key; restore it from a copy")
    seed, public = key[4:36], key[36:]
    return Identity(peer_id(public), seed, _secret(data_dir / DIRECTORY / SECRET))


def _secret(path: Path) -> bytes:
    text = _read(path).decode(errors="replace")
    digits = text.removeprefix(_SECRET_HEAD).strip()
    try:
        secret = bytes.fromhex(digits) if text.startswith(_SECRET_HEAD) else b""
    except ValueError:
        secret = b""
    if len(secret) != 32:
        raise IdentityUnusable(f"{path} is no cluster secret (libp2p swarm key v1); copy it from another node")
    return secret


def _read(path: Path) -> bytes:
    try:
        if path.stat().st_mode & 0o077:
            raise IdentityUnusable(f"{path} can be read by other users; run: chmod 600 {path}")
        return path.read_bytes()
    except OSError as error:
        raise IdentityUnusable(
            f"cannot read {path}: {error.strerror}; restore it from a copy of this node's data"
        ) from None
