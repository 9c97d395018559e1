"""Encoders: comes in features of items, goes out one vector each.

Two pieces make a variant: `ItemFeatures.gather(rows)` brings what is known of items, an encoder turns it into vectors.
Here: items known by nothing but their row.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

_LEAST_NORM = 1e-12


class ItemFeatures(Protocol):
    """What is known of the items."""

    def gather(self, rows: Tensor) -> Tensor:
        """Features [n, …] of the items at rows [n]."""


class RowTable(nn.Module):
    """A free embedding for each row: features that are learned themselves.

    Only the gathered rows get a gradient and an update (Adam; Kingma and Ba 2015; its moments decay only where a row is
    touched), so that a step costs what it touches, not the whole table. Memory: 12 bytes a float.
    """

    table: Tensor
    first: Tensor
    second: Tensor

    def __init__(self, n_rows: int, dim: int, spread: float, generator: torch.Generator) -> None:
        super().__init__()
        self.register_buffer("table", torch.randn(n_rows, dim, generator=generator).mul_(spread))
        self.register_buffer("first", torch.zeros(n_rows, dim))
        self.register_buffer("second", torch.zeros(n_rows, dim))
        self._gathered: list[tuple[Tensor, Tensor]] = []

    def gather(self, rows: Tensor) -> Tensor:
        """Embeddings [n, dim] at distinct rows [n]; where gradients are on, remembered for the next `update`."""
        taken = self.table.index_select(0, rows)
        if torch.is_grad_enabled():
            taken.requires_grad_()
            self._gathered.append((rows, taken))
        return taken

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

    def update(self, step: int, learning_rate: float, weight_decay: float, every_row: bool = False) -> None:
        """Adam on what was gathered since the last update, or on the whole table; `step` counts from 1."""
        if every_row:
            gradient = self.take_gradient()
            move_by_adam(self.table, gradient, (self.first, self.second), step, learning_rate, weight_decay)
            return
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


class IdEncoder(nn.Module):
    """The free embedding itself; at unit length where the score is the cosine."""

    def __init__(self, unit: bool) -> None:
        super().__init__()
        self.unit = unit

    def forward(self, features: Tensor) -> Tensor:
        """features [n, d] -> vectors [n, d]."""
        return normalize(features) if self.unit else features
