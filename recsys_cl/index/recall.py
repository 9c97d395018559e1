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
    chosen = np.arange(len(queries))
    if len(queries) > n_sample:
        chosen = np.sort(np.random.default_rng(seed).choice(len(queries), size=n_sample, replace=False))
    drawn = np.asarray(queries[chosen], dtype=np.float32)
    k = min(k, len(vectors))
    if not len(drawn):
        return 1.0
    bound = search_exact(drawn, vectors, k).scores[:, -1:]
    found = index.search(drawn, k).rows
    scores = np.einsum("md,mkd->mk", drawn, vectors[np.maximum(found, 0)])
    slack = 1e-5 * np.maximum(1.0, np.abs(bound))  # float32 sums in another order
    return float(((found >= 0) & (scores >= bound - slack)).mean())
