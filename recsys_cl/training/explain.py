"""The sampler's self-test: comes in a trained model, goes out how far gradients of drawn negatives lie from that of the
whole catalog, on one batch of users and their pairs.

    spread   root of the mean squared distance of a drawn gradient from their mean: the noise of one step
    bias     distance of their mean from the gradient of the whole catalog; it cannot be told from 0 below `floor`
    floor    the distance that the mean of so many draws has by chance alone: spread / √draws

All are shares of the length of the whole catalog's gradient, over the item tables (sampled softmax and its bias: Bengio
and Senécal 2008).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recsys_cl.config import Config, apply_settings
from recsys_cl.interactions.table import Interactions
from recsys_cl.model.losses import compute_loss
from recsys_cl.model.towers import TwoTowers
from recsys_cl.sampling.batches import Batch, BatchDrawer
from recsys_cl.sampling.negatives import build_negative_sampler
from recsys_cl.sampling.pairs import build_pair_source

N_USERS, N_DRAWS = 64, 30
UNCORRECTED = "popularity, no logQ correction"


@dataclass(frozen=True)
class SamplerTest:
    """One sampler: its name, what it draws for a batch, and the three shares; see the module."""

    sampler: str
    n_negatives: int
    bias: float
    floor: float
    spread: float

    def dump(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


def explain_samplers(model: TwoTowers, interactions: Interactions, config: Config) -> list[SamplerTest]:
    """Test samplers that draw as many negatives as configured, or a tenth of a catalog that would be taken whole.

    Memory: 3 × n_items × dim floats, and 64 users' logits over the whole catalog.
    """
    popularity = interactions.count_users()
    source = build_pair_source(interactions, config.sampling, config.model.history_length + 1)
    rng = np.random.default_rng([config.training.seed, 7])
    users = np.sort(rng.permutation(source.user_rows)[:N_USERS])
    n_items = int((popularity > 0).sum())
    n_negatives = min(config.sampling.n_negatives, max(1, n_items // 10))
    model.eval()  # dropout is noise of another kind

    def build_drawer(kind: str, n_negatives: int) -> BatchDrawer:
        settings = [f"sampling.negatives={kind}", f"sampling.n_negatives={n_negatives}"]
        sampler = build_negative_sampler(popularity, source.offers, apply_settings(config, settings).sampling)
        return BatchDrawer(source, sampler, len(users), config.training.seed, config.model.tied)

    wanted = _find_gradient(model, _draw(build_drawer("uniform", n_items), users, config, 0), config)
    tests = []
    for name in ("popularity", "uniform", UNCORRECTED):
        kind = "popularity" if name == UNCORRECTED else name
        drawer = build_drawer(kind, n_negatives)
        total, squares = torch.zeros_like(wanted), 0.0
        for draw in range(N_DRAWS):
            batch = _draw(drawer, users, config, draw + 1)
            if name == UNCORRECTED:
                batch = replace(batch, log_q=np.zeros_like(batch.log_q))
            gradient = _find_gradient(model, batch, config)
            total += gradient
            squares += float(gradient.square().sum())
        mean, length = total / N_DRAWS, float(wanted.norm())
        spread = max(squares / N_DRAWS - float(mean.square().sum()), 0.0) ** 0.5 / length
        bias = float((mean - wanted).norm()) / length
        tests.append(SamplerTest(name, n_negatives, bias, spread / N_DRAWS**0.5, spread))
    return tests


def _draw(drawer: BatchDrawer, users: NDArray[np.int64], config: Config, draw: int) -> Batch:
    """The same users and pairs each time, and negatives of their own."""
    seed = config.training.seed
    return drawer.draw_for(users, np.random.default_rng([seed, 8]), np.random.default_rng([seed, 9, draw]))


def _find_gradient(model: TwoTowers, batch: Batch, config: Config) -> Tensor:
    """Of the loss of a batch by the item tables, all in one line."""
    model.bag_table.take_gradient()
    compute_loss(model.compute_logits(batch), config.loss).backward()  # type: ignore[no-untyped-call]
    parts = [model.bag_table.take_gradient()]
    if model.item_table is not model.bag_table:
        parts.append(model.item_table.take_gradient())
    if model.user_table is not None:
        model.user_table.take_gradient()
    for parameter in model.parameters():
        parameter.grad = None
    return torch.cat([part.flatten() for part in parts])
