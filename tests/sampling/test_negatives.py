"""Negatives: drawn as promised, with a log_q that makes their sum the catalog's in expectation."""

from __future__ import annotations

import numpy as np
import pytest

from recsys_cl.sampling.negatives import build_negative_sampler


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_items_are_drawn_by_popularity_to_the_power(power: float) -> None:
    popularity = np.array([1, 4, 9, 0, 16])
    sampler = build_negative_sampler(popularity, power, 4)
    rng = np.random.default_rng(0)
    counts = np.zeros(5)
    for _ in range(20_000):
        drawn = sampler.draw(rng)
        repeats = 4 * np.exp(sampler.log_probability[drawn.rows] - drawn.log_q)
        counts[drawn.rows] += repeats
    wanted = np.where(popularity > 0, popularity**power, 0)
    assert np.abs(counts / counts.sum() - wanted / wanted.sum()).max() < 0.01
    assert counts[3] == 0, "an item without events is never offered"


def test_corrected_sum_of_exponentials_is_the_catalogs_in_expectation() -> None:
    rng = np.random.default_rng(1)
    popularity, logits = rng.integers(1, 50, size=40), rng.normal(size=40)
    sampler = build_negative_sampler(popularity, 0.75, 16)
    sums = []
    for _ in range(20_000):
        drawn = sampler.draw(rng)
        sums.append(np.exp(logits[drawn.rows] - drawn.log_q).sum())
    error = np.std(sums) / np.sqrt(len(sums))
    assert abs(np.mean(sums) - np.exp(logits).sum()) < 4 * error


def test_a_small_catalog_is_taken_whole_without_correction() -> None:
    drawn = build_negative_sampler(np.array([3, 1, 2]), 0.75, 3).draw(np.random.default_rng(0))
    assert drawn.rows.tolist() == [0, 1, 2]
    assert not drawn.log_q.any()


def test_no_event_at_all_is_refused() -> None:
    with pytest.raises(ValueError, match="no item"):
        build_negative_sampler(np.zeros(3, dtype=np.int64), 0.75, 2)
