"""Evaluation of one model: comes in as vectors and the two parts of a log; goes out as metrics with intervals.

The full catalog is ranked for every judged user, never a sample of it (Krichene and Rendle, KDD 2020), with what the
user has in training left out; popularity and item-kNN are judged on the same users in the same way.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from recsys_cl.bags import Bags
from recsys_cl.config import EvaluationConfig
from recsys_cl.errors import InputError
from recsys_cl.evaluation.baselines import score_by_neighbors, score_by_popularity
from recsys_cl.evaluation.compare import build_user_table
from recsys_cl.evaluation.diversity import judge_diversity
from recsys_cl.evaluation.figures import COMPARED, ITEM_KNN, MODEL, POPULARITY, Figures, build_figures
from recsys_cl.evaluation.metrics import judge, judge_novelty, judge_popularity, measure_coverage
from recsys_cl.evaluation.slices import SliceFigures, find_slices, judge_slices
from recsys_cl.evaluation.targets import Judged, choose_judged, find_targets, keep_items
from recsys_cl.evaluation.topk import Neighbors, search_exact, search_scores
from recsys_cl.interactions.table import Interactions
from recsys_cl.progress import Progress, report_nothing

__all__ = ["Evaluation", "evaluate", "find_targets", "judge_model"]

_MODELS = (MODEL, POPULARITY, ITEM_KNN)


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` found.

    metrics: model, popularity, item_knn -> `recall@20` … -> Figure. differences: baseline -> metric -> Figure of
    model minus baseline on the same users. n_users are judged of n_users_eligible; n_items are the candidates.
    dropped counts what could not be judged: users_without_training, users_without_targets (of those with test
    events), targets_not_in_catalog, targets_seen_in_training. slices: name of a slice -> its figures, in the order of
    `find_slices`. per_user: the model's figures of each judged user, as `build_user_table` gives them; not in the dump.
    """

    n_users: int
    n_users_eligible: int
    n_items: int
    n_targets: int
    dropped: dict[str, int]
    ks: tuple[int, ...]
    confidence: float
    metrics: Figures
    differences: Figures
    slices: dict[str, SliceFigures]
    seconds: float
    per_user: pl.DataFrame | None = field(default=None, compare=False, repr=False)

    def dump(self) -> dict[str, Any]:
        """As JSON values."""
        values = asdict(replace(self, per_user=None)) | {"ks": list(self.ks)}
        del values["per_user"]
        return values

    @staticmethod
    def load(values: dict[str, Any]) -> Evaluation:
        """From what `dump` gave; an earlier version had no slices."""
        return Evaluation(**({"slices": {}} | values | {"ks": tuple(values["ks"])}))


def evaluate(
    queries: NDArray[np.float32],
    candidates: NDArray[np.float32],
    train: Interactions,
    test: Interactions,
    config: EvaluationConfig,
    seed: int,
    progress: Progress = report_nothing,
) -> Evaluation:
    """Judge a model beside popularity and item-kNN; queries [n_users, dim], candidates [n_items, dim].

    Judged are users with at least one training event and one target, at most config.most_users, drawn evenly.
    Raises InputError where nobody can be judged, ValueError where shapes do not belong together.
    """
    started = time.perf_counter()
    if len(queries) != train.n_users or len(candidates) != train.n_items:
        raise ValueError(f"{queries.shape}, {candidates.shape} for {train.n_users} users, {train.n_items} items")
    judged = choose_judged(train, test, config.most_users, np.random.default_rng([seed, 0]))
    lists: dict[str, NDArray[np.int64]] = {}
    for step, name in enumerate(_MODELS):
        progress("evaluate", step, len(_MODELS) + 2, name)
        if name == MODEL:
            model = (queries[judged.users], candidates[judged.items])
            lists[name] = search_exact(*model, max(config.ks), judged.seen, config.block_mib).rows
        else:
            lists[name] = _search_baseline(name, judged, config).rows
    progress("evaluate", len(_MODELS), len(_MODELS) + 2, "metrics")
    per_user = _judge_lists(lists, judged, config)
    compared = [f"{metric}@{k}" for metric in COMPARED for k in config.ks]
    metrics, differences = build_figures(per_user, compared, config, np.random.default_rng([seed, 1]))
    for name, rows in lists.items():
        coverage = measure_coverage(rows, len(judged.items), config.ks)
        metrics[name] |= {metric: {"value": value, "low": None, "high": None} for metric, value in coverage.items()}
    progress("evaluate", len(_MODELS) + 1, len(_MODELS) + 2, "slices")
    slices = judge_slices(find_slices(judged, train), lists, config, np.random.default_rng([seed, 2]))
    progress("evaluate", len(_MODELS) + 2, len(_MODELS) + 2, "")
    return Evaluation(
        n_users=len(judged.users),
        n_users_eligible=judged.n_users_eligible,
        n_items=len(judged.items),
        n_targets=len(judged.targets.item_rows),
        dropped=judged.dropped,
        ks=tuple(config.ks),
        confidence=config.confidence,
        metrics=metrics,
        differences=differences,
        slices=slices,
        seconds=time.perf_counter() - started,
        per_user=build_user_table(
            train.users.get_ids(judged.users), train.items.get_ids(judged.items), judged.targets, per_user[MODEL]
        ),
    )


def judge_model(
    queries: NDArray[np.float32],
    candidates: NDArray[np.float32],
    seen: Bags,
    targets: Bags,
    ks: Sequence[int],
    known: NDArray[np.bool_] | None = None,
) -> dict[str, NDArray[np.float64]]:
    """Each metric at each k of one model alone, a value for each query with a target, in order; no baselines.

    queries [m, dim]; candidates [n, dim]; seen, targets: a bag for each query; known [n]: what can be found (None:
    everything); a target that cannot is a miss. Queries without a target are left out; InputError where none is left.
    """
    asking = np.flatnonzero(targets.sizes > 0)
    if len(asking) == 0:
        raise InputError("no query has a target", "at least one user with an item to be found")
    if len(asking) < len(targets):
        queries, seen, targets = queries[asking], seen.take(asking), targets.take(asking)
    if known is None:
        rows = search_exact(queries, candidates, max(ks), seen).rows
    else:
        found = search_exact(queries, candidates[known], max(ks), keep_items(seen, known))
        rows = np.append(np.flatnonzero(known), -1)[found.rows]  # back to catalog rows; -1 stays -1
    return judge(rows, targets, ks)


def _search_baseline(name: str, judged: Judged, config: EvaluationConfig) -> Neighbors:
    n_items = len(judged.items)
    if name == POPULARITY:
        score = score_by_popularity(judged.histories, n_items)
    else:
        score = score_by_neighbors(judged.histories, judged.seen, n_items, config.knn_neighbors, config.block_mib)
    return search_scores(score, (len(judged.users), n_items), max(config.ks), judged.seen, config.block_mib)


def _judge_lists(
    lists: dict[str, NDArray[np.int64]], judged: Judged, config: EvaluationConfig
) -> dict[str, dict[str, NDArray[np.float64]]]:
    """Every metric of every model that is a mean over users, one value for each judged user."""
    popularity = np.bincount(judged.histories.item_rows, minlength=len(judged.items))
    n_users = int(np.count_nonzero(judged.histories.sizes))
    # The lists of all models at once: the cosines of the items they show are computed once.
    stacked = np.concatenate(list(lists.values()))
    diversity = judge_diversity(stacked, judged.histories, len(judged.items), config.ks, config.block_mib)
    found: dict[str, dict[str, NDArray[np.float64]]] = {}
    for place, (name, rows) in enumerate(lists.items()):
        own = slice(place * len(rows), (place + 1) * len(rows))
        found[name] = judge(rows, judged.targets, config.ks)
        found[name] |= judge_novelty(rows, popularity, n_users, config.ks)
        found[name] |= {metric: values[own] for metric, values in diversity.items()}
        found[name] |= judge_popularity(rows, popularity, config.ks)
    return found
