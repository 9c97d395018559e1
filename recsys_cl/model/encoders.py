"""Encoders: comes in features of items, goes out one vector each.

Two pieces make a variant: `ItemFeatures.gather(rows)` brings what is known of items, an encoder turns it into vectors.
Here: items known by nothing but their row; `images/` has those known by a picture.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from recsys_cl.bags import Bags
from recsys_cl.model.histories import sum_bags

_LEAST_NORM = 1e-12
_LOG_TEMPERATURES = (math.log(0.001), math.log(10.0))


class ItemFeatures(Protocol):
    """What is known of the items."""

    def gather(self, rows: Tensor) -> Tensor:
        """Features [n, …] of the items at distinct rows [n], as training sees them."""

    def read(self) -> Tensor:
        """Features of all items [n_items, …], as they are published."""


class RowTable(nn.Module):
    """A free embedding for each row: features that are learned themselves.

    Only the gathered rows get a gradient and an update (Adam; Kingma and Ba 2015; its moments decay only where a row is
    touched), so that a step costs what it touches, not the whole table. Memory: 12 bytes a float.

    With `neighbors` a row is read as itself plus the weighted sum of its neighbors' rows, and learns through theirs
    (simplified graph convolution; He et al., SIGIR 2020), so that evidence reaches rows that few users touch.
    """

    table: Tensor
    first: Tensor
    second: Tensor

    def __init__(self, n_rows: int, dim: int, spread: float, generator: torch.Generator) -> None:
        super().__init__()
        self.register_buffer("table", torch.randn(n_rows, dim, generator=generator).mul_(spread))
        self.register_buffer("first", torch.zeros(n_rows, dim))
        self.register_buffer("second", torch.zeros(n_rows, dim))
        self.neighbors: Bags | None = None
        """A bag for each row, itself in it; None where rows stand alone."""
        self._gathered: list[tuple[Tensor, Tensor]] = []

    def gather(self, rows: Tensor) -> Tensor:
        """Embeddings [n, dim] at distinct rows [n]; where gradients are on, remembered for the next `update`."""
        near = None if self.neighbors is None else self.neighbors.take(rows.numpy())
        touched, local = (rows, None) if near is None else _localize(near, len(self.table))
        taken = self.table.index_select(0, touched)
        if torch.is_grad_enabled():
            taken.requires_grad_()
            self._gathered.append((touched, taken))
        return taken if local is None else sum_bags(taken, local, torch.from_numpy(local.weights).to(taken.dtype))

    @torch.no_grad()
    def read(self) -> Tensor:
        """All embeddings as `gather` gives them [n_rows, dim]; not to be changed."""
        if self.neighbors is None:
            return self.table
        return sum_bags(self.table, self.neighbors, torch.from_numpy(self.neighbors.weights).to(self.table.dtype))

    def settle(self) -> None:
        """Make what is read what stands in the table; rows stand alone from now on."""
        self.table.copy_(self.read())
        self.neighbors = None

    @property
    def gradients(self) -> list[Tensor]:
        """The gradients of what was gathered since the last update; changing them changes the update."""
        return [taken.grad for _, taken in self._gathered if taken.grad is not None]

    def take_gradient(self) -> Tensor:
        """The gradient of the whole table [n_rows, dim], of what was gathered since the last update, and forget it."""
        whole = torch.zeros_like(self.table)
        for rows, taken in self._gathered:
            if taken.grad is not None:
                whole.index_add_(0, rows, taken.grad)
        self._gathered.clear()
        return whole

    def update(self, step: int, learning_rate: float, weight_decay: float) -> None:
        """Adam on what was gathered since the last update; `step` counts from 1."""
        for rows, taken in self._gathered:
            if taken.grad is None:
                continue
            values, first, second = taken.detach(), self.first.index_select(0, rows), self.second.index_select(0, rows)
            move_by_adam(values, taken.grad, (first, second), step, learning_rate, weight_decay)
            for whole, part in ((self.table, values), (self.first, first), (self.second, second)):
                whole.index_copy_(0, rows, part)
        self._gathered.clear()


def move_by_adam(
    values: Tensor,
    gradient: Tensor,
    moments: tuple[Tensor, Tensor],
    step: int,
    learning_rate: float,
    weight_decay: float,
) -> None:
    """One step of Adam, in place of `values` and `moments`; weight decay is decoupled (Loshchilov and Hutter 2019)."""
    first, second = moments
    first.lerp_(gradient, 0.1)
    second.mul_(0.999).addcmul_(gradient, gradient, value=0.001)
    scale = (second / (1 - 0.999**step)).sqrt_().add_(1e-8)
    values.mul_(1 - learning_rate * weight_decay)
    values.addcdiv_(first, scale, value=-learning_rate / (1 - 0.9**step))


def _localize(bags: Bags, n_rows: int) -> tuple[Tensor, Bags]:
    """The distinct rows of bags, ascending, and the bags over places among them."""
    marked = np.zeros(n_rows, dtype=bool)
    marked[bags.item_rows] = True
    rows = np.flatnonzero(marked)
    places = np.empty(n_rows, dtype=np.int32)
    places[rows] = np.arange(len(rows))
    return torch.from_numpy(rows), Bags(bags.offsets, places[bags.item_rows], bags.weights)


class _Normalize(torch.autograd.Function):
    """x / ‖x‖ with the gradient written out: four passes over the rows of a step instead of a dozen."""

    @staticmethod
    def forward(ctx: Any, vectors: Tensor) -> Tensor:
        inverse = vectors.norm(dim=1, keepdim=True).clamp_min_(_LEAST_NORM).reciprocal_()
        unit: Tensor = vectors * inverse
        ctx.save_for_backward(unit, inverse)
        return unit

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        unit, inverse = ctx.saved_tensors
        along = (gradient * unit).sum(dim=1, keepdim=True)
        turned: Tensor = torch.addcmul(gradient, unit, along, value=-1).mul_(inverse)
        return turned


def normalize(vectors: Tensor) -> Tensor:
    """Vectors [n, d] at unit length; a vector of zeros stays one."""
    if not vectors.requires_grad:  # also when a tower is exported, where no function of ours is known
        return nn.functional.normalize(vectors, dim=1, eps=_LEAST_NORM)
    apply: Callable[..., Tensor] = _Normalize.apply
    return apply(vectors)


class Trainable(nn.Module):
    """What a training updates: a model with a temperature, and some weights that are only the optimizer's."""

    def __init__(self, temperature: float, learn_temperature: bool) -> None:
        super().__init__()
        start = torch.tensor(math.log(temperature))
        self.log_temperature = nn.Parameter(start, requires_grad=learn_temperature)

    @property
    def temperature(self) -> Tensor:
        """Divisor of the score, as it was given or as it has been learned, within the bounds of what may be given."""
        return self.log_temperature.clamp(*_LOG_TEMPERATURES).exp()

    def get_learned(self) -> dict[str, Tensor]:
        """Everything that a prediction depends on, by name: the state without the moments of the optimizer."""
        moments = (".first", ".second")
        return {name: value for name, value in self.state_dict().items() if not name.endswith(moments)}


class IdEncoder(nn.Module):
    """The free embedding itself; at unit length where the score is the cosine."""

    def __init__(self, unit: bool) -> None:
        super().__init__()
        self.unit = unit

    def forward(self, features: Tensor) -> Tensor:
        """features [n, d] -> vectors [n, d]."""
        return normalize(features) if self.unit else features
