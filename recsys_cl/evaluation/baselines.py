"""Baselines, each as a function that scores a block of users: comes in as histories, goes out for `search_scores`.

popularity: the number of users of an item. item-kNN: an item's score is the sum, over the items of the history that
count it among their nearest, of the cosine of the two items' users (Sarwar et al., WWW 2001; Deshpande and Karypis,
TOIS 2004).
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from recsys_cl.bags import Bags
from recsys_cl.evaluation.topk import ScoreBlock, search_scores


def build_matrix(bags: Bags, n_items: int) -> sp.csr_matrix:
    """Bags as a sparse matrix [n_bags, n_items] float32 of ones."""
    ones = np.ones(len(bags.item_rows), dtype=np.float32)
    return sp.csr_matrix((ones, bags.item_rows, bags.offsets), shape=(len(bags), n_items))


def score_by_popularity(histories: Bags, n_items: int) -> ScoreBlock:
    """Each item's number of users in `histories`, the same for whoever asks."""
    counts = np.bincount(histories.item_rows, minlength=n_items).astype(np.float32)
    return lambda start, stop: np.repeat(counts[None, :], stop - start, axis=0)


def score_by_neighbors(histories: Bags, queries: Bags, n_items: int, n_neighbors: int, block_mib: int) -> ScoreBlock:
    """item-kNN: neighbors from `histories` (all users), scores for `queries` (the histories that ask)."""
    asking, similarity = build_matrix(queries, n_items), build_similarity(histories, n_items, n_neighbors, block_mib)

    def score(start: int, stop: int) -> NDArray[np.float32]:
        scores: NDArray[np.float32] = (asking[start:stop] @ similarity).toarray()
        return scores

    return score


def build_similarity(histories: Bags, n_items: int, n_neighbors: int, block_mib: int) -> sp.csr_matrix:
    """Cosine between items over the users of both, [n_items, n_items] float32: line i holds the n_neighbors nearest of
    item i, itself not among them, ties to the lower row. Blocks of lines keep memory at some block_mib MiB beside
    the result; time grows with the sum of the squared lengths of the histories."""
    by_user = build_matrix(histories, n_items)
    n_users_each = np.bincount(histories.item_rows, minlength=n_items)
    scale = 1.0 / np.sqrt(np.maximum(n_users_each, 1)).astype(np.float32)
    by_user.data *= scale[by_user.indices]
    by_item = by_user.T.tocsr()

    def score(start: int, stop: int) -> NDArray[np.float32]:
        cosines: NDArray[np.float32] = (by_item[start:stop] @ by_user).toarray()
        return cosines

    # A block is held as sparse and as dense scores at once: four times the bytes of the dense one at most.
    itself = Bags.of_items(np.arange(n_items))
    found = search_scores(score, (n_items, n_items), n_neighbors, itself, max(1, block_mib // 4))
    real = found.scores > 0
    offsets = np.concatenate(([0], np.cumsum(real.sum(axis=1))))
    return sp.csr_matrix((found.scores[real], found.rows[real], offsets), shape=(n_items, n_items))
