"""A leader of another database that remembers an address cannot speak to whoever listens there now; and without the TLS
identity it could, and would overwrite it: the danger is real, and the safeguard is what ends it."""

from contextlib import suppress
from pathlib import Path

import pytest
import trio

from runtime import rqlited
from runtime.rqlite_http import RqliteError
from runtime.rqlited_start import arguments
from tests.runtime.rqlited_group import Group, group

pytestmark = pytest.mark.real

OTHER = "s2-1-ffff"


def without_tls(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutation: the same command line, but for the identity."""
    plain = lambda binary, spec, timers, directory, _identity, left: arguments(  # noqa: E731
        binary, spec, timers, directory, None, left
    )
    monkeypatch.setattr(rqlited, "arguments", plain)


async def raise_term(g: Group) -> None:
    """Elections: whoever comes back to an older group must find that its own term is the lower one."""
    for _ in range(4):
        await g.stop(0, 1)
        await g.start(0, 1)


async def meet(alone: Group, many: Group) -> None:
    """The lone replica of one database moves to the address of a member of another one, which is stopped but not forgotten."""
    await many.create()
    await many.insert(100)
    await alone.create()
    await alone.insert(1)
    await alone.stop()
    await many.stop(2)
    await raise_term(many)
    port = many.specs[2].raft_port
    alone.launch(0, raft_port=port, sources=(), peers=((alone.specs[0].node_id, f"127.0.0.1:{port}"),))


async def test_P42_a_foreign_leader_that_remembers_an_address_cannot_speak_to_its_new_user(tmp_path: Path) -> None:
    async with group(tmp_path / "a", 1) as alone, group(tmp_path / "b", 3, incarnation=OTHER) as many:
        await meet(alone, many)
        ready = await alone.runs[0].until_ready()
        assert (ready.leader, ready.voters) == (True, alone.voters)
        with trio.fail_after(30):
            while not any("failed to verify certificate" in line for lines in many.lines for line in lines):
                await alone.insert(1)
        assert set(await alone.rows()) == {1}
        assert (await alone.configuration()).keys() == {alone.specs[0].node_id}
        await many.insert(101, await many.leader())
        assert await many.rows(0) == [100, 101]


async def test_P42_without_the_identity_it_takes_the_lone_replica_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_tls(monkeypatch)
    async with group(tmp_path / "a", 1) as alone, group(tmp_path / "b", 3, incarnation=OTHER) as many:
        await meet(alone, many)
        with trio.fail_after(30):
            while 100 not in await alone.rows(0, "none") and 101 not in await alone.rows(0, "none"):
                with suppress(
                    RqliteError
                ):  # their leader may be stepping down: the stranger's term can be the higher one
                    await many.insert(101, await many.leader())
