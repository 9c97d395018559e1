from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from recsys_cl.bags import Bags
from recsys_cl.evaluation.baselines import build_similarity, score_by_neighbors, score_by_popularity
from recsys_cl.evaluation.topk import search_scores


def draw_histories(seed: int, m: int, n: int) -> tuple[Bags, NDArray[np.float64]]:
    rng = np.random.default_rng(seed)
    dense = rng.random((m, n)) < rng.random(n) ** 2
    offsets = np.concatenate(([0], np.cumsum(dense.sum(axis=1))))
    rows = np.nonzero(dense)[1].astype(np.int32)
    return Bags(offsets, rows, np.ones(len(rows), dtype=np.float32)), dense.astype(np.float64)


def correlate_slowly(dense: NDArray[np.float64], n_neighbors: int) -> NDArray[np.float64]:
    norms = np.sqrt(dense.sum(axis=0))
    cosines = dense.T @ dense / np.maximum(np.outer(norms, norms), 1e-30)
    np.fill_diagonal(cosines, 0.0)
    for line in cosines:
        line[np.argsort(-np.round(line, 6), kind="stable")[n_neighbors:]] = 0.0
    return cosines


@pytest.mark.parametrize("n_neighbors", [1, 5, 200])
def test_item_knn_scores_are_those_of_dense_matrices(n_neighbors: int) -> None:
    histories, dense = draw_histories(0, 60, 45)
    cosines = correlate_slowly(dense, n_neighbors)
    found = build_similarity(histories, 45, n_neighbors, 1).toarray()
    # Equal cosines may round apart, and then another of them is kept: the kept values are the same.
    np.testing.assert_allclose(np.sort(found, axis=1), np.sort(cosines, axis=1), atol=1e-6)
    some = np.array([3, 7, 59])
    score = score_by_neighbors(histories, histories.take(some), 45, n_neighbors, 1)
    np.testing.assert_allclose(score(0, 3), dense[some] @ found, atol=1e-5)
    np.testing.assert_array_equal(score(1, 2), score(0, 3)[1:2])


def test_no_item_is_its_own_neighbor() -> None:
    histories, _ = draw_histories(1, 40, 30)
    assert not build_similarity(histories, 30, 10, 1).diagonal().any()


def test_popularity_ranks_by_number_of_users_and_leaves_seen_items_out() -> None:
    histories, dense = draw_histories(2, 50, 20)
    order = np.argsort(-dense.sum(axis=0), kind="stable")
    found = search_scores(score_by_popularity(histories, 20), (50, 20), 3, histories)
    for user in range(50):
        expected = [row for row in order if not dense[user, row]][:3]
        assert [row for row in found.rows[user].tolist() if row >= 0] == expected
