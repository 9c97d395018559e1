"""Batches: comes in pairs and negatives, goes out everything one training step needs, in rows local to the step.

A step touches few items; they are numbered 0…t−1, so that the tables are gathered once and updated where touched.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys_cl.bags import Bags
from recsys_cl.config import SamplingConfig
from recsys_cl.sampling.negatives import Candidates, NegativeSampler
from recsys_cl.sampling.pairs import PairSource, draw_pairs


@dataclass(frozen=True)
class Batch:
    """One step. user_rows [b]; touched [t] item rows, ascending; bags and positives: b each, items as local rows.

    candidates [c] local rows with log_q [c]; hit_queries, hit_candidates [h]: the (query, candidate) pairs that are
    no negatives, because the candidate is a positive of that query or sits in its bag.
    """

    user_rows: NDArray[np.int64]
    touched: NDArray[np.int64]
    bags: Bags
    positives: Bags
    candidates: NDArray[np.int64]
    log_q: NDArray[np.float32]
    hit_queries: NDArray[np.int64]
    hit_candidates: NDArray[np.int64]


class BatchDrawer:
    """Draws batches; its state is one table of n_items int64 that turns rows into local rows."""

    def __init__(self, source: PairSource, sampler: NegativeSampler, config: SamplingConfig) -> None:
        self._source, self._sampler, self._config = source, sampler, config
        self._local = np.full(len(sampler.cumulative), -1, dtype=np.int64)

    def count_steps(self, batch_users: int) -> int:
        """Batches of one epoch."""
        return -(-len(self._source.user_rows) // batch_users)

    def draw_epoch(self, batch_users: int, rng: np.random.Generator) -> Iterator[Batch]:
        """All users that hold a pair, once, in a random order."""
        order = rng.permutation(self._source.user_rows)
        for start in range(0, len(order), batch_users):
            batch = self.draw(order[start : start + batch_users], rng)
            if len(batch.user_rows):
                yield batch

    def draw(self, user_rows: NDArray[np.int64], rng: np.random.Generator) -> Batch:
        """One batch for these users."""
        users, bags, positives = draw_pairs(self._source, user_rows, self._config, rng)
        candidates = self._sampler.draw(rng)
        hit_queries, hit_candidates = self._find_hits(candidates, bags, positives)
        if self._sampler.takes_all:
            touched = candidates.rows
        else:
            touched = np.unique(np.concatenate((bags.item_rows, positives.item_rows, candidates.rows)))
        self._local[touched] = np.arange(len(touched))
        return Batch(
            users,
            touched,
            self._localize(bags),
            self._localize(positives),
            self._local[candidates.rows],
            candidates.log_q,
            hit_queries,
            hit_candidates,
        )

    def _find_hits(
        self, candidates: Candidates, bags: Bags, positives: Bags
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        self._local.fill(-1)
        self._local[candidates.rows] = np.arange(len(candidates.rows))
        queries = np.concatenate([np.repeat(np.arange(len(part)), part.sizes) for part in (bags, positives)])
        columns = self._local[np.concatenate((bags.item_rows, positives.item_rows))]
        hit = columns >= 0
        return queries[hit], columns[hit]

    def _localize(self, bags: Bags) -> Bags:
        return Bags(bags.offsets, self._local[bags.item_rows].astype(np.int32), bags.weights)
