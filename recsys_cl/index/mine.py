"""Search in vectors that are still being learned: comes in queries and candidates, goes out the nearest item rows.

An index for one use: exact for catalogs up to 100,000 items, else inverted lists, whose few misses do no harm to hard
negatives and which are built in seconds.
"""

from __future__ import annotations

from collections.abc import Callable

import faiss
import numpy as np
from numpy.typing import NDArray

_EXACT_ITEMS = 100_000
_TRAINED_PER_LIST = 39  # vectors, the least that FAISS asks for
_PROBED_SHARE = 0.05


def mine_items(
    candidates: NDArray[np.float32],
) -> Callable[[NDArray[np.float32], int], tuple[NDArray[np.float32], NDArray[np.int64]]]:
    """A search among candidates [n_items, dim]: (queries [n, dim], k at most n_items) -> the k greatest dot products
    and their rows [n, k], best first, -1 where there are fewer. Memory: one copy of the candidates."""
    n_items, dim = candidates.shape
    if n_items <= _EXACT_ITEMS:
        index = faiss.IndexFlatIP(dim)
    else:
        n_lists = int(np.sqrt(n_items))
        index = faiss.IndexIVFFlat(faiss.IndexFlatIP(dim), dim, n_lists, faiss.METRIC_INNER_PRODUCT)
        index.nprobe = max(1, round(_PROBED_SHARE * n_lists))
        index.train(np.ascontiguousarray(candidates[:: max(1, n_items // (_TRAINED_PER_LIST * n_lists))]))
    index.add(np.ascontiguousarray(candidates))

    def search(queries: NDArray[np.float32], k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        scores, rows = index.search(np.ascontiguousarray(queries), k)
        return scores, rows

    return search
