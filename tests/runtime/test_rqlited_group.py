"""Several real members of one database: formed, stopped, woken, moved, robbed of a disk (P13, P42, P54)."""

import json
import socket
from pathlib import Path

import pytest
from attrs import evolve

from runtime import rqlited, rqlited_start
from runtime.directories import Instance
from tests.runtime.rqlited_group import PORTS, Group, group

pytestmark = pytest.mark.real


def listener(port: int) -> socket.socket:
    """A foreign process: it takes connections and never answers."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("127.0.0.1", port))
    sock.listen()
    return sock


async def lose(g: Group, member: int) -> None:
    """The member's machine and its disk are gone."""
    g.worlds[member].supervisor.kill(g.incarnation, g.specs[member].run)
    await g.runs[member].until_ended()
    g.worlds[member].directories.to_trash(g.runs[member].place)


async def test_F16_all_three_are_voters_at_the_end_of_a_creation_and_the_founders_disk_is_no_loss(
    tmp_path: Path,
) -> None:
    async with group(tmp_path) as g:
        ready = await g.create()
        assert sum(one.leader for one in ready) == 1
        await g.insert(1)
        await lose(g, 0)
        assert await g.rows(1) == [1]
        await g.insert(2, await g.leader())
        assert await g.rows(2) == [1, 2]


async def test_F12_a_joiner_without_its_founder_is_never_ready_and_its_attempts_are_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rqlited, "JOIN_WITHIN", 0.5)
    async with group(tmp_path) as g:
        await g.create()
        await g.stop(0, 1)
        await lose(g, 2)
        # The identity is there again (another member keeps it), but the founder does not answer.
        ended = await g.launch(2, "join", join=(g.address(0),)).until_ended()
        assert ended.cause == "crashed"
        assert "failed to join cluster" in ended.detail
        assert g.runs[2].ready is None


async def test_P52_a_join_that_meets_a_silent_stranger_ends_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rqlited, "JOIN_WITHIN", 0.5)
    async with group(tmp_path) as g:
        await g.create()
        await g.stop(0, 1)
        await lose(g, 2)
        with listener(g.specs[0].raft_port):  # rqlited itself would wait for half a minute, and then try again
            ended = await g.launch(2, "join", join=(g.address(0),)).until_ended()
        assert ended.cause == "crashed"
        assert ended.detail.startswith("not joined within 0.5 s: ")


async def test_P13_a_group_that_slept_wakes_with_the_same_voters_and_all_its_data(tmp_path: Path) -> None:
    async with group(tmp_path) as g:
        await g.create()
        for n in range(3):
            await g.insert(n, n)
            assert {ended.cause for ended in await g.stop()} == {"stopped"}
            await g.start()
            assert [run.ready.voters for run in g.runs if run.ready] == [g.voters] * 3
            assert [await g.rows(member) for member in range(3)] == [list(range(n + 1))] * 3


@pytest.mark.parametrize("who", ["leader", "follower"])
async def test_F47_one_member_of_three_comes_back_at_another_address_and_all_learn_it(tmp_path: Path, who: str) -> None:
    async with group(tmp_path) as g:
        await g.create()
        await g.insert(1)
        leads = await g.leader()
        moved = leads if who == "leader" else (leads + 1) % 3
        others = tuple(member for member in range(3) if member != moved)
        await g.stop()
        http, raft = PORTS.reserve(1000)
        with listener(g.specs[moved].raft_port):
            for member in others:
                g.launch(member)
            g.launch(moved, raft_port=raft, http_port=http, join=tuple(g.address(member) for member in others))
            for run in g.runs:
                await run.until_ready()
            wanted = {spec.node_id: g.address(member) for member, spec in enumerate(g.specs)}
            for member in range(3):
                await g.until_addresses(member, wanted)
            await g.insert(2, moved)
            assert [await g.rows(member) for member in range(3)] == [[1, 2]] * 3
        await g.stop()
        await g.start()  # at the new address, and told to nobody any more
        assert await g.rows(moved) == [1, 2]
        await g.until_addresses(moved, wanted)
        PORTS.release(1000)


async def move(g: Group, member: int) -> None:
    """Start a member at another address, and tell the others."""
    http, raft = PORTS.reserve(1001)
    others = tuple(g.address(other) for other in range(len(g.worlds)) if other != member)
    g.launch(member, raft_port=raft, http_port=http, join=others)


async def test_F47_a_member_does_not_move_while_too_few_others_are_there_to_outvote_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rqlited, "QUORUM_WITHIN", 0.5)
    async with group(tmp_path) as g:
        await g.create()
        await g.insert(1)
        before = await g.configuration()
        await g.stop()
        with listener(g.specs[2].raft_port):  # the third member is dead, and a stranger sits on its port
            g.launch(1)
            await move(g, 0)
            ended = await g.runs[0].until_ended()
            assert (ended.cause, ended.code) == ("crashed", None)
            assert "1 of the 2 other members listen" in ended.detail
            assert await g.configuration(1) == before
        g.launch(2)
        await move(g, 0)
        await g.runs[0].until_ready()
        assert await g.rows(0) == [1]
        assert (await g.configuration())[g.specs[0].node_id] == g.address(0)
        PORTS.release(1001)


async def test_F47_without_that_caution_two_of_three_have_no_leader_any_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def incautious(*_: object) -> None:
        """The mutation."""

    monkeypatch.setattr(rqlited, "await_quorum", incautious)
    monkeypatch.setattr(rqlited, "JOIN_WITHIN", 4.0)
    async with group(tmp_path) as g:
        await g.create()
        await g.stop()
        g.launch(1)
        await move(g, 0)
        await g.runs[0].until_ended()
        left = await g.configuration(1)
        assert set(left) == {g.specs[1].node_id, g.specs[2].node_id}
        probe = await g.worlds[1].supervisor.probe(g.incarnation, strong=True, timeout=1)
        assert not probe.ok
        PORTS.release(1001)


async def test_F54_a_wiped_member_never_starts_by_itself_and_joins_again_under_a_new_node_id(tmp_path: Path) -> None:
    async with group(tmp_path) as g:
        await g.create()
        await g.insert(1)
        await g.stop()
        g.worlds[2].directories.to_trash(g.runs[2].place)
        refused = g.launch(2)  # it hears the wake first
        assert (await refused.until_ended()).cause == "data_missing"
        assert refused.ready is None
        await g.start(0, 1)
        await g.insert(2)
        await g.remove(g.specs[2].node_id)  # the dead voter first, then the new one (P51)
        g.specs[2] = evolve(g.specs[2], node_id=f"n2.{g.incarnation}.1")
        back = g.launch(2, "join", join=(g.address(0), g.address(1)))
        await back.until_ready()
        await g.until_voters(0, g.voters)
        assert await g.rows(2) == [1, 2]


def plant(g: Group, member: int) -> Path:
    """What a crash between writing and starting leaves: a peers.json that names this member alone."""
    path = g.runs[member].place.peers
    peers = [{"id": g.specs[member].node_id, "address": g.address(member), "non_voter": False}]
    path.write_text(json.dumps(peers))
    return path


async def test_F55_a_peers_json_left_by_a_crash_makes_no_second_leader(tmp_path: Path) -> None:
    async with group(tmp_path) as g:
        await g.create()
        await g.insert(1)
        await g.stop()
        path = plant(g, 2)
        await g.start()
        assert not path.exists()
        for member in range(3):
            await g.until_voters(member, g.voters)
        await g.insert(2, 2)
        assert await g.rows(0) == [1, 2]


async def test_F55_without_the_removal_an_acknowledged_write_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with group(tmp_path) as g:
        await g.create()
        await g.insert(1)
        await g.stop()
        plant(g, 2)

        def keep(_place: Instance, _peers: object) -> None:
            """The mutation."""

        monkeypatch.setattr(rqlited_start, "_settle_peers", keep)
        await g.start(2)
        await g.until_voters(2, (g.specs[2].node_id,))
        await g.insert(2, 2)
        await g.start(0, 1)
        await g.insert(3)
        assert await g.rows() == [1, 3], "2 was acknowledged, and is lost"
