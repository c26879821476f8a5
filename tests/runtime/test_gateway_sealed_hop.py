"""Old answers through a gateway whose node has nothing of the database: a member's gateway gives them, one hop away, and no node is asked to
wake what sleeps (P34, F93)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from runtime.gateway.frames import Ask, Hop, ReadSealed, SealedCopy
from tests.runtime.gateway_world import World, gateway, kind_of, post
from tests.runtime.test_gateway_hop import USERS, Pair, certificate, nobody, pair
from tests.runtime.test_gateway_sealed import ASLEEP, sealed_copy

NOWHERE = "http://127.0.0.1:1"


@pytest.fixture
async def two(tmp_path: Path) -> AsyncIterator[Pair]:
    """Both nodes would say that they cannot wake it, if they were asked to."""
    certificates = [certificate(tmp_path, name) for name in ("outside", "member", "third")]
    async with pair(certificates, NOWHERE) as both:
        both.outside.keeper.hops.clear()
        both.outside.keeper.refuse = both.member.keeper.refuse = ASLEEP
        both.member.keeper.copies[USERS] = sealed_copy(tmp_path)
        named(both.outside, both.member.hop)
        yield both


def named(world: World, *hops: Hop) -> None:
    world.keeper.copies[USERS] = SealedCopy(*USERS, hops=hops)


async def old(client: httpx.AsyncClient, max_stale: Any = "1h") -> httpx.Response:
    return await post(client, "query", sql="SELECT count(*) AS n FROM t", max_stale=max_stale)


async def test_P34_a_member_answers_with_the_age_and_nobody_is_asked_to_wake(two: Pair) -> None:
    async with two.outside.client() as client:
        for _ in range(3):
            answer = (await old(client)).json()
            assert 5 <= answer.pop("age_s") < 3600
            assert answer == {"items": [{"n": 100}], "count": 1}
    assert two.asks() == (0, 0)
    assert len(two.outside.keeper.of(ReadSealed)) == 1, "the node is not in every query's path"
    assert len(two.member.keeper.of(ReadSealed)) == 1


async def test_P34_what_is_too_old_there_is_woken_by_the_member_alone(two: Pair) -> None:
    async with two.outside.client() as client:
        assert kind_of(await old(client, "4s")) == ASLEEP.type
        assert two.asks() == (0, 1)
        assert two.member.keeper.of(Ask)[0].forwarded
        assert "age_s" in (await old(client)).json()


async def test_P34_a_query_that_accepts_no_age_asks_its_node_as_ever(two: Pair) -> None:
    async with two.outside.client() as client:
        assert kind_of(await post(client, "query", sql="SELECT count(*) AS n FROM t")) == ASLEEP.type
    assert two.asks() == (1, 0)
    assert two.outside.keeper.of(ReadSealed) == []


async def test_P34_a_member_that_is_gone_is_passed_over(two: Pair, tmp_path: Path) -> None:
    named(two.outside, nobody([certificate(tmp_path, "gone")] * 3), two.member.hop)
    async with two.outside.client() as client:
        assert "age_s" in (await old(client)).json()
    assert two.asks() == (0, 0)


async def test_F14_when_no_member_can_be_reached_the_node_is_asked_for_a_way_and_not_for_a_copy_again(
    two: Pair, tmp_path: Path
) -> None:
    named(two.outside, nobody([certificate(tmp_path, "gone")] * 3))
    async with two.outside.client() as client:
        assert kind_of(await old(client)) == ASLEEP.type
        assert two.asks() == (1, 0)
        assert len(two.outside.keeper.of(ReadSealed)) == 1
        named(two.outside, two.member.hop)
        assert "age_s" in (await old(client)).json(), "the way that led nowhere is forgotten"


async def test_F93_what_came_from_a_gateway_is_never_sent_on(two: Pair, tmp_path: Path) -> None:
    """Each of the two nodes takes the other for a member."""
    third = certificate(tmp_path, "fourth")
    async with gateway(certificate=third) as other:
        other.keeper.copies[USERS] = sealed_copy(tmp_path, "other.sqlite")
        other.host.believe(None, (two.member.hop.fingerprint,))
        named(two.member, other.hop)
        two.member.keeper.refuse = None
        two.member.keeper.hops[USERS] = [(other.hop,)]
        async with two.outside.client() as client:
            assert kind_of(await old(client)) == ASLEEP.type
            assert two.asks() == (1, 1), "the member lets nothing in, so the node outside is asked for a way"
            assert other.keeper.of(ReadSealed) == []
        async with two.member.client() as client:
            assert "age_s" in (await old(client)).json(), "its own clients' it does send on"
        two.member.keeper.copies[USERS] = sealed_copy(tmp_path, "again.sqlite")
        async with two.outside.client() as client:
            assert "age_s" in (await old(client)).json(), "a way that it remembers is none for what came from a gateway"
