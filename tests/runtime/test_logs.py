"""R60: logs are events with fields, for a person or as one JSON object on each line, and never end the node."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from attrs import evolve
from libp2p.utils.logging import setup_logging

from runtime import logs
from runtime.settings import SettingsError
from runtime.settings_sections import LoggingSettings

PEER = "12D3KooWALS2dL1iEXrnkZstqd3PSgaBcJNVaFa7G753e4c3EP8T"


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    for handler in root.handlers[:]:
        if handler not in handlers:
            root.removeHandler(handler)
            handler.close()
    root.setLevel(level)
    structlog.reset_defaults()


def test_R60_json_is_one_object_on_each_line(tmp_path: Path) -> None:
    early = structlog.stdlib.get_logger("cluster")  # as a module does at import, before anything is configured
    file = tmp_path / "torpor.log"
    logs.configure(LoggingSettings(format="json", file=file), PEER)
    early.info("database idle", database="shop_users", idle_time=61.5, because="nobody asked")
    early.debug("below the level")
    try:
        raise ValueError("a\nb")
    except ValueError:
        early.exception("instance failed", path=tmp_path)
    logging.getLogger("uvicorn").info("chatter")
    logging.getLogger("uvicorn").warning("slow %s", "reader", extra={"database": "shop_users"})
    first, second, third = (json.loads(line) for line in file.read_text().splitlines())
    assert first.pop("timestamp").endswith("Z")
    assert first == {
        "event": "database idle",
        "database": "shop_users",
        "idle_time": 61.5,
        "because": "nobody asked",
        "node_id": PEER,
        "level": "info",
        "logger": "cluster",
    }
    assert (second["event"], second["level"], second["path"]) == ("instance failed", "error", str(tmp_path))
    assert "ValueError: a\nb" in second["exception"]
    assert (third["event"], third["database"], third["logger"]) == ("slow reader", "shop_users", "uvicorn")


def test_R60_the_console_is_for_a_person(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(LoggingSettings(), PEER)
    structlog.stdlib.get_logger("cluster").info("hibernated", database="shop_users", requester=PEER)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "hibernated" in shown.err
    assert "database=shop_users" in shown.err
    assert "node_id=753e4c3EP8T"[-11:] in shown.err
    assert PEER not in shown.err


def test_R60_the_last_configuration_holds(tmp_path: Path) -> None:
    for name in ("a", "b"):
        logs.configure(LoggingSettings(format="json", level="error", file=tmp_path / name))
    log = structlog.stdlib.get_logger("cluster")
    log.warning("not this")
    log.error("this")
    assert (tmp_path / "a").read_text() == ""
    assert [json.loads(line)["event"] for line in (tmp_path / "b").read_text().splitlines()] == ["this"]


def test_R60_a_log_that_cannot_be_written_costs_lines_not_the_node() -> None:
    logs.configure(LoggingSettings(file=Path("/dev/full")))
    structlog.stdlib.get_logger("cluster").info("hibernated")


def test_R60_libp2p_writes_nothing_past_the_settings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    theirs = logging.getLogger("libp2p.transport.tcp.tcp")
    for settings, lines in ((LoggingSettings(level="info"), 0), (LoggingSettings(level="debug"), 1)):
        file = tmp_path / settings.level
        logs.configure(evolve(settings, format="json", file=file))
        setup_logging()  # as importing libp2p does, after the node's logs were configured
        logs.take_libp2p_over()
        theirs.error("Failed to open TCP stream")
        assert len(file.read_text().splitlines()) == lines
    assert capsys.readouterr().err == ""


def test_R61_a_log_file_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        logs.configure(LoggingSettings(file=tmp_path / "absent" / "torpor.log"))
    assert str(caught.value).endswith(
        "torpor.log: logging.file: cannot be opened: No such file or directory; name another file"
    )


@pytest.mark.parametrize("level", ["info", "debug"])
def test_R60_libp2p_does_not_speak_past_our_logs(tmp_path: Path, level: str) -> None:
    """Its import undoes what was configured for it before; as in a node, which imports it when its logs are long set up."""
    file = tmp_path / "torpor.log"
    program = (
        "import logging; from pathlib import Path; from runtime import logs; from runtime.settings_sections import LoggingSettings; "
        f"logs.configure(LoggingSettings(format='json', level={level!r}, file=Path({str(file)!r}))); "
        "import runtime.transport.host; logging.getLogger('libp2p.transport.tcp').error('Failed to open TCP stream')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")
    assert ("Failed to open TCP stream" in file.read_text()) == (level == "debug")
