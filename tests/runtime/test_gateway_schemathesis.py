"""A hostile client that has read the OpenAPI document (schemathesis): whatever it sends, good by the document or not, the real worker answers as
the document says: its statuses, its content types, its schemas; what is bad is refused, and nothing is answered without a key.

``TORPOR_SCHEMATHESIS`` sets the examples for each endpoint, kind and mode.
"""

from __future__ import annotations

import os
import sqlite3
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import requests
import schemathesis
import trio
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    ignored_auth,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from tests.runtime.gateway_world import gateway, post, rqliteds

EXAMPLES = int(os.environ.get("TORPOR_SCHEMATHESIS", "30"))
CHECKS: list[Any] = [
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    negative_data_rejection,
    unsupported_method,
    ignored_auth,
]
KNOWN = {
    "sql": ("SELECT 1 AS n", "SELECT * FROM t", "INSERT INTO t(a) VALUES (?) RETURNING *", "DELETE FROM t", "SELECT ?, :a", "VALUES (x'00', 1e300, NULL)", "PRAGMA table_info(t)"),
    "args": ([], [1], None),
    "schema": ("CREATE TABLE IF NOT EXISTS t(a, b BLOB)", "CREATE TABLE u(a)", "DROP TABLE t"),
    "table_name": ("u", "t", "nope"),
    "queries": (["DELETE FROM t", "INSERT INTO t(a) VALUES (1)"], ["SELECT 1", {"sql": "SELECT ?", "args": [1]}], ["INSERT INTO t(a) VALUES (2)", "SELECT * FROM t"]),
}  # fmt: skip
"""What the document cannot know, so that not everything ends with an unknown name or at the parser."""

NOTHING_TO_SPOIL = ("/v1/database/list", "/healthz", "/readyz")

pytestmark = pytest.mark.real


def file_of(*statements: str) -> bytes:
    with closing(sqlite3.connect(":memory:")) as database:
        database.executescript(";".join(statements))
        return database.serialize()


GOOD_FILE = file_of("CREATE TABLE t(a)", "INSERT INTO t VALUES (1)")
schemathesis.openapi.media_type(
    "application/vnd.sqlite3",
    st.one_of(
        st.binary(max_size=64),
        st.sampled_from([GOOD_FILE, GOOD_FILE[:-1], GOOD_FILE[:100], GOOD_FILE.replace(b"CREATE", b"CREATF")]),
        st.just(file_of("CREATE TABLE t(a)", "CREATE VIEW v AS SELECT random() FROM t")),
    ),
)


async def test_R31_F85_the_gateway_answers_as_its_document_says(tmp_path: Path) -> None:
    with rqliteds(tmp_path, "users", "empty") as running:
        for each in running.values():
            await each.ready()
        async with gateway(
            {("one", name): r.url for name, r in running.items()}, query_timeout_s=5.0, within=600
        ) as world:
            async with world.client() as client:
                await post(client, "create-table", schema="CREATE TABLE t(a, b BLOB)")
                document = (await client.get("/openapi.json")).json()
            answers = await trio.to_thread.run_sync(partial(explore, document, world.address, world.keys["one"]))
            assert world.workers()
    assert {status for _path, status in answers} <= {200, 400, 401, 404, 405, 409, 413, 422, 503, 504}
    for path in document["paths"]:
        assert answers[path, 200], f"nothing at {path} has ever succeeded"


def explore(document: dict[str, Any], address: str, key: str) -> Counter[tuple[str, int]]:
    """Path and status of every answer."""
    answers: Counter[tuple[str, int]] = Counter()
    with requests.Session() as session:
        for result in schemathesis.openapi.from_dict(document).get_all_operations():
            operation = result.ok()
            for mode in GenerationMode:
                if mode is GenerationMode.NEGATIVE and operation.path in NOTHING_TO_SPOIL:
                    continue
                cases = operation.as_strategy(generation_mode=mode)
                story(cases, mode, partial(tell, session, address, key, answers))()
    return answers


def story(cases: st.SearchStrategy[Case], mode: GenerationMode, tell: Callable[[Case], None]) -> Callable[[], None]:
    @seed(1)
    @settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(data=st.data(), case=cases)
    def run(data: st.DataObject, case: Case) -> None:
        if mode is GenerationMode.POSITIVE and data.draw(st.integers(0, 2)):
            known(data, case)
        tell(case)

    return run


def known(data: st.DataObject, case: Case) -> None:
    for header in ("Authorization", "X-API-Key"):  # two keys at once are refused
        case.headers.pop(header, None)
    if isinstance(case.body, dict) and "database" in case.body:
        case.body["database"] = "users"
        for member, choices in KNOWN.items():
            if member in case.body:
                case.body[member] = data.draw(st.sampled_from(choices))
    if case.query and "database" in case.query:
        case.query["database"] = "empty" if case.operation.path.endswith("import") else "users"


def tell(session: requests.Session, address: str, key: str, answers: Counter[tuple[str, int]], case: Case) -> None:
    mine = {"Authorization": f"Bearer {key}"}
    response = case.call(base_url=address, session=session, headers=mine)
    answers[case.operation.path, response.status_code] += 1
    case.validate_response(response, checks=CHECKS, headers=mine)
