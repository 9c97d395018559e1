from __future__ import annotations

import json

import numpy as np
import pytest

from recsys_cl.evaluation import health
from recsys_cl.evaluation.health import measure_health


def test_effective_rank_is_that_of_the_singular_values(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "_BLOCK_ROWS", 7)  # the blocks must not matter
    vectors = np.random.default_rng(0).standard_normal((50, 6)).astype(np.float32) * np.arange(1, 7, dtype=np.float32)
    singular = np.linalg.svd(vectors.astype(np.float64), compute_uv=False)
    shares = singular / singular.sum()
    found = measure_health(vectors)
    assert found["effective_rank"] == pytest.approx(np.exp(-(shares * np.log(shares)).sum()), rel=1e-6)
    norms = np.linalg.norm(vectors.astype(np.float64), axis=1)
    assert (found["norm_min"], found["norm_median"], found["norm_max"]) == pytest.approx(
        (norms.min(), np.median(norms), norms.max())
    )


def test_collapse_shows_as_rank_one_and_independent_directions_as_full_rank() -> None:
    assert measure_health(np.ones((20, 8), dtype=np.float32))["effective_rank"] == pytest.approx(1.0, abs=1e-3)
    assert measure_health(np.eye(8, dtype=np.float32))["effective_rank"] == pytest.approx(8.0)


def test_rows_that_are_not_finite_are_counted_and_spoil_no_figure() -> None:
    vectors = np.eye(4, dtype=np.float32)
    broken = np.concatenate((vectors, [[np.nan, 0, 0, 0], [0, np.inf, 0, 0]])).astype(np.float32)
    found = measure_health(broken)
    assert found == measure_health(vectors) | {"n": 6, "n_nonfinite": 2}
    json.dumps(found, allow_nan=False)


@pytest.mark.parametrize("vectors", [np.zeros((0, 3)), np.zeros((5, 3)), np.full((2, 3), np.nan)])
def test_nothing_to_measure_gives_zeros(vectors: np.ndarray) -> None:
    found = measure_health(vectors.astype(np.float32))
    assert (found["norm_max"], found["effective_rank"]) == (0.0, 0.0)
