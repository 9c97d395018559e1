"""Hard negatives: liked by the model, not touched by the user, and below the margin that tells them from positives."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from recsys_cl.bags import Bags
from recsys_cl.config import ModelConfig, SamplingConfig
from recsys_cl.index.mine import mine_items
from recsys_cl.model.towers import TwoTowers
from recsys_cl.training.encode import encode_candidates, encode_queries
from recsys_cl.training.mining import mine_hard

N_USERS, N_ITEMS = 20, 60


def build() -> tuple[TwoTowers, Bags]:
    rng = np.random.default_rng(0)
    rows = np.concatenate([rng.permutation(N_ITEMS)[:6] for _ in range(N_USERS)]).astype(np.int32)
    bags = Bags(np.arange(0, len(rows) + 1, 6), rows, np.ones(len(rows), dtype=np.float32))
    popularity = np.bincount(rows, minlength=N_ITEMS)
    return TwoTowers(N_USERS, popularity, ModelConfig(dim=8), torch.Generator().manual_seed(0)), bags


@pytest.mark.parametrize("margin", [0.0, 0.02])
def test_mined_items_are_the_best_below_the_margin_that_the_user_has_not_touched(margin: float) -> None:
    model, bags = build()
    asked = np.array([0, 3, 4, 19])
    drawable = np.arange(1, N_ITEMS)
    found = mine_hard(model, bags, asked, drawable, SamplingConfig(n_hard=5, hard_margin=margin), mine_items)
    scores = encode_queries(model, bags, np.arange(N_USERS)) @ encode_candidates(model).T
    for user in range(N_USERS):
        mined = found.item_rows[found.offsets[user] : found.offsets[user + 1]].tolist()
        own = bags.item_rows[bags.offsets[user] : bags.offsets[user + 1]]
        bound = scores[user, own].mean() - margin
        searched = [row for row in np.argsort(-scores[user]).tolist() if row in drawable][: 4 * 5 + 6]
        order = [row for row in searched if row not in own.tolist()]
        assert mined == ([row for row in order if scores[user, row] <= bound][:5] if user in asked else [])
    assert found.sizes[asked].max() > 0


@pytest.mark.parametrize("n_items", [30, 120_000])
def test_the_search_finds_the_largest_dot_products(n_items: int) -> None:
    rng = np.random.default_rng(0)
    centers = rng.normal(size=(50, 16))
    candidates = (centers[rng.integers(50, size=n_items)] + 0.3 * rng.normal(size=(n_items, 16))).astype(np.float32)
    candidates[:, -1] = 0.2 * np.log(rng.pareto(1.0, n_items) + 0.1)  # popularity, as towers publish it
    queries = candidates[:20] * 1.1
    queries[:, -1] = 1
    scores, found = mine_items(candidates)(queries, 5)
    exact = np.argsort(-(queries @ candidates.T), axis=1)[:, :5]
    agreed = np.mean([len(set(a) & set(b)) / 5 for a, b in zip(found.tolist(), exact.tolist(), strict=True)])
    np.testing.assert_allclose(scores, np.einsum("ij,ikj->ik", queries, candidates[found]), rtol=1e-4)
    assert agreed == 1 if n_items == 30 else agreed > 0.8
