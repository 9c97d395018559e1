"""The gate: each kind of bad release is refused with both figures, and a good one passes."""

from __future__ import annotations

import numpy as np
import pytest

from recsys_cl.config import PublishingConfig
from recsys_cl.errors import RefusedError
from recsys_cl.publishing.gate import Gain, GateFacts, check_finite, check_gate, enforce_gate, measure_vectors

CONFIG = PublishingConfig()


def draw(n: int = 500, dim: int = 16) -> np.ndarray:
    vectors = np.random.default_rng(0).normal(size=(n, dim)).astype(np.float32)
    vectors[:, :-1] /= np.linalg.norm(vectors[:, :-1], axis=1, keepdims=True)
    vectors[:, -1] = -2.0
    return vectors


def check(
    vectors: np.ndarray | None = None,
    ann_recall: float = 1.0,
    gain: Gain | None = None,
    config: PublishingConfig = CONFIG,
) -> list[str]:
    given = draw() if vectors is None else vectors
    return check_gate(GateFacts({"item vectors": measure_vectors(given, given.shape[1] - 1)}, ann_recall, gain), config)


def test_a_good_release_passes() -> None:
    assert check(gain=Gain("ndcg@20", 0.3, 0.2, 0.05, 0.15, 900)) == []


def test_a_model_no_worse_than_chance_allows_passes() -> None:
    assert check(gain=Gain("ndcg@20", 0.19, 0.2, -0.03, 0.01, 900)) == []


@pytest.mark.parametrize("column", [0, -1])
def test_nan_is_refused_with_how_many(column: int) -> None:
    vectors = draw()
    vectors[[3, 5], column] = np.nan
    vectors[8, column] = np.inf
    check_finite({"user vectors": draw()})
    with pytest.raises(RefusedError) as caught:
        check_finite({"item vectors": vectors, "user vectors": draw()})
    assert caught.value.reasons == ["3 of 500 item vectors hold NaN or infinity, 0 may"]


@pytest.mark.parametrize("noise", [0.0, 1e-4])
def test_collapsed_vectors_are_refused(noise: float) -> None:
    vectors = draw()
    vectors[:, :-1] = vectors[0, :-1] + noise * vectors[:, :-1]
    (reason,) = check(vectors)
    assert reason.startswith("item vectors have collapsed: effective rank 1.0")
    assert reason.endswith("least 2.00")


def test_popularity_neither_hides_nor_feigns_a_collapse() -> None:
    vectors = draw()
    vectors[:, -1] = -50.0
    assert check(vectors) == []


@pytest.mark.parametrize(("n", "dim"), [(1, 16), (2, 16), (500, 2)])
def test_few_vectors_or_floats_are_no_collapse(n: int, dim: int) -> None:
    assert check(draw(n, dim)) == []


def test_an_index_that_misses_is_refused() -> None:
    assert check(ann_recall=0.91) == ["the index finds 0.9100 of the exact top 10, least 0.9500"]
    assert len(check(ann_recall=float("nan"))) == 1


def test_a_model_below_popularity_is_refused_with_both_figures() -> None:
    gain = Gain("ndcg@20", 0.1234, 0.2345, -0.13, -0.09, 900)
    (reason,) = check(gain=gain)
    assert all(figure in reason for figure in ("ndcg@20", "0.1234", "0.2345", "-0.1300", "-0.0900", "900 users"))


def test_too_few_users_are_not_judged() -> None:
    assert check(gain=Gain("ndcg@20", 0.1, 0.2, -0.13, -0.09, 49)) == []
    assert check(gain=None) == []


def test_gain_need_not_be_required() -> None:
    gain = Gain("ndcg@20", 0.1, 0.2, -0.13, -0.09, 900)
    assert check(gain=gain, config=PublishingConfig(require_gain=False)) == []


def test_every_reason_is_named() -> None:
    vectors = np.ones((500, 16), dtype=np.float32)
    assert len(check(vectors, 0.5, Gain("ndcg@20", 0.1, 0.2, -0.13, -0.09, 900))) == 3


def test_only_a_reason_forces_a_refused_release() -> None:
    enforce_gate([], None)
    enforce_gate(["bad"], "a reason")
    for forced in (None, ""):
        with pytest.raises(RefusedError, match=r"bad.*--force REASON") as caught:
            enforce_gate(["bad"], forced)
        assert (caught.value.exit_code, caught.value.reasons) == (1, ["bad"])
