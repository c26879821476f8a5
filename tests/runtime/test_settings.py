"""R10–R13, R81: a configuration is right as a whole, or one line names the key and the line, and nothing was touched."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from runtime import settings, settings_file, settings_page
from runtime.settings import Address, ApiKey, JwtIssuer, Settings, SettingsError, load
from runtime.settings_kinds import Unfit, duration, size, written_duration, written_size
from runtime.settings_sections import NodeSettings

ROOT = Path(__file__).parent.parent.parent
DIGEST = "ab" * 32


def test_R10_R11_R12_defaults_are_those_of_the_guide() -> None:
    made = load(None)
    assert made.node == NodeSettings(Path("data"), ("/ip4/0.0.0.0/tcp/4001",), 50)
    database = made.database
    assert (database.replication_factor, database.hibernation_timeout, database.max_databases) == (3, 60.0, 100)
    assert (database.port_range_http_start, database.port_range_http_end) == (5001, 5999)
    assert (database.port_range_raft_start, database.port_range_raft_end) == (7001, 7999)
    discovery = made.discovery
    assert (discovery.bootstrap_peers, discovery.discovery_interval, discovery.health_check_interval) == (
        (),
        30.0,
        10.0,
    )
    assert (made.gateway.query_timeout, made.gateway.transaction_timeout, made.gateway.wake_timeout) == (
        30.0,
        60.0,
        8.0,
    )


def test_R13_the_example_holds_every_setting_at_its_default() -> None:
    path = ROOT / "configs" / "node.yaml"
    assert load(path) == Settings()
    written = {
        f"{section}.{key}" for section, value in settings_file.read_file(path).items() for key in dict(value.data or {})
    }
    declared = {
        f"{section}.{name}"
        for section, default in settings.sections().items()
        for name, *_ in settings.fields_of(default)
    }
    assert written == declared


def test_R13_the_page_of_settings_is_fresh() -> None:
    assert settings_page.PAGE.read_text(encoding="utf-8") == settings_page.page()


def test_R13_every_default_is_read_back_as_it_is_written() -> None:
    for section, default in settings.sections().items():
        for name, kind, value, _ in settings.fields_of(default):
            text = kind.write(value).strip('"') if not kind.collection else kind.write(value)
            assert getattr(getattr(load(None, [f"{section}.{name}={text}"]), section), name) == value


WRONG = [
    # (the file, the line that the error names, the key, words of the reason)
    ("database:\n  hibernation_timeout: 6 bananas", 2, "database.hibernation_timeout", '"6 bananas" is not a duration'),
    ("database:\n  hibernation_timeout: 60", 2, "database.hibernation_timeout", "60 lacks its unit"),
    ("database:\n  hibernation_timeout: 1.5", 2, "database.hibernation_timeout", "1.5 lacks its unit"),
    ("database:\n  hibernation_timeout: -5s", 2, "database.hibernation_timeout", '"-5s" is not a duration'),
    ("database:\n  hibernation_timeout: true", 2, "database.hibernation_timeout", "true is not a duration"),
    ("database:\n  hibernation_timeout: .inf", 2, "database.hibernation_timeout", '".inf" is not a duration'),
    ("database:\n  hibernation_timeout: 1ms", 2, "database.hibernation_timeout", "not between 100ms and 30d"),
    ("gateway:\n  query_timeout: 0", 2, "gateway.query_timeout", "0 is not possible here; the least is 100ms"),
    ("database:\n\n  max_databases: many", 3, "database.max_databases", '"many" is not a whole number'),
    ("database:\n  max_databases: 0", 2, "database.max_databases", "0 is not between 1 and 10000"),
    ("database:\n  max_databases: true", 2, "database.max_databases", "true is not a whole number"),
    ("database:\n  max_databases: 1.0", 2, "database.max_databases", "1.0 is not a whole number"),
    ("database:\n  max_databases: [3]", 2, "database.max_databases", "a list is not a whole number"),
    ("database:\n  max_databases:", 2, "database.max_databases", "has no value"),
    ("database:\n  replication_factor: 10", 2, "database.replication_factor", "10 is not between 1 and 9"),
    ("database:\n  engine: postgres", 2, "database.engine", '"postgres" is none of rqlite'),
    ("database:\n  max_database: 5", 2, "database.max_database", "did you mean database.max_databases?"),
    ("databases:\n  max_databases: 5", 1, "databases", "did you mean database?"),
    ("replication_factor: 5", 1, "replication_factor", "did you mean database.replication_factor?"),
    ("node:\n  replication_factor: 5", 2, "node.replication_factor", "did you mean database.replication_factor?"),
    ("logging:\n  zebra: 5", 2, "logging.zebra", "there are logging.level, logging.format, logging.file"),
    ("node: data", 1, "node", "is a section"),
    ("node:\n  data_dir: a\n  data_dir: b", 3, "node.data_dir", "stands twice, first on line 2"),
    ("node:\n  data_dir: a\nlogging: {}\nnode: {}", 4, "node", "stands twice, first on line 1"),
    ('node:\n  data_dir: ""', 2, "node.data_dir", "is not the name of a file or directory"),
    ('node:\n  data_dir: "a\\0b"', 2, "node.data_dir", "is not the name of a file or directory"),
    ("node:\n  data_dir: !!python/object:os.system x", 2, "node.data_dir", "is not understood; write a plain value"),
    ("? [a]\n: b", 1, "", "a key has to be plain text"),
    ("<<: {a: b}", 1, "<<", "is not known"),
    ("- a\n- b", 1, "", "expected sections such as `node:`"),
    ("node: [", 2, "", "is not valid YAML"),
    ("node:\n  a: 1\n b: 2", 3, "", "is not valid YAML"),
    ("node:\n\ta: 1", 2, "", "is not valid YAML"),
    ("node: {}\n---\nnode: {}", 2, "", "is not valid YAML"),
    ("node:\n  listen_addresses: []", 2, "node.listen_addresses", "needs at least one address"),
    ("node:\n  listen_addresses: /ip4/0.0.0.0/tcp/1", 2, "node.listen_addresses", "is not a list of multiaddrs"),
    ("node:\n  listen_addresses:\n    - 0.0.0.0:4001", 3, "node.listen_addresses", "is not a multiaddr such as"),
    ("node:\n  listen_addresses:\n    - /ip4/0.0.0.0/tcp/70000", 3, "node.listen_addresses", "70000 is not a port"),
    ("node:\n  listen_addresses:\n    - /ip4/0.0.0.256/tcp/1", 3, "node.listen_addresses", "0.0.0.256 is not a host"),
    (
        "discovery:\n  bootstrap_peers:\n    - /ip4/192.0.2.1/tcp/1",
        3,
        "discovery.bootstrap_peers",
        "is not a multiaddr",
    ),
    ("discovery:\n  bootstrap_peers:\n    - /ip4/192.0.2.1/tcp/1/p2p/x", 3, "discovery.bootstrap_peers", "peer id"),
    ("gateway:\n  listen: 8080", 2, "gateway.listen", "8080 is not an address such as 127.0.0.1:8080"),
    ("gateway:\n  listen: 127.0.0.1:80800", 2, "gateway.listen", "is not an address"),
    ("gateway:\n  listen: 999.0.0.1:8080", 2, "gateway.listen", "names no host"),
    ('gateway:\n  listen: "[1.2.3.4]:8080"', 2, "gateway.listen", "names no host"),
    ("gateway:\n  max_body: 100", 2, "gateway.max_body", "100 is not a size (write 64KiB, 1MiB or 4096B)"),
    ("gateway:\n  max_body: 1TiB", 2, "gateway.max_body", "is not a size"),
    ("gateway:\n  max_body: 1B", 2, "gateway.max_body", "not between 1KiB and 64MiB"),
    ("security:\n  api_keys:\n    - application: shop", 3, "security.api_keys", "exactly the entries"),
    (
        f'security:\n  api_keys:\n    - application: "../etc"\n      sha256: "{DIGEST}"',
        3,
        "security.api_keys",
        "the application name '../etc' is not valid",
    ),
    (
        f'security:\n  api_keys:\n    - application: a\n      sha256: "{DIGEST}"\n    - application: b\n      sha256: "{DIGEST}"',
        2,
        "security.api_keys",
        "one key stands there twice",
    ),
]


@pytest.mark.parametrize(
    ("text", "line", "key", "reason"), WRONG, ids=[f"{key or 'file'}-{n}" for n, (_, _, key, _) in enumerate(WRONG)]
)
def test_R13_what_is_wrong_gives_one_line_with_key_and_line(
    tmp_path: Path, text: str, line: int, key: str, reason: str
) -> None:
    path = tmp_path / "node.yaml"
    path.write_text(text + "\n")
    with pytest.raises(SettingsError) as caught:
        load(path)
    message = str(caught.value)
    assert message.startswith(f"{path}:{line}: {key}: " if key else f"{path}:{line}: ")
    assert reason in message
    assert "\n" not in message


PORTS = [
    ("port_range_http_start: 6000", 2, "port_range_http_start", "6000-5999 ends before it starts"),
    ("port_range_http_end: 65536", 2, "port_range_http_end", "65536 is not between 1 and 65535"),
    ("port_range_http_start: 0", 2, "port_range_http_start", "0 is not between 1 and 65535"),
    ("port_range_http_end: 7001", 2, "port_range_http_end", "5001-7001 and the Raft ports 7001-7999 overlap"),
    ("port_range_raft_start: 5999", 2, "port_range_raft_start", "overlap"),
    ("port_range_http_start: 7100\n  port_range_http_end: 7200", 3, "port_range_http_end", "overlap"),
    ("port_range_http_end: 5099", 2, "port_range_http_end", "has 99 ports, too few for max_databases 100"),
    ("port_range_raft_start: 7950", 2, "port_range_raft_start", "has 50 ports, too few for max_databases 100"),
    ("max_databases: 1000", 2, "max_databases", "has 999 ports, too few for max_databases 1000"),
    ("port_range_raft_end: 8100", 2, "port_range_raft_end", "port 8080 lies in the databases' range 7001-8100"),
    ("port_range_http_start: 4001", 2, "port_range_http_start", "port 4001 lies in the databases' range 4001-5999"),
]


@pytest.mark.parametrize(("text", "line", "key", "reason"), PORTS)
def test_R13_port_ranges_that_cannot_serve_are_refused(
    tmp_path: Path, text: str, line: int, key: str, reason: str
) -> None:
    path = tmp_path / "node.yaml"
    path.write_text(f"database:\n  {text}\n")
    with pytest.raises(SettingsError) as caught:
        load(path)
    assert str(caught.value).startswith(f"{path}:{line}: database.{key}: ")
    assert reason in str(caught.value)


def test_R13_ranges_that_touch_without_overlapping_are_fine() -> None:
    made = load(None, ["database.port_range_http_end=7000", "database.max_databases=999"])
    assert made.database.port_range_http_end + 1 == made.database.port_range_raft_start


def test_R13_the_gateway_and_the_node_do_not_share_a_port() -> None:
    with pytest.raises(
        SettingsError, match=r"gateway\.listen: the node and its gateway would listen twice on one port"
    ):
        load(None, ["gateway.listen=0.0.0.0:4001"])
    assert (
        load(None, ["gateway.listen=127.0.0.1:0", "node.listen_addresses=[/ip4/127.0.0.1/tcp/0]"]).gateway.listen.port
        == 0
    )


@pytest.mark.parametrize("key", settings.DEPRECATED)
def test_R81_a_key_of_the_single_cluster_mode_says_what_replaces_it(tmp_path: Path, key: str) -> None:
    path = tmp_path / "node.yaml"
    path.write_text(f"node: {{}}\ndatabase:\n  {key.removeprefix('database.')}: 4001\n")
    with pytest.raises(SettingsError) as caught:
        load(path)
    message = str(caught.value)
    assert message == f"{path}:3: {key}: is no longer used: {settings.DEPRECATED[key]}"
    named = [word.strip(";:,") for word in settings.DEPRECATED[key].split() if word.count(".") == 1 and word[0] != "."]
    known = [
        f"{section}.{name}"
        for section, default in settings.sections().items()
        for name, *_ in settings.fields_of(default)
    ]
    assert named
    assert set(named) <= set(known)


def test_R13_a_full_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "node.yaml"
    path.write_text(
        f"""
node: {{data_dir: /var/lib/torpor, listen_addresses: [/ip6/::1/tcp/4001, /ip4/127.0.0.1/tcp/0]}}
database:
  hibernation_timeout: 0
  replication_factor: 5
discovery:
  bootstrap_peers: [/dns4/a.example/tcp/4001/p2p/12D3KooWALS2dL1iEXrnkZstqd3PSgaBcJNVaFa7G753e4c3EP8T]
gateway:
  listen: "[::1]:9000"
  max_body: 2MiB
security:
  api_keys:
    - {{application: my_app, sha256: "{DIGEST}"}}
logging:            # every key of the section is commented out
#  level: debug
"""
    )
    made = load(path)
    assert made.node.data_dir == Path("/var/lib/torpor")
    assert (made.database.hibernation_timeout, made.database.replication_factor) == (0.0, 5)
    assert made.gateway.listen == Address("::1", 9000)
    assert str(made.gateway.listen) == "[::1]:9000"
    assert made.gateway.max_body == 2 << 20
    assert made.security.api_keys == (ApiKey("my_app", DIGEST),)
    assert made.logging == Settings().logging
    assert made.discovery.bootstrap_peers[0].endswith("3EP8T")


def test_R13_an_empty_file_is_all_defaults(tmp_path: Path) -> None:
    path = tmp_path / "node.yaml"
    for text in ("", "# nothing\n", "---\n", "node:\n"):
        path.write_text(text)
        assert load(path) == Settings()


def test_R13_a_file_that_is_no_configuration_is_named(tmp_path: Path) -> None:
    path = tmp_path / "node.yaml"
    for raw, reason in (
        (b"\xff\xfe\n", f"{path}:1: is not UTF-8 text"),
        (b"node:\n  data_dir: \xe4\n", f"{path}:2: is not UTF-8 text"),
        (b"node: \0", f"{path}: is not valid YAML"),
        (b"#" * (settings_file.LARGEST + 1), f"{path}: is larger than"),
        (b"[" * 500, f"{path}: is nested too deeply"),
    ):
        path.write_bytes(raw)
        with pytest.raises(SettingsError) as caught:
            load(path)
        assert str(caught.value).startswith(reason)
    with pytest.raises(SettingsError, match=r"absent\.yaml: cannot be read: No such file"):
        load(tmp_path / "absent.yaml")
    with pytest.raises(SettingsError, match="cannot be read: Is a directory"):
        load(tmp_path)


def test_R36_a_key_written_in_place_of_its_digest_is_not_repeated(tmp_path: Path) -> None:
    path = tmp_path / "node.yaml"
    path.write_text("security:\n  api_keys:\n    - application: shop\n      sha256: torpor_deadbeef_secret\n")
    with pytest.raises(SettingsError) as caught:
        load(path)
    assert str(caught.value).startswith(f"{path}:4: security.api_keys: sha256 is not the SHA-256 of a key")
    assert "secret" not in str(caught.value)


def test_R36_keys_and_issuers_of_tokens(tmp_path: Path) -> None:
    path = tmp_path / "node.yaml"
    path.write_text(
        "security:\n"
        f'  api_keys: [{{application: shop, sha256: "{DIGEST}", scope: read}}]\n'
        "  jwt:\n"
        "  - {algorithm: EdDSA, key_file: /etc/tokens.pub, audience: torpor, scope_claim: may}\n"
    )
    security = load(path).security
    assert security.api_keys == (ApiKey("shop", DIGEST, "read"),)
    assert security.jwt == (JwtIssuer("EdDSA", Path("/etc/tokens.pub"), "torpor", "app", "may"),)
    for wrong, why in (
        ("api_keys: [{application: shop, sha256: X, scope: all}]", '"all" is none of read, write, admin'),
        (
            "api_keys: [{application: shop}]",
            "an API key has exactly the entries application, sha256; scope may be there",
        ),
        ("jwt: [{algorithm: none, key_file: k, audience: a}]", '"none" is none of EdDSA, HS256'),
        ("jwt: [{algorithm: RS256, key_file: k, audience: a}]", '"RS256" is none of EdDSA, HS256'),
        ("jwt: [{algorithm: HS256, key_file: k}]", "an issuer of tokens has exactly the entries"),
        ("jwt: [{algorithm: HS256, secret: k, audience: a}]", "an issuer of tokens has exactly the entries"),
        ('jwt: [{algorithm: HS256, key_file: k, audience: ""}]', "is not the audience that tokens must name"),
    ):
        path.write_text("security:\n  " + wrong.replace("X", f'"{DIGEST}"') + "\n")
        with pytest.raises(SettingsError) as caught:
            load(path)
        assert why in str(caught.value), str(caught.value)


def test_R13_overrides_come_after_the_file_and_are_checked_alike(tmp_path: Path) -> None:
    path = tmp_path / "node.yaml"
    path.write_text("database:\n  replication_factor: 5\n  port_range_http_end: 5200\n")
    made = load(path, ["database.replication_factor=1", "node.data_dir=/tmp/a b#c", "gateway.listen=[::1]:0"])
    assert made == evolve(
        Settings(),
        node=evolve(Settings().node, data_dir=Path("/tmp/a b#c")),
        database=evolve(Settings().database, replication_factor=1, port_range_http_end=5200),
        gateway=evolve(Settings().gateway, listen=Address("::1", 0)),
    )
    keys = load(path, [f'security.api_keys=[{{application: shop, sha256: "{DIGEST}"}}]']).security.api_keys
    assert keys == (ApiKey("shop", DIGEST),)
    assert keys[0].scope == "admin"
    for text, message in (
        ("database.replication_factor=none", '--set: database.replication_factor: "none" is not a whole number'),
        (
            "database.replication=1",
            "--set: database.replication: is not known; did you mean database.replication_factor?",
        ),
        ("databse.replication_factor=1", "--set: databse: is not known; did you mean database?"),
        ("database.rqlite_port=1", "--set: database.rqlite_port: is no longer used"),
        ("database.max_databases=201", "--set: database.max_databases: the range 5001-5200 has 200 ports"),
        ("security.api_keys=[", "--set: is not valid YAML"),
        ("replication_factor", '--set: "replication_factor" is not section.key=value'),
    ):
        with pytest.raises(SettingsError) as caught:
            load(path, [text])
        assert str(caught.value).startswith(message)


def test_R13_the_page_s_program_validates_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "node.yaml"
    path.write_text("node: {}\n")
    assert settings_page.main([str(path)]) == 0
    path.write_text("nodes: {}\n")
    assert settings_page.main([str(path)]) == 1
    assert capsys.readouterr().err == f"{path}:1: nodes: is not known; did you mean node?\n"
    assert settings_page.main(["--markdown", "--check"]) == 0
    assert settings_page.main(["--frobnicate"]) == 2


def _value(data: object) -> settings_file.Value:
    return settings_file.Value(settings_file.Place("test"), data, str(data))  # type: ignore[arg-type]


@given(st.integers(min_value=1, max_value=10**9))
def test_R13_durations_are_read_back_as_they_are_written(milliseconds: int) -> None:
    seconds = milliseconds / 1000
    text = written_duration(seconds)
    read = duration(0.0, 1e7).read(_value(text))
    assert read == pytest.approx(seconds, rel=1e-5)


@given(st.integers(min_value=0, max_value=1 << 34))
def test_R13_sizes_are_read_back_as_they_are_written(number: int) -> None:
    assert size(0, 1 << 40).read(_value(written_size(number))) == number


@given(st.text() | st.integers() | st.floats() | st.booleans() | st.none())
def test_R13_no_value_whatever_breaks_a_kind(data: object) -> None:
    for default in settings.sections().values():
        for _, kind, _, _ in settings.fields_of(default):
            with suppress(Unfit):
                kind.read(_value(data))
