"""The OpenAPI document and its page, as the gateway serves them."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from runtime.gateway import problems
from tests.runtime.gateway_world import gateway, kind_of

pytestmark = pytest.mark.real


async def test_every_endpoint_is_described_with_its_problems() -> None:
    async with gateway() as world, world.client("") as client:
        answer = await client.get("/openapi.json")
        assert answer.headers["content-type"] == "application/json"
        document = answer.json()
    assert document["openapi"] == "3.1.0"
    paths = {f"{method} {path}": each for path, item in document["paths"].items() for method, each in item.items()}
    below = "/v1/database/"
    assert set(paths) == {
        *(
            f"post {below}{name}"
            for name in ("query", "exec", "transaction", "schema", "create-table", "drop-table", "import")
        ),
        *(f"get {below}{name}" for name in ("schema", "list", "export")),
        "get /healthz",
        "get /readyz",
    }
    told: set[str] = set()
    for path, operation in paths.items():
        assert ("security" in operation) == (below in path)
        for status, answer in operation["responses"].items():
            if status == "200":
                continue
            schema = answer["content"]["application/problem+json"]["schema"]
            kinds = [kind.removeprefix(problems.PREFIX) for kind in schema["allOf"][1]["properties"]["type"]["enum"]]
            assert {problems.Refusal(kind).status for kind in kinds} == {int(status)}
            told |= set(kinds)
    assert problems.TYPES - told == {"not-found", "method-not-allowed", "not-retired", "key-refused"}, (
        "beside these, each is said somewhere"
    )
    names = {
        ref.removeprefix("#/components/schemas/") for ref in re.findall(r'"\$ref": ?"([^"]+)"', json.dumps(document))
    }
    assert names == set(document["components"]["schemas"])
    arguments: Any = document["components"]["schemas"]["Query"]["properties"]["args"]
    assert {"$ref": "#/components/schemas/Blob"} in arguments["anyOf"][0]["items"]["anyOf"]
    assert document["components"]["schemas"]["Query"]["additionalProperties"] is False


async def test_the_page_needs_nothing_from_elsewhere() -> None:
    async with gateway() as world, world.client("") as client:
        page = await client.get("/docs")
        assert page.headers["content-type"].startswith("text/html")
        assert "default-src 'none'" in page.headers["content-security-policy"]
        assert "http:" not in page.text
        assert "https:" not in page.text
        for reference in re.findall(r'(?:src|href)="(?!data:)([^"]+)"', page.text):
            part = await client.get(f"/{reference}")
            assert part.status_code == 200
            assert len(part.content) > 100
        assert kind_of(await client.get("/docs/../docs/index.html")) == "unauthorized", "no other file"
