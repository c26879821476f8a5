"""The pages are true, as far as a program can tell: each number that the code cites is explained, each file, test, command and link that
a page names is there, nothing counts as done that no test shows, and nothing in the project points to the machine it was
written on."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from runtime import __version__
from runtime.gateway.problems import TYPES, status_and_title
from runtime.settings import GatewaySettings, fields_of
from specs import shown

ROOT = Path(__file__).resolve().parent.parent
CODE = ("protocol", "runtime", "sim", "tests", "configs")
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "specs").rglob("*.md")])
STATES = {"here", "partly", "kept", "next", "later"}
TEXTS = {".py", ".md", ".toml", ".yaml", ".yml", ".json", ".txt", ".sh", ".cddl", ".cfg", ""}
LEFT_BY_TOOLS = {"node_modules", "__pycache__", "dist", "data", "demo-data"}

_QUOTED = re.compile(r"`([^`\n]+)`")
_PATH = re.compile(r"(?:protocol|runtime|sim|specs|tests|configs)/[\w./*-]*")
_LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
_MODULE = re.compile(r"python -m ((?:protocol|runtime|sim)(?:\.\w+)*)")
_TARGET = re.compile(r"(?<![\w-])make ([a-z]+)")


def _files() -> Iterator[Path]:
    """Every file of the project that a person wrote, and no directory of a tool."""
    todo = [ROOT]
    while todo:
        for path in sorted(todo.pop().iterdir()):
            hidden = path.name.startswith(".") and path.name not in (".ci", ".gitignore")
            if hidden or path.name in LEFT_BY_TOOLS:
                continue
            if path.is_dir():
                todo.append(path)
            else:
                yield path


@cache
def _rows() -> dict[str, re.Match[str]]:
    """Number → its row."""
    rows: dict[str, re.Match[str]] = {}
    for page in shown.PAGES:
        for line in page.read_text("utf-8").splitlines():
            row = shown.ROW.fullmatch(line)
            assert row or not re.match(r"\| ?[RPF]\d", line), f"{page.name}: a row that shown.py cannot read: {line}"
            if row:
                assert row["number"] not in rows, f"{page.name}: {row['number']} has two rows"
                rows[row["number"]] = row
    return rows


@cache
def _tests() -> frozenset[str]:
    found: set[str] = set()
    for path in (ROOT / "tests").rglob("*.py"):
        found.update(re.findall(r"^\s*(?:async )?def (test_\w+)", path.read_text("utf-8"), re.MULTILINE))
    return frozenset(found)


def _prose(page: Path) -> str:
    """A page without its fenced blocks: those hold examples."""
    return re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)


def test_each_number_that_is_cited_is_explained() -> None:
    unknown: dict[str, set[str]] = defaultdict(set)
    for path in _files():
        inside = path.relative_to(ROOT)
        locked = inside.parts[:2] == ("configs", "lock") or path.name == "package-lock.json"
        if (inside.parts[0] not in (*CODE, "specs") and path.suffix != ".md") or path.suffix not in TEXTS or locked:
            continue
        for number in shown.NUMBER.findall(path.read_text("utf-8")):
            if number not in _rows():
                unknown[number].add(str(inside))
    assert not unknown, f"cited, and no row in specs/ explains them: {dict(unknown)}"


def test_states_are_those_that_the_reading_order_explains() -> None:
    for number, row in _rows().items():
        assert row["state"].partition(":")[0] in STATES, f"{number}: {row['state']}"


def test_nothing_is_here_that_no_test_shows() -> None:
    citations = shown.cited()
    unshown = [n for n, row in _rows().items() if row["state"] == "here" and not citations.get(n)]
    assert not unshown, f"said to be here, and no test's name or scenario cites them: {unshown}"
    shown_by_now = [n for n, row in _rows().items() if row["state"] == "kept" and citations.get(n)]
    assert not shown_by_now, f"said to be shown by no test, and one cites them now (say `here`): {shown_by_now}"


@pytest.mark.parametrize("page", shown.PAGES, ids=lambda page: page.name)
def test_the_column_of_tests_is_fresh(page: Path) -> None:
    assert page.read_text("utf-8") == shown.page(page, shown.cited()), (
        f"run `python specs/shown.py`: {page.name} is stale"
    )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_names_is_there(page: Path) -> None:
    missing: list[str] = []
    for text in _QUOTED.findall(_prose(page)):
        if re.fullmatch(r"test_\w+", text) and text not in _tests():
            missing.append(f"test {text}")
        if _PATH.fullmatch(text) and not any(ROOT.glob(text.rstrip("/"))):
            missing.append(f"file {text}")
    for link in _LINK.findall(_prose(page)):
        if "://" in link:
            continue
        file, _, anchor = link.partition("#")
        target = page.parent / file if file else page
        if not target.exists():
            missing.append(f"link {link}")
        elif anchor and anchor not in _anchors(target):
            missing.append(f"heading {link}")
    assert not missing, f"{page.name} names what is not there: {missing}"


def _anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_that_a_page_shows_exist(page: Path) -> None:
    text = page.read_text("utf-8")
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    shell = "\n".join(re.findall(r"`[^`\n]+`", text) + re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL))
    missing = [f"make {target}" for target in _TARGET.findall(shell) if target not in targets]
    for module in _MODULE.findall(text):
        place = ROOT.joinpath(*module.split("."))
        if not place.with_suffix(".py").exists() and not (place / "__main__.py").exists():
            missing.append(f"python -m {module}")
    played = set(re.findall(r"python -m sim scenario ([\w.]+)", text)) - {"your_story"}
    scenarios = ROOT / "configs" / "scenarios"
    missing += [f"scenario {name}" for name in played if not (scenarios / name).with_suffix(".yaml").exists()]
    assert not missing, f"{page.name} shows commands that do not exist: {missing}"


def test_the_map_names_every_file() -> None:
    map_ = (ROOT / "specs" / "architecture.md").read_text("utf-8")
    files = [
        str(path.relative_to(ROOT))
        for path in _files()
        if path.suffix == ".py" and path.relative_to(ROOT).parts[0] in ("protocol", "runtime", "sim")
    ]
    missing = [file for file in files if not file.endswith("__init__.py") and f"| `{file}` |" not in map_]
    assert not missing, f"specs/architecture.md has no line for {missing}"


def test_laws_that_end_a_simulated_run_are_on_the_page_of_invariants() -> None:
    page = set(shown.NUMBER.findall((ROOT / "specs" / "invariants.md").read_text("utf-8")))
    code = "".join(path.read_text("utf-8") for path in (ROOT / "sim").glob("*.py"))
    raised = set(re.findall(r'Violation\(\s*"([RPF]\d+)"', code))
    checks = set(
        re.findall(r'\([^"()]*\b([RPF]\d{1,2})\b[^"()]*\)"', (ROOT / "protocol" / "invariants.py").read_text("utf-8"))
    )
    assert raised, "the simulator raises no violation: has the class another name?"
    assert raised | checks <= page, f"specs/invariants.md does not tell of {sorted((raised | checks) - page)}"


def test_decisions_are_numbered_listed_and_complete() -> None:
    folder = ROOT / "specs" / "decisions"
    records = sorted(path for path in folder.glob("*.md") if path.name != "README.md")
    assert [int(path.name[:4]) for path in records] == list(range(1, len(records) + 1))
    index = (folder / "README.md").read_text("utf-8")
    for path in records:
        text = path.read_text("utf-8")
        title = text.splitlines()[0].removeprefix(f"# {path.name[:4]} ")
        assert f"[{path.name[:4]}]({path.name}) | {title} |" in index, f"{path.name} is not in the list under its title"
        assert re.findall(r"^## (.+)$", text, re.MULTILINE) == ["Context", "Decision", "Consequences"], path.name


def test_the_changelog_tells_of_this_version() -> None:
    assert re.search(rf"^## \[{re.escape(__version__)}\]", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)


def test_nothing_points_to_the_machine_it_was_written_on() -> None:
    # Put together from halves, or this file would be the first to be found.
    forbidden = [f"/{name}/" for name in ("work", "farm", "root", "home", "Users")] + [
        "../" + "shared",
        "tmp/" + "brief",
    ]
    forbidden += [
        a + b
        for a, b in (("npm", "js.org"), ("pypi", ".org"), ("python", "hosted"), ("crates", ".io"), ("proxy.", "golang"))
    ]
    forbidden += ['"resolved": "' + "http", "registry = " + '"http']
    found: list[str] = []
    for path in _files():
        if path.suffix not in TEXTS:
            continue
        text = path.read_text("utf-8")
        found += [f"{path.relative_to(ROOT)}: {word}" for word in forbidden if word in text]
    assert not found, found


def test_each_problem_of_the_gateway_is_in_the_page_for_clients() -> None:
    page = (ROOT / "specs/http.md").read_text("utf-8").partition("\n## Problems\n")[2]
    rows = re.findall(r"^\| `([a-z-]+)` \| (\d+) \| (.+) \|$", page, re.MULTILINE)
    told = {kind: (int(status), title) for kind, status, title in rows}
    assert told == {kind: status_and_title(kind) for kind in TYPES}


def test_each_bound_of_the_gateway_is_in_the_page_for_clients() -> None:
    page = (ROOT / "specs/http.md").read_text("utf-8").partition("\n## Bounds\n")[2].partition("\n## ")[0]
    bounds = {name for name, *_ in fields_of(GatewaySettings) if name.startswith("max_") or name.endswith("_timeout")}
    assert bounds - {"wake_timeout"} <= set(re.findall(r"`(\w+)`", page))
