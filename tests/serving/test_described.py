"""The description of the service (OpenAPI): each address gives what it says, no more and no less, on a good request."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from recsys_cl.publishing.store import read_current

CHECKS = [content_type_conformance, response_schema_conformance, status_code_conformance]
ITEM, USER = {"item_id": "%20%20padded%20"}, {"user_id": "u3"}
FINE, UNKNOWN = {"history": ["i5"], "why": True}, {"history": ["nothing"]}
GOOD: dict[str, list[dict[str, Any]]] = {
    "GET /items/{item_id}/neighbors": [
        {"path_parameters": ITEM, "query": {"why": "true", "by": by}} for by in ("behavior", "image")
    ],
    "GET /users/{user_id}/recommendations": [{"path_parameters": USER, "query": {"why": "true"}}],
    "POST /recommend": [{"body": FINE}, {"body": {"user_id": "u3"}}],
    "POST /batch/recommend": [{"body": [FINE, UNKNOWN]}],
    "POST /batch/neighbors": [{"body": [{"item_id": "i5"}, {"item_id": "nothing"}]}],
    "POST /images/neighbors": [{"media_type": "image/*"}],
    "GET /items": [{"query": {"query": "title"}}],
    "GET /items/{item_id}": [{"path_parameters": ITEM}],
    "GET /images/{item_id}": [{"path_parameters": ITEM}],
    "GET /map": [{}],
    "GET /map/items": [{}],
    "GET /map/colors": [{"query": {"attribute": "genre"}}],
    "GET /release": [{}],
    "GET /releases": [{}],
    "GET /releases/{first}/diff/{second}": [{}],
    "GET /health": [{}],
    "GET /ready": [{}],
    "GET /metrics": [{}],
}


@pytest.fixture(scope="module")
def described(start_server: Callable[..., Any], pictured_store: Path) -> Any:
    """What a service over a release with pictures says of itself."""
    return schemathesis.openapi.from_url(f"{start_server(pictured_store).url}/openapi.json")


@pytest.mark.parametrize("label", GOOD)
def test_a_good_answer_is_as_described(described: Any, pictured_store: Path, label: str) -> None:
    operation = {one.ok().label: one.ok() for one in described.get_all_operations()}[label]
    for given in GOOD[label]:
        if "diff" in label:
            given = {"path_parameters": dict.fromkeys(("first", "second"), read_current(pictured_store))}
        if "media_type" in given:
            picture = (pictured_store.parent / "0.png").read_bytes()
            given = {**given, "body": picture, "headers": {"content-type": "image/png"}}
        response = operation.Case(**given).call_and_validate(checks=CHECKS)
        assert response.status_code == 200


def test_every_address_is_tried_and_says_what_it_gives(described: Any) -> None:
    raw = described.raw_schema
    assert {one.ok().label for one in described.get_all_operations()} == set(GOOD)
    for path, methods in raw["paths"].items():
        for told in methods.values():
            assert {"200", "400", "401", "403", "413", "500", "503"} <= set(told["responses"]), path
            assert "default" not in told["responses"]
            for status, response in told["responses"].items():
                (kind,) = response["content"]
                assert (kind == "application/problem+json") is (status != "200"), (path, status)
                assert kind != "application/json" or response["content"][kind]["schema"], path


def test_the_token_is_described_and_health_needs_none(described: Any) -> None:
    raw = described.raw_schema
    assert raw["components"]["securitySchemes"]["token"]["scheme"] == "bearer"
    assert raw["security"] == [{"token": []}, {}]
    assert raw["paths"]["/health"]["get"]["security"] == []
