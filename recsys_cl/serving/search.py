"""The best unseen rows: comes in queries with what each has seen, goes out k answers wherever k exist."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recsys_cl.bags import Bags
from recsys_cl.evaluation.topk import Neighbors, search_exact
from recsys_cl.index.structure import Index

_MOST_FETCHED = 1024  # answers asked of the index for one query; beyond, an exact search costs no more


def search_unseen(
    index: Index, vectors: NDArray[np.float32], queries: NDArray[np.float32], k: int, seen: Bags
) -> Neighbors:
    """The k best rows of vectors [n, dim] for queries [m, dim] without the items of `seen`, a bag for each query.

    The index is asked for as many more as were seen; a query for which it finds fewer than k of those that exist, or
    that has seen too many to ask so, is answered by an exact search. -1 only where fewer than k unseen items exist.
    """
    n_items = len(vectors)
    wanted = np.minimum(k, n_items - seen.sizes)
    rows = np.full((len(queries), k), -1, dtype=np.int64)
    scores = np.full((len(queries), k), -np.inf, dtype=np.float32)
    asking = np.flatnonzero(np.minimum(k + seen.sizes, n_items) <= _MOST_FETCHED)
    if len(asking):
        bags = seen.take(asking)
        fetched = index.search(queries[asking], min(k + int(bags.sizes.max()), n_items))
        kept = _keep_unseen(fetched, bags, n_items, k)
        width = kept.rows.shape[1]
        rows[asking, :width], scores[asking, :width] = kept.rows, kept.scores
    short = np.flatnonzero((rows >= 0).sum(axis=1) < wanted)
    if len(short):
        exact = search_exact(queries[short], vectors, k, seen.take(short))
        rows[short], scores[short] = exact.rows, exact.scores
    return Neighbors(rows, scores)


def _keep_unseen(found: Neighbors, seen: Bags, n_items: int, k: int) -> Neighbors:
    """The first k of each line that are found and not in its bag, order kept; -1 behind them."""
    lines = np.arange(len(seen), dtype=np.int64)
    seen_keys = np.repeat(lines, seen.sizes) * n_items + seen.item_rows
    keys = lines[:, None] * n_items + found.rows
    dropped = (found.rows < 0) | np.isin(keys, seen_keys)
    order = np.argsort(dropped, axis=1, kind="stable")[:, :k]
    dropped = np.take_along_axis(dropped, order, axis=1)
    rows = np.where(dropped, -1, np.take_along_axis(found.rows, order, axis=1))
    return Neighbors(rows, np.where(dropped, np.float32(-np.inf), np.take_along_axis(found.scores, order, axis=1)))
