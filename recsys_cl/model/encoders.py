"""Encoders: comes in features of items, goes out one unit vector each.

Two pieces make a variant: `ItemFeatures.gather(rows)` brings what is known of items, `Encoder.forward(features)` turns
it into vectors. Here: items known by nothing but their row.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn


class ItemFeatures(Protocol):
    """What is known of the items."""

    def gather(self, rows: Tensor) -> Tensor:
        """Features [n, …] of the items at rows [n]."""


class RowTable:
    """A free embedding for each row: features that are learned themselves.

    Only the gathered rows get a gradient and an update (Adam; Kingma and Ba 2015; its moments decay only where a row is
    touched), so that a step costs what it touches, not the whole table. Memory: 12 bytes a float.
    """

    def __init__(self, n_rows: int, dim: int, spread: float, generator: torch.Generator) -> None:
        self.table = torch.randn(n_rows, dim, generator=generator).mul_(spread)
        self._first = torch.zeros_like(self.table)
        self._second = torch.zeros_like(self.table)
        self._gathered: list[tuple[Tensor, Tensor]] = []

    def gather(self, rows: Tensor) -> Tensor:
        """Embeddings [n, dim] at distinct rows [n]; where gradients are on, remembered for the next `update`."""
        taken = self.table[rows]
        if torch.is_grad_enabled():
            taken.requires_grad_()
            self._gathered.append((rows, taken))
        return taken

    def update(self, step: int, learning_rate: float, weight_decay: float) -> None:
        """Adam on what was gathered since the last update; `step` counts from 1."""
        for rows, taken in self._gathered:
            if taken.grad is None:
                continue
            first = self._first[rows].lerp_(taken.grad, 0.1)
            second = self._second[rows].mul_(0.999).addcmul_(taken.grad, taken.grad, value=0.001)
            self._first[rows], self._second[rows] = first, second
            scale = second.div_(1 - 0.999**step).sqrt_().add_(1e-8)
            moved = taken.detach().mul_(1 - learning_rate * weight_decay)
            self.table[rows] = moved.addcdiv_(first.div_(1 - 0.9**step), scale, value=-learning_rate)
        self._gathered.clear()


class IdEncoder(nn.Module):
    """The free embedding itself, at unit length."""

    def forward(self, features: Tensor) -> Tensor:
        """features [n, dim] -> unit vectors [n, dim]."""
        return nn.functional.normalize(features, dim=1)
