"""Whether a fit knows its own data: like counting every pair, and it tells rows that belong to other ids."""

from __future__ import annotations

import numpy as np
import pytest

from recsys_cl.bags import Bags
from recsys_cl.evaluation.ordering import measure_train_auc


def make_fit(n_users: int = 50, n_items: int = 80, seed: int = 0) -> tuple[np.ndarray, np.ndarray, Bags]:
    """Users touch the items that lie nearest to them."""
    rng = np.random.default_rng(seed)
    queries, candidates = (rng.normal(size=(n, 6)).astype(np.float32) for n in (n_users, n_items))
    rows = np.argsort(-(queries @ candidates.T), axis=1)[:, :8].astype(np.int32)
    return queries, candidates, Bags(np.arange(n_users + 1) * 8, rows.ravel(), np.ones(rows.size, np.float32))


def test_a_fit_that_knows_its_data_is_told_from_one_whose_rows_are_shuffled() -> None:
    queries, candidates, seen = make_fit()
    rng = np.random.default_rng(1)
    assert measure_train_auc(queries, candidates, seen, rng) == 1.0
    assert measure_train_auc(queries, rng.permutation(candidates), seen, rng) == pytest.approx(0.5, abs=0.1)
    assert measure_train_auc(queries, np.ones_like(candidates), seen, rng) == 0.5


def test_it_is_near_the_share_over_every_pair() -> None:
    queries, candidates, seen = make_fit(seed=2)
    noisy = candidates + np.random.default_rng(3).normal(size=candidates.shape).astype(np.float32)
    scores, touched = queries @ noisy.T, np.zeros((50, 80), dtype=bool)
    touched[np.repeat(np.arange(50), 8), seen.item_rows] = True
    shares = [np.mean(line[own][:, None] > line[~own]) for line, own in zip(scores, touched, strict=True)]
    found = measure_train_auc(queries, noisy, seen, np.random.default_rng(4))
    assert found == pytest.approx(np.mean(shares), abs=0.02)


def test_where_there_is_no_pair_nothing_speaks_against_it() -> None:
    vectors = np.ones((1, 2), dtype=np.float32)
    empty = Bags(np.zeros(2, dtype=np.int64), np.zeros(0, dtype=np.int32), np.zeros(0, dtype=np.float32))
    assert measure_train_auc(vectors, vectors, empty, np.random.default_rng(0)) == 1.0
    assert measure_train_auc(vectors, vectors, Bags.of_history([0]), np.random.default_rng(0)) == 1.0
