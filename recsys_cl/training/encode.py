"""Encoding: comes in a trained model, goes out vectors of all users and items as float32 arrays, in blocks."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from recsys_cl.bags import Bags
from recsys_cl.model.towers import PublishedCandidateTower, TwoTowers

_BLOCK_BAGS = 8192


@torch.no_grad()
def encode_candidates(model: TwoTowers) -> NDArray[np.float32]:
    """Vectors of all items [n_items, dim]: taste at unit length, then the popularity float."""
    tower = PublishedCandidateTower(model.encoder, model.config)
    vectors: NDArray[np.float32] = tower(model.item_table.table, model.log_popularity).numpy()
    return vectors


@torch.no_grad()
def encode_bag_vectors(model: TwoTowers) -> NDArray[np.float32]:
    """What the query tower takes of each item [n_items, dim - 1], weighted by degree^-degree_power."""
    vectors: NDArray[np.float32] = (model.bag_table.table * model.item_weights.unsqueeze(1)).numpy()
    return vectors


@torch.no_grad()
def encode_queries(model: TwoTowers, bags: Bags, user_rows: NDArray[np.int64] | None) -> NDArray[np.float32]:
    """Vectors of queries [n_bags, dim]; user_rows [n_bags] are the users with a free embedding, None for strangers.

    A user without any event has no direction: the taste part is zero (or the free embedding), popularity decides.
    """
    out = np.empty((len(bags), model.config.dim), dtype=np.float32)
    for start in range(0, len(bags), _BLOCK_BAGS):
        rows = np.arange(start, min(start + _BLOCK_BAGS, len(bags)))
        block = bags.take(rows)
        items = torch.from_numpy(block.item_rows).long()
        summed = torch.nn.functional.embedding_bag(
            items,
            model.bag_table.table,
            torch.from_numpy(block.offsets[:-1]),
            mode="sum",
            per_sample_weights=torch.from_numpy(block.weights) * model.item_weights[items],
        )
        users = None
        if model.user_table is not None and user_rows is not None:
            users = model.user_table.table[torch.from_numpy(user_rows[rows])]
        out[rows, :-1] = model.query_tower(summed, users).numpy()
    out[:, -1] = 1.0
    return out
