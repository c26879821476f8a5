"""JSON Web Tokens (R36, RFC 7519): whose signature counts, and what their claims say.

The laws kept here: an issuer has one algorithm and one key of the kind that this algorithm takes, made when the worker begins, so no token can
choose how it is verified; a token must have an expiry and must be meant for us; one that was verified is remembered no longer than it is
valid. Tokens cannot be revoked one by one: they should not live long.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final

import jwt
from attrs import frozen
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from protocol.ids import DatabaseName, InvalidName
from protocol.records import SCOPES
from runtime.gateway.calls import Caller
from runtime.gateway.problems import Refusal
from runtime.gateway.worker_config import Issuer

ALGORITHMS: Final = ("EdDSA", "HS256")
LEAST_SECRET: Final = 32
"""Bytes of a secret for HS256 (RFC 7518, 3.2)."""
_LONGEST: Final = 8_192
_REMEMBERED: Final = 1_024
_BY_TOKEN: Final = "jwt"
"""In place of a key's id: all tokens of an application share what one key may have."""


class BadKey(ValueError):
    """A key file that its algorithm cannot take; one line that says why."""


def unauthorized(detail: str) -> Refusal:
    return Refusal("unauthorized", detail, headers=(("www-authenticate", 'Bearer realm="torpor"'),))


def is_token(text: str) -> bool:
    """It looks like a JSON Web Token, not like a key."""
    return text.count(".") == 2


def verification_key(algorithm: str, data: bytes) -> Any:
    """What verifies signatures. Raises :class:`BadKey`: above all, no public key is ever taken for a secret."""
    if algorithm == "EdDSA":
        try:
            key = load_pem_public_key(data)
        except ValueError:
            raise BadKey("it is no public key in PEM (openssl pkey -pubout makes one)") from None
        if not isinstance(key, Ed25519PublicKey):
            raise BadKey("EdDSA needs an Ed25519 key (openssl genpkey -algorithm ed25519)")
        return key
    if b"-----BEGIN" in data:
        raise BadKey("it holds a key in PEM, which is no secret for HS256")
    if len(data) < LEAST_SECRET:
        raise BadKey(f"a secret for HS256 has at least {LEAST_SECRET} bytes (openssl rand -hex 32)")
    return data


@frozen
class _Verified:
    caller: Caller
    expires: float


class Tokens:
    """``wall``: Unix time."""

    def __init__(self, issuers: tuple[Issuer, ...], wall: Callable[[], float]) -> None:
        self._issuers = [(issuer, verification_key(issuer.algorithm, issuer.key)) for issuer in issuers]
        self._wall = wall
        self._verified: OrderedDict[str, _Verified] = OrderedDict()

    def caller(self, token: str) -> Caller:
        """Who presents this token. Raises :class:`Refusal`."""
        known = self._verified.get(token)
        if known is not None and self._wall() < known.expires:
            return known.caller
        if known is not None:
            del self._verified[token]
        verified = self._verify(token)
        while len(self._verified) >= _REMEMBERED:
            self._verified.popitem(last=False)
        self._verified[token] = verified
        return verified.caller

    def _verify(self, token: str) -> _Verified:
        if not self._issuers:
            raise unauthorized("no tokens are taken here: security.jwt names no issuer")
        if len(token) > _LONGEST:
            raise unauthorized(f"the token is longer than {_LONGEST} characters")
        try:
            algorithm = jwt.get_unverified_header(token).get("alg")
        except jwt.InvalidTokenError:
            raise unauthorized("the token is malformed") from None
        meant = [(issuer, key) for issuer, key in self._issuers if issuer.algorithm == algorithm]
        if not meant:
            raise unauthorized("the token's algorithm is none of those of security.jwt")
        refusal: Refusal | None = None
        for issuer, key in meant:  # several: while a key is being replaced, and for several audiences
            try:
                claims = jwt.decode(
                    token,
                    key,
                    algorithms=[issuer.algorithm],
                    audience=issuer.audience,
                    options={"require": ["exp", "aud"], "verify_exp": False, "verify_nbf": False, "verify_iat": False},
                )
            except jwt.InvalidTokenError as error:
                if refusal is None or not isinstance(error, jwt.InvalidSignatureError):
                    refusal = _refusal(error, issuer)
                continue
            return self._carried(claims, issuer)
        assert refusal is not None
        raise refusal

    def _carried(self, claims: dict[str, Any], issuer: Issuer) -> _Verified:
        """What a token of a good signature says."""
        expires = _time(claims, "exp")
        if self._wall() >= expires:
            raise unauthorized("the token has expired")
        if "nbf" in claims and self._wall() < _time(claims, "nbf"):
            raise unauthorized("the token is not valid yet")
        app = claims.get(issuer.application_claim)
        try:
            DatabaseName.internal_of(app if isinstance(app, str) else "", "any")
        except InvalidName:
            raise unauthorized(f"the token's claim {issuer.application_claim!r} names no application") from None
        scope = claims.get(issuer.scope_claim)
        named = [one for one in SCOPES if isinstance(scope, str) and one in scope.split()]
        if not named:
            raise unauthorized(f"the token's claim {issuer.scope_claim!r} names none of {', '.join(SCOPES)}")
        return _Verified(Caller(str(app), named[-1], _BY_TOKEN), expires)


def _time(claims: dict[str, Any], name: str) -> float:
    """A NumericDate. Raises :class:`Refusal`."""
    value = claims[name]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise unauthorized(f"the token's claim {name!r} is no time")
    return float(value)


def _refusal(error: jwt.InvalidTokenError, issuer: Issuer) -> Refusal:
    if isinstance(error, jwt.MissingRequiredClaimError):
        return unauthorized(f"the token lacks the claim {error.claim!r}")
    if isinstance(error, jwt.InvalidAudienceError):
        return unauthorized(f"the token is for another audience than {issuer.audience!r}")
    if isinstance(error, jwt.InvalidSignatureError):
        return unauthorized("the token's signature is not that of a key of security.jwt")
    return unauthorized("the token is malformed")
