"""Metrics of ranked lists: comes in as item rows, best first, and each query's targets; goes out one figure a query.

Definitions: recall@k is hits over the number of targets (not over min(k, targets)); ndcg@k has binary gains and the
ideal list cut at min(k, targets), discount 1 / log2(1 + rank) (Järvelin and Kekäläinen, TOIS 2002); mrr@k is one over
the rank of the first hit, 0 without one; hit_rate@k is 1 where there is a hit.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from recsys_cl.bags import Bags

POPULAR_SHARE = 0.2  # of the catalog: what popularity_share calls popular


def find_hits(rows: NDArray[np.int64], targets: Bags) -> NDArray[np.bool_]:
    """Whether each item of the lists rows [m, K] is a target of its query [m, K]; -1 never is."""
    m, n = len(rows), 1 + max(rows.max(initial=0), targets.item_rows.max(initial=0))
    if len(targets) != m:
        raise ValueError(f"{len(targets)} bags of targets for {m} lists")
    wanted = np.repeat(np.arange(m, dtype=np.int64) * n, targets.sizes) + targets.item_rows
    wanted.sort()
    listed = np.arange(m, dtype=np.int64)[:, None] * n + rows
    places = np.searchsorted(wanted, listed)
    hits: NDArray[np.bool_] = np.append(wanted, -1)[places] == listed
    return hits & (rows >= 0)


def judge(rows: NDArray[np.int64], targets: Bags, ks: Sequence[int]) -> dict[str, NDArray[np.float64]]:
    """recall, ndcg, mrr and hit_rate at each k, as `{"recall@20": [m], …}`, one figure a query.

    rows [m, K] best first, -1 where a list is shorter, each item at most once. Raises ValueError where a k exceeds K
    or a query has no target.
    """
    _check_lengths(rows, ks)
    sizes = targets.sizes
    if len(sizes) and sizes.min() == 0:
        raise ValueError(f"{np.count_nonzero(sizes == 0)} queries have no target, expected at least one each")
    hits = find_hits(rows, targets)
    discounts = 1.0 / np.log2(np.arange(2, max(ks) + 2))  # [K]
    ideal = np.concatenate(([0.0], np.cumsum(discounts)))  # of 0 … K targets
    first = np.where(hits.any(axis=1), hits.argmax(axis=1), rows.shape[1])  # place of the first hit, or K
    judged: dict[str, NDArray[np.float64]] = {}
    for k in ks:
        judged[f"recall@{k}"] = hits[:, :k].sum(axis=1) / sizes
        judged[f"ndcg@{k}"] = hits[:, :k] @ discounts[:k] / ideal[np.minimum(sizes, k)]
        judged[f"mrr@{k}"] = np.where(first < k, 1.0 / (1 + first), 0.0)
        judged[f"hit_rate@{k}"] = (first < k).astype(np.float64)
    return judged


def find_popular(popularity: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Whether each item [n_items] belongs to the most popular fifth of the catalog, rounded up.

    popularity [n_items], any count; ties go to the lower row.
    """
    popular = np.zeros(len(popularity), dtype=bool)
    order = np.argsort(-popularity.astype(np.int64), kind="stable")
    popular[order[: int(np.ceil(POPULAR_SHARE * len(popularity)))]] = True
    return popular


def judge_popularity(
    rows: NDArray[np.int64], popularity: NDArray[np.integer], ks: Sequence[int]
) -> dict[str, NDArray[np.float64]]:
    """popularity_share@k [m]: the share of each list that belongs to the most popular fifth of the catalog.

    popularity [n_items]: as in `find_popular`. A list without items counts as 0.
    """
    return _average_items(rows, find_popular(popularity).astype(np.float64), "popularity_share", ks)


def judge_novelty(
    rows: NDArray[np.int64], popularity: NDArray[np.integer], n_users: int, ks: Sequence[int]
) -> dict[str, NDArray[np.float64]]:
    """novelty@k [m]: the mean self-information of each list's items in bits, -log2(users of the item / users).

    popularity [n_items]: users of each item, of n_users in all; an item without users counts as if it had one. A list
    without items counts as 0. After Zhou et al. (PNAS 2010) and Vargas and Castells (RecSys 2011).
    """
    return _average_items(rows, np.log2(n_users / np.maximum(popularity, 1)), "novelty", ks)


def measure_coverage(rows: NDArray[np.int64], n_items: int, ks: Sequence[int]) -> dict[str, float]:
    """coverage@k: the share of the catalog that stands in the first k places of at least one list."""
    _check_lengths(rows, ks)
    return {f"coverage@{k}": float(len(np.setdiff1d(rows[:, :k], [-1])) / max(n_items, 1)) for k in ks}


def _average_items(
    rows: NDArray[np.int64], values: NDArray[np.float64], name: str, ks: Sequence[int]
) -> dict[str, NDArray[np.float64]]:
    """name@k [m]: the mean of values [n_items] over the first k items of each list; 0 for a list without items."""
    _check_lengths(rows, ks)
    sums = np.cumsum(np.append(values, 0.0)[rows], axis=1)  # the appended value stands for -1
    n_listed = np.cumsum(rows >= 0, axis=1)
    return {f"{name}@{k}": sums[:, k - 1] / np.maximum(n_listed[:, k - 1], 1) for k in ks}


def _check_lengths(rows: NDArray[np.int64], ks: Sequence[int]) -> None:
    if rows.ndim != 2 or min(ks) < 1 or max(ks) > rows.shape[1]:
        raise ValueError(f"lists {rows.shape} cannot be judged at {list(ks)}")
