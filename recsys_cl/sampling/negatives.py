"""Negatives: comes in how often items are touched, goes out candidates shared by a batch, with their log_q.

A sum over the catalog is estimated from the candidates: each candidate's logit is lowered by log_q, the log of how
often the sampler is expected to offer it (logQ correction; Bengio and Senécal 2008; Yi et al., RecSys 2019), so that
exponentials sum to the catalog's in expectation. Five kinds of candidates:

    popularity   drawn by popularity^power        uniform   the same with power 0
    in_batch     the positives of the other users of the batch (Yi et al.), offered as often as a user who holds them
                 is in the batch and they fall among the user's positives
    mixed        both (Yang et al., WWW 2020)
    hard         beside drawn ones, those that the model scores high (ANCE; Xiong et al., ICLR 2021). They are not
                 drawn but there for certain: log_q 0, and drawn ones among them do not count. The sum stays the
                 catalog's in expectation; its large terms below the margin vary no more.

A catalog no larger than the sample is taken whole, log_q 0, unless the kind is in_batch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys_cl.config import SamplingConfig

_LEAST_OFFERS = 1e-9  # below is the rounding of sums that are 0


@dataclass(frozen=True)
class Candidates:
    """rows [c] int64, distinct and ascending; log_q [c] float32, to be subtracted from their logits."""

    rows: NDArray[np.int64]
    log_q: NDArray[np.float32]


@dataclass(frozen=True)
class NegativeSampler:
    """Gives each batch its candidates; items without events are never among them.

    drawable [n_drawable]: rows of items with events, ascending; with in_batch alone, of those that can be a positive:
    the others stand for nothing there. cumulative [n_drawable] float64, ends at 1, and
    probability [n_items] float64: of one draw. offers [n_items] float64: how often an item is a positive when every
    user is drawn once. n_negatives: draws, 0 for in_batch.
    """

    kind: str
    drawable: NDArray[np.int64]
    cumulative: NDArray[np.float64]
    probability: NDArray[np.float64]
    offers: NDArray[np.float64]
    n_negatives: int

    @property
    def takes_all(self) -> bool:
        """Whether the catalog is small enough to be taken whole."""
        return self.kind != "in_batch" and self.n_negatives >= len(self.drawable)

    def draw(
        self,
        rng: np.random.Generator,
        positives: NDArray[np.integer],
        batch_share: float,
        hard: NDArray[np.integer] | None = None,
    ) -> Candidates:
        """Candidates for one batch.

        positives [p]: item rows of all its positives. batch_share: the chance of another user to be in it. hard: item
        rows chosen for a high score. A row offered r times stands once, its log_q lowered by log r.
        """
        if self.takes_all:
            return Candidates(self.drawable, np.zeros(len(self.drawable), dtype=np.float32))
        offered = [np.zeros(0, dtype=np.int64) if hard is None else hard.astype(np.int64)]
        if self.kind != "in_batch":
            drawn = np.searchsorted(self.cumulative, rng.random(self.n_negatives), side="right")
            offered.append(self.drawable[np.minimum(drawn, len(self.drawable) - 1)])
        if self.kind in ("in_batch", "mixed"):
            offered.append(positives.astype(np.int64))
        rows, times = np.unique(np.concatenate(offered), return_counts=True)
        expected = self.n_negatives * self.probability[rows]
        if self.kind in ("in_batch", "mixed"):
            expected = expected + batch_share * self.offers[rows]
        certain = np.isin(rows, offered[0])
        log_q = np.where(certain, 0.0, np.log(np.where(certain, 1.0, expected / times)))
        return Candidates(rows, log_q.astype(np.float32))


def build_negative_sampler(
    popularity: NDArray[np.int64], offers: NDArray[np.float64], config: SamplingConfig
) -> NegativeSampler:
    """popularity [n_items]: users of each item; offers as in `NegativeSampler`. Memory: 32 bytes an item.

    Raises ValueError where no item has a user, or can be a positive where the kind is in_batch.
    """
    drawable = np.flatnonzero(offers > _LEAST_OFFERS if config.negatives == "in_batch" else popularity > 0)
    if not len(drawable):
        raise ValueError("no item has an event to draw it by")
    power = 0.0 if config.negatives == "uniform" else config.popularity_power
    weights = popularity[drawable].astype(np.float64) ** power
    probability = np.zeros(len(popularity))
    probability[drawable] = weights / weights.sum()
    cumulative = np.cumsum(probability[drawable])
    cumulative /= cumulative[-1]
    n_negatives = 0 if config.negatives == "in_batch" else config.n_negatives
    return NegativeSampler(config.negatives, drawable, cumulative, probability, np.maximum(offers, 0.0), n_negatives)
