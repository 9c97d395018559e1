"""Batches: local rows point at the right items, and no accidental hit is left among the negatives."""

from __future__ import annotations

import numpy as np
import pytest

from recsys_cl.bags import Bags
from recsys_cl.config import SamplingConfig
from recsys_cl.sampling.batches import BatchDrawer
from recsys_cl.sampling.negatives import build_negative_sampler
from recsys_cl.sampling.pairs import PairSource

N_USERS, N_ITEMS = 50, 200


def build_drawer(n_negatives: int) -> tuple[BatchDrawer, Bags]:
    rng = np.random.default_rng(0)
    sizes = rng.integers(1, 20, size=N_USERS)
    rows = np.concatenate([rng.choice(N_ITEMS, size, replace=False) for size in sizes]).astype(np.int32)
    bags = Bags(np.concatenate(([0], np.cumsum(sizes))), rows, np.ones(len(rows), dtype=np.float32))
    popularity = np.bincount(rows, minlength=N_ITEMS)
    config = SamplingConfig(n_negatives=n_negatives)
    return BatchDrawer(PairSource(bags, None, 0), build_negative_sampler(popularity, 0.75, n_negatives), config), bags


@pytest.mark.parametrize("n_negatives", [64, N_ITEMS])
def test_what_is_left_unmasked_is_a_true_negative(n_negatives: int) -> None:
    drawer, bags = build_drawer(n_negatives)
    for batch in drawer.draw_epoch(16, np.random.default_rng(1)):
        masked = np.zeros((len(batch.user_rows), len(batch.candidates)), dtype=bool)
        masked[batch.hit_queries, batch.hit_candidates] = True
        candidates = batch.touched[batch.candidates]
        for index, user in enumerate(batch.user_rows):
            own = set(bags.item_rows[bags.offsets[user] : bags.offsets[user + 1]].tolist())
            assert [row in own for row in candidates] == masked[index].tolist()
            part = slice(batch.positives.offsets[index], batch.positives.offsets[index + 1])
            assert set(batch.touched[batch.positives.item_rows[part]].tolist()) <= own


def test_an_epoch_hears_every_user_with_a_pair_once() -> None:
    drawer, bags = build_drawer(64)
    heard = np.concatenate([batch.user_rows for batch in drawer.draw_epoch(7, np.random.default_rng(2))])
    assert sorted(heard.tolist()) == np.flatnonzero(bags.sizes >= 2).tolist()
    assert drawer.count_steps(7) == -(-len(heard) // 7)
