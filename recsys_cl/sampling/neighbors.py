"""Neighbors of items by co-interaction: comes in the users' bags, goes out a bag for each item.

How near two items are: the cosine of their users, a user counting with one over their number of items, for who holds
everything says little of any two (Sarwar et al., WWW 2001; Deshpande and Karypis, TOIS 2004).
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from recsys_cl.bags import Bags
from recsys_cl.sampling.pairs import draw_evenly

_MOST_ITEMS = 1000  # of a user: pairs of items grow with the square
_BLOCK_PAIRS = 1 << 22  # pairs of items held at a time: some 130 MiB


def build_neighbors(bags: Bags, n_items: int, k: int, seed: int) -> Bags:
    """The k nearest of each item, itself not among them, of equally near ones the first in the catalog, with weights
    that sum to 1; fewer where fewer share a user with it. bags [n_users].

    Of users with more than 1,000 items so many are drawn. Time grows with the sum of the squared sizes of the bags;
    memory 8 k bytes an item, and some 130 MiB for a block of pairs.
    """
    kept = draw_evenly(bags.sizes, _MOST_ITEMS, np.random.default_rng(seed))
    owners = np.repeat(np.arange(len(bags)), bags.sizes)[kept]
    items = bags.item_rows[kept]
    n_each, n_users_each = np.bincount(owners, minlength=len(bags)), np.bincount(items, minlength=n_items)
    shares = 1.0 / np.sqrt(n_each[owners] * n_users_each[items].astype(np.float64))
    by_user = sp.csr_matrix((shares.astype(np.float32), (owners, items)), shape=(len(bags), n_items))
    by_item = by_user.T.tocsr()
    n_pairs = np.cumsum(np.bincount(items, n_each[owners], minlength=n_items))  # of the items up to each
    blocks = [Bags(np.zeros(1, dtype=np.int64), np.zeros(0, dtype=np.int32), np.zeros(0, dtype=np.float32))]
    start = 0
    while start < n_items:
        done = n_pairs[start - 1] if start else 0.0
        stop = max(start + 1, int(np.searchsorted(n_pairs, done + _BLOCK_PAIRS, side="right")))
        blocks.append(_keep_nearest(by_item[start:stop] @ by_user, start, k))
        start = stop
    sizes = np.concatenate([block.sizes for block in blocks])
    return Bags(
        np.concatenate(([0], np.cumsum(sizes))),
        np.concatenate([block.item_rows for block in blocks]),
        np.concatenate([block.weights for block in blocks]),
    )


def _keep_nearest(cosines: sp.csr_matrix, start: int, k: int) -> Bags:
    """Of each line of cosines [n, n_items], the first that of item `start`, the k greatest, scaled to a sum of 1."""
    cosines.sort_indices()
    lines = np.repeat(np.arange(cosines.shape[0]), np.diff(cosines.indptr))
    others = np.flatnonzero(cosines.indices != lines + start)
    lines, items, values = lines[others], cosines.indices[others], cosines.data[others]
    keys = lines - values.astype(np.float64) / 2  # by line, in it the greatest first: none is above 1
    order = np.argsort(keys, kind="stable")
    sizes: NDArray[np.int64] = np.bincount(lines, minlength=cosines.shape[0])
    ranks = np.arange(len(order)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    order = order[ranks < k]
    totals = np.bincount(lines[order], values[order], minlength=len(sizes))
    offsets = np.concatenate(([0], np.cumsum(np.minimum(sizes, k))))
    return Bags(offsets, items[order].astype(np.int32), (values[order] / totals[lines[order]]).astype(np.float32))
