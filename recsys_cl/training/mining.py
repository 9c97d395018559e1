"""Hard negatives: comes in a model and a search for the items nearest to a query, goes out what it wrongly likes.

For each user the items that the present model scores highest among those the user has not touched (ANCE; Xiong et al.,
ICLR 2021). What scores as high as the user's own items is likelier to be liked than disliked, so hard negatives lie
below the mean score of those by a margin (positive-aware mining; Moreira et al. 2024).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from recsys_cl.bags import Bags
from recsys_cl.config import SamplingConfig
from recsys_cl.model.towers import TwoTowers
from recsys_cl.training.encode import encode_candidates, encode_queries

Mine = Callable[[NDArray[np.float32], NDArray[np.float32], int], NDArray[np.int64]]
"""(query_vectors [n, dim], candidate_vectors [n_items, dim], k) -> the k item rows with the greatest dot product
[n, k], best first, -1 where there are fewer."""

_BLOCK_USERS = 8192
_SPARE = 3  # items asked for beside those wanted, as a multiple: touched ones and ones above the margin fall away


def mine_hard(
    model: TwoTowers, histories: Bags, user_rows: NDArray[np.int64], config: SamplingConfig, mine: Mine
) -> Bags:
    """A bag of at most n_hard items for each of all users, empty for those not in user_rows; best first.

    Memory: 8 bytes a user and 8 bytes an item of a bag, and a block of users.
    """
    candidates = encode_candidates(model)
    counts = np.zeros(len(histories), dtype=np.int64)
    found = [np.zeros(0, dtype=np.int32)]
    for start in range(0, len(user_rows), _BLOCK_USERS):
        users = user_rows[start : start + _BLOCK_USERS]
        touched = histories.take(users)
        queries = encode_queries(model, touched, users)
        k = min(len(candidates), (1 + _SPARE) * config.n_hard + int(np.quantile(touched.sizes, 0.9)))
        rows = mine(queries, candidates, k)  # [b, k]
        kept = _find_below(queries, candidates, rows, touched, config.hard_margin)
        kept &= np.cumsum(kept, axis=1) <= config.n_hard
        counts[users] = kept.sum(axis=1)
        found.append(rows[kept].astype(np.int32))
    flat = np.concatenate(found)
    return Bags(np.concatenate(([0], np.cumsum(counts))), flat, np.ones(len(flat), dtype=np.float32))


def _find_below(
    queries: NDArray[np.float32],
    candidates: NDArray[np.float32],
    rows: NDArray[np.int64],
    touched: Bags,
    margin: float,
) -> NDArray[np.bool_]:
    """Which of rows [b, k] exist, are not touched, and score at least `margin` below the mean of the touched ones."""
    b, n_items = len(rows), len(candidates)
    owners = np.repeat(np.arange(b), touched.sizes)
    own = np.einsum("ij,ij->i", queries[owners], candidates[touched.item_rows])
    bound = np.bincount(owners, own, b) / np.maximum(touched.sizes, 1) - margin  # [b]
    scores = np.einsum("ij,ikj->ik", queries, candidates[rows])
    known = np.isin(np.arange(b)[:, None] * n_items + rows, owners * np.int64(n_items) + touched.item_rows)
    below: NDArray[np.bool_] = (rows >= 0) & ~known & (scores <= bound[:, None])
    return below
