"""The best rows that are unseen and allowed: comes in queries with what each has seen, goes out k answers wherever k
exist."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from recsys_cl.bags import Bags
from recsys_cl.errors import StoreError
from recsys_cl.evaluation.topk import Neighbors, score_again, search_exact
from recsys_cl.index.structure import Index

_MOST_FETCHED = 1024  # answers asked of the index for one query; beyond, an exact search costs no more
_SPARE = 2  # times what would do if those allowed were spread evenly among the best
_FEW = 4  # those allowed are few where all are more than so many times as many


def search_unseen(
    index: Index,
    vectors: NDArray[np.float32],
    queries: NDArray[np.float32],
    k: int,
    seen: Bags,
    allowed: NDArray[np.bool_] | None = None,
) -> Neighbors:
    """The k best rows of vectors [n, dim] for queries [m, dim] without the items of `seen`, a bag for each query.

    allowed [n]: rows that may be answered, None for all. The index is asked for as many more as were seen, and as the
    others are more than those allowed; a query for which it finds fewer than k of those that exist, or for which it
    would be asked for too many, is answered by an exact search among those allowed. -1 only where fewer than k exist.
    """
    n_items = len(vectors)
    if allowed is None:
        n_left, factor = n_items - seen.sizes, 1.0
    else:
        n_allowed = int(np.count_nonzero(allowed))
        n_left, factor = n_allowed - _count_allowed(seen, allowed), _SPARE * n_items / max(n_allowed, 1)
    wanted = np.minimum(k, n_left)
    rows = np.full((len(queries), k), -1, dtype=np.int64)
    scores = np.full((len(queries), k), -np.inf, dtype=np.float32)
    n_asked = np.minimum(math.ceil(k * factor) + seen.sizes, n_items)
    asking = np.flatnonzero((n_asked <= _MOST_FETCHED) & (wanted > 0))
    if len(asking):
        bags = seen.take(asking)
        fetched = index.search(queries[asking], int(n_asked[asking].max()))
        kept = _keep(fetched, bags, k, allowed, n_items)
        if index.facts.kind != "flat":  # inside they hold what is off by some thousandths
            kept = score_again(kept, queries[asking], vectors, k)
        width = kept.rows.shape[1]
        rows[asking, :width], scores[asking, :width] = kept.rows, kept.scores
    short = np.flatnonzero((rows >= 0).sum(axis=1) < wanted)
    if len(short):
        exact = search_allowed(queries[short], vectors, k, seen.take(short), allowed)
        rows[short], scores[short] = exact.rows, exact.scores
    return Neighbors(rows, scores)


def _keep(found: Neighbors, seen: Bags, k: int, allowed: NDArray[np.bool_] | None, n_items: int) -> Neighbors:
    """The first k of each line that are found, allowed and not in its bag, order kept; -1 behind them."""
    lines = np.arange(len(seen), dtype=np.int64)
    seen_keys = np.repeat(lines, seen.sizes) * n_items + seen.item_rows
    keys = lines[:, None] * n_items + found.rows
    dropped = (found.rows < 0) | np.isin(keys, seen_keys)
    if allowed is not None:
        dropped |= ~allowed[found.rows]
    order = np.argsort(dropped, axis=1, kind="stable")[:, :k]
    dropped = np.take_along_axis(dropped, order, axis=1)
    rows = np.where(dropped, -1, np.take_along_axis(found.rows, order, axis=1))
    return Neighbors(rows, np.where(dropped, np.float32(-np.inf), np.take_along_axis(found.scores, order, axis=1)))


def search_allowed(
    queries: NDArray[np.float32],
    vectors: NDArray[np.float32],
    k: int,
    seen: Bags,
    allowed: NDArray[np.bool_] | None,
) -> Neighbors:
    """Exact; where few are allowed, over a copy of those alone. Raises StoreError where a vector is not finite, which
    the seal of a release cannot know."""
    few = allowed is not None and _FEW * np.count_nonzero(allowed) <= len(allowed)
    try:
        if allowed is None or not few:
            return search_exact(queries, vectors, k, seen, allowed=allowed)
        chosen = np.flatnonzero(allowed)
        kept = allowed[seen.item_rows]
        offsets = np.concatenate(([0], np.cumsum(kept)))[seen.offsets]
        places = np.searchsorted(chosen, seen.item_rows[kept]).astype(np.int32)
        found = search_exact(queries, vectors[chosen], k, Bags(offsets, places, seen.weights[kept]))
    except ValueError as error:
        raise StoreError(f"this release cannot be searched: {error}", "finite numbers", "publish again") from error
    return Neighbors(np.where(found.rows >= 0, chosen[found.rows], -1), found.scores) if len(chosen) else found


def _count_allowed(seen: Bags, allowed: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Items of each bag that are allowed [m]."""
    return np.diff(np.concatenate(([0], np.cumsum(allowed[seen.item_rows])))[seen.offsets])
