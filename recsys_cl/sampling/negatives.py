"""Negatives: comes in the popularity of the items, goes out candidates shared by a batch, with their log_q.

The softmax over the catalog is estimated from a sample: each candidate's logit is lowered by log_q, the log of how
often the sampler is expected to offer it (logQ correction; Bengio and Senécal 2008; Yi et al., RecSys 2019), so that
its exponentials sum to the catalog's in expectation. A catalog no larger than the sample is taken whole: log_q 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Candidates:
    """rows [c] int64, distinct and ascending; log_q [c] float32, to be subtracted from their logits."""

    rows: NDArray[np.int64]
    log_q: NDArray[np.float32]


@dataclass(frozen=True)
class NegativeSampler:
    """Draws items with probability proportional to popularity^power; items without events are never drawn.

    cumulative [n_items] float64 ends at 1; log_probability [n_items] float64, -inf for items that are never drawn.
    """

    cumulative: NDArray[np.float64]
    log_probability: NDArray[np.float64]
    n_negatives: int

    @property
    def takes_all(self) -> bool:
        """Whether the catalog is small enough to be taken whole."""
        return self.n_negatives >= len(self.cumulative)

    def draw(self, rng: np.random.Generator) -> Candidates:
        """Candidates for one batch: `n_negatives` draws with replacement, repeats merged.

        A row drawn r times stands once, its log_q lowered by log r: the sum of exponentials is the same.
        """
        n_items = len(self.cumulative)
        if self.takes_all:
            return Candidates(np.arange(n_items), np.zeros(n_items, dtype=np.float32))
        drawn = np.searchsorted(self.cumulative, rng.random(self.n_negatives), side="right")
        rows, repeats = np.unique(np.minimum(drawn, n_items - 1), return_counts=True)
        log_q = np.log(self.n_negatives) + self.log_probability[rows] - np.log(repeats)
        return Candidates(rows, log_q.astype(np.float32))


def build_negative_sampler(popularity: NDArray[np.int64], power: float, n_negatives: int) -> NegativeSampler:
    """popularity [n_items]: users of each item; power 0 is uniform over the items with users. Memory: 16 bytes an item.

    Raises ValueError where no item has a user.
    """
    weights = np.where(popularity > 0, popularity.astype(np.float64) ** power, 0.0)
    if weights.sum() <= 0:
        raise ValueError("no item has an event to draw it by")
    probability = weights / weights.sum()
    cumulative = np.cumsum(probability)
    cumulative /= cumulative[-1]
    with np.errstate(divide="ignore"):
        return NegativeSampler(cumulative, np.log(probability), n_negatives)
