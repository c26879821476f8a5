"""Several real members of one database: formed, stopped, woken, moved, robbed of a disk (P13, P42, P54)."""

from pathlib import Path

import pytest

from tests.runtime.rqlited_group import group

pytestmark = pytest.mark.real


async def test_F16_all_three_are_voters_at_the_end_of_a_creation_and_the_founders_disk_is_no_loss(
    tmp_path: Path,
) -> None:
    async with group(tmp_path) as g:
        ready = await g.create()
        assert sum(one.leader for one in ready) == 1
        await g.insert(1)
        g.worlds[0].supervisor.kill(g.incarnation, g.specs[0].run)
        await g.runs[0].until_ended()
        g.worlds[0].directories.to_trash(g.runs[0].place)
        assert await g.rows(1) == [1]
        await g.insert(2, await g.leader())
        assert await g.rows(2) == [1, 2]
