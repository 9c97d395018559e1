"""Histories: comes in the vectors of a bag's items, goes out what the query tower knows after each of them.

Four ways to read a bag, one contract: `forward(vectors [b, L, d], weights [b, L]) -> [b, L, d]`, line i of a bag being
what its items 0…i say, and nothing that comes later. Weights are above 0; where they are 0 a bag has ended.

    mean          weighted mean: knows no order, cheapest to compute
    attention     weighted mean, the weights learned from the items (Yang et al., NAACL 2016)
    gru           gated recurrent units, in order (GRU4Rec; Hidasi et al., ICLR 2016)
    transformer   self-attention to what came before, in order (SASRec; Kang and McAuley, ICDM 2018), with a learned
                  bias for each distance instead of positions (Shaw et al., NAACL 2018; Raffel et al., JMLR 2020)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_matrix
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from recsys_cl.bags import Bags
from recsys_cl.config import ModelConfig

LEAST_WEIGHT = 1e-30
"""Of an item; of padding, too, where a log is taken: it is finite, so that a bag of padding alone gives no NaN."""


class MeanHistory(nn.Module):
    """The weighted mean of what has been read."""

    def forward(self, vectors: Tensor, weights: Tensor) -> Tensor:
        """vectors [b, L, d], weights [b, L] -> means [b, L, d]."""
        total = weights.cumsum(1).unsqueeze(2).clamp_min(LEAST_WEIGHT)
        return (vectors * weights.unsqueeze(2)).cumsum(1) / total


def sum_bags(vectors: Tensor, bags: Bags, weights: Tensor) -> Tensor:
    """The weighted sum of each bag's vectors [n_bags, d]; bags over rows of vectors [t, d], weights [n] of items."""
    apply: Callable[..., Tensor] = _SumBags.apply
    return apply(vectors, bags, weights)


class _SumBags(torch.autograd.Function):
    """torch's embedding_bag, with a gradient that is a sum over bags too, those that an item is in: nothing sorted."""

    @staticmethod
    def forward(ctx: Any, vectors: Tensor, bags: Bags, weights: Tensor) -> Tensor:
        items, starts = torch.from_numpy(bags.item_rows), torch.from_numpy(np.ascontiguousarray(bags.offsets[:-1]))
        ctx.bags, ctx.weights, ctx.n_rows = bags, weights, len(vectors)
        return _embed(items, starts, vectors, weights)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        shape = (len(ctx.bags), ctx.n_rows)
        matrix = csr_matrix((ctx.weights.numpy(), ctx.bags.item_rows, ctx.bags.offsets), shape=shape).tocsc()
        holders, starts = torch.from_numpy(matrix.indices), torch.from_numpy(matrix.indptr[:-1])
        return _embed(holders, starts, gradient, torch.from_numpy(matrix.data)), None, None


def _embed(rows: Tensor, starts: Tensor, vectors: Tensor, weights: Tensor) -> Tensor:
    if not len(rows):
        return vectors.new_zeros(len(starts), vectors.shape[1])
    return nn.functional.embedding_bag(rows.to(starts.dtype), vectors, starts, mode="sum", per_sample_weights=weights)


class AttentionHistory(nn.Module):
    """A mean whose weights are a softmax of what each item says: context · tanh(W vector), plus log weight."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(dim, dim)
        self.context = nn.Linear(dim, 1, bias=False)

    def forward(self, vectors: Tensor, weights: Tensor) -> Tensor:
        """vectors [b, L, d], weights [b, L] -> means [b, L, d]."""
        said = self.context(torch.tanh(self.hidden(vectors))).squeeze(2)  # [b, L], bounded by tanh
        shares = torch.exp(said - said.detach().amax(1, keepdim=True)) * weights
        total = shares.cumsum(1).unsqueeze(2).clamp_min(LEAST_WEIGHT)
        return (vectors * shares.unsqueeze(2)).cumsum(1) / total


class Dropout(nn.Module):
    """Dropout (Srivastava et al., JMLR 2014) whose chance comes from `generator`, set by the trainer for each step."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share
        self.generator: torch.Generator | None = None

    def forward(self, values: Tensor) -> Tensor:
        """Each value 0 with probability `share` in training, else divided by 1 - share."""
        if not self.training or not self.share:
            return values
        kept = torch.empty_like(values).bernoulli_(1 - self.share, generator=self.generator)
        return values * kept.div_(1 - self.share)


class GruHistory(nn.Module):
    """Gated recurrent units over weight × vector, a weight being told over the mean of those so far: as for the other
    histories, it is ratios that count."""

    def __init__(self, dim: int, n_layers: int, dropout: float) -> None:
        super().__init__()
        self.units = nn.GRU(dim, dim, n_layers, batch_first=True)
        self.dropout = Dropout(dropout)

    def forward(self, vectors: Tensor, weights: Tensor) -> Tensor:
        """vectors [b, L, d], weights [b, L] -> states [b, L, d]."""
        so_far = weights.cumsum(1) / torch.arange(1, weights.shape[1] + 1, dtype=weights.dtype)  # [b, L]
        relative = weights / so_far.clamp_min(LEAST_WEIGHT)
        states: Tensor = self.units(self.dropout(vectors * relative.unsqueeze(2)))[0]
        return states


class TransformerHistory(nn.Module):
    """Blocks of self-attention to what came before, and a layer that looks at one place alone."""

    def __init__(self, dim: int, config: ModelConfig) -> None:
        super().__init__()
        self.dropout = Dropout(config.dropout)
        self.blocks = nn.ModuleList(_Block(dim, config) for _ in range(config.n_blocks))
        self.norm = nn.LayerNorm(dim)

    def forward(self, vectors: Tensor, weights: Tensor) -> Tensor:
        """vectors [b, L, d], weights [b, L] -> states [b, L, d]; L at most config.history_length."""
        places = torch.arange(vectors.shape[1], device=vectors.device)
        distances = places.unsqueeze(1) - places.unsqueeze(0)  # [L, L], how long before
        heard = weights.clamp_min(LEAST_WEIGHT).log()[:, None, None, :]  # [b, 1, 1, L]
        states = self.dropout(vectors)
        for block in self.blocks:
            states = block(states, heard, distances)
        normed: Tensor = self.norm(states)
        return normed


class _Block(nn.Module):
    def __init__(self, dim: int, config: ModelConfig) -> None:
        super().__init__()
        self.n_heads, self.width = config.n_heads, -(-dim // config.n_heads)
        inner = self.n_heads * self.width
        self.before, self.between = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.asked_held_said = nn.Linear(dim, 3 * inner)
        self.told = nn.Linear(inner, dim)
        self.wide, self.narrow = nn.Linear(dim, 2 * dim), nn.Linear(2 * dim, dim)
        self.bias = nn.Embedding(config.history_length, self.n_heads)  # for each distance
        self.attention_dropout, self.dropout = Dropout(config.dropout), Dropout(config.dropout)

    def forward(self, states: Tensor, heard: Tensor, distances: Tensor) -> Tensor:
        b, length = states.shape[0], states.shape[1]
        parts = self.asked_held_said(self.before(states)).view(b, length, 3, self.n_heads, self.width)
        asked, held, said = parts.permute(2, 0, 3, 1, 4).unbind(0)  # each [b, heads, L, width]
        bias = self.bias(distances.clamp_min(0)).permute(2, 0, 1)  # [heads, L, L]
        bias = bias.masked_fill(distances < 0, -math.inf)
        shares = torch.softmax(asked @ held.transpose(2, 3) / math.sqrt(self.width) + bias + heard, dim=3)
        told = (self.attention_dropout(shares) @ said).transpose(1, 2).reshape(b, length, self.n_heads * self.width)
        states = states + self.dropout(self.told(told))
        wide = nn.functional.gelu(self.wide(self.between(states)))
        result: Tensor = states + self.dropout(self.narrow(wide))
        return result


def build_history(dim: int, config: ModelConfig, generator: torch.Generator) -> nn.Module:
    """The history of config.history over vectors of `dim` floats; its weights are drawn from `generator`."""
    kinds: dict[str, Callable[[], nn.Module]] = {
        "mean": MeanHistory,
        "attention": lambda: AttentionHistory(dim),
        "gru": lambda: GruHistory(dim, config.n_blocks, config.dropout),
        "transformer": lambda: TransformerHistory(dim, config),
    }
    history = kinds[config.history]()
    with torch.no_grad():
        for name, weight in history.named_parameters():
            if name.endswith("bias.weight") or (weight.dim() == 1 and not name.endswith("weight")):
                weight.zero_()  # a bias
            elif weight.dim() > 1:
                bound = weight.shape[1] ** -0.5
                nn.init.uniform_(weight, -bound, bound, generator=generator)
    return history
