"""Bags of items: the query of a user, of a session, of an item, as CSR arrays.

A bag holds each item once, with a weight, in the order in which the items came; where nobody knows it, in any. Memory:
8 bytes a bag and 8 bytes an item of a bag.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Bags:
    """offsets [n_bags + 1] int64; item_rows [n] int32, weights [n] float32: bag b is offsets[b]:offsets[b + 1]."""

    offsets: NDArray[np.int64]
    item_rows: NDArray[np.int32]
    weights: NDArray[np.float32]

    def __post_init__(self) -> None:
        if len(self.offsets) < 1 or self.offsets[-1] != len(self.item_rows) or len(self.item_rows) != len(self.weights):
            raise ValueError(
                f"offsets end at {self.offsets[-1:]}, for {len(self.item_rows)} items, {len(self.weights)} weights"
            )

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Items of each bag [n_bags]."""
        return np.diff(self.offsets)

    @staticmethod
    def of_history(item_rows: Sequence[int], weights: Sequence[float] | None = None) -> Bags:
        """One bag from a history of item rows; repeats are merged where they first stand, their weights added."""
        rows, first, inverse = np.unique(np.asarray(item_rows, dtype=np.int32), return_index=True, return_inverse=True)
        given = np.ones(len(item_rows)) if weights is None else np.asarray(weights, dtype=np.float64)
        merged = np.bincount(inverse, weights=given, minlength=len(rows)).astype(np.float32)
        order = np.argsort(first)
        return Bags(np.array([0, len(rows)], dtype=np.int64), rows[order], merged[order])

    @staticmethod
    def of_items(item_rows: NDArray[np.integer]) -> Bags:
        """Bags of one: each item asks for its neighbors."""
        n = len(item_rows)
        return Bags(np.arange(n + 1, dtype=np.int64), item_rows.astype(np.int32), np.ones(n, dtype=np.float32))

    def take(self, bag_rows: NDArray[np.integer]) -> Bags:
        """The bags at these rows, in this order."""
        starts = self.offsets[bag_rows]
        sizes = self.offsets[np.asarray(bag_rows) + 1] - starts  # not `self.sizes`, which are those of all bags
        places = expand_ranges(starts, sizes)
        return Bags(np.concatenate(([0], np.cumsum(sizes))), self.item_rows[places], self.weights[places])

    def number_pairs(self, n_items: int) -> NDArray[np.int64]:
        """One number for each (bag, item) of n_items [n], in order of the bags: bag * n_items + item."""
        return np.repeat(np.arange(len(self), dtype=np.int64) * n_items, self.sizes) + self.item_rows

    def keep_last(self, most: int) -> Bags:
        """The last `most` items of each bag."""
        sizes = self.sizes
        if sizes.max(initial=0) <= most:
            return self
        kept = np.minimum(sizes, most)
        places = expand_ranges(self.offsets[1:] - kept, kept)
        return Bags(np.concatenate(([0], np.cumsum(kept))), self.item_rows[places], self.weights[places])


def expand_ranges(starts: NDArray[np.int64], sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """The numbers starts[i], starts[i] + 1, …, sizes[i] of them, one range behind the other [sum of sizes]."""
    before = np.cumsum(sizes) - sizes
    return np.repeat(starts - before, sizes) + np.arange(sizes.sum())
