"""Searching what is unseen: k answers wherever k exist, whatever the index finds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_cl.bags import Bags
from recsys_cl.config import IndexConfig
from recsys_cl.errors import StoreError
from recsys_cl.evaluation.topk import Neighbors, search_exact
from recsys_cl.index.build import build_index
from recsys_cl.index.structure import Index
from recsys_cl.serving.search import search_allowed, search_unseen


class Weak(Index):
    """An index that finds only every other answer."""

    def search(self, queries: np.ndarray, k: int) -> Neighbors:
        found = super().search(queries, k)
        rows, scores = found.rows.copy(), found.scores.copy()
        rows[:, 1::2], scores[:, 1::2] = -1, -np.inf
        return Neighbors(rows, scores)


def draw_world(n_items: int, n_queries: int, share: float, seed: int) -> tuple[np.ndarray, np.ndarray, Bags]:
    rng = np.random.default_rng(seed)
    mask = rng.random((n_queries, n_items)) < share
    offsets = np.concatenate(([0], np.cumsum(mask.sum(axis=1)))).astype(np.int64)
    rows = np.nonzero(mask)[1].astype(np.int32)
    draw = lambda n: rng.integers(-3, 4, size=(n, 3)).astype(np.float32)  # noqa: E731  # whole numbers: exact scores
    return draw(n_items), draw(n_queries), Bags(offsets, rows, np.ones(len(rows), dtype=np.float32))


@settings(deadline=None, max_examples=50)
@given(
    n_items=st.integers(1, 60),
    n_queries=st.integers(1, 8),
    share=st.sampled_from([0.0, 0.3, 0.9, 1.0]),
    k=st.integers(1, 70),
    seed=st.integers(0, 10**6),
)
def test_answers_score_as_the_exact_ones(n_items: int, n_queries: int, share: float, k: int, seed: int) -> None:
    vectors, queries, seen = draw_world(n_items, n_queries, share, seed)
    exact = search_exact(queries, vectors, k, seen)
    index, _ = build_index(vectors, IndexConfig(kind="flat"))
    found = search_unseen(index, vectors, queries, k, seen)
    np.testing.assert_array_equal(found.scores, exact.scores)
    for line in range(n_queries):
        rows = found.rows[line][found.rows[line] >= 0]
        assert len(set(rows.tolist())) == len(rows) == min(k, n_items - seen.sizes[line])
        assert not set(rows.tolist()) & set(seen.take(np.array([line])).item_rows.tolist())


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_a_weak_index_still_leaves_nobody_short(share: float) -> None:
    vectors, queries, seen = draw_world(200, 20, share, 0)
    index, facts = build_index(vectors, IndexConfig(kind="flat"))
    found = search_unseen(Weak(index.structure, facts), vectors, queries, 10, seen)
    assert (found.rows >= 0).all()
    for line in range(20):
        assert not set(found.rows[line].tolist()) & set(seen.take(np.array([line])).item_rows.tolist())
    if share == 0.0:  # nobody has enough answers from such an index
        np.testing.assert_array_equal(found.scores, search_exact(queries, vectors, 10, seen).scores)


@pytest.mark.parametrize("kind", ["ivf", "hnsw", "ivfpq"])
def test_somebody_who_has_seen_nearly_everything_gets_the_rest(kind: str) -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(10_000, 8)).astype(np.float32)
    queries = rng.normal(size=(3, 8)).astype(np.float32)
    index, facts = build_index(vectors, IndexConfig(kind=kind, ef_construction=40))
    assert facts.kind == kind
    left = [rng.choice(10_000, size=n, replace=False) for n in (0, 3, 500)]
    bags = [np.setdiff1d(np.arange(10_000, dtype=np.int32), kept) for kept in left]
    offsets = np.concatenate(([0], np.cumsum([len(bag) for bag in bags]))).astype(np.int64)
    seen = Bags(offsets, np.concatenate(bags), np.ones(offsets[-1], dtype=np.float32))
    found = search_unseen(index, vectors, queries, 10, seen)
    np.testing.assert_array_equal(found.rows, search_exact(queries, vectors, 10, seen).rows)
    assert (found.rows >= 0).sum(axis=1).tolist() == [0, 3, 10]


@pytest.mark.parametrize("where", ["queries", "candidates"])
def test_vectors_that_are_not_finite_are_refused_with_a_message(where: str) -> None:
    vectors, queries, seen = draw_world(20, 3, 0.3, 0)
    (queries if where == "queries" else vectors)[1, 1] = np.nan
    for allowed in (None, np.arange(20) < 2):
        if allowed is None or where == "queries":
            with pytest.raises(StoreError, match=f"this release cannot be searched: {where} hold 1 numbers"):
                search_allowed(queries, vectors, 5, seen, allowed)
