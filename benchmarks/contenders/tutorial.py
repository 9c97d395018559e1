"""A two-tower model in plain PyTorch, as tutorials write it: a Dataset, a DataLoader, in-batch negatives, Adam.

One table for users, one for items, unit length, temperature; a batch of pairs is scored against its own items.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import Dataset


class PairDataset(Dataset[tuple[Tensor, Tensor]]):
    """Pairs of user and item rows, both [n], in memory."""

    def __init__(self, users: Tensor, items: Tensor) -> None:
        self.users, self.items = users, items

    def __len__(self) -> int:
        return len(self.users)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """One pair."""
        return self.users[index], self.items[index]


class TwoTower(nn.Module):
    """Two embedding tables of `dim` floats."""

    def __init__(self, n_users: int, n_items: int, dim: int, temperature: float) -> None:
        super().__init__()
        self.users, self.items = nn.Embedding(n_users, dim), nn.Embedding(n_items, dim)
        self.temperature = temperature

    def forward(self, users: Tensor, items: Tensor) -> Tensor:
        """users [b], items [b] -> the loss of the batch: each user's own item against those of the others."""
        queries = functional.normalize(self.users(users), dim=1)  # [b, dim]
        candidates = functional.normalize(self.items(items), dim=1)  # [b, dim]
        logits = queries @ candidates.T / self.temperature  # [b, b]
        return functional.cross_entropy(logits, torch.arange(len(users)))
