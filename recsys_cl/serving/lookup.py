"""Lookup: comes in a store or a release, goes out answers about items, users and histories, from its files alone.

Opening checks the seal and maps the files, so that it costs milliseconds beside the hashes, which are checked at the
first opening of a process. A release never changes; a `Release` can be asked from several threads.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from recsys_cl.bags import Bags
from recsys_cl.catalog import ID, TITLE
from recsys_cl.errors import InputError, SealError, StoreError
from recsys_cl.evaluation.topk import Neighbors
from recsys_cl.ids import IdMap
from recsys_cl.publishing.manifest import MANIFEST, Manifest, is_version
from recsys_cl.publishing.parts import QUERY_TOWER, USER_ID, ReleaseParts, read_parts
from recsys_cl.publishing.seal import Hold, check_seal
from recsys_cl.publishing.store import find_releases, read_current
from recsys_cl.serving.filters import ANY, Filters, find_allowed
from recsys_cl.serving.frames import Frame, Ids, give_frame, read_frame, read_ids
from recsys_cl.serving.members import Answer, bound_k, build_answer, describe_known
from recsys_cl.serving.search import search_unseen
from recsys_cl.serving.suggest import explain_unknown
from recsys_cl.serving.towers import QueryTower

NEIGHBOR_ID, WEIGHT = "neighbor_id", "weight"
_BLOCK_QUERIES = 4096

_Take = Callable[[NDArray[np.int64]], tuple[NDArray[np.float32], Bags]]  # places [b] -> queries, what each leaves out


def open_release(path: str | Path) -> Release:
    """Open the live release of a store, or the release whose folder is given. Makes and changes nothing.

    Raises StoreError where there is none or its format is another; SealError naming the part that is not as sealed.
    """
    path = Path(path)
    # A resolved name: "." inside a release, or a link to it, has the name of the folder that it is.
    if is_version(path.resolve().name) or (path / MANIFEST).is_file():
        folder = path.resolve()
        if not folder.is_dir():
            raise StoreError(f"there is no release at {path}", "the folder of a release, or a store")
        return _open_folder(folder)
    while True:
        version = read_current(path)
        try:
            return _open_folder(find_releases(path) / version)
        except StoreError:
            if read_current(path) == version:
                raise  # else another one went live, and this one was pruned, before it was held


def _open_folder(folder: Path) -> Release:
    hold = Hold(folder)
    manifest = check_seal(folder)
    return Release(folder, manifest, read_parts(folder, manifest), hold)


@dataclass(frozen=True)
class Release:
    """An open release. `neighbors` and `recommend` take and return frames; `answer_…` answer for one, as JSON values;
    `encode_…` and `search` work on rows. hold: while it lives, no process prunes the release."""

    folder: Path
    manifest: Manifest
    parts: ReleaseParts
    hold: Hold = field(repr=False, compare=False)
    _towers: dict[str, QueryTower] = field(default_factory=dict, repr=False, compare=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    @property
    def version(self) -> str:
        """The release's name."""
        return self.folder.name

    @property
    def n_items(self) -> int:
        """Items in the catalog."""
        return len(self.parts.catalog)

    def neighbors(self, item_ids: Ids, k: int = 10, filters: Filters = ANY) -> Frame:
        """The k nearest items of each item: item_id, neighbor_id, score, rank (from 1), title where known.

        item_ids: a text, a list, or a polars or pandas series or frame with a column item_id; the answer is pandas
        for pandas, else polars. Where fewer than k exist, here as everywhere, there are as many as exist. Raises
        UnknownIdError, and InputError for a k below 1, or filters by an attribute that the catalog has not.
        """
        ids = read_ids(item_ids, ID)
        k = self.bound_k(k)
        rows = find_rows(self.parts.catalog.items, ids, "item", self.version)

        def take(part: NDArray[np.int64]) -> tuple[NDArray[np.float32], Bags]:
            return self.encode_items(rows[part]), Bags.of_items(rows[part])

        found = self._search_blocks(take, len(rows), k, self.find_allowed(filters))
        return give_frame(self._build_frame(ids, found, NEIGHBOR_ID), item_ids)

    def recommend(
        self,
        users: Ids | None = None,
        history: Ids | None = None,
        k: int = 10,
        include_seen: bool = False,
        filters: Filters = ANY,
    ) -> Frame:
        """The k best items for each known user, or for histories: user_id, item_id, score, rank, title where known.

        users: a text, a list, or a series or frame with user_id. history: item ids of one history (then the answer
        has no user_id), or a frame with item_id, and optionally weight and user_id, a history for each user_id.
        Raises UnknownIdError, and InputError for a bad k or filter, an empty history, or both or none of users and
        history.
        """
        if (users is None) == (history is None):
            raise InputError("users and history are " + ("both" if users is not None else "neither") + " given", "one")
        k = self.bound_k(k)
        allowed = self.find_allowed(filters)
        if users is not None:
            ids = read_ids(users, USER_ID)
            rows = find_rows(self.parts.users, ids, "user", self.version)

            def take(part: NDArray[np.int64]) -> tuple[NDArray[np.float32], Bags]:
                return self.parts.user_vectors[rows[part]], self.get_seen(rows[part], include_seen)

            return give_frame(self._build_frame(ids, self._search_blocks(take, len(rows), k, allowed), ID), users)
        ids, bags = self._read_histories(history)

        def encode(part: NDArray[np.int64]) -> tuple[NDArray[np.float32], Bags]:
            taken = bags.take(part)
            return self.encode_bags(taken), empty_bags(len(part)) if include_seen else taken

        found = self._search_blocks(encode, len(bags), k, allowed)
        frame = self._build_frame(ids, found, ID)
        return give_frame(frame if len(ids.name) else frame.drop(""), history)

    def answer_similar(
        self, item_id: str, k: int = 10, include_seen: bool = False, filters: Filters = ANY
    ) -> list[Answer]:
        """The k nearest items of one item, best first, without itself. Raises UnknownIdError and InputError."""
        k = self.bound_k(k)
        row = find_rows(self.parts.catalog.items, [item_id], "item", self.version)
        seen = empty_bags(1) if include_seen else Bags.of_items(row)
        return self.describe(self.search(self.encode_items(row), k, seen, self.find_allowed(filters)))

    def answer_user(
        self, user_id: str, k: int = 10, include_seen: bool = False, filters: Filters = ANY
    ) -> list[Answer]:
        """The k best items for a known user, best first, without seen ones. Raises UnknownIdError and InputError."""
        k = self.bound_k(k)
        row = find_rows(self.parts.users, [user_id], "user", self.version)
        seen, allowed = self.get_seen(row, include_seen), self.find_allowed(filters)
        return self.describe(self.search(self.parts.user_vectors[row], k, seen, allowed))

    def answer_history(
        self, history: Ids, k: int = 10, include_seen: bool = False, filters: Filters = ANY
    ) -> list[Answer]:
        """The k best items for somebody with this history of item ids, oldest first; as a frame, with weights, too.
        Raises UnknownIdError naming every id that is not in the catalog, and InputError for an empty history."""
        k = self.bound_k(k)
        bags = self.read_history(history)
        seen = empty_bags(1) if include_seen else bags
        return self.describe(self.search(self.encode_bags(bags), k, seen, self.find_allowed(filters)))

    def read_history(self, history: Ids) -> Bags:
        """The bag of one history of item ids, or one for each user_id of a frame; raises as `answer_history`."""
        return self._read_histories(history)[1]

    def encode_bags(self, bags: Bags) -> NDArray[np.float32]:
        """Query vectors [n_bags, dim] of bags of item rows, oldest first, as the query tower makes them."""
        if self.manifest.history_length is not None:
            bags = bags.keep_last(self.manifest.history_length)
        return self._open_tower().encode(bags, self.parts.bag_vectors)

    def encode_items(self, rows: NDArray[np.integer]) -> NDArray[np.float32]:
        """Query vectors [n, dim] with which items ask for their neighbors; see `QueryTower.encode_items`."""
        return self._open_tower().encode_items(rows, self.parts.bag_vectors, self.manifest.popularity_dim)

    def get_seen(self, user_rows: NDArray[np.integer], include_seen: bool = False) -> Bags:
        """What to leave out for each of these users: the items they have seen, or nothing.

        Raises SealError where those are no rows of the catalog: found here, for to look at all would cost each opening.
        """
        if include_seen:
            return empty_bags(len(user_rows))
        seen = self.parts.seen
        starts, ends = seen.offsets[user_rows], seen.offsets[np.asarray(user_rows) + 1]
        if ((starts < 0) | (ends < starts) | (ends > len(seen.item_rows))).any():
            raise SealError("seen_offsets.npy", "offsets that do not rise", f"offsets of {len(seen.item_rows)} items")
        found = seen.take(user_rows)
        if ((found.item_rows < 0) | (found.item_rows >= self.n_items)).any():
            raise SealError("seen_items.npy", "rows outside the catalog", f"rows below {self.n_items}")
        return found

    def search(
        self, queries: NDArray[np.float32], k: int, seen: Bags, allowed: NDArray[np.bool_] | None = None
    ) -> Neighbors:
        """The k best item rows for queries [m, dim] without `seen`, among those allowed; see `search_unseen`."""
        return search_unseen(self.parts.index, self.parts.item_vectors, queries, k, seen, allowed)

    def find_allowed(self, filters: Filters) -> NDArray[np.bool_] | None:
        """Which items may be answered; see `filters.find_allowed`."""
        return find_allowed(self.parts.catalog, filters)

    def bound_k(self, k: int) -> int:
        """k, or the number of items where that is less. Raises InputError unless k is a whole number from 1."""
        return bound_k(k, self.n_items)

    def _open_tower(self) -> QueryTower:
        with self._lock:
            if QUERY_TOWER not in self._towers:
                path = self.parts.files[QUERY_TOWER]
                about = (self.manifest.bag_dim, self.manifest.dim, self.manifest.floats_per_pair)
                self._towers[QUERY_TOWER] = QueryTower(path, *about)
        return self._towers[QUERY_TOWER]

    def _read_histories(self, history: Ids) -> tuple[pl.Series, Bags]:
        """Histories as bags, and the user_id of each; a single history has a series without a name."""
        ids = read_ids(history, ID)
        if not len(ids):
            raise InputError("the history is empty", "at least one item id")
        rows = find_rows(self.parts.catalog.items, ids, "item", self.version)
        frame = read_frame(history, ID)
        weights = np.ones(len(rows))
        if frame is not None and WEIGHT in frame.columns:
            weights = frame.get_column(WEIGHT).cast(pl.Float32).fill_null(float("nan")).to_numpy()
            if not (np.isfinite(weights).all() and (weights > 0).all()):
                raise InputError("a weight of the history is missing, not finite, or not above 0", "weights above 0")
        if frame is None or USER_ID not in frame.columns:
            return pl.Series("", [""]), Bags.of_history(rows.tolist(), weights.tolist())
        lines = pl.DataFrame({USER_ID: read_ids(frame, USER_ID), "row": rows, WEIGHT: weights})
        merged = lines.group_by(USER_ID, "row", maintain_order=True).agg(pl.col(WEIGHT).sum())
        bags = merged.group_by(USER_ID, maintain_order=True).agg("row", WEIGHT)
        offsets = np.concatenate(([0], np.cumsum(bags["row"].list.len().to_numpy(), dtype=np.int64)))
        flat, flat_weights = bags["row"].explode().to_numpy(), bags[WEIGHT].explode().to_numpy()
        return bags[USER_ID], Bags(offsets, flat.astype(np.int32), flat_weights.astype(np.float32))

    def _search_blocks(self, take: _Take, n: int, k: int, allowed: NDArray[np.bool_] | None) -> Neighbors:
        """Search n queries in blocks; `take` gives those at some places."""
        found = [Neighbors(np.empty((0, k), dtype=np.int64), np.empty((0, k), dtype=np.float32))]
        for start in range(0, n, _BLOCK_QUERIES):
            queries, seen = take(np.arange(start, min(start + _BLOCK_QUERIES, n)))
            found.append(self.search(queries, k, seen, allowed))
        return Neighbors(np.concatenate([f.rows for f in found]), np.concatenate([f.scores for f in found]))

    def _build_frame(self, asked: pl.Series, found: Neighbors, name: str) -> pl.DataFrame:
        lines, places = np.nonzero(found.rows >= 0)
        rows = found.rows[lines, places]
        frame = pl.DataFrame(
            {
                asked.name: asked.gather(lines),
                name: self.parts.catalog.items.get_ids(rows),
                "score": found.scores[lines, places],
                "rank": (places + 1).astype(np.int32),
            }
        )
        titles = self.parts.catalog.get_titles(rows)
        return frame if titles is None else frame.with_columns(titles.alias(TITLE))

    def describe(self, found: Neighbors) -> list[Answer]:
        """The answers to the first of the queries that were searched."""
        answers: list[Answer] = []
        for row, score in zip(found.rows[0], found.scores[0], strict=True):
            if row >= 0:
                known = describe_known(self.parts.catalog, int(row))
                answers.append(build_answer(known[ID], float(score), len(answers) + 1, known))
        return answers


def find_rows(ids: IdMap, wanted: Sequence[str] | pl.Series, kind: str, release: str) -> NDArray[np.int64]:
    """Rows of ids [n], all known. Raises UnknownIdError naming those that are not; kind is `item` or `user`."""
    rows = ids.find_texts(wanted)
    unknown = [wanted[int(place)] for place in np.flatnonzero(rows < 0)]
    if unknown:
        raise explain_unknown(kind, ids, list(dict.fromkeys(unknown)), release)
    return rows


def empty_bags(n: int) -> Bags:
    """n bags without an item."""
    return Bags(np.zeros(n + 1, dtype=np.int64), np.zeros(0, dtype=np.int32), np.zeros(0, dtype=np.float32))
