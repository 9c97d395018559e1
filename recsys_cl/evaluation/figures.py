"""Figures of models: comes in as one value a user for each metric, goes out means with intervals, beside baselines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from recsys_cl.config import EvaluationConfig
from recsys_cl.evaluation.bootstrap import Intervals, resample_means

MODEL, POPULARITY, ITEM_KNN = "model", "popularity", "item_knn"
COMPARED = ("recall", "ndcg")  # the metrics whose difference to each baseline gets an interval

Figure = dict[str, float | None]
"""`{"value": …, "low": …, "high": …}`; low and high are None where a figure is not a mean over users (coverage)."""
Figures = dict[str, dict[str, Figure]]
PerUser = Mapping[str, Mapping[str, NDArray[np.float64]]]
"""model -> metric -> one value a user [m], of the same users for all."""


def build_figures(
    per_user: PerUser, compared: Sequence[str], config: EvaluationConfig, rng: np.random.Generator
) -> tuple[Figures, Figures]:
    """Metrics of each model, and baseline -> metric -> model minus baseline for the `compared` ones; at least one user.

    All come from one set of resamples, so that the differences are paired.
    """
    columns = [((name, metric), values) for name, judged in per_user.items() for metric, values in judged.items()]
    baselines = [name for name in per_user if name != MODEL]
    columns += [
        ((f"{MODEL} - {name}", metric), per_user[MODEL][metric] - per_user[name][metric])
        for name in baselines
        for metric in compared
    ]
    values = np.stack([column for _, column in columns], axis=1)
    intervals = resample_means(values, config.n_resamples, config.confidence, rng)
    figures = {key: get_figure(intervals, place) for place, (key, _) in enumerate(columns)}
    metrics = {name: {metric: figures[name, metric] for metric in judged} for name, judged in per_user.items()}
    return metrics, {name: {m: figures[f"{MODEL} - {name}", m] for m in compared} for name in baselines}


def get_figure(intervals: Intervals, place: int) -> Figure:
    """The mean of one column with its interval."""
    return {
        "value": float(intervals.values[place]),
        "low": float(intervals.low[place]),
        "high": float(intervals.high[place]),
    }
