"""The training loop: comes in something that learns, goes out how that went.

One function, `run_loop`; what is learned, and from what, is the learner's: user histories (`trainer.py`) or pictures
(`pictures.py`). Seeded: same learner, same settings, same machine, same vectors bit for bit, also where it was killed
in between and went on from a checkpoint.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recsys_cl.config import TrainingConfig
from recsys_cl.errors import RefusedError
from recsys_cl.machine import count_cores
from recsys_cl.model.encoders import Trainable
from recsys_cl.model.histories import Dropout
from recsys_cl.progress import Progress, report_nothing
from recsys_cl.training.averaging import Average
from recsys_cl.training.checkpoint import Checkpoints, Snapshot
from recsys_cl.training.mining import Mine
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


class Learner(Protocol):
    """What the loop trains: a model, and the batches it learns from. What a step draws depends on its number alone."""

    @property
    def model(self) -> Trainable:
        """What is updated."""

    @property
    def steps_an_epoch(self) -> int:
        """Steps in which everything comes once."""

    def begin_epoch(self, epoch: int) -> None:
        """Called before the first step of each epoch, which counts from 0."""

    def compute_loss(self, step: int) -> tuple[Tensor, int]:
        """The loss of a step, which counts from 0, and the number of its positives."""

    def encode(self, user_rows: NDArray[np.int64]) -> tuple[Vectors, Vectors]:
        """Queries of these users [n, dim] and all candidates [n_items, dim], to validate by."""

    def get_tensors(self) -> dict[str, Tensor]:
        """What a checkpoint must keep beside the model, the optimizer and the early stop."""

    def set_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Go on from what `get_tensors` gave."""


@dataclass(frozen=True)
class Course:
    """How a training went. n_steps: steps taken to the validation that was chosen, or to the end, of n_planned.

    history: one entry an epoch: `{"epoch", "step", "loss", "n_positives", "seconds"}`, positives and seconds since the
    start, validations left out; after a validation `"recall"`, and `"recall_error"`, the standard error of its mean.
    """

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


@dataclass(frozen=True)
class _State:
    """What the loop keeps beside the model and its learner."""

    optimizer: Optimizer
    average: Average
    stop: EarlyStop


def run_loop(
    learner: Learner, config: TrainingConfig, key: str, hooks: Hooks, n_steps: int | None, n_planned: int | None
) -> Course:
    """Train for `n_steps` steps, or until validation turns worse, or all epochs; the model ends as it should be kept.

    Small logs are passed over more often than `epochs`, until `least_steps` steps are taken. The step size follows its
    schedule over all planned steps, wherever training stops; n_planned: how many those were where n_steps was chosen.
    key: names this training, whose checkpoint alone it goes on from. Raises RefusedError where the loss is no number.
    """
    set_threads(config)
    model = learner.model
    epochs = max(config.epochs, -(-max(config.least_steps, n_steps or 0) // learner.steps_an_epoch))
    total = n_planned or learner.steps_an_epoch * epochs
    validate_every = config.validate_every * max(1, epochs // config.epochs)
    state = _State(
        Optimizer(model, config, total), Average(model, config.average_power), EarlyStop(model, config.patience)
    )
    dropouts = [module for module in model.modules() if isinstance(module, Dropout)]
    checkpoints = Checkpoints(hooks.checkpoint, key, config.checkpoint_seconds)
    at, stop = _restore(checkpoints.read(), learner, state) or _Counters(), state.stop
    started = time.perf_counter() - at.seconds
    model.train()
    with StepLog(hooks.steps) as log:
        log.open(at.step)
        while at.step < (n_steps or total) and not stop.ended:
            epoch, place = divmod(at.step, learner.steps_an_epoch)
            if place == 0:
                learner.begin_epoch(epoch)
            at.step += 1
            _seed_dropout(dropouts, config.seed, at.step)
            taken = _take_step(learner, state.optimizer, at.step)
            state.average.note(at.step)
            at.loss, at.n_positives = at.loss + taken.loss, at.n_positives + taken.n_positives
            at.seconds = time.perf_counter() - started
            pace = at.n_positives / at.seconds
            where = {"step": at.step, "epoch": epoch + 1, "seconds": at.seconds}
            log.write(where | asdict(taken) | {"positives_per_second": pace})
            note = f"loss {taken.loss:.3f}, {pace:,.0f} positives/s{stop.describe()}"
            hooks.progress("training", at.step, n_steps or total, note)
            if place + 1 == learner.steps_an_epoch or at.step == n_steps:
                at.end_epoch(epoch + 1, place + 1)
                judged = (epoch + 1) % validate_every == 0 or epoch + 1 == epochs
                if hooks.validation is not None and judged and at.step != n_steps:
                    with state.average.applied():
                        values = hooks.validation.measure(*learner.encode(hooks.validation.user_rows))
                        stop.note(values, at.step)
                    started = time.perf_counter() - at.seconds  # seconds are those of training alone
                    log.write(where | at.note_validation(values))
            if checkpoints.is_due():
                log.flush()
                checkpoints.write(_snapshot(learner, state, at))
    state.average.settle()
    n_taken = stop.restore() or at.step
    model.eval()
    return Course(n_taken, total, at.history)


def set_threads(config: TrainingConfig) -> None:
    """Give torch the threads that it may use."""
    torch.set_num_threads(config.n_threads or count_cores())


def _take_step(learner: Learner, optimizer: Optimizer, step: int) -> _Step:
    loss, n_positives = learner.compute_loss(step - 1)
    torch.autograd.backward(loss)
    learning_rate = optimizer.update(step)
    value = float(loss.detach())
    if not math.isfinite(value):
        raise RefusedError("training diverged", [f"the loss of step {step} is {value}"], DIVERGED_REMEDY)
    return _Step(value, learning_rate, float(learner.model.temperature.detach()), n_positives)


def _snapshot(learner: Learner, state: _State, at: _Counters) -> Snapshot:
    parts = {
        "model": learner.model.state_dict(),
        "optimizer": state.optimizer.get_state(),
        "average": state.average.get_tensors(),
        "stop": state.stop.get_tensors(),
        "learner": learner.get_tensors(),
    }
    tensors = {f"{part}.{name}": value for part, values in parts.items() for name, value in values.items()}
    figures = {"counters": asdict(at), "average": state.average.get_figures(), "stop": state.stop.get_figures()}
    return Snapshot(tensors, figures)


def _restore(snapshot: Snapshot | None, learner: Learner, state: _State) -> _Counters | None:
    """Put everything back; None where there is nothing to go on from."""
    if snapshot is None:
        return None
    parts: dict[str, dict[str, Tensor]] = {name: {} for name in ("model", "optimizer", "average", "stop", "learner")}
    for name, value in snapshot.tensors.items():
        part, _, rest = name.partition(".")
        parts[part][rest] = value
    learner.model.load_state_dict(parts["model"])
    state.optimizer.set_state(parts["optimizer"])
    state.average.set_state(parts["average"], snapshot.figures["average"])
    state.stop.set_state(parts["stop"], snapshot.figures["stop"])
    learner.set_tensors(parts["learner"])
    return _Counters(**snapshot.figures["counters"])


def _seed_dropout(dropouts: Sequence[Dropout], seed: int, step: int) -> None:
    """One stream of chance for all of them, which depends on seed and step alone."""
    if dropouts:
        generator = torch.Generator()
        generator.manual_seed(int(np.random.SeedSequence([seed, _DROPOUT, step]).generate_state(1)[0]))
        for dropout in dropouts:
            dropout.generator = generator
