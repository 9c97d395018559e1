from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from threadpoolctl import threadpool_info

from recsys_cl.bags import Bags
from recsys_cl.evaluation import topk
from recsys_cl.evaluation.topk import search_exact, search_scores


def draw_bags(rng: np.random.Generator, m: int, n: int, share: float) -> Bags:
    mask = rng.random((m, n)) < share
    offsets = np.concatenate(([0], np.cumsum(mask.sum(axis=1))))
    rows = np.nonzero(mask)[1].astype(np.int32)
    return Bags(offsets, rows, np.ones(len(rows), dtype=np.float32))


def sort_slowly(scores: NDArray[np.float32], k: int, seen: Bags | None = None) -> NDArray[np.int64]:
    """One query at a time, a full sort by score and then by row."""
    answer = np.full((len(scores), k), -1, dtype=np.int64)
    for query, line in enumerate(scores):
        gone = set() if seen is None else set(seen.item_rows[seen.offsets[query] : seen.offsets[query + 1]].tolist())
        left = [row for row in range(len(line)) if row not in gone and line[row] != -np.inf]
        best = sorted(left, key=lambda row: (-line[row], row))[:k]
        answer[query, : len(best)] = best
    return answer


def serve(scores: NDArray[np.float32]) -> Callable[[int, int], NDArray[np.float32]]:
    return lambda start, stop: scores[start:stop].copy()


@settings(deadline=None, max_examples=80)
@given(
    m=st.integers(1, 12),
    n=st.integers(1, 400),
    k=st.integers(1, 40),
    n_levels=st.sampled_from([1, 2, 7, 100_000]),
    seen_share=st.sampled_from([0.0, 0.3, 0.95, 1.0]),
    seed=st.integers(0, 1000),
)
def test_answers_are_those_of_a_full_sort_with_ties_to_the_lower_row(
    m: int, n: int, k: int, n_levels: int, seen_share: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.integers(-n_levels, n_levels, (m, n)).astype(np.float32)
    seen = draw_bags(rng, m, n, seen_share)
    found = search_scores(serve(scores), (m, n), k, seen)
    expected = sort_slowly(scores, k, seen)
    np.testing.assert_array_equal(found.rows, expected)
    real = expected >= 0
    np.testing.assert_array_equal(found.scores[real], np.take_along_axis(scores, expected, axis=1)[real])
    assert np.all(found.scores[~real] == -np.inf)


def test_exact_search_is_the_dot_product_with_seen_items_left_out() -> None:
    rng = np.random.default_rng(0)
    queries = rng.standard_normal((300, 16)).astype(np.float32)
    candidates = rng.standard_normal((500, 16)).astype(np.float32)
    seen = draw_bags(rng, 300, 500, 0.1)
    found = search_exact(queries, candidates, 20, seen)
    np.testing.assert_array_equal(found.rows, sort_slowly(queries @ candidates.T, 20, seen))


@pytest.mark.parametrize("block_rows", [1, 2, 7, 64, 256])
def test_no_bit_of_the_answer_depends_on_the_block_size(block_rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    queries = rng.standard_normal((129, 48)).astype(np.float32)
    candidates = np.repeat(rng.standard_normal((350, 48)).astype(np.float32), 3, axis=0)  # three of each: ties
    whole = search_exact(queries, candidates, 10)
    monkeypatch.setattr(topk, "_choose_block_rows", lambda n, block_mib, n_threads: block_rows)
    found = search_exact(queries, candidates, 10)
    np.testing.assert_array_equal(found.rows, whole.rows)
    np.testing.assert_array_equal(found.scores, whole.scores)


def test_blocks_stay_within_the_memory_they_are_given() -> None:
    for n in (10, 3_000, 40_000, 1_000_000):
        rows = topk._choose_block_rows(n, 256, 2)
        assert rows == 1 or rows * n * 4 * 2 <= 256 << 20


def test_k_above_the_catalog_gives_short_lists() -> None:
    found = search_exact(np.ones((2, 3), dtype=np.float32), np.eye(3, dtype=np.float32), 5)
    np.testing.assert_array_equal(found.rows, [[0, 1, 2, -1, -1]] * 2)


def test_nobody_asking_and_nothing_to_find_give_empty_answers() -> None:
    nothing = np.zeros((0, 4), dtype=np.float32)
    some = np.ones((3, 4), dtype=np.float32)
    assert search_exact(nothing, some, 5).rows.shape == (0, 5)
    assert np.all(search_exact(some, nothing, 5).rows == -1)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_vectors_that_are_not_finite_are_refused(bad: float) -> None:
    broken = np.ones((4, 3), dtype=np.float32)
    broken[2, 1] = bad
    with pytest.raises(ValueError, match="1 numbers that are not finite"):
        search_exact(np.ones((2, 3), dtype=np.float32), broken, 1)
    with pytest.raises(ValueError, match="queries hold"):
        search_exact(broken, np.ones((2, 3), dtype=np.float32), 1)


def test_what_does_not_fit_is_refused() -> None:
    two, three = np.ones((2, 2), dtype=np.float32), np.ones((2, 3), dtype=np.float32)
    with pytest.raises(ValueError, match="differ in their dimension"):
        search_exact(two, three, 1)
    with pytest.raises(ValueError, match="k is 0"):
        search_exact(two, two, 0)
    with pytest.raises(ValueError, match="bags of seen items"):
        search_exact(two, two, 1, Bags.of_items(np.array([0])))
    with pytest.raises(ValueError, match="a block of scores"):
        search_scores(serve(two), (2, 5), 1)


def test_concurrent_searches_agree_and_give_blas_its_threads_back() -> None:
    rng = np.random.default_rng(2)
    queries = rng.standard_normal((1500, 8)).astype(np.float32)
    candidates = rng.standard_normal((900, 8)).astype(np.float32)
    before = [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]
    expected, found = search_exact(queries, candidates, 5).rows, []
    threads = [
        threading.Thread(target=lambda: found.append(search_exact(queries, candidates, 5).rows)) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert all(np.array_equal(rows, expected) for rows in found)
    assert [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"] == before


def test_an_error_in_a_block_reaches_the_caller() -> None:
    def fail(start: int, stop: int) -> NDArray[np.float32]:
        raise RuntimeError(f"block {start} to {stop}")

    with pytest.raises(RuntimeError, match="block"):
        search_scores(fail, (5000, 100), 3)
