"""Which peer is reached where. Laws: a peer is believed of itself only, so one liar misleads nobody about others (F81); what was learned
outlives the process, so a node comes back without its bootstrap peers; the book is bounded, whatever is told.

``<data_dir>/peers.json`` is a convenience: losing it costs a look at the bootstrap peers, so it is replaced whole and not synced.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final, cast

import structlog

from runtime.directories import write_whole
from runtime.transport import bounds
from runtime.transport.addresses import dialable, parse

FILE: Final = "peers.json"

log = structlog.stdlib.get_logger("transport")


class AddressBook:
    """``bootstrap``: multiaddrs with peer ids from the settings; they stay, whatever a peer says of itself."""

    def __init__(self, path: Path, me: str, bootstrap: Iterable[str] = ()) -> None:
        self._path: Final = path
        self._me: Final = me
        self._told: dict[str, tuple[str, ...]] = {}
        self._given: dict[str, tuple[str, ...]] = {}
        self._unsaved = False
        for text in bootstrap:
            address = parse(text)
            assert address is not None, "the settings have checked it"
            if address.peer != me:
                plain = str(address._replace(peer=""))
                self._given[address.peer] = (*self._given.get(address.peer, ()), plain)
        self._load()

    def _load(self) -> None:
        try:
            content: Any = json.loads(self._path.read_bytes())
        except FileNotFoundError:
            return
        except (OSError, ValueError) as error:
            log.warning("address book not read", because=str(error))
            return
        if not isinstance(content, dict):
            log.warning("address book not read", because=f"{self._path} is no object")
            return
        for peer, addresses in cast("dict[str, Any]", content).items():
            if isinstance(addresses, list):
                self.learn(peer, [each for each in cast("list[Any]", addresses) if isinstance(each, str)])
        self._unsaved = False

    @property
    def bootstrap(self) -> frozenset[str]:
        """Peer ids of the bootstrap peers."""
        return frozenset(self._given)

    def peers(self) -> tuple[str, ...]:
        """Everyone who could be dialled, bootstrap peers first."""
        return (*self._given, *(peer for peer in self._told if peer not in self._given))

    def addresses(self, peer: str) -> tuple[str, ...]:
        """What the peer said of itself, then what the settings say of it."""
        told = self._told.get(peer, ())
        return (*told, *(each for each in self._given.get(peer, ()) if each not in told))

    def learn(self, peer: str, addresses: Iterable[str]) -> bool:
        """What ``peer`` says of itself; whether that is news. An empty word changes nothing."""
        good = dialable(addresses, peer)
        if peer == self._me or not good or self._told.get(peer) == good:
            return False
        if peer not in self._told and len(self._told) >= bounds.PEERS:
            return False
        self._told[peer] = good
        self._unsaved = True
        return True

    def save(self) -> None:
        """Write it down if it changed. Blocking; a disk that refuses costs a warning, the store speaks of it first."""
        if not self._unsaved:
            return
        self._unsaved = False
        try:
            write_whole(self._path, json.dumps(self._told, indent=1).encode())
        except OSError as error:
            log.warning("address book not written", because=str(error))
