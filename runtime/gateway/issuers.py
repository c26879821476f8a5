"""The keys of those whose tokens are believed, read from their files when the node starts. The law kept here: a secret that others on the machine
could read is refused, and so is a key of another kind than its algorithm's; each with one line that names file and cause (R61).
"""

from __future__ import annotations

import os
import stat

from runtime.gateway.bind import GatewayFailed
from runtime.gateway.tokens import BadKey, verification_key
from runtime.gateway.worker_config import Issuer
from runtime.settings import JwtIssuer


def read(issuers: tuple[JwtIssuer, ...]) -> tuple[Issuer, ...]:
    """Raises :class:`runtime.gateway.bind.GatewayFailed`."""
    return tuple(_read(one) for one in issuers)


def _read(issuer: JwtIssuer) -> Issuer:
    path = issuer.key_file
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            data = file.read(64 * 1024)
    except OSError as error:
        raise GatewayFailed(f"security.jwt: {path} cannot be read: {error.strerror}") from None
    if issuer.algorithm == "HS256":
        if mode & 0o077:
            raise GatewayFailed(f"security.jwt: {path} holds a secret, and others may read it: chmod 600 {path}")
        data = data.strip()
    try:
        verification_key(issuer.algorithm, data)
    except BadKey as error:
        raise GatewayFailed(f"security.jwt: {path}: {error}") from None
    return Issuer(issuer.algorithm, data, issuer.audience, issuer.application_claim, issuer.scope_claim)
