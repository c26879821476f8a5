"""The OpenAPI 3.1 document at ``/openapi.json``, and the page at ``/docs``. The law kept here: both are made of the endpoints, the types that decode
their bodies and the table of problems, so they cannot say something else; the page loads nothing from elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any, Final

import orjson

from runtime.gateway.bodies import Problem
from runtime.gateway.calls import CLIENTS, Call
from runtime.gateway.endpoint import Bounds, Endpoint, File, Page
from runtime.gateway.problems import PREFIX, status_and_title

_REF: Final = "#/components/schemas/{name}"
_SQLITE: Final = "application/vnd.sqlite3"
OF_CONNECTIONS: Final = ("head-too-large", "request-timeout")
"""Whatever is asked."""
KEYED: Final = ("unauthorized", "forbidden", "rate-limited", "unavailable", "internal-error")
"""What every endpoint with a key can answer."""
_SUMMARIES: Final = {
    "query": "Read",
    "exec": "Write",
    "transaction": "Several statements, all or nothing",
    "schema": "The tables of a database",
    "create-table": "Create a table",
    "drop-table": "Drop a table",
    "list": "The databases of the application",
    "export": "The database as an SQLite file",
    "import": "Fill an empty database from an SQLite file",
    "/healthz": "Whether this worker serves",
    "/readyz": "Whether requests should be sent to it",
}

_UI: Final = {"swagger-ui-bundle.js": "text/javascript", "swagger-ui.css": "text/css"}
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_DOCS: Final = b"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Torpor: HTTP interface</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="docs/swagger-ui.css">
<div id="page"></div>
<script src="docs/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script>
</html>
"""
_START: Final = b"""// This release of Swagger UI knows OpenAPI 3.0: there a type that may be null is written in another way.
function older(part) {
  if (Array.isArray(part)) return part.map(older);
  if (part === null || typeof part !== "object") return part;
  const copy = Object.fromEntries(Object.entries(part).map(([name, value]) => [name, older(value)]));
  if (Array.isArray(copy.anyOf) && copy.anyOf.some((each) => each.type === "null")) {
    copy.anyOf = copy.anyOf.filter((each) => each.type !== "null");
    copy.nullable = true;
  }
  return copy;
}
fetch("openapi.json").then((answer) => answer.json()).then((document) => {
  const spec = { ...older(document), openapi: "3.0.3" };
  window.ui = SwaggerUIBundle({ spec, dom_id: "#page", deepLinking: true, validatorUrl: null });
});
"""


class Description:
    """Of these endpoints, made when somebody first asks for it."""

    def __init__(self, endpoints: Sequence[Endpoint]) -> None:
        self._endpoints = endpoints

    def pages(self, bounds: Bounds) -> Iterable[Endpoint]:
        """The endpoints that show it; nobody needs a key for them."""
        yield Endpoint("/openapi.json", ("GET",), "", self._openapi, bounds)
        yield Endpoint("/docs", ("GET",), "", self._docs, bounds)
        yield Endpoint("/docs/start.js", ("GET",), "", self._start, bounds)
        for name, kind in _UI.items():
            yield Endpoint(f"/docs/{name}", ("GET",), "", _File(name, kind), bounds)

    async def _openapi(self, _call: Call) -> bytes:
        return self.document

    async def _docs(self, _call: Call) -> Page:
        return Page(_DOCS, "text/html; charset=utf-8", ((b"content-security-policy", _POLICY.encode()),))

    async def _start(self, _call: Call) -> Page:
        return Page(_START, "text/javascript")

    @cached_property
    def document(self) -> bytes:
        """JSON."""
        return orjson.dumps(describe(self._endpoints), option=orjson.OPT_INDENT_2)


class _File:
    """A file of Swagger UI, read when somebody first asks for it."""

    def __init__(self, name: str, kind: str) -> None:
        self._name = name
        self._kind = kind

    @cached_property
    def _page(self) -> Page:
        from swagger_ui_bundle import swagger_ui_path

        return Page((swagger_ui_path / self._name).read_bytes(), self._kind, ((b"cache-control", b"max-age=86400"),))

    async def __call__(self, _call: Call) -> Page:
        return self._page


def describe(endpoints: Sequence[Endpoint]) -> dict[str, Any]:
    """The document."""
    from msgspec.json import schema_components

    import runtime

    types = {kind for each in endpoints for kind in (each.takes, each.gives) if kind is not None} | {Problem}
    ordered = sorted(types, key=lambda kind: kind.__name__)
    _refs, components = schema_components(ordered, ref_template=_REF)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Torpor",
            "version": runtime.__version__,
            "summary": "Replicated SQLite databases that are created on first use, sleep when idle and wake with the next query.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "paths": {_path(each): _operations(each) for each in endpoints},
        "components": {
            "schemas": components,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            },
        },
    }


def _path(endpoint: Endpoint) -> str:
    return CLIENTS + endpoint.path if endpoint.scope else endpoint.path


def _operations(endpoint: Endpoint) -> dict[str, Any]:
    return {method.lower(): _operation(endpoint, method) for method in endpoint.methods}


def _operation(endpoint: Endpoint, method: str) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": f"{method.lower()}-{endpoint.path.strip('/')}",
        "summary": _SUMMARIES[endpoint.path],
    }
    if endpoint.scope:
        operation["description"] = f"Needs a key of scope {endpoint.scope}."
        operation["security"] = [{"bearer": []}, {"key": []}]
    if parameters := _parameters(endpoint, method):
        operation["parameters"] = parameters
    if method == "POST":
        operation["requestBody"] = {"required": True, "content": _content(endpoint)}
    operation["responses"] = {"200": _answer(endpoint)} | _failures(endpoint)
    return operation


def _parameters(endpoint: Endpoint, method: str) -> list[dict[str, Any]]:
    parameters: list[dict[str, Any]] = []
    if (method == "GET" and endpoint.takes is not None) or endpoint.file is File.IN:
        schema = {"type": "string", "examples": ["users"]}
        parameters.append({"name": "database", "in": "query", "required": True, "schema": schema})
    if endpoint.keyed:
        parameters.append(
            {
                "name": "Idempotency-Key",
                "in": "header",
                "description": "With it, the request may be repeated: it has one effect.",
                "schema": {"type": "string", "pattern": "^[!-~]{1,128}$"},
            }
        )
    return parameters


def _content(endpoint: Endpoint) -> dict[str, Any]:
    if endpoint.file is File.IN:
        return {_SQLITE: {"schema": {"type": "string", "format": "binary"}}}
    assert endpoint.takes is not None
    return {"application/json": {"schema": _ref(endpoint.takes)}}


def _answer(endpoint: Endpoint) -> dict[str, Any]:
    headers = {"X-Request-Id": {"schema": {"type": "string"}}}
    if endpoint.file is File.OUT:
        content: dict[str, Any] = {_SQLITE: {"schema": {"type": "string", "format": "binary"}}}
    else:
        assert endpoint.gives is not None
        content = {"application/json": {"schema": _ref(endpoint.gives)}}
    return {"description": "It is done.", "headers": headers, "content": content}


def _failures(endpoint: Endpoint) -> dict[str, Any]:
    """By status, and of each the problems that have it."""
    kinds = sorted({*endpoint.problems, *OF_CONNECTIONS, *(KEYED if endpoint.scope else ("internal-error",))})
    by_status: dict[int, list[str]] = {}
    for kind in kinds:
        by_status.setdefault(status_and_title(kind)[0], []).append(kind)
    return {str(status): _failure(by_status[status]) for status in sorted(by_status)}


def _failure(kinds: list[str]) -> dict[str, Any]:
    types = {"type": "object", "properties": {"type": {"enum": [PREFIX + kind for kind in kinds]}}}
    schema = {"allOf": [_ref(Problem), types]}
    told = "; ".join(f"`{kind}`: {status_and_title(kind)[1]}" for kind in kinds)
    return {"description": told, "content": {"application/problem+json": {"schema": schema}}}


def _ref(kind: type) -> dict[str, str]:
    return {"$ref": _REF.format(name=kind.__name__)}
