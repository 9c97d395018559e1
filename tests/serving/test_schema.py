"""Whatever our own description of the service allows, and much that it does not, is answered as it says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

CHECKS = [not_a_server_error, content_type_conformance, response_schema_conformance, status_code_conformance]
EXAMPLES = 15  # of each address, in each mode


@pytest.fixture(scope="module", params=["without pictures", "with pictures"])
def url(request: pytest.FixtureRequest, start_server: Callable[..., Any], store: Path, pictured_store: Path) -> str:
    """A service over a release without, and one with pictures."""
    return str(start_server(pictured_store if request.param == "with pictures" else store).url)


@pytest.mark.parametrize("mode", list(GenerationMode))
def test_no_request_is_a_fault_of_ours_and_every_answer_is_as_described(url: str, mode: GenerationMode) -> None:
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
    operations = [found.ok() for found in schema.get_all_operations()]
    assert len(operations) == 18
    for operation in operations:
        if mode is GenerationMode.NEGATIVE and not (operation.body or operation.query):
            continue  # there is nothing to be wrong: any text may be an id

        @settings(
            max_examples=EXAMPLES, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
        )
        @given(case=operation.as_strategy(generation_mode=mode))
        def check(case: Any) -> None:
            case.call_and_validate(checks=CHECKS)

        check()
