"""What an approximate index misses: comes in an index and queries, goes out the share of the exact top k it finds."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recsys_cl.evaluation.topk import search_exact
from recsys_cl.index.structure import Index


def measure_ann_recall(
    index: Index,
    vectors: NDArray[np.float32],
    queries: NDArray[np.float32],
    k: int = 10,
    n_sample: int = 1000,
    seed: int = 0,
) -> float:
    """ann_recall@k of `index` over vectors [n, dim], on at most `n_sample` of queries [m, dim], drawn with `seed`.

    An answer counts where its exact score reaches that of the exact k-th answer, so that equal items are no miss.
    """
    drawn = draw_queries(queries, n_sample, seed)
    if not len(drawn):
        return 1.0
    found = index.search(drawn, min(k, len(vectors))).rows
    return float(share_found(found, vectors, drawn, find_bounds(vectors, drawn, k)).mean())


def draw_queries(queries: NDArray[np.float32], n_sample: int, seed: int) -> NDArray[np.float32]:
    """At most `n_sample` of queries [m, dim], in their order, drawn with `seed`."""
    chosen = np.arange(len(queries))
    if len(queries) > n_sample:
        chosen = np.sort(np.random.default_rng(seed).choice(len(queries), size=n_sample, replace=False))
    return np.asarray(queries[chosen], dtype=np.float32)


def find_bounds(vectors: NDArray[np.float32], queries: NDArray[np.float32], k: int = 10) -> NDArray[np.float32]:
    """The score [m, 1] of the exact k-th answer to each of queries [m, dim]; of the last one where there are fewer."""
    return search_exact(queries, vectors, min(k, len(vectors))).scores[:, -1:]


def share_found(
    rows: NDArray[np.int64],
    vectors: NDArray[np.float32],
    queries: NDArray[np.float32],
    bounds: NDArray[np.float32],
) -> NDArray[np.float64]:
    """The share [m] of the exact top k among the answers rows [m, k] to queries [m, dim], which have these bounds."""
    scores = np.einsum("md,mkd->mk", queries, vectors[np.maximum(rows, 0)])
    slack = 1e-5 * np.maximum(1.0, np.abs(bounds))  # float32 sums in another order
    shares: NDArray[np.float64] = ((rows >= 0) & (scores >= bounds - slack)).mean(axis=1)
    return shares
