"""The recipe: comes in training interactions, goes out vectors; every choice is made on a validation part of them.

The number of steps is chosen by early stopping on held-out training events; then the model is trained anew on all of
them for that many steps. The test part plays no role here.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys_cl.config import Config
from recsys_cl.errors import InputError, RefusedError
from recsys_cl.evaluation.evaluate import find_targets, judge_model
from recsys_cl.index.mine import mine_items
from recsys_cl.interactions.split import split_validation
from recsys_cl.interactions.table import Interactions
from recsys_cl.model.towers import TwoTowers
from recsys_cl.progress import Progress, report_nothing
from recsys_cl.training.encode import encode_candidates, encode_queries
from recsys_cl.training.trainer import DIVERGED_REMEDY, Hooks, Trained, Validation, train

VALIDATION_K = 20
_LEAST_USERS = 10  # a validation of fewer users decides by chance alone


@dataclass(frozen=True)
class Choice:
    """What was chosen on validation: n_steps of the n_planned over which the step size falls, None for all epochs;
    `reason` says why, for people."""

    n_steps: int | None
    history: list[dict[str, Any]]
    reason: str
    n_planned: int | None = None


@dataclass(frozen=True)
class Fit:
    """A model trained on one set of interactions; queries [n_users, dim], candidates [n_items, dim]."""

    model: TwoTowers
    queries: NDArray[np.float32]
    candidates: NDArray[np.float32]
    history: list[dict[str, Any]]


@dataclass(frozen=True)
class Place:
    """Where a training shows its progress, and keeps its checkpoint and its step log; None for nowhere."""

    progress: Progress = report_nothing
    checkpoint: Path | None = None
    steps: Path | None = None

    def build_hooks(self, validation: Validation | None = None) -> Hooks:
        """The hooks of a training here, hard negatives found by FAISS."""
        return Hooks(validation, mine_items, self.progress, self.checkpoint, self.steps)


def choose_steps(train_part: Interactions, config: Config, place: Place = Place()) -> Choice:
    """Train on most of the training events, stop where recall@20 of the others no longer gains.

    Without a validation part, with fewer than 10 users in it, or with too little left beside it to train on, all epochs
    are run and `reason` says so.
    """
    if not config.split.validation_share:
        return Choice(None, [], f"all {config.training.epochs} epochs: split.validation_share is 0")
    try:
        parts = split_validation(train_part, config.split, config.training.seed)
    except InputError as error:
        return Choice(None, [], f"all {config.training.epochs} epochs: no validation part ({error.found})")
    targets = find_targets(parts.train, parts.test)
    judged = np.flatnonzero((targets.sizes > 0) & (parts.train.to_bags().sizes > 0))
    if len(judged) < _LEAST_USERS:
        return Choice(None, [], f"all {config.training.epochs} epochs: only {len(judged)} users to validate on")
    rng = np.random.default_rng(config.training.seed)
    if len(judged) > config.training.validation_users:
        judged = np.sort(rng.choice(judged, config.training.validation_users, replace=False))
    seen, wanted = parts.train.to_bags().take(judged), targets.take(judged)
    known = parts.train.count_users() > 0

    def measure(queries: NDArray[np.float32], candidates: NDArray[np.float32]) -> NDArray[np.float64]:
        _check_finite(queries, candidates)
        return judge_model(queries, candidates, seen, wanted, (VALIDATION_K,), known)[f"recall@{VALIDATION_K}"]

    try:
        trained = train(parts.train, config, hooks=place.build_hooks(Validation(judged, measure)))
    except InputError as error:  # without the validation part too little is left
        return Choice(None, [], f"all {config.training.epochs} epochs: nothing to validate ({error.found})")
    chosen = next(entry for entry in trained.history if entry["step"] == trained.n_steps)
    reason = f"epoch {chosen['epoch']}: recall@{VALIDATION_K} {chosen['recall']:.4f} of {len(judged):,} users, "
    best = max(entry["recall"] for entry in trained.history if "recall" in entry)
    reason += "the best" if chosen["recall"] == best else f"not worse than the best ({best:.4f}) by more than chance"
    return Choice(trained.n_steps, trained.history, reason, trained.n_planned)


def fit(interactions: Interactions, config: Config, choice: Choice, place: Place = Place()) -> Fit:
    """Train on all of `interactions` as chosen, and encode every user and item. Raises RefusedError for NaN vectors."""
    trained: Trained = train(
        interactions, config, n_steps=choice.n_steps, n_planned=choice.n_planned, hooks=place.build_hooks()
    )
    users = np.arange(interactions.n_users)
    queries = encode_queries(trained.model, interactions.to_bags(), users)
    candidates = encode_candidates(trained.model)
    _check_finite(queries, candidates)
    return Fit(trained.model, queries, candidates, trained.history)


def _check_finite(*tables: NDArray[np.float32]) -> None:
    n_broken = sum(int((~np.isfinite(vectors).all(axis=1)).sum()) for vectors in tables)
    if n_broken:
        raise RefusedError(
            "training diverged",
            [f"{n_broken:,} vectors hold NaN or infinity"],
            DIVERGED_REMEDY,
        )
