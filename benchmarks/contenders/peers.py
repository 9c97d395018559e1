"""Models of the library `implicit`, with the settings its documentation starts from and dim 64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from implicit.als import AlternatingLeastSquares
from implicit.bpr import BayesianPersonalizedRanking
from implicit.nearest_neighbours import CosineRecommender
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from recsys_cl.interactions.table import Interactions

MODELS: dict[str, Callable[[], Any]] = {
    "item-kNN (implicit, K=100)": lambda: CosineRecommender(K=100, num_threads=2),
    "ALS (implicit, dim 64)": lambda: AlternatingLeastSquares(factors=64, random_state=0, num_threads=2),
    "BPR (implicit, dim 63 + bias)": lambda: BayesianPersonalizedRanking(factors=63, random_state=0, num_threads=2),
}


def recommend(name: str, train: Interactions, k: int) -> NDArray[np.int64]:
    """Fit the model of that name, and ask it for every user."""
    bags = train.to_bags()
    shape = (train.n_users, train.n_items)
    matrix = csr_matrix((np.ones(len(bags.item_rows), dtype=np.float32), bags.item_rows, bags.offsets), shape=shape)
    model = MODELS[name]()
    model.fit(matrix, show_progress=False)
    rows: NDArray[np.int64] = model.recommend(np.arange(train.n_users), matrix, N=k)[0].astype(np.int64)
    return rows
