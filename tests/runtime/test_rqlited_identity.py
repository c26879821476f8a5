"""The TLS identity in the life of real rqlited processes: where it is, where it is not, what happens when it is lost."""

import stat
from pathlib import Path

import psutil
import pytest
import trio
import trio.testing
from attrs import evolve

from runtime import processes, rqlited_start
from runtime.database_keys import KeyRefused
from runtime.database_tls import check, mint, server_name
from runtime.directories import Instance, write_whole
from tests.runtime.rqlited_group import group
from tests.runtime.rqlited_world import INCARNATION, Run, world

pytestmark = pytest.mark.real


def secrets_of(place: Instance) -> list[str]:
    """Every line of the private key."""
    lines = place.tls.read_text().splitlines()
    return lines[1 : lines.index("-----END PRIVATE KEY-----")]


async def test_R36_members_share_one_identity_that_nobody_else_can_read_and_nothing_shows(tmp_path: Path) -> None:
    async with group(tmp_path) as g:
        await g.create()
        identities = {run.place.tls.read_bytes() for run in g.runs}
        assert len(identities) == 1
        check(identities.pop(), g.incarnation)
        for run, lines in zip(g.runs, g.lines, strict=True):
            assert stat.S_IMODE(run.place.tls.stat().st_mode) == 0o600
            assert not run.place.tls.is_relative_to(run.place.rqlite)
            assert run.ready is not None
            argv = processes.command(run.ready.pid)
            assert {f"-node-key={run.place.tls}", f"-node-verify-server-name={server_name(g.incarnation)}"} < set(argv)
            shown = "\n".join([*argv, *lines, run.place.marker.read_text(), run.place.run.read_text()])
            assert not [line for line in secrets_of(run.place) if line in shown]


@pytest.mark.parametrize("how", ["lost", "torn", "another's"])
async def test_F70_a_member_that_lost_its_identity_gets_it_from_the_others(tmp_path: Path, how: str) -> None:
    async with group(tmp_path) as g:
        await g.create()
        await g.insert(1)
        await g.stop()
        lost = g.runs[0].place.tls
        before = lost.read_bytes()
        if how == "lost":
            lost.unlink()
        else:
            lost.write_bytes(before[:100] if how == "torn" else mint("s9-9-ffff"))
        await g.start()
        assert lost.read_bytes() == before
        assert stat.S_IMODE(lost.stat().st_mode) == 0o600
        assert await g.rows(0) == [1]
        await g.until_voters(0, g.voters)


async def test_F70_a_lone_replica_that_lost_its_identity_makes_another(tmp_path: Path) -> None:
    async with group(tmp_path, 1) as g:
        await g.create()
        await g.insert(1)
        await g.stop()
        g.runs[0].place.tls.unlink()
        await g.start()
        check(g.runs[0].place.tls.read_bytes(), g.incarnation)
        assert await g.rows() == [1]


async def test_R61_a_member_that_nobody_gives_the_identity_ends_with_that_cause_and_keeps_its_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with group(tmp_path) as g:
        await g.create()
        await g.insert(1)
        await g.stop()
        monkeypatch.setattr(rqlited_start, "KEY_WITHIN", 1.0)
        for run in g.runs:
            run.place.tls.unlink()
        ended = await g.launch(1).until_ended()
        assert (ended.cause, ended.code) == ("key_missing", None)
        assert "n0: not here yet; n2: not here yet" in ended.detail
        assert g.runs[1].place.database.exists()
        alone = g.worlds[0].supervisor
        alone._fetch = None
        assert (await g.launch(0).until_ended()).cause == "key_missing"


async def test_P32_a_stop_while_the_identity_is_asked_for_ends_the_start_at_once(tmp_path: Path) -> None:
    asked = trio.Event()

    async def fetch(_peer: str, _incarnation: str) -> bytes:
        asked.set()
        await trio.sleep_forever()
        raise KeyRefused

    async with world(tmp_path, fetch=fetch) as w:
        for end in (w.supervisor.terminate, w.supervisor.kill):
            run = w.launch(w.spec("join", sources=("other",), join=("127.0.0.1:1",)))
            await asked.wait()
            await trio.testing.wait_all_tasks_blocked()
            more = (10.0,) if end == w.supervisor.terminate else ()
            end(INCARNATION, run.spec.run, *more)  # type: ignore[operator]
            ended = await run.until_ended()
            assert (ended.cause, ended.code, run.ready) == ("killed", None, None)
            assert not run.place.run.exists()


async def test_F15_a_founder_that_is_started_again_keeps_the_identity_that_joiners_may_have(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        run: Run = await w.start("found")
        before = run.place.tls.read_bytes()
        await run.stop()
        run.place.raft_log.unlink()  # as if it had failed before its first entry
        again = await w.start("found")
        assert again.place.tls.read_bytes() == before
        await again.stop()


async def test_R36_a_draft_left_by_a_crash_does_not_lend_its_mode_to_the_secret(tmp_path: Path) -> None:
    draft = tmp_path / "tls.pem.new"
    draft.write_bytes(b"half")
    draft.chmod(0o644)
    write_whole(tmp_path / "tls.pem", b"whole", private=True)
    assert stat.S_IMODE((tmp_path / "tls.pem").stat().st_mode) == 0o600
    assert not draft.exists()


@pytest.mark.parametrize("host", ["127.0.0.2", "::1"])
async def test_R47_Raft_binds_to_the_advertised_host_and_HTTP_to_loopback_alone(tmp_path: Path, host: str) -> None:
    async with group(tmp_path) as g:
        g.specs[:] = [evolve(spec, raft_host=host) for spec in g.specs]
        await g.create()
        await g.insert(1, 2)
        address = f"[{host}]" if ":" in host else host
        for member, run in enumerate(g.runs):
            assert run.ready is not None
            assert run.ready.http_url == f"http://127.0.0.1:{run.spec.http_port}"
            listening = {
                (where.laddr.ip, where.laddr.port)
                for where in psutil.Process(run.ready.pid).net_connections("tcp")
                if where.status == psutil.CONN_LISTEN
            }
            assert listening == {("127.0.0.1", run.spec.http_port), (host, run.spec.raft_port)}
            assert (await g.configuration(member))[run.spec.node_id] == f"{address}:{run.spec.raft_port}"
        await g.stop()
        await g.start()
        assert await g.rows(1) == [1]
