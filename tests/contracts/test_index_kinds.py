"""One suite over every kind of index: exchange one for another, and the answers keep their meaning."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from recsys_cl.config import IndexConfig
from recsys_cl.errors import InputError, RefusedError, StoreError
from recsys_cl.evaluation.topk import search_exact
from recsys_cl.index.build import LEAST_TRAINED, build_index
from recsys_cl.index.recall import measure_ann_recall
from recsys_cl.index.structure import Index, read_index

KINDS = ("flat", "ivf", "hnsw", "ivfpq")
CONFIG = {"ef_construction": 60, "hnsw_links": 16}
N_LARGE = LEAST_TRAINED + 16  # the least that ivfpq can be trained on


def draw_clustered(n: int, dim: int, seed: int = 0) -> np.ndarray:
    """Unit vectors around 200 centers."""
    rng = np.random.default_rng(seed)
    centers = np.random.default_rng(99).normal(size=(200, dim))
    vectors = centers[rng.integers(200, size=n)] + 0.5 * rng.normal(size=(n, dim))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def add_popularity(vectors: np.ndarray, weight: float, seed: int = 0) -> np.ndarray:
    """Candidates as the model publishes them: the last coordinate carries weighted log popularity."""
    counts = np.random.default_rng(seed).zipf(1.5, size=len(vectors)).clip(1, 100_000)
    popularity = weight * np.log(counts / counts.sum())
    return np.concatenate((vectors, popularity[:, None]), axis=1).astype(np.float32)


def build(vectors: np.ndarray, kind: str) -> Index:
    return build_index(vectors, IndexConfig(kind=kind, **CONFIG))[0]


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def large(kind: str) -> tuple[Index, np.ndarray]:
    vectors = add_popularity(draw_clustered(N_LARGE, 31), weight=0.2)
    return build(vectors, kind), vectors


def test_facts_name_the_kind_that_was_built(large: tuple[Index, np.ndarray], kind: str) -> None:
    index, vectors = large
    assert (index.facts.kind, index.facts.n_items, index.facts.dim) == (kind, *vectors.shape)


def test_unit_vectors_find_themselves(kind: str) -> None:
    vectors = draw_clustered(N_LARGE, 24)
    found = build(vectors, kind).search(vectors[:200], 1)
    assert (found.rows[:, 0] == np.arange(200)).mean() >= 0.99
    np.testing.assert_allclose(found.scores, 1.0, atol=2e-3)


@pytest.mark.parametrize("popularity", [0.0, 1.0])
def test_popularity_that_outweighs_taste_costs_no_recall(large: tuple[Index, np.ndarray], popularity: float) -> None:
    index, vectors = large
    taste = draw_clustered(300, 31, seed=1)
    queries = np.concatenate((taste, np.full((300, 1), popularity, dtype=np.float32)), axis=1)
    recall = measure_ann_recall(index, vectors, queries)
    assert recall >= 0.95, recall
    assert recall == 1.0 or index.facts.kind != "flat"


def test_scores_are_dot_products_best_first(large: tuple[Index, np.ndarray]) -> None:
    index, vectors = large
    queries = np.concatenate((draw_clustered(50, 31, seed=2), np.ones((50, 1), dtype=np.float32)), axis=1)
    found = index.search(queries, 20)
    np.testing.assert_allclose(found.scores, np.einsum("md,mkd->mk", queries, vectors[found.rows]), atol=5e-3)
    assert (np.diff(found.scores, axis=1) <= 0).all()
    assert all(len(set(rows)) == 20 for rows in found.rows.tolist())


def test_a_written_index_answers_as_before(large: tuple[Index, np.ndarray], tmp_path: Path) -> None:
    index, vectors = large
    index.write(tmp_path / "index.faiss")
    again = read_index(tmp_path / "index.faiss", index.facts)
    for k in (1, 10, 100):
        before, after = index.search(vectors[:30], k), again.search(vectors[:30], k)
        np.testing.assert_array_equal(before.rows, after.rows)
        np.testing.assert_array_equal(before.scores, after.scores)


def test_the_file_is_a_plain_faiss_index(large: tuple[Index, np.ndarray], tmp_path: Path) -> None:
    import faiss

    index, vectors = large
    index.write(tmp_path / "index.faiss")
    plain = faiss.read_index(str(tmp_path / "index.faiss"))
    scores, rows = plain.search(vectors[:5], 5)
    assert plain.d == vectors.shape[1]
    kept = rows >= 0
    np.testing.assert_allclose(scores[kept], np.einsum("md,mkd->mk", vectors[:5], vectors[rows])[kept], atol=5e-3)


@pytest.mark.parametrize("n", [1, 2, 7])
@pytest.mark.parametrize("dim", [2, 5])
def test_k_above_a_small_catalog_gives_every_item_once(kind: str, n: int, dim: int) -> None:
    vectors = draw_clustered(n, dim, seed=n)
    found = build(vectors, kind).search(vectors, n + 3)
    exact = search_exact(vectors, vectors, n + 3)
    np.testing.assert_array_equal(np.sort(found.rows[:, :n], axis=1), np.tile(np.arange(n), (n, 1)))
    assert (found.rows[:, n:] == -1).all()
    assert np.isneginf(found.scores[:, n:]).all()
    np.testing.assert_allclose(found.scores[:, :n], exact.scores[:, :n], atol=1e-5)


def test_no_queries_give_no_answers(kind: str) -> None:
    assert build(draw_clustered(5, 4), kind).search(np.empty((0, 4), dtype=np.float32), 3).rows.shape == (0, 3)


def test_equal_items_come_in_order_of_their_rows(kind: str) -> None:
    vectors = np.repeat(draw_clustered(4, 6), 3, axis=0)
    found = build(vectors, kind).search(vectors[[0, 3, 6, 9]], 3)
    np.testing.assert_array_equal(found.rows, np.arange(12).reshape(4, 3))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_vectors_that_are_not_finite_are_refused(kind: str, bad: float) -> None:
    vectors = draw_clustered(50, 4)
    vectors[[7, 9], 2] = bad
    with pytest.raises(RefusedError, match="2 of 50 item vectors"):
        build(vectors, kind)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_queries_that_are_not_finite_are_refused(kind: str, bad: float) -> None:
    with pytest.raises(InputError, match="NaN or infinity"):
        build(draw_clustered(50, 4), kind).search(np.full((1, 4), bad, dtype=np.float32), 3)


def test_bad_k_and_shapes_are_refused(kind: str) -> None:
    index = build(draw_clustered(5, 4), kind)
    with pytest.raises(InputError, match="k is 0"):
        index.search(np.ones((1, 4), dtype=np.float32), 0)
    with pytest.raises(InputError, match=r"\[m, 4\]"):
        index.search(np.ones((1, 5), dtype=np.float32), 1)


def test_no_vectors_are_refused(kind: str) -> None:
    with pytest.raises(RefusedError, match="at least 1"):
        build(np.empty((0, 4), dtype=np.float32), kind)


@pytest.mark.parametrize("keep", [0.0, 0.01, 0.5, 0.999])
def test_a_truncated_file_is_refused(large: tuple[Index, np.ndarray], tmp_path: Path, keep: float) -> None:
    index, _ = large
    path = tmp_path / "index.faiss"
    index.write(path)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    with pytest.raises(StoreError, match="not a FAISS index"):
        read_index(path, index.facts)


def test_an_index_of_another_catalog_is_refused(kind: str, tmp_path: Path) -> None:
    index, other = build(draw_clustered(9, 4), kind), build(draw_clustered(8, 4), kind)
    index.write(tmp_path / "index.faiss")
    with pytest.raises(StoreError, match="expected"):
        read_index(tmp_path / "index.faiss", other.facts)
