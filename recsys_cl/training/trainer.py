"""Training on user histories: comes in interactions and the configuration, goes out a trained model and its history.

One function, `train`. It knows nothing of retrieval: how good the vectors are, and which items a query is near, it
learns from callables that its caller passes in.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recsys_cl.bags import Bags
from recsys_cl.config import Config
from recsys_cl.errors import ConfigError, InputError
from recsys_cl.interactions.table import Interactions
from recsys_cl.model.losses import compute_loss
from recsys_cl.model.towers import TwoTowers
from recsys_cl.sampling.batches import BatchDrawer
from recsys_cl.sampling.negatives import build_negative_sampler
from recsys_cl.sampling.neighbors import build_neighbors
from recsys_cl.sampling.pairs import build_pair_source
from recsys_cl.training.checkpoint import name_training
from recsys_cl.training.encode import encode_candidates, encode_queries
from recsys_cl.training.loop import Course, Hooks, Vectors, run_loop, set_threads
from recsys_cl.training.mining import mine_hard


@dataclass(frozen=True)
class Trained(Course):
    """model: as it stood at the validation that was chosen, or at the end; the rest as in `Course`."""

    model: TwoTowers


def train(
    interactions: Interactions,
    config: Config,
    *,
    n_steps: int | None = None,
    n_planned: int | None = None,
    hooks: Hooks = Hooks(),
) -> Trained:
    """Train on all of `interactions`; n_steps and n_planned as in `run_loop`.

    Cost: a step takes time and memory of queries × (candidates + query_hidden) floats, queries being the users of a
    batch, with `next` the items of their stretches; the tables 12 bytes a float, 4 for what early stopping keeps, and 4
    for an average. Raises InputError where no user holds a pair, ConfigError where hard negatives are wanted without
    `mine`, or in-batch ones of nobody.
    """
    set_threads(config.training)
    drawer = build_drawer(interactions, config)
    model = _build_model(interactions, drawer, config)
    judged = None if hooks.validation is None else len(hooks.validation.user_rows)
    key = name_training(interactions, config, n_steps, n_planned, judged) if hooks.checkpoint else ""
    course = run_loop(_PairLearner(model, drawer, config, hooks), config.training, key, hooks, n_steps, n_planned)
    model.settle()
    return Trained(course.n_steps, course.n_planned, course.history, model)


@dataclass
class _PairLearner:
    """Learns positive pairs of user histories; see `Learner`."""

    model: TwoTowers
    drawer: BatchDrawer
    config: Config
    hooks: Hooks

    @property
    def steps_an_epoch(self) -> int:
        return self.drawer.steps_an_epoch

    def begin_epoch(self, epoch: int) -> None:
        """Find new hard negatives where they are wanted; a catalog that is taken whole needs none."""
        drawer, sampling = self.drawer, self.config.sampling
        if sampling.negatives != "hard" or epoch % sampling.mine_every or drawer.sampler.takes_all:
            return
        if self.hooks.mine is None:
            raise ConfigError("sampling.negatives is hard, but there is nothing to search with", "a function `mine`")
        source, drawable = drawer.source, drawer.sampler.drawable
        drawer.hard = mine_hard(self.model, source.histories, source.user_rows, drawable, sampling, self.hooks.mine)

    def compute_loss(self, step: int) -> tuple[Tensor, int]:
        batch = self.drawer.draw(step)
        logits = self.model.compute_logits(batch, self.config.training.precision)
        return compute_loss(logits, self.config.loss), batch.n_positives

    def encode(self, user_rows: NDArray[np.int64]) -> tuple[Vectors, Vectors]:
        queries = encode_queries(self.model, self.drawer.source.histories.take(user_rows), user_rows)
        return queries, encode_candidates(self.model)

    def get_tensors(self) -> dict[str, Tensor]:
        hard = self.drawer.hard
        if hard is None:
            return {}
        return {"offsets": torch.from_numpy(hard.offsets), "item_rows": torch.from_numpy(hard.item_rows)}

    def set_tensors(self, tensors: dict[str, Tensor]) -> None:
        if tensors:
            rows = tensors["item_rows"].numpy()
            self.drawer.hard = Bags(tensors["offsets"].numpy(), rows, np.ones(len(rows), dtype=np.float32))


def build_drawer(interactions: Interactions, config: Config) -> BatchDrawer:
    """What draws the batches of a training. Raises InputError and ConfigError as `train`."""
    sampling, batch_users = config.sampling, config.training.batch_users
    source = build_pair_source(interactions, sampling, config.model.history_length + 1)
    if not len(source.user_rows):
        within = "" if source.windows is None else " within one window (sampling.window_days, session_gap_minutes)"
        remedy = "use a longer log" if source.windows is None else "use longer windows, or a longer log"
        raise InputError(f"no user has two distinct items{within}", "users with a bag and a positive", remedy)
    if sampling.negatives == "in_batch" and min(batch_users, len(source.user_rows)) < 2:
        found = f"training.batch_users is {batch_users}, and {len(source.user_rows)} users hold a pair"
        raise ConfigError(found, "two or more of each where sampling.negatives is in_batch", "choose other negatives")
    sampler = build_negative_sampler(interactions.count_users(), source.offers, sampling)
    return BatchDrawer(source, sampler, batch_users, config.training.seed, config.model.tied)


def _build_model(interactions: Interactions, drawer: BatchDrawer, config: Config) -> TwoTowers:
    seed, generator = config.training.seed, torch.Generator().manual_seed(config.training.seed)
    model = TwoTowers(interactions.n_users, interactions.count_users(), config.model, generator)
    if config.model.neighbor_weight:
        model.smooth(build_neighbors(drawer.source.histories, interactions.n_items, config.model.n_neighbors, seed))
    return model
