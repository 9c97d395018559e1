"""What an export holds: comes in an open release and a request, goes out jobs, each of which makes lines for rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from recsys_cl.bags import Bags
from recsys_cl.catalog import ID
from recsys_cl.errors import ConfigError
from recsys_cl.evaluation.topk import Neighbors
from recsys_cl.files import hash_text
from recsys_cl.ids import IdMap, to_arrow
from recsys_cl.index.structure import Index
from recsys_cl.publishing.parts import USER_ID, ImageParts
from recsys_cl.serving.filters import ANY, Filters, find_allowed
from recsys_cl.serving.image_lookup import By, get_images
from recsys_cl.serving.lookup import NEIGHBOR_ID, Release, empty_bags
from recsys_cl.serving.members import bound_k
from recsys_cl.serving.search import search_allowed, search_unseen
from recsys_cl.serving.spaces import BEHAVIOR, BY_IMAGE, IMAGE
from recsys_cl.serving.suggest import explain_unknown

What = Literal["recommendations", "neighbors", "embeddings"]
Of = Literal["items", "users", "queries"]
TEXT, CATEGORY = pa.large_string(), pa.dictionary(pa.int32(), pa.string())

_GROUP_ROWS = 4_096  # asked of an index in one call: it may answer with a thousand for each

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Request:
    """What is wanted.

    by: neighbors or embeddings by behavior or by picture. of: embeddings of items, as they are found; of users; or of
    items as they ask for their neighbors (`queries`). ids: of those wanted, in this order, None for all; with
    skip_unknown those that the release lacks are left out. approximate: by the index instead of exactly.
    """

    what: What
    k: int = 20
    by: By = "behavior"
    of: Of = "items"
    ids: pl.Series | None = None
    skip_unknown: bool = False
    filters: Filters = ANY
    include_seen: bool = False
    approximate: bool = False

    def __post_init__(self) -> None:
        searching = self.what != "embeddings"
        wrong = {
            "recommendations are made by behavior": self.what == "recommendations" and self.by != "behavior",
            "users have no pictures": self.what == "embeddings" and self.of == "users" and self.by != "behavior",
            "only embeddings are of items, users or queries": searching and self.of != "items",
            "only recommendations leave seen items out": self.what != "recommendations" and self.include_seen,
            "no ids are given that could be unknown": self.skip_unknown and self.ids is None,
            "embeddings are not searched for": not searching and (self.approximate or not self.filters.everything),
        }
        for found, holds in wrong.items():
            if holds:
                raise ConfigError(found, "another option", "see: recsys-cl export --help")

    @property
    def kind(self) -> str:
        """What it is called, such as `recommendations` or `embeddings of users`."""
        return self.what if self.what != "embeddings" else f"embeddings of {self.of}"

    def describe(self) -> dict[str, Any]:
        """All that decides the lines beside the release, as JSON values."""
        told: dict[str, Any] = {"what": self.what, "by": self.by}
        told["ids"] = None if self.ids is None else hash_text("\n".join(self.ids))
        if self.what == "embeddings":
            return told | {"of": self.of}
        where = {name: list(values) for name, values in self.filters.where.items()}
        allow = None if self.filters.allow is None else list(self.filters.allow)
        told |= {"k": self.k, "approximate": self.approximate, "include_seen": self.include_seen}
        return told | {"filters": {"allow": allow, "deny": list(self.filters.deny), "where": where}}


class Job(Protocol):
    """A part of an export; rows: of those who ask."""

    @property
    def rows(self) -> Rows:
        """All of them [n], in the order of their lines."""

    def build_columns(self, rows: Rows) -> list[pa.Array]:
        """The lines of some of them, column by column as in `Plan.fields`."""


@dataclass(frozen=True)
class Plan:
    """fields: the columns that jobs build; key: those that name a line. n_unknown: ids that were left out."""

    fields: list[tuple[str, pa.DataType]]
    key: tuple[str, ...]
    jobs: list[Job]
    n_unknown: int = 0


@dataclass(frozen=True)
class Space:
    """Where answers come from: vectors [n, dim] of items, their index, which are allowed (None: all), its name."""

    vectors: NDArray[np.float32]
    items: IdMap
    index: Index
    allowed: NDArray[np.bool_] | None
    name: str | None = None


@dataclass(frozen=True)
class SearchJob:
    """Who asks, by row of `asking`, with which queries and without which items (`take`), for the k best of a space."""

    rows: Rows
    asking: IdMap
    take: Callable[[Rows], tuple[NDArray[np.float32], Bags]]
    space: Space
    k: int
    approximate: bool = False

    def build_columns(self, rows: Rows) -> list[pa.Array]:
        """See `Job`; as many lines for each as there are answers, best first."""
        found = self.find(rows, self.approximate)
        lines, places = np.nonzero(found.rows >= 0)
        columns = [
            self.asking.array.take(to_arrow(rows[lines])),
            self.space.items.array.take(to_arrow(found.rows[lines, places])),
            to_arrow(found.scores[lines, places]),
            to_arrow((places + 1).astype(np.int32)),
        ]
        return columns if self.space.name is None else [*columns, repeat_text(self.space.name, len(lines))]

    def find(self, rows: Rows, approximate: bool) -> Neighbors:
        """The answers to some rows."""
        queries, seen = self.take(rows)
        space = self.space
        if not approximate:
            return search_allowed(queries, space.vectors, self.k, seen, space.allowed)
        found = Neighbors(
            np.empty((len(rows), self.k), dtype=np.int64), np.empty((len(rows), self.k), dtype=np.float32)
        )
        # As many answers are asked of the index for each of a call as for the one who has seen most of all.
        magnitudes = np.ceil(np.log2(seen.sizes + self.k)).astype(np.int64)
        order = np.argsort(magnitudes, kind="stable")
        bounds = np.flatnonzero(np.diff(magnitudes[order])) + 1
        for group in (part for like in np.split(order, bounds) for part in _cut(like, _GROUP_ROWS)):
            part = search_unseen(space.index, space.vectors, queries[group], self.k, seen.take(group), space.allowed)
            found.rows[group], found.scores[group] = part.rows, part.scores
        return found


def _cut(rows: Rows, most: int) -> Iterator[Rows]:
    return (rows[start : start + most] for start in range(0, len(rows), most))


@dataclass(frozen=True)
class EmbeddingJob:
    """Whose vectors, by row of `ids`, and what gives them [n, dim]."""

    rows: Rows
    ids: IdMap
    give: Callable[[Rows], NDArray[np.float32]]

    def build_columns(self, rows: Rows) -> list[pa.Array]:
        """See `Job`; a line for each."""
        vectors = np.ascontiguousarray(self.give(rows))
        flat = to_arrow(vectors.reshape(-1))
        return [self.ids.array.take(to_arrow(rows)), pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1])]


def repeat_text(text: str, n: int) -> pa.DictionaryArray:
    """One text n times, at four bytes each."""
    codes = to_arrow(np.zeros(n, dtype=np.int32))
    return pa.DictionaryArray.from_arrays(codes, pl.Series([text]).to_arrow().cast(pa.string()))


def plan_export(release: Release, request: Request) -> Plan:
    """The jobs of an export. Raises InputError for a bad k or filter, and where pictures are asked for that there are
    not; UnknownIdError for ids that the release lacks."""
    if request.what == "recommendations":
        return _plan_recommendations(release, request)
    return _plan_neighbors(release, request) if request.what == "neighbors" else _plan_embeddings(release, request)


def _plan_recommendations(release: Release, request: Request) -> Plan:
    parts = release.parts
    (rows,), n_unknown = _find_asking(release, request, "user", parts.users)

    def take(rows: Rows) -> tuple[NDArray[np.float32], Bags]:
        return parts.user_vectors[rows], release.get_seen(rows, request.include_seen)

    space = Space(parts.item_vectors, parts.catalog.items, parts.index, release.find_allowed(request.filters))
    job = SearchJob(rows, parts.users, take, space, release.bound_k(request.k), request.approximate)
    return Plan(_list_fields(USER_ID, ID), (USER_ID, "rank"), [job], n_unknown)


def _plan_neighbors(release: Release, request: Request) -> Plan:
    parts = release.parts
    fields = [*_list_fields(ID, NEIGHBOR_ID), ("space", CATEGORY)]
    if request.by == "image":
        images, _ = get_images(release)
        k = bound_k(request.k, len(images.items))
        (rows,), n_unknown = _find_asking(release, request, "item", images.items)
        allowed = find_allowed(parts.catalog, request.filters, images.items)
        space = Space(images.vectors, images.items, images.index, allowed, IMAGE)
        jobs = [SearchJob(rows, images.items, _ask_with(images.queries, Bags.of_items), space, k, request.approximate)]
        return Plan(fields, (ID, "rank"), [*jobs], n_unknown)
    how = (release.bound_k(request.k), request.approximate)
    space = Space(parts.item_vectors, parts.catalog.items, parts.index, release.find_allowed(request.filters), BEHAVIOR)
    placed = parts.images if parts.images is not None and np.any(parts.images.places) else None
    known = [parts.catalog.items] if placed is None else [parts.catalog.items, placed.items]
    chosen, n_unknown = _find_asking(release, request, "item", *known)

    def take(rows: Rows) -> tuple[NDArray[np.float32], Bags]:
        return release.encode_items(rows), Bags.of_items(rows)

    jobs = [SearchJob(chosen[0], known[0], take, space, *how)]
    if placed is not None:
        by_image = Space(space.vectors, space.items, space.index, space.allowed, BY_IMAGE)
        ask = _ask_with(placed.places, lambda rows: empty_bags(len(rows)))
        jobs.append(SearchJob(chosen[1], placed.items, ask, by_image, *how))
    return Plan(fields, (ID, "rank"), [*jobs], n_unknown)


def _plan_embeddings(release: Release, request: Request) -> Plan:
    parts = release.parts
    ids, dim, give = parts.catalog.items, release.manifest.dim, _pick(parts.item_vectors)
    if request.of == "users":
        ids, give = parts.users, _pick(parts.user_vectors)
    elif request.by == "image":
        images: ImageParts = get_images(release)[0]
        ids, dim = images.items, images.vectors.shape[1]
        give = _pick(images.queries if request.of == "queries" else images.vectors)
    elif request.of == "queries":
        give = release.encode_items
    kind, name = ("user", USER_ID) if request.of == "users" else ("item", ID)
    (rows,), n_unknown = _find_asking(release, request, kind, ids)
    fields = [(name, TEXT), ("embedding", pa.list_(pa.float32(), dim))]
    return Plan(fields, (name,), [EmbeddingJob(rows, ids, give)], n_unknown)


def _list_fields(asking: str, answered: str) -> list[tuple[str, pa.DataType]]:
    return [(asking, TEXT), (answered, TEXT), ("score", pa.float32()), ("rank", pa.int32())]


def _ask_with(
    queries: NDArray[np.float32], leave_out: Callable[[Rows], Bags]
) -> Callable[[Rows], tuple[NDArray[np.float32], Bags]]:
    return lambda rows: (queries[rows], leave_out(rows))


def _pick(vectors: NDArray[np.float32]) -> Callable[[Rows], NDArray[np.float32]]:
    return lambda rows: vectors[rows]


def _find_asking(release: Release, request: Request, kind: str, *maps: IdMap) -> tuple[list[Rows], int]:
    """The rows of those who ask in each of the maps, an id in the first that holds it, and how many ids none holds."""
    if request.ids is None:
        first, *others = maps
        rest = [np.flatnonzero(first.find_rows(other.to_series()) < 0) for other in others]
        return [np.arange(len(first)), *rest], 0
    left, found = request.ids.unique(maintain_order=True), []
    for ids in maps:
        rows = ids.find_rows(left)
        found.append(rows[rows >= 0])
        left = left.filter(rows < 0)
    if len(left) and not request.skip_unknown:
        raise explain_unknown(kind, maps[0], left.to_list(), release.version)
    return found, len(left)
