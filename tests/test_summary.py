"""What a person reads of an evaluation: the figures there are, at the length of list that people look at."""

from __future__ import annotations

import re
from typing import Any

import pytest

from recsys_cl.summary import describe_metrics

METRICS = ("recall", "ndcg", "coverage", "novelty", "diversity", "popularity_share")


def build_evaluation(ks: tuple[int, ...]) -> dict[str, Any]:
    """Every figure is its k, in hundredths, above a thousandth that tells the model."""

    def figure(value: float) -> dict[str, float]:
        return {"value": value, "low": value - 0.01, "high": value + 0.01}

    models = {"model": 0.001, "popularity": 0.002, "item_knn": 0.003}
    metrics = {
        model: {f"{metric}@{k}": figure(k / 100 + own) for metric in METRICS for k in ks}
        for model, own in models.items()
    }
    differences = {
        name: {f"{metric}@{k}": figure(0.5) for metric in ("recall", "ndcg") for k in ks}
        for name in ("popularity", "item_knn")
    }
    part = {"n_users": 1234, "n_targets": 5678, "metrics": metrics, "differences": differences}
    nobody: dict[str, Any] = {"n_users": 0, "n_targets": 0, "metrics": {}, "differences": {}}
    counts = {"n_users": 10, "n_targets": 20, "n_items": 30, "confidence": 0.9}
    slices = {"history_1_4": nobody, "light_users": part}  # as a file sorts them
    return counts | {"ks": list(ks), "metrics": metrics, "differences": differences, "slices": slices}


@pytest.mark.parametrize(("ks", "shown"), [((5, 10, 20), 20), ((5, 10, 50), 10), ((30, 50), 30)])
def test_slices_and_what_lists_are_like_are_told_at_the_greatest_length_up_to_20(
    ks: tuple[int, ...], shown: int
) -> None:
    _, beyond, slices = (text.splitlines() for text in describe_metrics(build_evaluation(ks)).split("\n\n"))
    assert re.split("  +", beyond[0]) == [f"lists of {shown}", "coverage", "novelty", "diversity", "popularity share"]
    for line, title, own in zip(beyond[1:], ("model", "popularity", "item-kNN"), (1, 2, 3), strict=True):
        assert re.split("  +", line) == [title, *[f"{shown / 100 + own / 1000:.4f}"] * 4]
    assert re.split("  +", slices[0]) == [f"recall@{shown} of", "users", "held-out", "model", "item-kNN"]
    figures = [f"{v:.4f} [{v - 0.01:.4f}, {v + 0.01:.4f}]" for v in (shown / 100 + 0.001, shown / 100 + 0.003)]
    assert re.split("  +", slices[1]) == ["light users", "1,234", "5,678", *figures]
    assert re.split("  +", slices[2]) == ["users with 1 to 4 items", "0", "0", "–", "–"]


def test_what_an_earlier_version_measured_is_told_without_what_it_did_not() -> None:
    evaluation = build_evaluation((20,))
    del evaluation["slices"]
    for found in evaluation["metrics"].values():
        del found["novelty@20"]
    _, beyond = describe_metrics(evaluation).split("\n\n")
    assert re.split("  +", beyond.splitlines()[0]) == ["lists of 20", "coverage", "diversity", "popularity share"]
