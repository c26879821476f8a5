"""What settings say about each other, and about files that they name. The law kept here is R13: what one configuration can show to be wrong is
said before anything is touched, of the key that somebody wrote.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, cast

from runtime import tls_pair
from runtime.settings_file import Place, SettingsError
from runtime.tls_pair import PairUnfit

if TYPE_CHECKING:
    from runtime.settings_sections import GatewaySettings, Settings

OVERRIDES: Final = "--set"
"""The source that messages name for an override."""


def check_ports(settings: Settings, places: Mapping[str, Place], whole: Place) -> None:
    """Ranges the right way round, apart from each other, large enough, and free of the ports that the node itself uses:
    all the port conflicts that a configuration can show by itself (R13, R61)."""
    database = settings.database

    def fail(reason: str, *keys: str) -> None:
        # Of the keys that contradict each other, the last that somebody wrote: defaults do not contradict each other.
        written = [key for key in keys if key in places]
        key = max(written, key=lambda key: (places[key].source == OVERRIDES, places[key].line), default=keys[0])
        raise SettingsError(places.get(key, whole), key, reason)

    ranges: dict[str, range] = {}
    for kind in ("http", "raft"):
        keys = [f"database.port_range_{kind}_start", f"database.port_range_{kind}_end"]
        first = cast(int, getattr(database, f"port_range_{kind}_start"))
        last = cast(int, getattr(database, f"port_range_{kind}_end"))
        if last < first:
            fail(f"the range {first}-{last} ends before it starts", *keys)
        ranges[kind] = range(first, last + 1)
    http, raft = ranges["http"], ranges["raft"]
    all_keys = [f"database.port_range_{kind}_{end}" for kind in ranges for end in ("start", "end")]
    if http.start < raft.stop and raft.start < http.stop:
        fail(f"the HTTP ports {http.start}-{http[-1]} and the Raft ports {raft.start}-{raft[-1]} overlap", *all_keys)
    for kind, ports in ranges.items():
        if len(ports) < database.max_databases:
            fail(
                f"the range {ports.start}-{ports[-1]} has {len(ports)} ports, too few for max_databases {database.max_databases}",
                f"database.port_range_{kind}_start",
                f"database.port_range_{kind}_end",
                "database.max_databases",
            )
    used = [("gateway.listen", settings.gateway.listen.port)]
    used += [("gateway.internal_listen", settings.gateway.internal_listen.port)]
    if settings.gateway.rqlite_listen is not None:
        used += [("gateway.rqlite_listen", settings.gateway.rqlite_listen.port)]
    used += [("node.listen_addresses", int(address.rsplit("/", 1)[1])) for address in settings.node.listen_addresses]
    for key, port in used:
        for kind, ports in ranges.items():
            if port in ports:
                fail(
                    f"port {port} lies in the databases' range {ports.start}-{ports[-1]}",
                    key,
                    f"database.port_range_{kind}_start",
                    f"database.port_range_{kind}_end",
                )
    if len({port for _, port in used if port}) < len([port for _, port in used if port]):
        fail("the node and its gateway would listen twice on one port", *(key for key, _ in used))


def check_tls(gateway: GatewaySettings, places: Mapping[str, Place], whole: Place, *, files: bool) -> None:
    """The pair that clients are shown. ``files``: it is looked at."""
    try:
        tls_pair.check(gateway.tls_certificate, gateway.tls_key, files=files)
    except PairUnfit as unfit:
        key = f"gateway.tls_{unfit.of}"
        raise SettingsError(places.get(key, whole), key, str(unfit)) from None
