"""The raw floor of the benchmark measures what it says: a cluster by hand, first write, restart, strong answers."""

import socket
from pathlib import Path

import pytest

from runtime.rqlited_floor import FloorFailed, floor_create, floor_stop, floor_wake
from runtime.rqlited_start import Timers
from tests.runtime.rqlited_world import SPEED, binary, free_ports

pytestmark = pytest.mark.real


@pytest.mark.parametrize("n", [1, 3])
async def test_R63_a_floor_is_created_stopped_and_woken(tmp_path: Path, n: int) -> None:
    floor, seconds = await floor_create(binary(), tmp_path / "floor", Timers(SPEED), free_ports(), n=n)
    assert 0 < seconds < 30
    assert await floor_stop(floor) < 30
    assert 0 < await floor_wake(floor) < 30
    assert len(floor.processes) == n
    await floor_stop(floor)
    assert floor.processes == ()


async def test_R63_a_floor_that_cannot_start_says_so_and_leaves_nothing(tmp_path: Path) -> None:
    floor, _ = await floor_create(binary(), tmp_path / "floor", Timers(SPEED), free_ports())
    await floor_stop(floor)
    with socket.create_server(("127.0.0.1", floor.addresses[0][1])), pytest.raises(ExceptionGroup) as caught:
        await floor_wake(floor)
    assert caught.group_contains(FloorFailed, match="address already in use")
    assert floor.processes == ()
