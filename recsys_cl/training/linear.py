"""The closed form: comes in interactions, goes out two towers that are linear in the bag; nothing is drawn or iterated.

Item-item weights B that predict a user's items from the others, by ridge regression with a zero diagonal (EASE; Steck,
WWW 2019), each user's line R_u of the matrix R scaled by (its items)^-user_power so that heavy users do not decide
alone. Of the predictions R B only the `rank` strongest directions V are kept: query = bag · B V, candidate = V.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray

from recsys_cl.bags import Bags
from recsys_cl.config import ModelConfig
from recsys_cl.interactions.table import Interactions
from recsys_cl.model.encoders import IdEncoder
from recsys_cl.model.towers import TwoTowers

_SPARE, _ROUNDS = 32, 12  # more directions than are wanted, and rounds: the last ones converge, too


def fit_linear(interactions: Interactions, model: ModelConfig, ridge: float, user_power: float) -> TwoTowers:
    """Towers of model.dim - 1 taste floats. ridge: in units of the users' mean squared weight.

    Time n_items³, memory 24 n_items² bytes. A query has unit length, a candidate any.
    """
    bags, n_items = interactions.to_bags(), interactions.n_items
    rank = model.dim - 1
    bag_table, item_table = _solve(bags, n_items, ridge, user_power, rank)
    settings = {"score": "cosine", "tied": False, "user_weight": 0.0, "degree_power": 0.0, "popularity_weight": 0.0}
    settings |= {"temperature": 1.0, "history": "mean", "query_hidden": 0}
    towers = TwoTowers(0, interactions.count_users(), model.model_copy(update=settings), torch.Generator())
    towers.encoder = IdEncoder(unit=False)  # an item's length is how far it can be predicted at all
    towers.bag_table.table.copy_(torch.from_numpy(bag_table))
    towers.item_table.table.copy_(torch.from_numpy(item_table))
    return towers.eval()


def _solve(
    bags: Bags, n_items: int, ridge: float, user_power: float, rank: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """B V and V, both [n_items, rank]; rows of items without events, and columns beyond n_items, are 0."""
    weights = np.maximum(bags.sizes, 1).astype(np.float64) ** -user_power
    values = np.repeat(weights, bags.sizes)
    matrix = sp.csr_matrix((values, bags.item_rows, bags.offsets), shape=(len(bags), n_items))
    gram = (matrix.T @ matrix).toarray()
    inverse = gram.copy()
    inverse[np.diag_indices(n_items)] += ridge * float(np.mean(weights**2))
    inverse = np.linalg.inv(inverse)
    inverse /= -np.diag(inverse)  # column j of B is column j of -inverse, over its diagonal
    np.fill_diagonal(inverse, 0.0)
    strongest = _find_strongest(gram, inverse, min(rank, n_items))
    strongest *= np.sign(strongest[np.abs(strongest).argmax(axis=0), np.arange(strongest.shape[1])])
    out = np.zeros((2, n_items, rank), dtype=np.float32)
    out[0, :, : strongest.shape[1]], out[1, :, : strongest.shape[1]] = inverse @ strongest, strongest
    return out[0], out[1]


def _find_strongest(gram: NDArray[np.float64], weights: NDArray[np.float64], rank: int) -> NDArray[np.float64]:
    """The first `rank` eigenvectors of (R B)ᵀ R B = Bᵀ (Rᵀ R) B as columns, by subspace iteration (Halko et al., SIAM
    Review 2011): a whole decomposition would take ten times as long as all the rest."""
    n_items = len(gram)
    rng = np.random.default_rng(0)
    axes = rng.standard_normal((n_items, min(n_items, rank + _SPARE)))
    for _ in range(_ROUNDS):
        axes = np.linalg.qr(weights.T @ (gram @ (weights @ axes)))[0]
    applied = weights @ axes
    _, turn = np.linalg.eigh(applied.T @ (gram @ applied))
    strongest: NDArray[np.float64] = axes @ turn[:, ::-1][:, :rank]
    return strongest
