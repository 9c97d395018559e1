"""Hard negatives: comes in a model and a search for the items nearest to a query, goes out what it wrongly likes.

For each user the items that the present model scores highest among those the user has not touched (ANCE; Xiong et al.,
ICLR 2021). What scores as high as the user's own items is likelier to be liked than disliked: it is not picked, hard
negatives lie below the mean score of those by a margin (positive-aware mining; Moreira et al. 2024). Draws may still
offer it, as they offer any item.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from recsys_cl.bags import Bags
from recsys_cl.config import SamplingConfig
from recsys_cl.model.towers import TwoTowers
from recsys_cl.training.encode import encode_candidates, encode_queries

Search = Callable[[NDArray[np.float32], int], tuple[NDArray[np.float32], NDArray[np.int64]]]
"""(query_vectors [n, dim], k) -> the k greatest dot products and their item rows [n, k], best first, -1 where fewer."""
Mine = Callable[[NDArray[np.float32]], Search]
"""(candidate_vectors [n_items, dim]) -> a search among them."""

_BLOCK_USERS = 1024
_SPARE = 3  # items asked for beside those wanted, as a multiple: touched ones and ones above the margin fall away


def mine_hard(
    model: TwoTowers,
    histories: Bags,
    user_rows: NDArray[np.int64],
    item_rows: NDArray[np.int64],
    config: SamplingConfig,
    mine: Mine,
) -> Bags:
    """A bag of at most n_hard of item_rows for each of all users, empty for those not in user_rows; best first.

    Memory: 8 bytes a user and 8 bytes an item of a bag, what the search takes, and a block of 1,024 users.
    """
    candidates = encode_candidates(model)
    search = mine(candidates[item_rows])
    counts = np.zeros(len(histories), dtype=np.int64)
    found = [np.zeros(0, dtype=np.int32)]
    for start in range(0, len(user_rows), _BLOCK_USERS):
        users = user_rows[start : start + _BLOCK_USERS]
        touched = histories.take(users)
        queries = encode_queries(model, touched, users)
        k = min(len(item_rows), (1 + _SPARE) * config.n_hard + int(np.quantile(touched.sizes, 0.9)))
        scores, places = search(queries, k)  # [b, k]
        rows = np.where(places >= 0, item_rows[places], -1)
        owners = np.repeat(np.arange(len(users)), touched.sizes)
        own = np.einsum("ij,ij->i", queries[owners], candidates[touched.item_rows])
        bound = np.bincount(owners, own, len(users)) / np.maximum(touched.sizes, 1) - config.hard_margin  # [b]
        kept = (rows >= 0) & ~_find_touched(rows, touched, len(candidates)) & (scores <= bound[:, None])
        kept &= np.cumsum(kept, axis=1) <= config.n_hard
        counts[users] = kept.sum(axis=1)
        found.append(rows[kept].astype(np.int32))
    flat = np.concatenate(found)
    return Bags(np.concatenate(([0], np.cumsum(counts))), flat, np.ones(len(flat), dtype=np.float32))


def _find_touched(rows: NDArray[np.int64], touched: Bags, n_items: int) -> NDArray[np.bool_]:
    """Which of rows [b, k] stand in the bag of their line."""
    owners = np.repeat(np.arange(len(rows)), touched.sizes)
    return np.isin(np.arange(len(rows))[:, None] * n_items + rows, owners * np.int64(n_items) + touched.item_rows)
