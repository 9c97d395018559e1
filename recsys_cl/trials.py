"""Trials: comes in training interactions, goes out how well models do on a validation part that they were not trained
on. What the recipe chooses, it chooses by these figures; the test part plays no role here."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys_cl.bags import Bags
from recsys_cl.config import Config
from recsys_cl.errors import RefusedError
from recsys_cl.evaluation.evaluate import find_targets, judge_model
from recsys_cl.index.mine import mine_items
from recsys_cl.interactions.split import split_validation
from recsys_cl.interactions.table import Interactions
from recsys_cl.progress import Progress, report_nothing
from recsys_cl.training.encode import Model, encode_candidates, encode_queries
from recsys_cl.training.loop import DIVERGED_REMEDY, Hooks, Validation

Vectors = NDArray[np.float32]
VALIDATION_K = 20
LEAST_USERS = 10  # a validation of fewer users decides by chance alone
_SCALED_USERS = 1000  # whose best scores tell how large a model's logits are


@dataclass(frozen=True)
class Place:
    """Where a training shows its progress, and keeps its checkpoint and its step log; None for nowhere."""

    progress: Progress = report_nothing
    checkpoint: Path | None = None
    steps: Path | None = None

    def build_hooks(self, validation: Validation | None = None) -> Hooks:
        """The hooks of a training here, hard negatives found by FAISS."""
        return Hooks(validation, mine_items, self.progress, self.checkpoint, self.steps)

    def name(self, name: str) -> Place:
        """The place of one of several trainings here."""

        def report(what: str, done: float, total: float, note: str) -> None:
            self.progress(f"{what}, {name}", done, total, note)

        files = (p and p.with_name(f"{p.stem}-{name}{p.suffix}") for p in (self.checkpoint, self.steps))
        return Place(report, *files)


@dataclass(frozen=True)
class Judge:
    """The validation part: `train` to train on; of the users at `user_rows`, what they have seen there, and `targets`.

    known [n_items]: items with an event in `train`, the others cannot be found.
    """

    train: Interactions
    user_rows: NDArray[np.int64]
    seen: Bags
    targets: Bags
    known: NDArray[np.bool_]

    @property
    def validation(self) -> Validation:
        """For early stopping: recall@20 of each user."""
        return Validation(self.user_rows, lambda queries, candidates: self.measure(queries, candidates)[0])

    def measure(self, queries: Vectors, candidates: Vectors) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """recall@20 and ndcg@20 of each user, queries being theirs. Raises RefusedError for vectors that are NaN."""
        check_finite(queries, candidates)
        found = judge_model(queries, candidates, self.seen, self.targets, (VALIDATION_K,), self.known)
        return found[f"recall@{VALIDATION_K}"], found[f"ndcg@{VALIDATION_K}"]

    def encode(self, model: Model, history_length: int | None = None) -> tuple[Vectors, Vectors]:
        """Queries of the users, by their last history_length items (None: all), and all candidates."""
        seen = self.seen if history_length is None else self.seen.keep_last(history_length)
        return encode_queries(model, seen, self.user_rows), encode_candidates(model)


@dataclass(frozen=True)
class Figures:
    """How a model did: per_user [n] is the mean of a user's recall@20 and ndcg@20."""

    recall: float
    ndcg: float
    per_user: NDArray[np.float64]

    @property
    def value(self) -> float:
        """The mean of both, by which models are compared."""
        return float(self.per_user.mean())

    def is_better(self, other: Figures) -> bool:
        """Whether it lies above `other` by more than a standard error of the paired difference."""
        gained = self.per_user - other.per_user
        return float(gained.mean()) > float(gained.std()) / math.sqrt(len(gained))

    def describe(self) -> str:
        """Both figures."""
        return f"recall@{VALIDATION_K} {self.recall:.4f}, ndcg@{VALIDATION_K} {self.ndcg:.4f}"


def build_judge(train_part: Interactions, config: Config) -> Judge | str:
    """The validation part of the training events, or why there is none. Raises InputError where it cannot be cut."""
    if not config.split.validation_share:
        return "split.validation_share is 0"
    parts = split_validation(train_part, config.split, config.training.seed)
    targets = find_targets(parts.train, parts.test)
    judged = np.flatnonzero((targets.sizes > 0) & (parts.train.to_bags().sizes > 0))
    if len(judged) < LEAST_USERS:
        return f"only {len(judged)} users to validate on"
    rng = np.random.default_rng(config.training.seed)
    if len(judged) > config.training.validation_users:
        judged = np.sort(rng.choice(judged, config.training.validation_users, replace=False))
    seen = parts.train.to_bags().take(judged)
    return Judge(parts.train, judged, seen, targets.take(judged), parts.train.count_users() > 0)


def judge_vectors(judge: Judge, vectors: tuple[Vectors, Vectors]) -> Figures:
    """Figures of (queries of the judge's users, candidates)."""
    recalls, ndcgs = judge.measure(*vectors)
    return Figures(float(recalls.mean()), float(ndcgs.mean()), (recalls + ndcgs) / 2)


def measure_scale(vectors: tuple[Vectors, Vectors], divisor: float) -> float:
    """How far a query's best 20 logits (score over divisor) lie above its mean one, on average: their unit in a blend.

    Measured on at most 1,000 queries.
    """
    queries, candidates = vectors
    scores = queries[:: max(1, len(queries) // _SCALED_USERS)] @ candidates.T / np.float32(divisor)
    n_best = min(VALIDATION_K, scores.shape[1])
    best = np.partition(scores, scores.shape[1] - n_best, axis=1)[:, -n_best:]
    return max(float(best.mean(dtype=np.float64) - scores.mean(dtype=np.float64)), 1e-9)


def describe_stop(history: list[dict[str, Any]], n_steps: int, n_users: int) -> str:
    """Why a training stopped where it did."""
    chosen = next(entry for entry in history if entry["step"] == n_steps)
    reason = f"epoch {chosen['epoch']}: recall@{VALIDATION_K} {chosen['recall']:.4f} of {n_users:,} users, "
    best = max(entry["recall"] for entry in history if "recall" in entry)
    return reason + (
        "the best" if chosen["recall"] == best else f"not worse than the best ({best:.4f}) by more than chance"
    )


def check_finite(*tables: Vectors) -> None:
    """Raise RefusedError for vectors that are no numbers."""
    n_broken = sum(int((~np.isfinite(vectors).all(axis=1)).sum()) for vectors in tables)
    if n_broken:
        raise RefusedError(
            "training diverged",
            [f"{n_broken:,} vectors hold NaN or infinity"],
            DIVERGED_REMEDY,
        )


def free_settings(settings: Mapping[str, Any], keep: tuple[str, ...]) -> list[str]:
    """As `section.key=value`, those that may be changed."""
    from recsys_cl.config import format_value

    return [f"{name}={format_value(value)}" for name, value in settings.items() if name not in keep]
