"""Who calls (R36, F87): each way to be refused has one clear detail, and nothing that a token says of itself decides how it is verified."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
import pytest
import trio
from attrs import define
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from runtime.gateway import issuers
from runtime.gateway.allowances import Allowances
from runtime.gateway.auth import new_key
from runtime.gateway.bind import GatewayFailed
from runtime.gateway.callers import Callers, presented
from runtime.gateway.calls import Caller
from runtime.gateway.frames import Key, Keys
from runtime.gateway.problems import Refusal
from runtime.gateway.tokens import BadKey, Tokens, verification_key
from runtime.gateway.worker_config import Issuer, WorkerConfig
from runtime.settings import JwtIssuer
from tests.runtime.gateway_world import gateway, kind_of, post, rqliteds

NOW = 1_800_000_000.0
SECRET = b"a secret of more than thirty-two bytes"
PRIVATE = Ed25519PrivateKey.from_private_bytes(b"p" * 32)
PUBLIC = PRIVATE.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
SHARED = Issuer("HS256", SECRET, "torpor", "app", "scope")
SIGNED = Issuer("EdDSA", PUBLIC, "torpor", "app", "scope")


@define
class Clock:
    now: float = NOW

    def __call__(self) -> float:
        return self.now


def claims(**others: Any) -> dict[str, Any]:
    told: dict[str, Any] = {"aud": "torpor", "exp": NOW + 60, "app": "shop", "scope": "write"} | others
    return {name: value for name, value in told.items() if value is not None}


def token(key: Any = SECRET, algorithm: str = "HS256", **others: Any) -> str:
    return jwt.encode(claims(**others), key, algorithm)


def by_hand(header: dict[str, Any], body: dict[str, Any], secret: bytes) -> str:
    """A token that no library would make: any header, signed with HMAC under any bytes."""

    def part(data: bytes) -> str:
        return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

    text = f"{part(json.dumps(header).encode())}.{part(json.dumps(body).encode())}"
    return f"{text}.{part(hmac.new(secret, text.encode(), hashlib.sha256).digest())}"


def refusal(call: Callable[[], object]) -> str:
    with pytest.raises(Refusal) as caught:
        call()
    assert caught.value.type == "unauthorized"
    assert dict(caught.value.headers)["www-authenticate"].startswith("Bearer")
    return caught.value.detail


# --- tokens ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("issuer", "key"), [(SHARED, SECRET), (SIGNED, PRIVATE)], ids=["HS256", "EdDSA"])
def test_R36_a_token_carries_its_application_and_the_highest_of_its_scopes(issuer: Issuer, key: Any) -> None:
    tokens = Tokens((issuer,), Clock())
    assert tokens.caller(token(key, issuer.algorithm)) == Caller("shop", "write", "jwt")
    assert tokens.caller(token(key, issuer.algorithm, scope="read openid admin")).scope == "admin"
    assert tokens.caller(token(key, issuer.algorithm, aud=["other", "torpor"])).app == "shop"


def test_R36_each_bad_token_has_one_clear_refusal() -> None:
    tokens = Tokens((SHARED, SIGNED), Clock())
    good = token()
    for text, why in (
        ("a.b.c", "the token is malformed"),
        (good[:-3], "the token's signature is not that of a key of security.jwt"),
        (token(b"another secret of more than 32 bytes"), "the token's signature is not that of a key of security.jwt"),
        (token(Ed25519PrivateKey.generate(), "EdDSA"), "the token's signature is not that of a key of security.jwt"),
        (token(exp=None), "the token lacks the claim 'exp'"),
        (token(aud=None), "the token lacks the claim 'aud'"),
        (token(aud="another"), "the token is for another audience than 'torpor'"),
        (token(exp=NOW), "the token has expired"),
        (token(nbf=NOW + 1), "the token is not valid yet"),
        (token(app=None), "the token's claim 'app' names no application"),
        (token(app=["shop"]), "the token's claim 'app' names no application"),
        (token(app="../etc"), "the token's claim 'app' names no application"),
        (token(scope=None), "the token's claim 'scope' names none of read, write, admin"),
        (token(scope="everything"), "the token's claim 'scope' names none of read, write, admin"),
        (token(scope=["admin"]), "the token's claim 'scope' names none of read, write, admin"),
        (token(SECRET * 2, "HS512"), "the token's algorithm is none of those of security.jwt"),
        (by_hand({"alg": "none"}, claims(), b""), "the token's algorithm is none of those of security.jwt"),
        (by_hand({"alg": ["HS256"]}, claims(), SECRET), "the token's algorithm is none of those of security.jwt"),
        (by_hand({"alg": "HS256"}, claims(exp="soon"), SECRET), "the token's claim 'exp' is no time"),
        (by_hand({"alg": "HS256"}, claims(exp=True), SECRET), "the token's claim 'exp' is no time"),
        (f"{good}{'x' * 9000}", "the token is longer than 8192 characters"),
    ):
        assert refusal(lambda text=text: tokens.caller(text)) == why, text
    assert refusal(lambda: Tokens((), Clock()).caller(good)) == "no tokens are taken here: security.jwt names no issuer"


def test_F87_a_public_key_is_never_taken_for_a_secret() -> None:
    """The old attack: what verifies EdDSA is known to everybody, so a token signed by HMAC under it must not be believed."""
    for header in ({"alg": "HS256"}, {"alg": "EdDSA"}, {"alg": "HS256", "jwk": {"kty": "oct", "k": "cA"}}):
        forged = by_hand(header, claims(), PUBLIC)
        assert refusal(lambda forged=forged: Tokens((SIGNED,), Clock()).caller(forged))
        assert refusal(lambda forged=forged: Tokens((SIGNED, SHARED), Clock()).caller(forged))
    other = generate_private_key(SECP256R1()).public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    for algorithm, data, why in (
        ("HS256", PUBLIC, "no secret for HS256"),
        ("HS256", b"short", "at least 32 bytes"),
        ("EdDSA", SECRET, "no public key in PEM"),
        ("EdDSA", other, "needs an Ed25519 key"),
    ):
        with pytest.raises(BadKey, match=why):
            verification_key(algorithm, data)


def test_R36_a_verified_token_is_remembered_no_longer_than_it_is_valid() -> None:
    clock = Clock()
    tokens = Tokens((SHARED,), clock)
    short = token(exp=NOW + 5)
    for second in range(5):
        clock.now = NOW + second
        assert tokens.caller(short).app == "shop"
    clock.now = NOW + 5
    assert refusal(lambda: tokens.caller(short)) == "the token has expired"


def test_R36_while_a_key_is_replaced_both_are_believed() -> None:
    old = Issuer("HS256", b"the old secret, of more than 32 bytes", "torpor", "app", "scope")
    tokens = Tokens((old, SHARED), Clock())
    assert tokens.caller(token()).app == tokens.caller(token(old.key)).app == "shop"
    assert refusal(lambda: tokens.caller(token(aud="x"))) == "the token is for another audience than 'torpor'"


def test_R61_F87_key_files_that_cannot_be_used_name_file_and_cause(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    wanted = JwtIssuer("HS256", path, "torpor")
    with pytest.raises(GatewayFailed, match=f"security.jwt: {path} cannot be read: No such file"):
        issuers.read((wanted,))
    path.write_bytes(SECRET + b"\n")
    path.chmod(0o640)
    with pytest.raises(GatewayFailed, match=f"others may read it: chmod 600 {path}"):
        issuers.read((wanted,))
    path.chmod(stat.S_IRUSR | stat.S_IWUSR)
    assert issuers.read((wanted,)) == (SHARED,)
    assert SECRET.decode() not in repr(issuers.read((wanted,)))
    path.write_bytes(PUBLIC)
    with pytest.raises(GatewayFailed, match="no secret for HS256"):
        issuers.read((wanted,))
    path.chmod(0o644)
    assert issuers.read((JwtIssuer("EdDSA", path, "torpor"),)) == (SIGNED,)


# --- keys -----------------------------------------------------------------------------------------------------------


def of(callers: Callers, text: str) -> Caller:
    return asyncio.run(callers.of([(b"authorization", f"Bearer {text}".encode())]))


def callers(*keys: Key, complete: bool = True, clock: Clock | None = None, **config: Any) -> Callers:
    made = Callers(WorkerConfig({}, **config), clock or Clock())
    made.told(Keys(keys, complete))
    return made


def test_R36_F87_each_bad_key_has_one_clear_refusal() -> None:
    text, digest = new_key()
    key_id, sha256 = text[7:15], bytes.fromhex(digest)
    good = Key(sha256, "shop", "read", 0, False)
    assert of(callers(good), text) == Caller("shop", "read", key_id)
    assert of(callers(Key(sha256, "shop", "read", int(NOW) + 1, False)), text).app == "shop"
    for known, presents, why in (
        ((good,), new_key()[0], "is not known"),
        ((Key(sha256, "shop", "read", 0, True),), text, f"the API key {key_id} was revoked"),
        ((Key(sha256, "shop", "read", int(NOW), False),), text, f"the API key {key_id} has expired"),
        ((good,), "torpor_x", "neither an API key (torpor_…) nor a JSON Web Token"),
        ((good,), digest, "neither an API key (torpor_…) nor a JSON Web Token"),
        ((good,), "ü", "neither an API key (torpor_…) nor a JSON Web Token"),
    ):
        said = refusal(lambda known=known, presents=presents: of(callers(*known), presents))
        assert why in said
        assert text not in said


def test_R36_a_request_presents_exactly_one_key() -> None:
    assert presented([(b"authorization", b"bearer  k ")]) == "k"
    assert presented([(b"x-api-key", b"k")]) == "k"
    assert presented([(b"authorization", b"Bearer k"), (b"x-api-key", b"k")]) == "k"
    for headers, why in (
        ([], "send Authorization: Bearer <key or token>, or X-API-Key: <key>"),
        ([(b"authorization", b"Bearer ")], "send Authorization: Bearer <key or token>, or X-API-Key: <key>"),
        ([(b"authorization", b"Basic k")], "Authorization has another scheme than Bearer"),
        ([(b"authorization", b"Bearer a"), (b"x-api-key", b"b")], "the request presents more than one key or token"),
        (
            [(b"authorization", b"Bearer a"), (b"authorization", b"Bearer b")],
            "the request presents more than one key or token",
        ),
    ):
        assert refusal(lambda headers=headers: presented(headers)) == why


def test_R36_a_key_that_may_not_have_been_heard_of_yet_is_not_called_unknown() -> None:
    text, _ = new_key()
    with pytest.raises(Refusal, match="unavailable"):
        of(callers(complete=False), text)


@pytest.mark.parametrize("complete", [True, False])
def test_P61_a_worker_that_was_told_nothing_yet_waits_before_it_says_that_it_is_not_ready(complete: bool) -> None:
    """Else a load balancer would leave a gateway whenever its workers are replaced."""
    made = Callers(WorkerConfig({}), Clock())

    async def ready() -> bool:
        asyncio.get_running_loop().call_soon(made.told, Keys((), complete))
        return await made.complete()

    assert asyncio.run(ready()) == complete


def test_R36_a_worker_that_was_told_nothing_yet_waits_for_it() -> None:
    text, digest = new_key()
    made = Callers(WorkerConfig({}), Clock())

    async def both() -> Caller:
        asyncio.get_running_loop().call_soon(
            made.told, Keys((Key(bytes.fromhex(digest), "shop", "read", 0, False),), False)
        )
        asyncio.get_running_loop().call_soon(made.told, Keys((), True))
        return await made.of([(b"x-api-key", text.encode())])

    assert asyncio.run(both()).app == "shop"


# --- allowances -----------------------------------------------------------------------------------------------------


def test_F92_a_key_has_its_rate_and_takes_nothing_from_another() -> None:
    clock = Clock(0.0)
    allowances = Allowances(2, 0, clock)
    one, two = Caller("shop", key_id="1"), Caller("shop", key_id="2")

    def request(who: Caller) -> str:
        try:
            with allowances.of(who):
                return "ok"
        except Refusal as limited:
            return f"{limited.type} {limited.status}, again in {dict(limited.headers)['retry-after']} s"

    assert [request(one) for _ in range(3)] == ["ok", "ok", "rate-limited 429, again in 1 s"]
    assert request(two) == "ok"
    assert request(Caller("shop", forwarded=True)) == "ok", "it was counted by the gateway that it came from"
    clock.now = 0.5
    assert [request(one), request(one)] == ["ok", "rate-limited 429, again in 1 s"]


def test_F92_a_key_has_so_many_requests_at_one_time_and_gets_them_back() -> None:
    allowances = Allowances(0, 1, Clock(0.0))
    one, two = Caller("shop", key_id="1"), Caller("shop", key_id="2")
    with allowances.of(one), allowances.of(two), pytest.raises(Refusal, match="rate-limited"), allowances.of(one):
        pass
    with pytest.raises(KeyError), allowances.of(one):
        raise KeyError
    with allowances.of(one):
        pass
    assert allowances._running == {}


# --- a real worker --------------------------------------------------------------------------------------------------


@pytest.mark.real
async def test_R36_F87_scopes_revocation_and_tokens_at_a_real_gateway(tmp_path: Path) -> None:
    texts = {scope: new_key() for scope in ("read", "write", "admin")}
    known = tuple(Key(bytes.fromhex(digest), "one", scope, 0, False) for scope, (_, digest) in texts.items())
    with rqliteds(tmp_path, "one") as running:
        await running["one"].ready()
        url = {("one", "users"): running["one"].url}
        async with gateway(url, issuers=(SHARED,), requests_per_second=1000, concurrent_requests=100) as world:
            world.host.keys(None, known, complete=True)
            held = {scope: text for scope, (text, _) in texts.items()}
            lives = jwt.encode(claims(exp=2**33, app="one", scope="write"), SECRET, "HS256")
            async with world.client("") as client:

                async def ask(text: str, endpoint: str, sql: str) -> Any:
                    client.headers["authorization"] = f"Bearer {text}"
                    return await post(client, endpoint, sql=sql)

                assert (await ask(held["write"], "exec", "CREATE TABLE t (n)")).status_code == 200
                assert (await ask(held["read"], "query", "SELECT * FROM t")).status_code == 200
                refused = await ask(held["read"], "exec", "INSERT INTO t VALUES (1)")
                assert (kind_of(refused), refused.status_code) == ("forbidden", 403)
                assert (await ask(lives, "exec", "INSERT INTO t VALUES (1)")).status_code == 200
                assert kind_of(await ask(token(app="one", exp=1), "query", "SELECT 1")) == "unauthorized"

                revoked = Key(bytes.fromhex(texts["write"][1]), "one", "write", 0, True)
                world.host.keys(None, (revoked,), complete=True)
                with trio.fail_after(20):
                    while (answer := await ask(held["write"], "query", "SELECT 1")).status_code == 200:
                        pass  # the frame is on its way
                assert kind_of(answer) == "unauthorized"
                assert answer.json()["detail"] == f"the API key {held['write'][7:15]} was revoked"
                assert (await ask(held["admin"], "query", "SELECT 1")).status_code == 200


@pytest.mark.real
async def test_F92_a_key_that_asks_too_often_is_told_when_to_come_again(tmp_path: Path) -> None:
    async with gateway({}, requests_per_second=1) as world, world.client() as client, world.client("two") as other:
        answers = [await client.get("/v1/database/list") for _ in range(5)]
        late = [answer for answer in answers if answer.status_code == 429]
        assert late
        assert kind_of(late[0]) == "rate-limited"
        assert int(late[0].headers["retry-after"]) >= 1
        assert (await other.get("/v1/database/list")).status_code == 200
        assert (await client.get("/healthz")).status_code == 200
