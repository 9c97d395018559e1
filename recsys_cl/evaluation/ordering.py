"""Whether a fit knows its own data: comes in its vectors and what its users touched, goes out how often it ranks that
above other items."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recsys_cl.bags import Bags

_MOST_PAIRS, _BLOCK = 20_000, 4_096


def measure_train_auc(
    queries: NDArray[np.float32], candidates: NDArray[np.float32], seen: Bags, rng: np.random.Generator
) -> float:
    """The share of pairs of a touched item and another one that are ranked right: queries [n_users, dim], candidates
    [n_items, dim], seen a bag for each user; 0.5 is chance, ties count half. Over 20,000 pairs, drawn evenly among what
    was touched; a drawn other item that the user has touched too is no pair. 1.0 where there is none."""
    if not len(seen.item_rows):
        return 1.0
    n_items = len(candidates)
    places = rng.integers(len(seen.item_rows), size=_MOST_PAIRS)
    users = np.searchsorted(seen.offsets, places, side="right") - 1
    own, other = seen.item_rows[places].astype(np.int64), rng.integers(n_items, size=_MOST_PAIRS)
    drawn, lines = np.unique(users, return_inverse=True)
    fresh = ~np.isin(lines * n_items + other, seen.take(drawn).number_pairs(n_items))
    users, own, other = users[fresh], own[fresh], other[fresh]
    right = 0.0
    for start in range(0, len(users), _BLOCK):
        part = slice(start, start + _BLOCK)
        apart = np.einsum("md,md->m", queries[users[part]], candidates[own[part]] - candidates[other[part]])
        right += float((apart > 0).sum() + 0.5 * (apart == 0).sum())
    return right / len(users) if len(users) else 1.0
