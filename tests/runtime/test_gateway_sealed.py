"""A gateway worker and the copies of sleeping databases: whom it asks, what it tells, and how fast it lets go when a start is wanted."""

from __future__ import annotations

import os
import signal
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import attrs
import httpx
import pytest
import trio

from runtime import since_boot
from runtime.gateway.frames import Ask, Problem, ReadSealed, SealedAck, SealedCopy, WorkerLeft
from runtime.gateway.sealed_file import Stamp
from tests.runtime.gateway_world import ENDLESS, World, gateway, kind_of, post

ASLEEP = Problem("wake-timeout", "it would have been woken")
"""What a query is told here that goes the ordinary way."""
AGE = 5_000_000


def sealed_copy(directory: Path, file: str = "db.sqlite") -> SealedCopy:
    path = directory / file
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT)")
        connection.executemany("INSERT INTO t(v) VALUES (?)", [("x",)] * 100)
    connection.close()
    stamp: tuple[int, ...] = attrs.astuple(Stamp.of(str(path)))
    return SealedCopy("one", "users", "one-users", 1, True, str(path), stamp, since_boot.microseconds() - AGE)


@pytest.fixture
def copy(tmp_path: Path) -> SealedCopy:
    return sealed_copy(tmp_path)


@pytest.fixture
async def asleep(copy: SealedCopy) -> AsyncIterator[World]:
    async with gateway(rows=50) as world:
        world.keeper.refuse = ASLEEP
        world.keeper.copies["one", "users"] = copy
        yield world


def closed(copy: SealedCopy) -> SealedCopy:
    return SealedCopy(copy.app, copy.name, copy.incarnation, copy.generation + 1)


async def acknowledged(world: World, generation: int) -> SealedAck:
    return await world.keeper.until(
        lambda: next(
            (a for a in world.keeper.of(SealedAck) if (a.generation, a.in_flight) == (generation, 0)),
            None,
        )
    )


async def test_P34_an_old_answer_has_its_age_and_wakes_nothing(asleep: World) -> None:
    async with asleep.client() as client:
        for max_stale in (3600, "60m", "1h30m"):
            answer = (await post(client, "query", sql="SELECT count(*) AS n FROM t", max_stale=max_stale)).json()
            assert 5 <= answer.pop("age_s") < 3600
            assert answer == {"items": [{"n": 100}], "count": 1}
    assert asleep.keeper.of(Ask) == []
    assert len(asleep.keeper.of(ReadSealed)) == 1, "what it was told once it knows"


@pytest.mark.parametrize(
    "members",
    [
        {"sql": "SELECT count(*) FROM t"},
        {"sql": "SELECT count(*) FROM t", "max_stale": 0},
        {"sql": "SELECT count(*) FROM t", "max_stale": "4s"},
        {"sql": "SELECT count(*) FROM nowhere", "max_stale": "1h"},
        {"sql": "PRAGMA schema_version", "max_stale": "1h"},
    ],
    ids=str,
)
async def test_F53_what_the_copy_does_not_answer_goes_the_ordinary_way(asleep: World, members: dict[str, Any]) -> None:
    async with asleep.client() as client:
        assert kind_of(await post(client, "query", **members)) == ASLEEP.type
    assert len(asleep.keeper.of(Ask)) == 1


async def test_F53_a_file_that_is_not_the_one_of_the_stop_answers_nothing(asleep: World, copy: SealedCopy) -> None:
    await trio.Path(copy.path).touch()
    async with asleep.client() as client:
        assert kind_of(await post(client, "query", sql="SELECT 1", max_stale="1h")) == ASLEEP.type


async def test_R36_another_application_reads_nothing_of_it(asleep: World) -> None:
    async with asleep.client("two") as client:
        assert kind_of(await post(client, "query", sql="SELECT 1", max_stale="1h")) == ASLEEP.type


@pytest.mark.parametrize("max_stale", ["soon", "30", "-1s", -1, "", True, [1]])
async def test_F85_an_age_that_is_none_is_refused(asleep: World, max_stale: object) -> None:
    async with asleep.client() as client:
        assert kind_of(await post(client, "query", sql="SELECT 1", max_stale=max_stale)) == "bad-request"


async def test_F85_a_strong_read_accepts_no_age_and_an_old_answer_is_bounded_like_any(asleep: World) -> None:
    async with asleep.client() as client:
        strong = await post(client, "query", sql="SELECT 1", max_stale="1h", consistency="strong")
        assert kind_of(strong) == "bad-request"
        large = await post(client, "query", sql="SELECT * FROM t", max_stale="1h")
        assert kind_of(large) == "too-many-rows"


async def test_F51_many_who_ask_at_once_are_one_question(asleep: World) -> None:
    asleep.keeper.silent = True
    answers: list[httpx.Response] = []

    async def one(client: httpx.AsyncClient) -> None:
        answers.append(await post(client, "query", sql="SELECT 1 AS n", max_stale="1h"))

    async with asleep.client() as client, trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(one, client)
        await asleep.keeper.until(lambda: asleep.keeper.of(ReadSealed))
        asleep.host.sealed_copy(1, asleep.keeper.copies["one", "users"])
    assert all(answer.json()["items"] == [{"n": 1}] for answer in answers)
    assert len(asleep.keeper.of(ReadSealed)) == 1


async def test_P34_closing_cuts_every_reader_off_and_says_when_none_is_left(asleep: World, copy: SealedCopy) -> None:
    """Six clients read for ever, four of them at a time. They are told what the ordinary way tells them, at once."""
    answers: list[httpx.Response] = []

    async def one(client: httpx.AsyncClient) -> None:
        answers.append(await post(client, "query", sql=ENDLESS, max_stale="1h"))

    async with asleep.client() as client:
        assert "age_s" in (await post(client, "query", sql="SELECT 1", max_stale="1h")).json()
        began = used(asleep)
        async with trio.open_nursery() as nursery:
            for _ in range(6):
                nursery.start_soon(one, client)
            while used(asleep) < began + 0.5:  # some of them read
                assert len(answers) == 0
                await trio.sleep(0.02)
            del asleep.keeper.copies["one", "users"]
            asleep.host.sealed_copy(1, closed(copy))
            await acknowledged(asleep, copy.generation + 1)
        assert [kind_of(answer) for answer in answers] == [ASLEEP.type] * 6
        first, last = (ack.in_flight for ack in asleep.keeper.of(SealedAck))
        assert first > last == 0
        assert kind_of(await post(client, "query", sql="SELECT 1", max_stale="1h")) == ASLEEP.type


def used(world: World) -> float:
    """Seconds of CPU that its worker has used."""
    (worker,) = world.workers()
    return worker.cpu_times().user


async def test_P34_an_older_word_closes_nothing_of_a_newer_sleep(asleep: World, copy: SealedCopy) -> None:
    async with asleep.client() as client:
        await post(client, "query", sql="SELECT 1", max_stale="1h")
        other = SealedCopy(copy.app, copy.name, "an earlier incarnation", 7)
        asleep.host.sealed_copy(1, other)
        await acknowledged(asleep, 7)
        assert "age_s" in (await post(client, "query", sql="SELECT 1", max_stale="1h")).json()


async def test_P34_a_worker_that_does_not_let_go_is_ended(asleep: World, copy: SealedCopy) -> None:
    async with asleep.client() as client:
        await post(client, "query", sql="SELECT 1", max_stale="1h")
        (worker,) = asleep.workers()
        os.kill(worker.pid, signal.SIGSTOP)
        asleep.host.sealed_copy(1, closed(copy))
        left = await asleep.keeper.until(lambda: asleep.keeper.of(WorkerLeft))
    assert left == [WorkerLeft(1)]
