"""Fills the last column of ``requirements.md``, ``laws.md`` and ``failures.md``: which tests and scenarios cite a number. A test cites
it by its name (``test_F41_…``), a scenario or script by its text. ``python specs/shown.py`` writes the pages;
``tests/test_documents.py`` fails when one is stale, so that no page claims what nobody checks.
"""

from __future__ import annotations

import re
import sys
from collections import defaultdict
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
PAGES: Final = tuple(ROOT / "specs" / name for name in ("requirements.md", "laws.md", "failures.md"))
NUMBER: Final = re.compile(r"(?<![A-Za-z0-9])[RPF]\d{1,2}(?![A-Za-z0-9])")
ROW: Final = re.compile(
    r"\| (?P<number>[RPF]\d+) \| (?P<text>.*?) \| (?P<state>.*?) \| (?P<kept>.*?) ?\| ?(?P<shown>.*?) ?\|"
)
_TEST: Final = re.compile(r"^\s*(?:async )?def (test_\w+)", re.MULTILINE)
_DATA: Final = (".yaml", ".yml", ".txt")


def cited() -> dict[str, set[Path]]:
    """Number → the files whose tests, scenarios or scripts cite it."""
    found: dict[str, set[Path]] = defaultdict(set)
    for path in sorted((ROOT / "tests").rglob("*.py")):
        for name in _TEST.findall(path.read_text("utf-8")):
            for number in NUMBER.findall(name):
                found[number].add(path)
    for folder in (ROOT / "tests", ROOT / "configs" / "scenarios"):
        for path in (one for one in folder.rglob("*") if one.suffix in _DATA):
            for number in NUMBER.findall(path.read_text("utf-8")):
                found[number].add(path)
    return found


def page(path: Path, citations: dict[str, set[Path]]) -> str:
    """The page with its last column filled."""
    lines: list[str] = []
    for line in path.read_text("utf-8").splitlines():
        row = ROW.fullmatch(line)
        if row is None:
            lines.append(line)
            continue
        shown = ", ".join(_link(file) for file in sorted(citations.get(row["number"], ())))
        lines.append(f"| {row['number']} | {row['text']} | {row['state']} | {row['kept'] or '–'} | {shown or '–'} |")
    return "\n".join(lines) + "\n"


def _link(path: Path) -> str:
    name = path.stem.removeprefix("test_") if path.suffix == ".py" else path.name
    return f"[{name}](../{path.relative_to(ROOT).as_posix()})"


if __name__ == "__main__":
    for each in PAGES:
        each.write_text(page(each, cited()), "utf-8")
        sys.stdout.write(f"wrote {each.relative_to(ROOT)}\n")
