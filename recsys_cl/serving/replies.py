"""What the service answers, as its description (OpenAPI) tells it: comes in nothing, goes out models of JSON values.

Answers are made elsewhere; the tests of this folder hold them against these models, which allow no member beside those
that are named here, but for the attributes of items.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from recsys_cl.serving.bodies import WHY
from recsys_cl.serving.problems import PROBLEM_JSON


class _Told(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Known(BaseModel):
    """What the catalog knows of an item; beside these members its attributes, without those that have our names."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, str]

    item_id: str
    title: str | None = None
    image: Annotated[str | None, Field(description="Where its picture is.")] = None


class Row(Known):
    """An item and its row on the map."""

    row: int


class Item(Row):
    """An item, and the release that knows of it."""

    release: str


class Found(Row):
    """An item that was searched for; see `score` in docs/serving.md."""

    score: Annotated[float, Field(ge=0.25, le=1)]
    rank: int


class Brought(_Told):
    """An item of the history, and its share of what the score would lose without the whole."""

    item_id: str
    share: float


class Both(_Told):
    """How many users touched both items."""

    n_users: int


class Answered(Known):
    """One item of an answer."""

    score: float
    rank: int
    space: Annotated[
        Literal["behavior", "image", "behavior_by_image"] | None, Field(description="What made a neighbor.")
    ] = None
    why: Annotated[list[Brought] | Both | None, Field(description=WHY)] = None


class Answers(_Told):
    """An answer, best first, and the release that it comes from."""

    release: str
    items: list[Answered]


class FoundItems(_Told):
    """Items that were searched for, best first."""

    release: str
    items: list[Found]


class MapItems(_Told):
    """Some items by their rows; n_items: of all."""

    release: str
    n_items: int
    items: list[Row]


class MapColors(_Told):
    """The values of an attribute; codes: in base64 a byte for each row: 0 none, c categories[c - 1], 255 any other."""

    release: str
    attribute: str
    categories: list[str]
    codes: str


class Gate(_Told):
    """What the gate said; see `GateResult`."""

    passed: bool
    reasons: list[str]
    forced: str | None
    beside: dict[str, Any] | None
    alone: str | None


class IndexTold(_Told):
    """The index of a release."""

    kind: str
    parameters: dict[str, Any]


class LimitsTold(_Told):
    """The most that may be asked for at a time."""

    most_k: int
    most_history: int
    most_batch: int
    most_body_bytes: int
    most_pixels: int


class ReleaseTold(_Told):
    """The live release. n_pictures: to search among; thumbnails: whether the catalog says where pictures are."""

    release: str
    age_seconds: float
    created: str
    run_id: str
    parent: str | None
    n_users: int
    n_items: int
    n_events: int
    dim: int
    ann_recall: float
    metrics: dict[str, Any]
    index: IndexTold
    gate: Gate
    attributes: list[str]
    pictures: bool
    n_pictures: int
    thumbnails: bool
    limits: LimitsTold


class Listed(_Told):
    """A release of the store. broken: why it cannot be used; retraining_due: since when the live one holds what was
    learned from users who are erased."""

    release: str
    live: bool
    created: str | None
    metrics: dict[str, Any]
    gate: Gate | None
    broken: str | None = None
    retraining_due: str | None = None


class Releases(_Told):
    """All releases, oldest first."""

    releases: list[Listed]


class Moved(_Told):
    """An item, and the share of its neighbors that changed."""

    item_id: str
    changed: float


class Numbers(_Told):
    """Items of both releases, and of one alone."""

    first: int
    second: int
    gained: int
    lost: int


class Diff(_Told):
    """What differs between two releases; metrics: the values of both."""

    first: str
    second: str
    metrics: dict[str, Annotated[list[Any], Field(min_length=2, max_length=2)]]
    n_items: Numbers
    gained: list[str]
    lost: list[str]
    n_compared: int
    churn: float | None
    moved: list[Moved]


class Health(_Told):
    """The service lives."""

    status: Literal["live"]


class Refusal(_Told):
    """A release that cannot be used; release: None where `CURRENT` names none; since: seconds of the epoch."""

    release: str | None
    reason: str
    since: float


class Ready(_Told):
    """What answers, and what was refused."""

    ready: bool
    release: str
    age_seconds: float
    refused: Refusal | None


class ProblemBody(BaseModel):
    """RFC 9457: why a request was refused, and what to do."""

    model_config = ConfigDict(extra="allow")

    type: str
    title: str
    status: int
    detail: str


Batch = list[Answers | ProblemBody]

ALWAYS = (400, 401, 403, 408, 413, 500, 503)
"""Refusals that any address may give."""

_WHY_REFUSED = {
    400: "The head or the body cannot be read.",
    401: "The service asks for its token, and it was missing or another.",
    403: "The service answers only requests to a name of this machine.",
    404: "What is asked for is not in the release, or not in the store.",
    408: "The body did not come in time.",
    409: "A release that was named is broken; the detail says why.",
    413: "The body, or the picture in it, is too large.",
    415: "The body is of another type.",
    422: "What is asked is unknown, of another form, or out of its bounds.",
    500: "Something went wrong here, not in the request.",
    503: "As many requests are running as may be, or the answer took too long: come again.",
}
_HEADERS = {401: ("www-authenticate", "string"), 503: ("retry-after", "integer")}


def describe_refusals(codes: Iterable[int]) -> dict[int | str, dict[str, Any]]:
    """Refusals by their status, as a description has them."""
    content = {PROBLEM_JSON: {"schema": {"$ref": f"#/components/schemas/{ProblemBody.__name__}"}}}
    described: dict[int | str, dict[str, Any]] = {}
    for code in sorted(codes):
        described[code] = {"description": _WHY_REFUSED[code], "content": content}
        if code in _HEADERS:
            name, kind = _HEADERS[code]
            described[code]["headers"] = {name: {"schema": {"type": kind}}}
    return described
