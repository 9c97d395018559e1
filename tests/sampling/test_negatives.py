"""Negatives: drawn as promised, with a log_q that makes their sum the catalog's in expectation."""

from __future__ import annotations

import numpy as np
import pytest

from recsys_cl.config import SamplingConfig
from recsys_cl.sampling.negatives import NegativeSampler, build_negative_sampler

NOBODYS = np.zeros(0, dtype=np.int64)


def build(popularity: np.ndarray, power: float, n_negatives: int, kind: str = "popularity") -> NegativeSampler:
    config = SamplingConfig(popularity_power=power, n_negatives=n_negatives, negatives=kind)
    return build_negative_sampler(popularity, popularity * 0.5, config)


@pytest.mark.parametrize(("kind", "power"), [("popularity", 0.5), ("popularity", 1.0), ("uniform", 1.0)])
def test_items_are_drawn_by_popularity_to_the_power(kind: str, power: float) -> None:
    popularity = np.array([1, 4, 9, 0, 16])
    sampler = build(popularity, power, 3, kind)
    rng = np.random.default_rng(0)
    counts = np.zeros(5)
    for _ in range(20_000):
        drawn = sampler.draw(rng, NOBODYS, 0.5)
        counts[drawn.rows] += 3 * np.exp(np.log(sampler.probability[drawn.rows]) - drawn.log_q)
    wanted = np.where(popularity > 0, popularity ** (0 if kind == "uniform" else power), 0)
    assert np.abs(counts / counts.sum() - wanted / wanted.sum()).max() < 0.01
    assert counts[3] == 0, "an item without events is never offered"


def test_mined_items_are_there_for_certain_and_drawn_ones_among_them_do_not_count() -> None:
    rng = np.random.default_rng(1)
    popularity, logits, hard = rng.integers(1, 50, size=40), rng.normal(size=40), np.array([7, 3, 7])
    sampler = build(popularity, 0.75, 16, "hard")
    sums = []
    for _ in range(20_000):
        drawn = sampler.draw(rng, NOBODYS, 0.5, hard)
        assert not drawn.log_q[np.isin(drawn.rows, hard)].any()
        assert set(hard.tolist()) <= set(drawn.rows.tolist())
        sums.append(np.exp(logits[drawn.rows] - drawn.log_q).sum())
    error = np.std(sums) / np.sqrt(len(sums))
    assert abs(np.mean(sums) - np.exp(logits).sum()) < 4 * error


def test_a_small_catalog_is_taken_whole_without_correction() -> None:
    drawn = build(np.array([3, 1, 0, 2]), 0.75, 3).draw(np.random.default_rng(0), NOBODYS, 0.5)
    assert drawn.rows.tolist() == [0, 1, 3]
    assert not drawn.log_q.any()


def test_no_event_at_all_is_refused() -> None:
    with pytest.raises(ValueError, match="no item"):
        build(np.zeros(3, dtype=np.int64), 0.75, 2)
