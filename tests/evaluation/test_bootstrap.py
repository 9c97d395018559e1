from __future__ import annotations

import numpy as np
import pytest

from recsys_cl.evaluation import bootstrap
from recsys_cl.evaluation.bootstrap import resample_means


def test_intervals_are_those_of_resampling_one_by_one() -> None:
    values = np.random.default_rng(0).exponential(size=(80, 3))
    found = resample_means(values, 4000, 0.9, np.random.default_rng(1))
    rng = np.random.default_rng(2)
    means = np.array([values[rng.integers(80, size=80)].mean(axis=0) for _ in range(4000)])
    low, high = np.quantile(means, [0.05, 0.95], axis=0)
    np.testing.assert_allclose(found.values, values.mean(axis=0))
    np.testing.assert_allclose(found.low, low, atol=0.02)
    np.testing.assert_allclose(found.high, high, atol=0.02)


def test_intervals_hold_the_true_mean_as_often_as_they_say() -> None:
    rng = np.random.default_rng(3)
    values = rng.exponential(size=(150, 400))  # 400 independent experiments with a mean of 1
    found = resample_means(values, 500, 0.9, rng)
    assert np.mean((found.low <= 1.0) & (found.high >= 1.0)) == pytest.approx(0.9, abs=0.05)


def test_a_paired_difference_is_sharper_than_two_intervals() -> None:
    rng = np.random.default_rng(4)
    ease = rng.random(500)  # some users are easier to serve, for both models
    first, second = ease + 0.02 + 0.01 * rng.standard_normal(500), ease
    found = resample_means(np.stack([first, second, first - second], axis=1), 500, 0.95, rng)
    assert found.low[0] < found.high[1]  # the models' own intervals overlap
    assert found.low[2] > 0.0  # and yet the first is better


def test_the_same_seed_gives_the_same_interval_and_memory_does_not_change_it(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(5).random((30, 2))
    first = resample_means(values, 300, 0.95, np.random.default_rng(6))
    monkeypatch.setattr(bootstrap, "_HELD_DRAWS", 100)
    again = resample_means(values, 300, 0.95, np.random.default_rng(6))
    np.testing.assert_allclose(first.low, again.low, rtol=1e-12)
    np.testing.assert_allclose(first.high, again.high, rtol=1e-12)


def test_one_user_has_an_interval_without_width_and_none_is_refused() -> None:
    found = resample_means(np.array([[0.25]]), 100, 0.95, np.random.default_rng(0))
    assert (found.low[0], found.values[0], found.high[0]) == (0.25, 0.25, 0.25)
    with pytest.raises(ValueError, match="no users"):
        resample_means(np.zeros((0, 2)), 100, 0.95, np.random.default_rng(0))
