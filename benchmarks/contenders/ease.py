"""EASE (Steck, WWW 2019): item-item weights in closed form, of full rank: a matrix of items × items, no embedding."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recsys_cl.evaluation.baselines import build_matrix
from recsys_cl.evaluation.topk import search_scores
from recsys_cl.interactions.table import Interactions

name = "EASE (full rank, no embedding)"
MOST_ITEMS = 15_000
_RIDGE = 200.0


def recommend(train: Interactions, k: int) -> NDArray[np.int64]:
    """Fit, and ask for every user."""
    bags = train.to_bags()
    matrix = build_matrix(bags, train.n_items)
    gram = (matrix.T @ matrix).toarray().astype(np.float64)
    gram[np.diag_indices(train.n_items)] += _RIDGE
    inverse = np.linalg.inv(gram)
    weights = (inverse / -np.diag(inverse)).astype(np.float32)
    np.fill_diagonal(weights, 0.0)
    scores = search_scores(lambda a, b: matrix[a:b] @ weights, (train.n_users, train.n_items), k, bags)
    return scores.rows
