"""A snapshot that a kill cut off, on a real rqlited (F46): as it leaves its files it never starts again, and mended it has every row."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from runtime import rqlited_start
from tests.runtime.rqlited_world import INCARNATION, Run, World, world

pytestmark = pytest.mark.real


async def snapshot(w: World, run: Run) -> Path:
    """What is there of it."""
    assert (await w.supervisor.snapshot(INCARNATION, 10)).ok
    (made,) = run.place.rqlite.glob("rsnapshots/*/meta.json")
    return made.parent


@pytest.mark.parametrize("half", ["", '{"Version":1,"ID":"2-'])
@pytest.mark.parametrize("which", ["first", "next"])
async def test_F46_a_snapshot_that_was_cut_off_is_mended_and_no_row_is_lost(
    tmp_path: Path, which: str, half: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world(tmp_path) as w:
        run = await w.start("found")
        if run.place.rqlite.joinpath("wsnapshots").exists():
            pytest.skip("rqlited 10 has another layout")
        await run.insert(1)
        made = await snapshot(w, run)
        if which == "next":
            kept = tmp_path / "before"
            shutil.copytree(made, kept)
            await run.insert(2)
            before, made = made, await snapshot(w, run)
            kept.rename(before)  # it goes after the description of the next one was written
        await run.insert(3)
        await run.stop()
        whole = json.loads(made.joinpath("meta.json").read_bytes())
        made.joinpath("meta.json").write_text(half)

        with monkeypatch.context() as without:
            without.setattr(rqlited_start, "mend", lambda _place: None)
            ended = await w.launch(w.spec("restart")).until_ended()
            assert (ended.cause, "failed to read meta" in ended.detail) == ("crashed", True)

        run = await w.start("restart")
        expected = [[1], [3]] if which == "first" else [[1], [2], [3]]
        assert await run.rows() == expected
        if which == "next":
            mended = json.loads(made.joinpath("meta.json").read_bytes())
            for key in ("Version", "ID", "Index", "Term", "Configuration", "ConfigurationIndex"):
                assert mended[key] == whole[key]
        await run.insert(4)
        await snapshot(w, run)
        await run.stop()
        run = await w.start("restart")
        assert await run.rows() == [*expected, [4]]
        await run.stop()
