"""What the routes of the service share: what each is given, what it may give, where it stands; no framework here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal
from urllib.parse import unquote

from pydantic import AfterValidator, Field

from recsys_cl.serving.diffs import Diffs
from recsys_cl.serving.holder import Holder, Live
from recsys_cl.serving.limits import Limits
from recsys_cl.serving.metrics import RequestFigures
from recsys_cl.serving.problems import Problem, ProblemError

JSON, BYTES, PNG = "application/json", "application/octet-stream", "image/png"
# The guard routes by the path as it was sent, so ids come percent-encoded.
ItemId = Annotated[str, AfterValidator(unquote), Field(description="An item_id, percent-encoded.")]
UserId = Annotated[str, AfterValidator(unquote), Field(description="A user_id, percent-encoded.")]


@dataclass(frozen=True)
class Service:
    """What requests are answered with."""

    holder: Holder
    limits: Limits
    figures: RequestFigures
    diffs: Diffs


@dataclass(frozen=True)
class Asked:
    """What one request is answered with. live: taken once, so that no answer is mixed of two releases."""

    service: Service
    live: Live


@dataclass(frozen=True)
class Content:
    """An answer that is no JSON."""

    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Route:
    """A function at an address: it is given `Asked`, then what the request brings, by the names of its parameters.

    answer gives a JSON value, or `Content` of this kind; model: what the value is, None for content; refusals: statuses
    beside those that any address may give; quick: it takes no time, and so no thread.
    """

    method: Literal["GET", "POST"]
    address: str
    answer: Callable[..., Any]
    model: Any = None
    refusals: tuple[int, ...] = ()
    kind: str = JSON
    quick: bool = False


def need(there: bool, detail: str) -> None:
    """Answer 404 unless it is there."""
    if not there:
        raise ProblemError(Problem(404, "not-found", detail))
