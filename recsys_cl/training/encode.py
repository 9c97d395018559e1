"""Encoding: comes in a trained model, goes out vectors of all users and items as float32 arrays, in blocks."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from recsys_cl.bags import Bags
from recsys_cl.model.scores import widen_queries
from recsys_cl.model.towers import PublishedCandidateTower, TwoTowers

_BLOCK_BAGS = 8192
_BLOCK_FLOATS = 1 << 24  # of padded bags: 64 MiB


@torch.no_grad()
def encode_candidates(model: TwoTowers) -> NDArray[np.float32]:
    """Vectors of all items [n_items, dim]: taste, then the popularity float."""
    tower = PublishedCandidateTower(model.encoder, model.config, float(model.temperature.detach()))
    vectors: NDArray[np.float32] = tower(model.item_table.table, model.log_popularity).numpy()
    return vectors


@torch.no_grad()
def encode_bag_vectors(model: TwoTowers) -> NDArray[np.float32]:
    """What the query tower takes of each item [n_items, bag_dim], weighted by `item_weights`."""
    vectors: NDArray[np.float32] = (model.bag_table.table * model.item_weights.unsqueeze(1)).numpy()
    return vectors


@torch.no_grad()
def encode_queries(model: TwoTowers, bags: Bags, user_rows: NDArray[np.int64] | None) -> NDArray[np.float32]:
    """Vectors of queries [n_bags, dim]; user_rows [n_bags] are the users with a free embedding, None for strangers.

    A user without any event has no direction: the taste part is zero (or the free embedding), popularity decides.
    """
    training = model.training
    model.eval()
    out = np.empty((len(bags), model.config.dim), dtype=np.float32)
    table = (model.bag_table.table, model.item_weights)
    for rows in _list_blocks(model, bags):
        users = None
        if model.user_table is not None and user_rows is not None:
            users = model.user_table.table[torch.from_numpy(user_rows[rows])]
        taste = model.encode_bags(table, bags.take(rows), users)
        out[rows, :-1] = widen_queries(taste, model.config.score, with_length=False).numpy()
    out[:, -1] = 1.0
    model.train(training)
    return out


def _list_blocks(model: TwoTowers, bags: Bags) -> list[NDArray[np.int64]]:
    """Rows of bags to encode together; where bags are padded, those of like size, as many as memory allows."""
    rows, step = np.arange(len(bags)), _BLOCK_BAGS
    if model.history_length is not None:
        rows = np.argsort(bags.sizes, kind="stable")
        longest = max(1, min(int(bags.sizes.max(initial=1)), model.history_length))
        floats = longest * (longest * model.config.n_heads + 4 * model.config.dim)
        step = max(1, min(_BLOCK_BAGS, _BLOCK_FLOATS // floats))
    return [rows[start : start + step] for start in range(0, len(rows), step)]
