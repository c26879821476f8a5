"""Bodies as a gateway writes them."""

from __future__ import annotations

import json


def problem(kind: str, status: int, *, unsure: bool = False, detail: str = "as told") -> bytes:
    document = {
        "type": f"urn:torpor:problem:{kind}",
        "title": "t",
        "status": status,
        "detail": detail,
        "request_id": "r",
    }
    return json.dumps(document | ({"may_have_committed": True} if unsure else {})).encode()


def written(affected: int, inserted: int = 0) -> bytes:
    return json.dumps({"rows_affected": affected, "last_insert_id": inserted}).encode()
