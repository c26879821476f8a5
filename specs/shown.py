"""Fills the last column of ``requirements.md``, ``laws.md`` and ``failures.md``: which tests and scenarios cite a number. A test cites
it by its name (``test_F41_…``), a scenario or script by its text. ``python specs/shown.py`` writes the pages;
``tests/test_documents.py`` fails when one is stale, so that no page claims what nobody checks.
"""

from __future__ import annotations

import re
import sys
from collections import Counter, defaultdict
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


def cited() -> dict[str, Counter[Path]]:
    """Number → how many tests of which file cite it, or that a scenario or script does (counted once)."""
    found: dict[str, Counter[Path]] = defaultdict(Counter)
    for path in sorted((ROOT / "tests").rglob("*.py")):
        for name in _TEST.findall(path.read_text("utf-8")):
            for number in NUMBER.findall(name):
                found[number][path] += 1
    for folder in (ROOT / "tests", ROOT / "configs" / "scenarios"):
        for path in sorted(one for one in folder.rglob("*") if one.suffix in _DATA):
            for number in set(NUMBER.findall(path.read_text("utf-8"))):
                found[number][path] = 1
    return found


def page(path: Path, citations: dict[str, Counter[Path]]) -> str:
    """The page with its last column filled."""
    lines: list[str] = []
    for line in path.read_text("utf-8").splitlines():
        row = ROW.fullmatch(line)
        if row is None:
            lines.append(line)
            continue
        shown = ", ".join(_link(file, times) for file, times in sorted(citations.get(row["number"], Counter()).items()))
        lines.append(f"| {row['number']} | {row['text']} | {row['state']} | {row['kept'] or '–'} | {shown or '–'} |")
    return "\n".join(lines) + "\n"


def _link(path: Path, times: int) -> str:
    name = path.stem.removeprefix("test_") if path.suffix == ".py" else path.name
    return f"[{name}](../{path.relative_to(ROOT).as_posix()})" + (f" ×{times}" if times > 1 else "")


if __name__ == "__main__":
    for each in PAGES:
        each.write_text(page(each, cited()), "utf-8")
        sys.stdout.write(f"wrote {each.relative_to(ROOT)}\n")
