"""The training loop: comes in interactions and the configuration, goes out a trained model and its history.

One function, `train`. It knows nothing of retrieval: how good the vectors are, and which items a query is near, it
learns from callables that its caller passes in. Seeded: same interactions, same configuration, same machine, same
vectors bit for bit, also where it was killed in between and went on from a checkpoint.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from recsys_cl.bags import Bags
from recsys_cl.config import Config
from recsys_cl.errors import ConfigError, InputError, RefusedError
from recsys_cl.interactions.table import Interactions
from recsys_cl.machine import count_cores
from recsys_cl.model.histories import Dropout
from recsys_cl.model.losses import compute_loss
from recsys_cl.model.towers import TwoTowers
from recsys_cl.progress import Progress, report_nothing
from recsys_cl.sampling.batches import Batch, BatchDrawer
from recsys_cl.sampling.negatives import build_negative_sampler
from recsys_cl.sampling.neighbors import build_neighbors
from recsys_cl.sampling.pairs import build_pair_source
from recsys_cl.training.checkpoint import Checkpoints, Snapshot, name_training
from recsys_cl.training.encode import encode_candidates, encode_queries
from recsys_cl.training.mining import Mine, mine_hard
from recsys_cl.training.optimizer import Optimizer
from recsys_cl.training.steps import StepLog
from recsys_cl.training.stopping import EarlyStop

Vectors = NDArray[np.float32]
DIVERGED_REMEDY = "look for absurd weights in the log, lower training.learning_rate, or raise model.temperature"
_DROPOUT = 3  # a stream of chance beside those of the batches


@dataclass(frozen=True)
class Validation:
    """How training judges itself: `measure(query_vectors, item_vectors)` gives a value, the larger the better, for each
    of the users at `user_rows`."""

    user_rows: NDArray[np.int64]
    measure: Callable[[Vectors, Vectors], NDArray[np.float64]]


@dataclass(frozen=True)
class Hooks:
    """What a training may use of the world: validation; mine, the search for hard negatives; progress; the files of
    its checkpoint and of its step log, None for none."""

    validation: Validation | None = None
    mine: Mine | None = None
    progress: Progress = report_nothing
    checkpoint: Path | None = None
    steps: Path | None = None


@dataclass(frozen=True)
class Trained:
    """model: as it stood at the validation that was chosen, or at the end; n_steps: steps taken to get there, of
    n_planned.

    history: one entry an epoch: `{"epoch", "step", "loss", "n_positives", "seconds"}`, positives and seconds since the
    start, validations left out; after a validation `"recall"`, and `"recall_error"`, the standard error of its mean.
    """

    model: TwoTowers
    n_steps: int
    n_planned: int
    history: list[dict[str, Any]]


@dataclass(frozen=True)
class _Step:
    """One step, as the step log tells it."""

    loss: float
    learning_rate: float
    temperature: float
    n_positives: int


@dataclass
class _Counters:
    """Where the loop stands: steps taken, and of the epoch under way its summed loss; positives and seconds so far."""

    step: int = 0
    loss: float = 0.0
    n_positives: int = 0
    seconds: float = 0.0
    history: list[dict[str, Any]] = field(default_factory=list)

    def end_epoch(self, epoch: int, n_steps: int) -> None:
        """One entry more in the history, of an epoch of n_steps steps."""
        entry = {"epoch": epoch, "step": self.step, "loss": self.loss / n_steps}
        self.history.append(entry | {"n_positives": self.n_positives, "seconds": self.seconds})
        self.loss = 0.0

    def note_validation(self, values: NDArray[np.float64]) -> dict[str, float]:
        """What the users' recalls say, added to the last entry; the part of it that the step log keeps."""
        recall, error = float(values.mean()), float(values.std() / math.sqrt(len(values)))
        self.history[-1] |= {"recall": recall, "recall_error": error}
        return {"recall": recall}


def train(
    interactions: Interactions,
    config: Config,
    *,
    n_steps: int | None = None,
    n_planned: int | None = None,
    hooks: Hooks = Hooks(),
) -> Trained:
    """Train on all of `interactions`, for `n_steps` steps, or until validation turns worse, or all epochs.

    Small logs are passed over more often than `epochs`, until `least_steps` steps are taken. The step size follows its
    schedule over all planned steps, wherever training stops; n_planned: how many those were where n_steps was chosen.
    Cost: a step takes time and memory of queries × candidates floats, queries being the users of a batch, with `next`
    the items of their stretches; the tables 12 bytes a float, and 4 for what early stopping keeps. Raises InputError
    where no user holds a pair, ConfigError where hard negatives are wanted without `mine`, or in-batch ones of nobody.
    """
    _set_threads(config)
    training, seed = config.training, config.training.seed
    popularity = interactions.count_users()
    drawer = _build_drawer(interactions, popularity, config)
    model = _build_model(interactions, popularity, drawer, config)
    epochs = max(training.epochs, -(-max(training.least_steps, n_steps or 0) // drawer.steps_an_epoch))
    total = n_planned or drawer.steps_an_epoch * epochs
    validate_every = training.validate_every * max(1, epochs // training.epochs)
    optimizer, stop, at = Optimizer(model, training, total), EarlyStop(model, training.patience), _Counters()
    dropouts = [module for module in model.modules() if isinstance(module, Dropout)]
    judged = None if hooks.validation is None else len(hooks.validation.user_rows)
    key = name_training(interactions, config, n_steps, n_planned, judged) if hooks.checkpoint else ""
    checkpoints = Checkpoints(hooks.checkpoint, key, training.checkpoint_seconds)
    at = _restore(checkpoints.read(), model, optimizer, drawer, stop) or at
    started = time.perf_counter() - at.seconds
    model.train()
    with StepLog(hooks.steps) as log:
        log.open(at.step)
        while at.step < (n_steps or total) and not stop.ended:
            epoch, place = divmod(at.step, drawer.steps_an_epoch)
            if place == 0 and config.sampling.negatives == "hard" and epoch % config.sampling.mine_every == 0:
                _mine(drawer, model, config, hooks)
            batch = drawer.draw(at.step)
            at.step += 1
            _seed_dropout(dropouts, seed, at.step)
            taken = _take_step(model, batch, optimizer, at.step, config)
            at.loss, at.n_positives = at.loss + taken.loss, at.n_positives + taken.n_positives
            at.seconds = time.perf_counter() - started
            pace = at.n_positives / at.seconds
            where = {"step": at.step, "epoch": epoch + 1, "seconds": at.seconds}
            log.write(where | asdict(taken) | {"positives_per_second": pace})
            note = f"loss {taken.loss:.3f}, {pace:,.0f} positives/s{stop.describe()}"
            hooks.progress("training", at.step, n_steps or total, note)
            if place + 1 == drawer.steps_an_epoch or at.step == n_steps:
                at.end_epoch(epoch + 1, place + 1)
                judged = (epoch + 1) % validate_every == 0 or epoch + 1 == epochs
                if hooks.validation is not None and judged and at.step != n_steps:
                    values = _validate(model, drawer.source.histories, hooks.validation)
                    started = time.perf_counter() - at.seconds  # seconds are those of training alone
                    log.write(where | at.note_validation(values))
                    stop.note(values, at.step)
            if checkpoints.is_due():
                log.flush()
                checkpoints.write(_snapshot(model, optimizer, drawer, stop, at))
    n_taken = stop.restore() or at.step
    model.settle()
    return Trained(model.eval(), n_taken, total, at.history)


def _build_drawer(interactions: Interactions, popularity: NDArray[np.int64], config: Config) -> BatchDrawer:
    sampling, batch_users = config.sampling, config.training.batch_users
    source = build_pair_source(interactions, sampling, config.model.history_length + 1)
    if not len(source.user_rows):
        within = "" if source.windows is None else " within one window (sampling.window_days, session_gap_minutes)"
        remedy = "use a longer log" if source.windows is None else "use longer windows, or a longer log"
        raise InputError(f"no user has two distinct items{within}", "users with a bag and a positive", remedy)
    if sampling.negatives == "in_batch" and min(batch_users, len(source.user_rows)) < 2:
        found = f"training.batch_users is {batch_users}, and {len(source.user_rows)} users hold a pair"
        raise ConfigError(found, "two or more of each where sampling.negatives is in_batch", "choose other negatives")
    sampler = build_negative_sampler(popularity, source.offers, sampling)
    return BatchDrawer(source, sampler, batch_users, config.training.seed, config.model.tied)


def _build_model(
    interactions: Interactions, popularity: NDArray[np.int64], drawer: BatchDrawer, config: Config
) -> TwoTowers:
    seed = config.training.seed
    model = TwoTowers(interactions.n_users, popularity, config.model, torch.Generator().manual_seed(seed))
    if config.model.neighbor_weight:
        model.smooth(build_neighbors(drawer.source.histories, interactions.n_items, config.model.n_neighbors, seed))
    return model


def _take_step(model: TwoTowers, batch: Batch, optimizer: Optimizer, step: int, config: Config) -> _Step:
    loss = compute_loss(model.compute_logits(batch, config.training.precision), config.loss)
    torch.autograd.backward(loss)
    learning_rate = optimizer.update(step)
    value = float(loss.detach())
    if not math.isfinite(value):
        raise RefusedError("training diverged", [f"the loss of step {step} is {value}"], DIVERGED_REMEDY)
    return _Step(value, learning_rate, float(model.temperature.detach()), batch.n_positives)


def _mine(drawer: BatchDrawer, model: TwoTowers, config: Config, hooks: Hooks) -> None:
    """Find new hard negatives; a catalog that is taken whole needs none."""
    if drawer.sampler.takes_all:
        return
    if hooks.mine is None:
        raise ConfigError("sampling.negatives is hard, but there is nothing to search with", "a function `mine`")
    source = drawer.source
    drawable = drawer.sampler.drawable
    drawer.hard = mine_hard(model, source.histories, source.user_rows, drawable, config.sampling, hooks.mine)


def _validate(model: TwoTowers, histories: Bags, validation: Validation) -> NDArray[np.float64]:
    queries = encode_queries(model, histories.take(validation.user_rows), validation.user_rows)
    return validation.measure(queries, encode_candidates(model))


def _snapshot(model: TwoTowers, optimizer: Optimizer, drawer: BatchDrawer, stop: EarlyStop, at: _Counters) -> Snapshot:
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    tensors |= {f"optimizer.{name}": value for name, value in optimizer.get_state().items()}
    tensors |= {f"stop.{name}": value for name, value in stop.get_tensors().items()}
    if drawer.hard is not None:
        tensors["hard.offsets"] = torch.from_numpy(drawer.hard.offsets)
        tensors["hard.item_rows"] = torch.from_numpy(drawer.hard.item_rows)
    return Snapshot(tensors, {"counters": asdict(at), "stop": stop.get_figures()})


def _restore(
    snapshot: Snapshot | None, model: TwoTowers, optimizer: Optimizer, drawer: BatchDrawer, stop: EarlyStop
) -> _Counters | None:
    """Put everything back; None where there is nothing to go on from."""
    if snapshot is None:
        return None
    parts: dict[str, dict[str, torch.Tensor]] = {"model": {}, "optimizer": {}, "stop": {}, "hard": {}}
    for name, value in snapshot.tensors.items():
        part, _, rest = name.partition(".")
        parts[part][rest] = value
    model.load_state_dict(parts["model"])
    optimizer.set_state(parts["optimizer"])
    stop.set_state(parts["stop"], snapshot.figures["stop"])
    if parts["hard"]:
        rows = parts["hard"]["item_rows"].numpy()
        drawer.hard = Bags(parts["hard"]["offsets"].numpy(), rows, np.ones(len(rows), dtype=np.float32))
    return _Counters(**snapshot.figures["counters"])


def _seed_dropout(dropouts: Sequence[Dropout], seed: int, step: int) -> None:
    """One stream of chance for all of them, which depends on seed and step alone."""
    if dropouts:
        generator = torch.Generator()
        generator.manual_seed(int(np.random.SeedSequence([seed, _DROPOUT, step]).generate_state(1)[0]))
        for dropout in dropouts:
            dropout.generator = generator


def _set_threads(config: Config) -> None:
    torch.set_num_threads(config.training.n_threads or count_cores())
