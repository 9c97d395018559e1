"""Batches: comes in pairs and negatives, goes out everything one training step needs, in rows local to the step.

A step touches few items; they are numbered 0…t−1, so that the tables are gathered once and updated where touched. What
a batch holds depends on the seed, the epoch and the step alone: training can begin again at any step.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys_cl.bags import Bags
from recsys_cl.sampling.negatives import NegativeSampler
from recsys_cl.sampling.pairs import PairSource, draw_pairs

_ORDER, _BATCH = 1, 2  # streams of chance


@dataclass(frozen=True)
class Batch:
    """One step.

    user_rows [b]. bag_items [t], items [u]: the item rows that bags and candidates touch, ascending; bags: b bags over
    local rows of bag_items. every_place: whether each place in a bag is a query (in order of bags.item_rows, q of them)
    or each bag is one (q = b). positives: an entry for each query, over local rows of items, weights those of the loss.
    total_weight as in `Pairs`. candidates [c]: local rows of items, with log_q [c]. columns [p]: where the positives
    stand among the candidates, None where they may not. hit_bags, hit_candidates [h]: the (bag, candidate) pairs that
    are no negatives, for the user has touched the item. n_others [b]: items that the sampler may offer and the bag's
    user has not touched. shift: a number drawn evenly from 0…c−1.
    """

    user_rows: NDArray[np.int64]
    bag_items: NDArray[np.int64]
    items: NDArray[np.int64]
    bags: Bags
    every_place: bool
    positives: Bags
    total_weight: float
    candidates: NDArray[np.int64]
    log_q: NDArray[np.float32]
    columns: NDArray[np.int64] | None
    hit_bags: NDArray[np.int64]
    hit_candidates: NDArray[np.int64]
    n_others: NDArray[np.int64]
    shift: int

    @property
    def n_positives(self) -> int:
        """Positives of all queries together."""
        return len(self.positives.item_rows)


class BatchDrawer:
    """Draws batches. Its state: tables of 10 bytes an item that turn rows into local rows, and mined negatives."""

    def __init__(self, source: PairSource, sampler: NegativeSampler, batch_users: int, seed: int, tied: bool) -> None:
        self.source, self.sampler, self._seed, self._tied = source, sampler, seed, tied
        self.hard: Bags | None = None
        """For each user the items that were mined, where the kind of negatives is `hard`."""
        self._batch_users = batch_users
        self._local = np.full(len(sampler.probability), -1, dtype=np.int64)
        self._marked = np.zeros(len(sampler.probability), dtype=bool)
        self._drawable = np.zeros(len(sampler.probability), dtype=bool)
        self._drawable[sampler.drawable] = True
        self._order: tuple[int, NDArray[np.int64]] = (-1, source.user_rows)

    @property
    def steps_an_epoch(self) -> int:
        """Batches in which every user with a pair comes once."""
        return -(-len(self.source.user_rows) // self._batch_users)

    def draw(self, step: int) -> Batch:
        """The batch of a step, which counts from 0."""
        epoch, place = divmod(step, self.steps_an_epoch)
        if self._order[0] != epoch:
            rng = np.random.default_rng([self._seed, _ORDER, epoch])
            self._order = (epoch, rng.permutation(self.source.user_rows))
        start = place * self._batch_users
        users = self._order[1][start : start + self._batch_users]
        return self.draw_for(users, np.random.default_rng([self._seed, _BATCH, step]))

    def draw_for(
        self, user_rows: NDArray[np.int64], rng: np.random.Generator, of_negatives: np.random.Generator | None = None
    ) -> Batch:
        """A batch of these users, all of them with a pair; of_negatives: another stream of chance for the negatives."""
        pairs = draw_pairs(self.source, user_rows, rng)
        rng = rng if of_negatives is None else of_negatives
        n_users = len(self.source.user_rows)
        share = max(len(user_rows) - 1, 1) / max(n_users - 1, 1)
        hard = None if self.hard is None else self.hard.take(user_rows).item_rows
        offered = self.sampler.draw(rng, pairs.positives.item_rows, share, hard)
        histories = self.source.histories.take(user_rows)
        hit_bags, hit_candidates = self._find_hits(offered.rows, histories)
        owners = np.repeat(np.arange(len(histories)), histories.sizes)
        n_touched = np.bincount(owners, self._drawable[histories.item_rows], len(histories)).astype(np.int64)
        columns = None
        if self.sampler.takes_all or self.sampler.kind == "in_batch":
            columns = self._locate(offered.rows, pairs.positives.item_rows)
            items = offered.rows
        else:
            items = self._merge(offered.rows, pairs.positives.item_rows)
        bag_items = self._merge(pairs.bags.item_rows)
        if self._tied:
            items = bag_items = self._merge(items, bag_items)
        return Batch(
            user_rows=pairs.user_rows,
            bag_items=bag_items,
            items=items,
            bags=self._localize(pairs.bags, bag_items),
            every_place=self.source.config.positives == "next",
            positives=self._localize(pairs.positives, items),
            total_weight=pairs.total_weight,
            candidates=self._locate(items, offered.rows),
            log_q=offered.log_q,
            columns=columns,
            hit_bags=hit_bags,
            hit_candidates=hit_candidates,
            n_others=len(self.sampler.drawable) - n_touched,
            shift=int(rng.integers(len(offered.rows))),
        )

    def _find_hits(self, candidates: NDArray[np.int64], histories: Bags) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        columns = self._locate(candidates, histories.item_rows)
        hit = columns >= 0
        return np.repeat(np.arange(len(histories)), histories.sizes)[hit], columns[hit]

    def _locate(self, known: NDArray[np.int64], rows: NDArray[np.integer]) -> NDArray[np.int64]:
        """The place of each of `rows` in `known`, -1 where it is not there."""
        self._local[known] = np.arange(len(known))
        found: NDArray[np.int64] = self._local[rows]
        self._local[known] = -1
        return found

    def _merge(self, *parts: NDArray[np.integer]) -> NDArray[np.int64]:
        """The distinct rows of all parts, ascending: reading the table beats sorting them."""
        for part in parts:
            self._marked[part] = True
        merged = np.flatnonzero(self._marked)
        self._marked[merged] = False
        return merged

    def _localize(self, bags: Bags, known: NDArray[np.int64]) -> Bags:
        return Bags(bags.offsets, self._locate(known, bags.item_rows).astype(np.int32), bags.weights)
