"""The training loop: comes in interactions and the configuration, goes out a trained model and its history.

One function, `train`. It knows nothing of retrieval: how good the vectors are it learns from a callable
`(query_vectors, item_vectors) -> a value for each judged user` that its caller passes in. Seeded: same
interactions, same configuration, same machine, same vectors bit for bit.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from recsys_cl.bags import Bags
from recsys_cl.config import Config, TrainingConfig
from recsys_cl.errors import InputError
from recsys_cl.interactions.table import Interactions
from recsys_cl.model.losses import compute_sampled_softmax
from recsys_cl.model.towers import TwoTowers
from recsys_cl.progress import Progress, report_nothing
from recsys_cl.sampling.batches import Batch, BatchDrawer
from recsys_cl.sampling.negatives import build_negative_sampler
from recsys_cl.sampling.pairs import build_pair_source
from recsys_cl.training.encode import encode_candidates, encode_queries

Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class Validation:
    """How training judges itself: `measure(query_vectors, item_vectors)` gives a value, the larger the better, for each
    of the users at `user_rows`."""

    user_rows: NDArray[np.int64]
    measure: Callable[[Vectors, Vectors], NDArray[np.float64]]


@dataclass(frozen=True)
class Trained:
    """model: as it stood at the validation that was chosen, or at the end; n_steps: steps taken to get there.

    history: one entry a validation or epoch: `{"epoch", "step", "loss", "recall", "seconds"}`.
    """

    model: TwoTowers
    n_steps: int
    history: list[dict[str, Any]] = field(default_factory=list)


def train(
    interactions: Interactions,
    config: Config,
    *,
    n_steps: int | None = None,
    validation: Validation | None = None,
    progress: Progress = report_nothing,
) -> Trained:
    """Train on all of `interactions`, for `n_steps` steps, or until `validation` turns worse, or all epochs.

    Small logs are passed over more often than `epochs`, until `least_steps` steps are taken. The step size falls in a
    line from `learning_rate` to 0 over all of them, wherever training stops, so that `n_steps` steps mean the same with
    and without validation. Cost: a step takes time and memory of batch_users × n_negatives
    floats; the tables 12 bytes a float. Raises InputError where no user has two distinct items.
    """
    training = config.training
    _set_threads(training)
    rng = np.random.default_rng(training.seed)
    popularity = interactions.count_users()
    model = TwoTowers(interactions.n_users, popularity, config.model, torch.Generator().manual_seed(training.seed))
    sampling = config.sampling
    sampler = build_negative_sampler(popularity, sampling.popularity_power, sampling.n_negatives)
    source = build_pair_source(interactions, sampling)
    drawer = BatchDrawer(source, sampler, sampling)
    steps_an_epoch = drawer.count_steps(training.batch_users)
    if not steps_an_epoch:
        raise InputError("no user has two distinct items", "users with a bag and a positive", "use a longer log")
    epochs = max(training.epochs, -(-max(training.least_steps, n_steps or 0) // steps_an_epoch))
    total, validate_every = steps_an_epoch * epochs, training.validate_every * max(1, epochs // training.epochs)
    stop = _EarlyStop(model, training.patience)
    history: list[dict[str, Any]] = []
    step, n_pairs, started = 0, 0, time.perf_counter()
    losses: list[float] = []
    for epoch in range(1, epochs + 1):
        losses.clear()
        for batch in drawer.draw_epoch(training.batch_users, rng):
            step += 1
            losses.append(_take_step(model, batch, step, max(1 - step / (total + 1), 0.0), training))
            n_pairs += len(batch.positives.item_rows)
            seconds = time.perf_counter() - started
            note = f"loss {losses[-1]:.3f}, {n_pairs / seconds:,.0f} positives/s{stop.describe()}"
            progress("training", step, n_steps or total, note)
            if step == n_steps:
                break
        entry = {"epoch": epoch, "step": step, "loss": float(np.mean(losses)), "seconds": time.perf_counter() - started}
        history.append(entry)
        if step == n_steps:
            break
        if validation is not None and (epoch % validate_every == 0 or epoch == epochs):
            values = _validate(model, source.bags, validation)
            entry["recall"] = float(values.mean())
            if stop.note(values, step):
                break
    if validation is not None:
        step = stop.restore()
    return Trained(model, step, history)


def _take_step(model: TwoTowers, batch: Batch, step: int, decay: float, config: TrainingConfig) -> float:
    logits = model.compute_logits(batch)
    loss = compute_sampled_softmax(logits.positives, logits.owners, logits.weights, logits.candidates, logits.hits)
    torch.autograd.backward(loss)
    for table in model.tables.values():
        table.update(step, config.learning_rate * decay, config.weight_decay)
    return float(loss.detach())


def _validate(model: TwoTowers, bags: Bags, validation: Validation) -> NDArray[np.float64]:
    queries = encode_queries(model, bags.take(validation.user_rows), validation.user_rows)
    return validation.measure(queries, encode_candidates(model))


class _EarlyStop:
    """Keeps the tables of the latest validation that is not worse than the best by more than chance, and stops after
    `patience` in a row that are: few users say little, and a longer training, its steps fallen further, is safer.

    Chance is the standard error of the mean paired difference over the users (Breiman et al. 1984, the 1-SE rule).
    """

    def __init__(self, model: TwoTowers, patience: int) -> None:
        self._model, self._patience = model, patience
        self._best, self._step, self._waited = np.array([-np.inf]), 0, 0
        self._kept: dict[str, torch.Tensor] = {}

    def note(self, values: NDArray[np.float64], step: int) -> bool:
        """Take note of a validation [n_users]; true where training should stop."""
        if values.mean() >= self._best.mean():
            self._best = values
        lost = self._best - values
        if lost.mean() > lost.std() / np.sqrt(len(lost)):
            self._waited += 1
            return self._waited >= self._patience
        self._step, self._waited = step, 0
        self._kept = {name: table.table.clone() for name, table in self._model.tables.items()}
        return False

    def restore(self) -> int:
        """Put the kept tables back; gives the step they stood at."""
        for name, table in self._kept.items():
            self._model.tables[name].table.copy_(table)
        return self._step

    def describe(self) -> str:
        """The best value so far, for people."""
        return f", best recall {self._best.mean():.4f}" if self._kept else ""


def _set_threads(config: TrainingConfig) -> None:
    torch.set_num_threads(config.n_threads or len(os.sched_getaffinity(0)))
