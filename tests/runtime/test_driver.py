"""The driver: nothing is done before its writes are on the disk, and what waits together shares one commit."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from pathlib import Path

import pytest
import trio
import trio.testing

from protocol.effects import Answer, Effects, ReservePorts, Start, Write
from protocol.inputs import Ask, Boot, Input, PortsReserved, Tick
from protocol.node import Config, Node
from runtime.driver import Driver, EngineFailed, QueueFull
from runtime.store import Store

SEED = bytes(range(32))


def node(**changes: int) -> Node:
    return Node(Config(peer="alone", replication_factor=1, **changes))


class Counting(Store):
    """The real store, which also counts its commits."""

    commits = 0

    async def commit(self, writes: Iterable[Write]) -> None:
        self.commits += 1
        await super().commit(writes)


async def test_P3_when_rqlited_is_started_its_birth_is_on_the_disk(tmp_path: Path) -> None:
    with Store(tmp_path, create=True) as store:
        started = trio.Event()

        def carry_out(effects: Effects) -> None:
            on_disk = dict(store.rows())
            for write in effects.writes:
                # A later step of the same transaction may have counted on in the store's own row.
                assert write.key in on_disk if write.key == "identity" else on_disk.get(write.key) == write.value
            for action in effects.actions:
                if isinstance(action, ReservePorts):
                    driver.feed(PortsReserved(0, action.ticket, 5001, 7001))
                if isinstance(action, Start):
                    assert any(key.startswith("record/") for key in on_disk)
                    started.set()

        driver = Driver(node(), store, carry_out)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(driver.run)
            driver.feed(Boot(0, SEED, found=True))
            driver.feed(Ask(0, 1, "app", "users"))
            with trio.fail_after(10):
                await started.wait()
            nursery.cancel_scope.cancel()


async def test_one_commit_for_all_that_waits(tmp_path: Path) -> None:
    with Counting(tmp_path, create=True) as store:
        asked: list[int] = []
        everyone = trio.Event()

        def carry_out(effects: Effects) -> None:
            asked.extend(action.ticket for action in effects.actions if isinstance(action, ReservePorts))
            if len(asked) == 50:
                everyone.set()

        driver = Driver(node(), store, carry_out)
        driver.feed(Boot(0, SEED, found=True))
        for n in range(50):
            driver.feed(Ask(0, n, "app", f"db{n}"))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(driver.run)
            with trio.fail_after(10):
                await everyone.wait()
            nursery.cancel_scope.cancel()
        assert store.commits == 1


async def test_P1_a_write_that_fails_ends_the_driver_before_any_action(tmp_path: Path) -> None:
    with Store(tmp_path, create=True) as store:
        done: list[Effects] = []
        driver = Driver(node(), store, done.append)
        driver.feed(Boot(0, SEED, found=True))
        driver.feed(Ask(0, 1, "app", "users"))
        store.close()
        with pytest.raises(sqlite3.Error):
            await driver.run()
        assert done == []


async def test_F43_deadlines_are_met_without_an_input_and_time_is_stamped_at_the_step(tmp_path: Path) -> None:
    seen: list[Input] = []
    answered = trio.Event()
    now = 1_000_000
    with Store(tmp_path, create=True) as store:

        def carry_out(effects: Effects) -> None:
            nonlocal now
            if any(isinstance(action, ReservePorts) for action in effects.actions):
                now += 11_000_000  # nobody answers for ten seconds
            if any(isinstance(action, Answer) for action in effects.actions):
                answered.set()

        driver = Driver(node(), store, carry_out, clock=lambda: now, record=lambda given, _: seen.append(given))
        driver.feed(Boot(0, SEED, found=True))
        driver.feed(Ask(0, 1, "app", "users"))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(driver.run)
            with trio.fail_after(10):
                await answered.wait()
            nursery.cancel_scope.cancel()
    assert [type(each) for each in seen] == [Boot, Ask, Tick]
    assert [each.now for each in seen] == [1_000_000, 1_000_000, 12_000_000]


async def test_an_engine_that_raises_ends_the_process(tmp_path: Path) -> None:
    with Store(tmp_path, create=True) as store:
        driver = Driver(node(), store, lambda _effects: None)
        driver.feed(Boot(0, SEED, found=True))
        driver.feed(Boot(0, SEED, found=True))
        with pytest.raises(EngineFailed, match="at Boot"):
            await driver.run()


async def test_F92_what_peers_send_never_keeps_out_what_this_machine_reports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runtime.driver.QUEUE", 10)
    with Store(tmp_path, create=True) as store:
        driver = Driver(node(), store, lambda _effects: None)
        assert [driver.offer(Tick(0)) for _ in range(7)] == [True] * 5 + [False] * 2
        for _ in range(5):
            driver.feed(Tick(0))
        with pytest.raises(QueueFull):
            driver.feed(Tick(0))
