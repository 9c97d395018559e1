from __future__ import annotations

import math

import ir_measures
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ir_measures import RR, R, Success, nDCG
from numpy.typing import NDArray

from recsys_cl.bags import Bags
from recsys_cl.evaluation.metrics import find_popular, judge, judge_novelty, judge_popularity, measure_coverage


def draw_lists(seed: int, m: int, n: int, length: int) -> tuple[NDArray[np.int64], Bags]:
    rng = np.random.default_rng(seed)
    rows = np.argsort(rng.random((m, n)), axis=1)[:, :length]
    rows = np.where(np.arange(length) < rng.integers(0, length + 1, (m, 1)), rows, -1)  # short lists end in -1
    sizes = rng.integers(1, n + 1, m)
    targets = np.concatenate([rng.choice(n, size, replace=False) for size in sizes]).astype(np.int32)
    return rows, Bags(np.concatenate(([0], np.cumsum(sizes))), targets, np.ones(len(targets), dtype=np.float32))


def judge_slowly(listed: list[int], wanted: set[int], k: int) -> dict[str, float]:
    hits = [row in wanted for row in listed[:k]]
    gain = sum(1 / math.log2(rank + 1) for rank, hit in enumerate(hits, 1) if hit)
    best = sum(1 / math.log2(rank + 1) for rank in range(1, min(k, len(wanted)) + 1))
    return {
        f"recall@{k}": sum(hits) / len(wanted),
        f"ndcg@{k}": gain / best,
        f"mrr@{k}": 1 / (1 + hits.index(True)) if any(hits) else 0.0,
        f"hit_rate@{k}": float(any(hits)),
    }


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 10_000), m=st.integers(1, 8), n=st.integers(6, 40))
def test_metrics_are_those_of_a_reference_too_simple_to_be_wrong(seed: int, m: int, n: int) -> None:
    rows, targets = draw_lists(seed, m, n, 6)
    judged = judge(rows, targets, (1, 3, 6))
    for query in range(m):
        wanted = set(targets.item_rows[targets.offsets[query] : targets.offsets[query + 1]].tolist())
        for k in (1, 3, 6):
            for name, value in judge_slowly(rows[query].tolist(), wanted - {-1}, k).items():
                assert judged[name][query] == pytest.approx(value, abs=1e-12)


def test_metrics_agree_with_ir_measures() -> None:
    rows, targets = draw_lists(3, 60, 50, 20)
    ks = (5, 10, 20)
    judged = judge(rows, targets, ks)
    owners = np.repeat(np.arange(len(targets)), targets.sizes)
    qrels = [ir_measures.Qrel(str(q), str(i), 1) for q, i in zip(owners, targets.item_rows, strict=True)]
    run = [
        ir_measures.ScoredDoc(str(query), str(row), float(-rank))
        for query, listed in enumerate(rows)
        for rank, row in enumerate(listed)
        if row >= 0
    ]
    names = {R: "recall", nDCG: "ndcg", RR: "mrr", Success: "hit_rate"}
    measures = {measure @ k: f"{name}@{k}" for measure, name in names.items() for k in ks}
    n_compared = 0
    for figure in ir_measures.iter_calc(list(measures), qrels, run):
        assert judged[measures[figure.measure]][int(figure.query_id)] == pytest.approx(figure.value, abs=1e-9)
        n_compared += 1
    assert n_compared == len(measures) * 60


def test_recall_divides_by_all_targets_and_ndcg_by_what_fits_the_list() -> None:
    targets = Bags(np.array([0, 4]), np.arange(4, dtype=np.int32), np.ones(4, dtype=np.float32))
    judged = judge(np.array([[0, 1]]), targets, (2,))
    assert judged["recall@2"][0] == 0.5
    assert judged["ndcg@2"][0] == 1.0


def test_what_cannot_be_judged_is_refused() -> None:
    one = Bags.of_items(np.array([0]))
    empty = Bags(np.array([0, 0]), np.zeros(0, dtype=np.int32), np.zeros(0, dtype=np.float32))
    with pytest.raises(ValueError, match="cannot be judged"):
        judge(np.array([[0, 1]]), one, (3,))
    with pytest.raises(ValueError, match="no target"):
        judge(np.array([[0, 1]]), empty, (2,))
    with pytest.raises(ValueError, match="bags of targets"):
        judge(np.array([[0, 1], [1, 0]]), one, (2,))


def test_popularity_share_counts_the_most_popular_fifth() -> None:
    popularity = np.array([1, 9, 9, 2, 3, 4, 5, 6, 7, 8])  # items 1 and 2 are the fifth
    rows = np.array([[1, 2, 0, 3], [0, 3, 1, -1], [-1, -1, -1, -1]])
    shares = judge_popularity(rows, popularity, (2, 4))
    np.testing.assert_allclose(shares["popularity_share@2"], [1.0, 0.0, 0.0])
    np.testing.assert_allclose(shares["popularity_share@4"], [0.5, 1 / 3, 0.0])


def test_the_popular_fifth_is_rounded_up_and_ties_go_to_the_lower_row() -> None:
    assert np.flatnonzero(find_popular(np.array([3, 5, 5, 5, 1, 0]))).tolist() == [1, 2]
    assert find_popular(np.array([7])).tolist() == [True]
    assert find_popular(np.zeros(0, dtype=np.int64)).tolist() == []


def test_novelty_is_the_mean_information_of_the_items_shown() -> None:
    popularity = np.array([16, 8, 1, 0])
    rows = np.array([[0, 1, 2], [2, 3, -1], [-1, -1, -1]])
    found = judge_novelty(rows, popularity, 16, (1, 2, 3))
    np.testing.assert_allclose(found["novelty@1"], [0.0, 4.0, 0.0])
    np.testing.assert_allclose(found["novelty@2"], [0.5, 4.0, 0.0])
    np.testing.assert_allclose(found["novelty@3"], [5 / 3, 4.0, 0.0])  # over the items there are


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 10_000), m=st.integers(1, 8), n=st.integers(6, 40))
def test_novelty_and_popular_share_are_those_of_a_reference_too_simple_to_be_wrong(seed: int, m: int, n: int) -> None:
    rows, _ = draw_lists(seed, m, n, 6)
    popularity = np.random.default_rng(seed).integers(1, 50, n)
    popular = sorted(range(n), key=lambda row: (-popularity[row], row))[: math.ceil(n / 5)]
    novelty, shares = judge_novelty(rows, popularity, 60, (1, 4, 6)), judge_popularity(rows, popularity, (1, 4, 6))
    for query in range(m):
        for k in (1, 4, 6):
            shown = [row for row in rows[query, :k].tolist() if row >= 0]
            bits = [-math.log2(popularity[row] / 60) for row in shown]
            assert novelty[f"novelty@{k}"][query] == pytest.approx(sum(bits) / max(1, len(bits)), abs=1e-9)
            share = sum(row in popular for row in shown) / max(1, len(shown))
            assert shares[f"popularity_share@{k}"][query] == pytest.approx(share, abs=1e-9)


def test_coverage_counts_each_shown_item_once() -> None:
    rows = np.array([[1, 2, 3], [1, 3, -1]])
    assert measure_coverage(rows, 10, (1, 2, 3)) == {"coverage@1": 0.1, "coverage@2": 0.3, "coverage@3": 0.3}
