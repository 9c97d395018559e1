"""The optimizer: comes in gradients, goes out one step of every table and weight of a model.

Adam throughout (Kingma and Ba 2015). Tables update the rows that a step touched; what is no table is updated whole,
with a step size of its own.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from recsys_cl.config import TrainingConfig
from recsys_cl.model.encoders import RowTable, move_by_adam


class Optimizer:
    """Updates one model; `total` steps are planned."""

    def __init__(self, model: nn.Module, config: TrainingConfig, total: int) -> None:
        self._config, self._total = config, total
        self._tables = [module for module in model.modules() if isinstance(module, RowTable)]
        self._weights = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
        self._moments = {
            name: (torch.zeros_like(weight), torch.zeros_like(weight)) for name, weight in self._weights.items()
        }

    def update(self, step: int) -> float:
        """Take the step, which counts from 1, along the gradients that stand in the model, and clear them; gives the
        step size of the tables."""
        scale, decay = scale_step(step, self._total, self._config), self._config.weight_decay
        self._clip()
        for table in self._tables:
            table.update(step, self._config.learning_rate * scale, decay)
        for name, weight in self._weights.items():
            if weight.grad is not None:
                size = self._config.tower_learning_rate * scale
                # Biases, gains and the temperature have no reason to be near 0.
                shrink = decay if weight.dim() > 1 else 0.0
                move_by_adam(weight.detach(), weight.grad, self._moments[name], step, size, shrink)
                weight.grad = None
        return self._config.learning_rate * scale

    def get_state(self) -> dict[str, Tensor]:
        """The moments of all weights that are no tables, by name; those of tables are part of the model."""
        return {
            f"{name}.{which}": moment
            for name, moments in self._moments.items()
            for which, moment in zip(("first", "second"), moments, strict=True)
        }

    def set_state(self, values: dict[str, Tensor]) -> None:
        """Go on from what `get_state` gave."""
        self._moments = {name: (values[f"{name}.first"], values[f"{name}.second"]) for name in self._weights}

    def _clip(self) -> None:
        if not self._config.clip_norm:
            return
        gradients = [gradient for table in self._tables for gradient in table.gradients]
        gradients += [weight.grad for weight in self._weights.values() if weight.grad is not None]
        norm = math.sqrt(sum(float(gradient.square().sum()) for gradient in gradients))
        if norm > self._config.clip_norm:
            for gradient in gradients:
                gradient.mul_(self._config.clip_norm / norm)


def scale_step(step: int, total: int, config: TrainingConfig) -> float:
    """What the greatest step size is multiplied with at `step` of `total`, both counted from 1.

    Over the first warmup_share of the steps it rises in a line from 0; then it falls to 0 behind the last step, in a
    line or along half a cosine (Loshchilov and Hutter, ICLR 2017), or stays.
    """
    warm = config.warmup_share * total
    if step < warm:
        return step / warm
    passed = min(1.0, (step - warm) / (total + 1 - warm))
    if config.schedule == "constant":
        return 1.0
    return 1 - passed if config.schedule == "linear" else 0.5 * (1 + math.cos(math.pi * passed))
