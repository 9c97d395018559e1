"""Two towers: a query is a bag of items (beside a user's free embedding), a candidate is an item; both end in one
space.

The score of a candidate is the dot product of vectors of `dim` floats: cosine of the taste parts (dim - 1 floats, unit
length) plus temperature × popularity_weight × log popularity, carried by the candidate's last float, against which a
query has 1. Divided by the temperature this is the logit that the loss sees.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from recsys_cl.config import ModelConfig
from recsys_cl.model.encoders import IdEncoder, RowTable
from recsys_cl.sampling.batches import Batch

_SPREAD = 0.1  # spread of fresh embeddings; only directions matter, but small vectors turn faster


class QueryTower(nn.Module):
    """A bag's summed vectors at unit length, plus `user_weight` × the user's free embedding, at unit length again."""

    def __init__(self, user_weight: float) -> None:
        super().__init__()
        self.user_weight = user_weight

    def forward(self, summed: Tensor, user_vectors: Tensor | None = None) -> Tensor:
        """summed [b, dim - 1], user_vectors [b, dim - 1] or None for users without an embedding -> [b, dim - 1]."""
        taste = nn.functional.normalize(summed, dim=1)
        if user_vectors is None:
            return taste
        return nn.functional.normalize(taste + self.user_weight * user_vectors, dim=1)


@dataclass(frozen=True)
class Logits:
    """What a loss takes: see `losses`. positives [p] of query owners [p] with weights [p]; candidates [b, c]."""

    positives: Tensor
    owners: Tensor
    weights: Tensor
    candidates: Tensor
    hits: tuple[Tensor, Tensor]


class TwoTowers:
    """The whole model: tables, towers, and the popularity of the items.

    tables: `bag` (what a query takes of an item), `item` (candidates; the same table where tied), `user` (where
    `user_weight` is above 0). item_weights [n_items]: degree^-degree_power, how much an item counts in a bag.
    log_popularity [n_items]: natural log of an item's users over the mean, with half a user for items with none.
    """

    def __init__(
        self, n_users: int, popularity: NDArray[np.int64], config: ModelConfig, generator: torch.Generator
    ) -> None:
        self.config = config
        n_items, dim = len(popularity), config.dim - 1
        seen = np.maximum(popularity, 0.5)
        self.log_popularity = torch.from_numpy(np.log(seen / seen.mean()).astype(np.float32))
        self.item_weights = torch.from_numpy((seen**-config.degree_power).astype(np.float32))
        self.bag_table = RowTable(n_items, dim, _SPREAD, generator)
        self.item_table = self.bag_table if config.tied else RowTable(n_items, dim, _SPREAD, generator)
        self.user_table = RowTable(n_users, dim, _SPREAD / 3, generator) if config.user_weight else None
        self.encoder = IdEncoder()
        self.query_tower = QueryTower(config.user_weight)

    @property
    def tables(self) -> dict[str, RowTable]:
        """The tables that are learned, each once."""
        named = {"bag": self.bag_table, "item": self.item_table, "user": self.user_table}
        if self.config.tied:
            del named["item"]
        return {name: table for name, table in named.items() if table is not None}

    def compute_logits(self, batch: Batch) -> Logits:
        """Logits of one batch: cosine / temperature + popularity_weight × log popularity, log_q subtracted."""
        touched = torch.from_numpy(batch.touched)
        bag_vectors = self.bag_table.gather(touched)  # [t, dim - 1]
        candidates = bag_vectors if self.config.tied else self.item_table.gather(touched)
        users = None if self.user_table is None else self.user_table.gather(torch.from_numpy(batch.user_rows))
        items = torch.from_numpy(batch.bags.item_rows).long()
        queries = self.query_tower(
            nn.functional.embedding_bag(
                items,
                bag_vectors,
                torch.from_numpy(batch.bags.offsets[:-1]),
                mode="sum",
                per_sample_weights=torch.from_numpy(batch.bags.weights) * self.item_weights[touched][items],
            ),
            users,
        )  # [b, dim - 1]
        vectors = self.encoder(candidates)  # [t, dim - 1]
        bias = self.config.popularity_weight * self.log_popularity[touched]  # [t]
        positives = torch.from_numpy(batch.positives.item_rows).long()  # [p]
        sizes = batch.positives.sizes
        owners = torch.from_numpy(np.repeat(np.arange(len(sizes)), sizes))  # [p]
        # A user's positives together weigh √n: between one vote a user and one vote an event.
        weights = torch.from_numpy(batch.positives.weights / np.sqrt(np.repeat(sizes, sizes)).astype(np.float32))
        offered = torch.from_numpy(batch.candidates)  # [c]
        cosines = queries @ vectors[offered].T  # [b, c]
        scored = (queries[owners] * vectors[positives]).sum(dim=1)  # [p]
        temperature = self.config.temperature
        return Logits(
            positives=scored / temperature + bias[positives],
            owners=owners,
            weights=weights,
            candidates=cosines / temperature + (bias[offered] - torch.from_numpy(batch.log_q)),
            hits=(torch.from_numpy(batch.hit_queries), torch.from_numpy(batch.hit_candidates)),
        )


class PaddedQueryTower(nn.Module):
    """The query tower as it is published: padded bags in, no user embedding, the popularity float added."""

    def __init__(self, tower: QueryTower) -> None:
        super().__init__()
        self.tower = tower

    def forward(self, vectors: Tensor, weights: Tensor) -> Tensor:
        """vectors [b, length, dim - 1], weights [b, length] (0 where padded) -> queries [b, dim]."""
        taste = self.tower((vectors * weights.unsqueeze(2)).sum(dim=1))
        return torch.cat((taste, torch.ones_like(taste[:, :1])), dim=1)


class PublishedCandidateTower(nn.Module):
    """The candidate tower as it is published: an item's embedding and log popularity in, its vector out."""

    def __init__(self, encoder: Callable[[Tensor], Tensor], config: ModelConfig) -> None:
        super().__init__()
        self.encoder = encoder
        self.scale = config.temperature * config.popularity_weight

    def forward(self, vectors: Tensor, log_popularity: Tensor) -> Tensor:
        """vectors [n, dim - 1], log_popularity [n] -> candidates [n, dim]."""
        return torch.cat((self.encoder(vectors), (self.scale * log_popularity).unsqueeze(1)), dim=1)
