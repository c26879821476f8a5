"""The pytest plugin of SQLAlchemy's dialect suite, and what the suite asks of a dialect beside its requirements."""

from __future__ import annotations

import itertools
import os
from typing import Any

import pytest
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.sqlite import insert

for name in ("torpor", "torpor.torpor"):
    registry.register(name, "runtime.client.sqlalchemy", "TorporDialect")
pytest.register_assert_rewrite("sqlalchemy.testing.assertions")

from sqlalchemy import testing  # noqa: E402
from sqlalchemy.testing import config  # noqa: E402
from sqlalchemy.testing.plugin.pytestplugin import *  # noqa: E402, F403
from sqlalchemy.testing.plugin.pytestplugin import pytest_collection_modifyitems as collected  # noqa: E402
from sqlalchemy.testing.plugin.pytestplugin import pytest_sessionstart as started  # noqa: E402
from sqlalchemy.testing.provision import upsert  # noqa: E402

from tests.client.sqlalchemy_suite.requirements import REFUSED  # noqa: E402

RESTS = os.environ.get("TORPOR_SUITE_RESTS", "")
"""Two descriptors, for a question and its answer."""
EVERY = 250
_runs = itertools.count(1)


@pytest.hookimpl(trylast=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """What some tests do in a second schema, whether there may be one or not, they do in ours under its name."""
    started(session)
    for each in config.Config.all_configs():
        each.test_schema = "main"
        each.set_as_current(each, testing)


def pytest_collection_modifyitems(session: pytest.Session, config: pytest.Config, items: list[pytest.Item]) -> None:
    """The suite makes new items of those that pytest has found."""
    collected(session, config, items)
    for item in items:
        for name, reason in REFUSED.items():
            if item.name.startswith(name):
                item.add_marker(pytest.mark.skip(reason=reason))


def pytest_runtest_logfinish() -> None:
    """After some tests: ask whoever started us to see to it that the database sleeps, and wait for that."""
    if next(_runs) % EVERY == 0 and RESTS:
        ask, answer = map(int, RESTS.split(","))
        os.write(ask, b"?")
        assert os.read(answer, 1) == b"!"


@upsert.for_db("sqlite")
def _upsert(
    cfg: Any,
    table: Any,
    returning: Any,
    *,
    set_lambda: Any = None,
    sort_by_parameter_order: bool = False,
    index_elements: Any = None,
) -> Any:
    statement = insert(table)
    if set_lambda:
        statement = statement.on_conflict_do_update(set_=set_lambda(statement.excluded), index_elements=index_elements)
    else:
        statement = statement.on_conflict_do_nothing()
    return statement.returning(*returning, sort_by_parameter_order=sort_by_parameter_order)
