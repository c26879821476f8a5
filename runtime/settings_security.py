"""Who may call, as settings say it (R36): API keys by their digests, and issuers of JSON Web Tokens. Law: no secret stands in a settings file, and no
message about one repeats it (F87).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from attrs import asdict, frozen

from protocol.ids import DatabaseName, InvalidName
from protocol.records import SCOPES
from runtime.settings_file import Value
from runtime.settings_kinds import PATH, Kind, Unfit, list_of, shown, text_of

_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_ALGORITHMS: Final = ("EdDSA", "HS256")


@frozen
class ApiKey:
    """A key that the gateway accepts, by the SHA-256 of it in hex: the key itself is in no file (R36, F87)."""

    application: str
    sha256: str
    scope: str = "admin"


@frozen
class JwtIssuer:
    """Whose tokens the gateway believes. ``key_file``: of EdDSA the public key in PEM, of HS256 the secret, mode 0600."""

    algorithm: str
    key_file: Path
    audience: str
    application_claim: str = "app"
    scope_claim: str = "scope"


def _entries(value: Value, what: str, needed: set[str], optional: set[str]) -> Mapping[str, Value]:
    entries = value.data
    if not isinstance(entries, Mapping) or not needed <= set(entries) <= needed | optional:
        more = f"; {' and '.join(sorted(optional))} may be there" if optional else ""
        raise Unfit(f"{what} has exactly the entries {', '.join(sorted(needed))}{more}")
    return entries


def _one_of(value: Value, words: tuple[str, ...]) -> str:
    if value.data not in words:
        raise Unfit(f"{shown(value)} is none of {', '.join(words)}", value.place)
    return str(value.data)


def _read_key(value: Value) -> ApiKey:
    entries = _entries(value, "an API key", {"application", "sha256"}, {"scope"})
    application, digest = entries["application"], entries["sha256"]
    try:
        DatabaseName(text_of(application, "an application's name"), "any")
    except InvalidName as error:
        raise Unfit(str(error), application.place) from None
    if not isinstance(digest.data, str) or not _SHA256.fullmatch(digest.data):
        # The text is not repeated: somebody may have written the key itself, and errors end up in logs.
        raise Unfit("sha256 is not the SHA-256 of a key: 64 hex digits, in quotes (never the key itself)", digest.place)
    scope = _one_of(entries["scope"], SCOPES) if "scope" in entries else "admin"
    return ApiKey(application.written, digest.data, scope)


def _read_keys(value: Value) -> tuple[ApiKey, ...]:
    keys = list_of(_read_key, "API keys")(value)
    if len({key.sha256 for key in keys}) < len(keys):
        raise Unfit("one key stands there twice")
    return keys


def _write_keys(keys: tuple[ApiKey, ...]) -> str:
    return _written([{"application": one.application, "sha256": one.sha256, "scope": one.scope} for one in keys])


def _read_issuer(value: Value) -> JwtIssuer:
    needed, optional = {"algorithm", "key_file", "audience"}, {"application_claim", "scope_claim"}
    entries = _entries(value, "an issuer of tokens", needed, optional)
    claims = {name: text_of(entries[name], "the name of a claim") for name in optional if name in entries}
    return JwtIssuer(
        _one_of(entries["algorithm"], _ALGORITHMS),
        PATH.read(entries["key_file"]),
        text_of(entries["audience"], "the audience that tokens must name"),
        **claims,
    )


def _write_issuers(issuers: tuple[JwtIssuer, ...]) -> str:
    return _written([asdict(one) for one in issuers])


def _written(entries: list[dict[str, Any]]) -> str:
    texts = ["{" + ", ".join(f'{name}: "{value}"' for name, value in one.items()) + "}" for one in entries]
    return "[" + ", ".join(texts) + "]"


API_KEYS: Final = Kind("list of {application, sha256, scope?}", _read_keys, _write_keys, collection=True)
JWT_ISSUERS: Final = Kind(
    "list of {algorithm, key_file, audience, application_claim?, scope_claim?}",
    list_of(_read_issuer, "issuers"),
    _write_issuers,
    collection=True,
)
