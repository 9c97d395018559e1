"""ann_recall: what an index misses of the exact answers, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from recsys_cl.config import IndexConfig
from recsys_cl.evaluation.topk import Neighbors
from recsys_cl.index.build import build_index
from recsys_cl.index.recall import measure_ann_recall
from recsys_cl.index.structure import Index


class Forgetful(Index):
    """An exact index that finds nothing for the first lines."""

    def __init__(self, vectors: np.ndarray, n_forgotten: int) -> None:
        built, facts = build_index(vectors, IndexConfig(kind="flat"))
        super().__init__(built.structure, facts)
        self.n_forgotten = n_forgotten

    def search(self, queries: np.ndarray, k: int) -> Neighbors:
        found = super().search(queries, k)
        rows = found.rows.copy()
        rows[: self.n_forgotten] = -1
        return Neighbors(rows, found.scores)


class Swapping(Index):
    """An exact index over pairs of equal vectors that names the other one of each pair."""

    def search(self, queries: np.ndarray, k: int) -> Neighbors:
        found = super().search(queries, k)
        return Neighbors(found.rows ^ 1, found.scores)


def draw(n: int, dim: int = 8, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, dim)).astype(np.float32)


@pytest.mark.parametrize(("n_forgotten", "recall"), [(0, 1.0), (10, 0.9), (100, 0.0)])
def test_it_is_the_share_found(n_forgotten: int, recall: float) -> None:
    vectors = draw(500)
    index = Forgetful(vectors, n_forgotten)
    assert measure_ann_recall(index, vectors, draw(100, seed=1)) == recall


def test_equal_items_are_no_miss() -> None:
    vectors = np.repeat(draw(50), 2, axis=0)
    index, facts = build_index(vectors, IndexConfig(kind="flat"))
    for k in (1, 9, 10):
        assert measure_ann_recall(Swapping(index.structure, facts), vectors, draw(20, seed=1), k) == 1.0


def test_wrong_answers_are_a_miss() -> None:
    vectors = draw(1000)
    index, _ = build_index(np.roll(vectors, 1, axis=0), IndexConfig(kind="flat"))  # a shuffled id map
    assert measure_ann_recall(index, vectors, draw(100, seed=1)) < 0.1


def test_few_items_few_queries_and_none() -> None:
    vectors = draw(3)
    index, _ = build_index(vectors, IndexConfig(kind="flat"))
    assert measure_ann_recall(index, vectors, draw(2, seed=1), k=10) == 1.0
    assert measure_ann_recall(index, vectors, draw(0), k=10) == 1.0


def test_the_sample_is_bounded_and_seeded() -> None:
    vectors = draw(300)
    index = Forgetful(vectors, n_forgotten=5)
    queries = draw(1000, seed=1)
    assert measure_ann_recall(index, vectors, queries, n_sample=10, seed=3) == 0.5
