"""A blend: comes in several trained models, goes out one whose query and candidate are again `dim` floats.

The members' taste vectors stand side by side, Q [n, D] and V [m, D]; the blended score Q Vᵀ is brought to `dim` - 1
floats by the best approximation of that rank over all users and items (Eckart and Young 1936), found from two D × D
Gram matrices. What is the same for all users of an item, mean(Q) Vᵀ, joins the popularity float, and nothing is lost of
it. What a query needs is one matrix behind its members' towers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from recsys_cl.model.towers import PaddedQueryTower, TwoTowers

_LEAST_SPREAD = 1e-12  # of the greatest direction: below is the rounding of directions that nothing spans


@dataclass(frozen=True)
class Compressed:
    """mix [D, dim - 1] and shift [dim - 1]: a query is joined @ mix - shift, then 1; candidates [m, dim]."""

    mix: NDArray[np.float32]
    shift: NDArray[np.float32]
    candidates: NDArray[np.float32]

    def encode(self, joined: NDArray[np.float32]) -> NDArray[np.float32]:
        """Queries [n, dim] of the members' taste vectors side by side, joined [n, D]."""
        taste = joined @ self.mix - self.shift
        return np.concatenate((taste, np.ones_like(taste[:, :1])), axis=1)


def compress(
    queries: NDArray[np.float32], candidates: NDArray[np.float32], popularity: NDArray[np.float32], dim: int
) -> Compressed:
    """The `dim` floats whose products come nearest to queries [n, D] · candidates [m, D] + popularity [m].

    Time n D² + m D² + D³, memory two D × D matrices in float64 beside a copy of the arguments.
    """
    rank = dim - 1
    center_q, center_v = queries.mean(axis=0, dtype=np.float64), candidates.mean(axis=0, dtype=np.float64)
    items = candidates - center_v.astype(np.float32)  # the same for all items: no ranking sees it
    (axes_q, spread_q), (axes_v, spread_v) = _find_axes(queries - center_q.astype(np.float32)), _find_axes(items)
    left, scales, right = np.linalg.svd(spread_q[:, None] * (axes_q.T @ axes_v) * spread_v)
    scales = np.sqrt(scales[:rank])
    mix = np.zeros((queries.shape[1], rank))
    turn = np.zeros_like(mix)
    n_kept = min(rank, len(scales))
    mix[:, :n_kept] = (axes_q / spread_q) @ left[:, :n_kept] * scales[:n_kept]
    turn[:, :n_kept] = (axes_v / spread_v) @ right[:n_kept].T * scales[:n_kept]
    bias = popularity + items @ center_q
    out = np.concatenate((items @ turn, bias[:, None]), axis=1)
    return Compressed(mix.astype(np.float32), (center_q @ mix).astype(np.float32), out.astype(np.float32))


class Blend(nn.Module):
    """Members read as one model; `weights` [n_members]: how much each one's logits count.

    mix, shift, candidates as in `Compressed`. history_length: the shortest of the members', None where all read all.
    """

    mix: Tensor
    shift: Tensor
    candidates: Tensor

    def __init__(self, members: Sequence[TwoTowers], weights: Sequence[float], compressed: Compressed) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.weights = tuple(weights)
        for name in ("mix", "shift", "candidates"):
            self.register_buffer(name, torch.from_numpy(getattr(compressed, name)))

    @property
    def dim(self) -> int:
        """Floats of a vector."""
        return int(self.candidates.shape[1])

    @property
    def history_length(self) -> int | None:
        """How many of a bag's last items are read; None: all."""
        return find_history_length([m for m in self.members if isinstance(m, TwoTowers)])

    def get_learned(self) -> dict[str, Tensor]:
        """Everything that a prediction depends on, by name."""
        moments = (".first", ".second")
        return {name: value for name, value in self.state_dict().items() if not name.endswith(moments)}


class PaddedBlend(nn.Module):
    """The query tower of a blend as it is published: the members' bag vectors side by side in, query out."""

    mix: Tensor
    shift: Tensor

    def __init__(self, blend: Blend, widths: Sequence[int]) -> None:
        super().__init__()
        towers = [m for m in blend.members if isinstance(m, TwoTowers)]
        self.towers = nn.ModuleList(PaddedQueryTower(m.query_tower, m.config.score) for m in towers)
        self.widths = list(widths)
        self.register_buffer("mix", blend.mix)
        self.register_buffer("shift", blend.shift)

    def forward(self, vectors: Tensor, weights: Tensor) -> Tensor:
        """vectors [b, L, Σ bag_dim], weights [b, L] (0 where a bag has ended) -> queries [b, dim]."""
        parts = torch.split(vectors, self.widths, dim=2)
        said = [tower(part, weights)[:, :-1] for tower, part in zip(self.towers, parts, strict=True)]
        taste = torch.cat(said, dim=1) @ self.mix - self.shift
        return torch.cat((taste, torch.ones_like(taste[:, :1])), dim=1)


def find_history_length(members: Sequence[TwoTowers]) -> int | None:
    """How many of a bag's last items all members read; None: all."""
    return min((m.history_length for m in members if m.history_length is not None), default=None)


def _find_axes(vectors: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The directions that vectors [n, D] span, as columns [D, r], and how far they reach along each [r]."""
    gram = vectors.T.astype(np.float64) @ vectors.astype(np.float64)
    values, axes = np.linalg.eigh(gram)
    kept = values > max(values[-1], 0.0) * _LEAST_SPREAD
    return axes[:, kept], np.sqrt(values[kept])
