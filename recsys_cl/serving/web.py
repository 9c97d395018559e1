"""What the routes of the service share: the live release of a request, answers as JSON, addresses, refusals."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import unquote

from fastapi import Path, Request
from fastapi.responses import Response
from pydantic import AfterValidator

from recsys_cl.serving.bodies import ProblemBody
from recsys_cl.serving.diffs import Diffs
from recsys_cl.serving.holder import Holder, Live
from recsys_cl.serving.limits import Limits
from recsys_cl.serving.metrics import RequestFigures
from recsys_cl.serving.problems import PROBLEM_JSON, Problem, ProblemError

REFUSED: dict[int | str, dict[str, Any]] = {
    code: {
        "description": "Refused, and why.",
        "content": {PROBLEM_JSON: {"schema": ProblemBody.model_json_schema()}},
    }
    for code in (422, "default")
}
"""What every route may answer, too."""
BINARY = {"schema": {"type": "string", "format": "binary"}}
# The guard routes by the path as it was sent, so ids come percent-encoded.
ItemId = Annotated[str, AfterValidator(unquote), Path(description="An item_id, percent-encoded.")]
UserId = Annotated[str, AfterValidator(unquote), Path(description="A user_id, percent-encoded.")]


@dataclass(frozen=True)
class Service:
    """What requests are answered with."""

    holder: Holder
    limits: Limits
    figures: RequestFigures
    diffs: Diffs


def take(request: Request) -> tuple[Service, Live]:
    """The service, and the release that is live now: to be taken once for each request, so that no answer is mixed."""
    service: Service = request.app.state.service
    return service, service.holder.live


def send(value: Any) -> Response:
    """A value as JSON."""
    body = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Response(body.encode(), media_type="application/json", headers={"cache-control": "no-store"})


def need(there: bool, detail: str) -> None:
    """Answer 404 unless it is there."""
    if not there:
        raise ProblemError(Problem(404, "not-found", detail))
