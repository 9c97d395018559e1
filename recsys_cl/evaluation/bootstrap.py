"""Intervals of means by the percentile bootstrap over users (Efron, Annals of Statistics 1979).

Comes in as one line a user and one column a figure; goes out the mean and interval of each column. All columns see
the same resamples, so that a column that holds the difference of two models gives the paired comparison.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_HELD_DRAWS = 1 << 22  # drawn users held at a time: 32 MiB


@dataclass(frozen=True)
class Intervals:
    """values, low, high [c] float64: the mean of each column and the ends of its interval."""

    values: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


def resample_means(
    values: NDArray[np.float64], n_resamples: int, confidence: float, rng: np.random.Generator
) -> Intervals:
    """Mean of each column of values [m, c], m >= 1, with the interval that holds `confidence` of the resampled means.

    Each resample draws m users with replacement; a product with how often each was drawn gives all columns at once.
    Memory: some 64 MiB, and n_resamples x c floats. Raises ValueError for no users.
    """
    m = len(values)
    if m == 0:
        raise ValueError("no users to resample")
    means = np.empty((n_resamples, values.shape[1]))
    n_held = max(1, _HELD_DRAWS // m)
    for start in range(0, n_resamples, n_held):
        stop = min(start + n_held, n_resamples)
        drawn = rng.integers(m, size=(stop - start, m))
        drawn += np.arange(stop - start)[:, None] * m
        times = np.bincount(drawn.ravel(), minlength=(stop - start) * m).reshape(stop - start, m)
        means[start:stop] = times.astype(np.float64) @ values / m
    edge = (1.0 - confidence) / 2
    low, high = np.quantile(means, [edge, 1.0 - edge], axis=0)
    return Intervals(values.mean(axis=0), low, high)
