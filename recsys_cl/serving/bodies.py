"""What may be asked of the service: comes in JSON or query parameters, goes out checked; unknown names are refused."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from recsys_cl.serving.filters import Filters, parse_where

MOST_LISTED = 10_000
"""Ids in `allow` and in `deny`, and values of one attribute."""

Ids = Annotated[list[str], Field(max_length=MOST_LISTED)]
FewIds = Annotated[list[str], Field(max_length=100)]  # the head of a request holds no more than 64 KiB
K = Annotated[int, Field(ge=1, description="How many answers; fewer where fewer exist.")]
ALLOW, DENY, WHERE = (
    "Only these item_ids.",
    "None of these item_ids.",
    "Only items with this attribute; several values of one name: any of them.",
)
WHY = "Say which items of the history brought each answer, or how many users touched both."
ITSELF = "Leave out the item itself."
By = Annotated[
    Literal["behavior", "image"], Field(description="What makes neighbors: who touches them, or how they look.")
]


class _Asked(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class InQuery(_Asked):
    """What every lookup takes as query parameters; `allow`, `deny` and `where` may be repeated."""

    k: K = 10
    allow: Annotated[FewIds | None, Field(description=ALLOW)] = None
    deny: Annotated[FewIds, Field(description=DENY)] = []
    where: Annotated[
        list[str], Field(description=f"name=value. {WHERE}", max_length=100, examples=[["category=shoes"]])
    ] = []

    @property
    def filters(self) -> Filters:
        """The filters. Raises InputError for a condition that is none."""
        return Filters(None if self.allow is None else tuple(self.allow), tuple(self.deny), parse_where(self.where))


class NeighborsQuery(InQuery):
    """Of `GET /items/{item_id}/neighbors`."""

    by: By = "behavior"
    exclude_seen: Annotated[bool, Field(description=ITSELF)] = True
    why: Annotated[bool, Field(description=WHY)] = False


class UserQuery(InQuery):
    """Of `GET /users/{user_id}/recommendations`."""

    exclude_seen: Annotated[bool, Field(description="Leave out what the user has touched.")] = True
    why: Annotated[bool, Field(description=WHY)] = False


class SearchQuery(InQuery):
    """Of `GET /items`: the query itself, and which items it may find."""

    query: Annotated[str, Field(max_length=200, description="Words of a title, or a part of an id.")]
    k: K = 20


class PictureQuery(InQuery):
    """Of `POST /images/neighbors`."""

    by: By = "image"


class _InBody(_Asked):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    k: K = 10
    allow: Annotated[Ids | None, Field(description=ALLOW)] = None
    deny: Annotated[Ids, Field(description=DENY)] = []
    where: Annotated[
        dict[str, str | Ids],
        Field(description=f"name: value, or a list of values. {WHERE}", max_length=100),
    ] = {}
    why: Annotated[bool, Field(description=WHY)] = False

    @property
    def filters(self) -> Filters:
        """The filters."""
        where = {name: (found,) if isinstance(found, str) else tuple(found) for name, found in self.where.items()}
        return Filters(None if self.allow is None else tuple(self.allow), tuple(self.deny), where)


class RecommendBody(_InBody):
    """Whom to recommend to: somebody with a history of items, oldest first, or a known user."""

    history: Annotated[list[str] | None, Field(min_length=1, description="item_ids, oldest first.")] = None
    weights: Annotated[
        list[Annotated[float, Field(gt=0, allow_inf_nan=False, le=1e6, ge=1e-6)]] | None,
        Field(description="One for each item of the history."),
    ] = None
    user_id: Annotated[str | None, Field(description="A user of the log, instead of a history.")] = None
    exclude_seen: Annotated[bool, Field(description="Leave out the items of the history.")] = True

    @model_validator(mode="after")
    def _check(self) -> RecommendBody:
        if (self.history is None) == (self.user_id is None):
            raise ValueError("either history or user_id is needed, and not both")
        n_items, n_weights = len(self.history or ()), len(self.weights or ())
        if self.weights is not None and n_weights != n_items:
            raise ValueError(f"there are {n_weights} weights for {n_items} items of the history; give one for each")
        return self


class NeighborsBody(_InBody):
    """Whose neighbors are wanted."""

    item_id: str
    by: By = "behavior"
    exclude_seen: Annotated[bool, Field(description=ITSELF)] = True
