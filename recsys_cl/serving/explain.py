"""Why an item was answered: comes in a history and answers, goes out which of its items brought each; and for two
items, how many users touched both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys_cl.bags import Bags, expand_ranges
from recsys_cl.catalog import ID
from recsys_cl.serving.lookup import Release

_MOST_ITEMS = 256  # of a history are judged: each costs one more query of as many items
_MOST_NAMED = 5


def explain_history(release: Release, bag: Bags, rows: NDArray[np.int64]) -> list[list[dict[str, Any]]]:
    """For each answer [n] the items of the history that brought it, most first: `{"item_id", "share"}`, at most 5.

    bag: one, oldest first; its last 256 items are judged, or as many as the query tower reads. What an item brought is
    the score that is lost where the tower reads the history without it; shares are those of all that is lost, over the
    items that bring anything, and an item that lowers the score is not named. Exact for any tower.
    """
    most = min(_MOST_ITEMS, release.manifest.history_length or _MOST_ITEMS)
    judged = bag.keep_last(most)
    n = len(judged.item_rows)
    if not n:
        return [[] for _ in rows]
    brought = np.ones((1, len(rows)))
    if n > 1:
        left = np.nonzero(~np.eye(n, dtype=np.bool_))[1]  # the items of the n histories that lack one
        offsets = np.arange(n + 1, dtype=np.int64) * (n - 1)
        without = release.encode_bags(Bags(offsets, judged.item_rows[left], judged.weights[left]))
        lost = (release.encode_bags(judged) - without) @ release.parts.item_vectors[rows].T  # [n, answers]
        brought = np.maximum(lost, 0).astype(np.float64)
    shares = brought / np.maximum(brought.sum(axis=0), np.finfo(np.float64).tiny)
    best = np.argsort(-shares, axis=0, kind="stable")[:_MOST_NAMED]
    items = release.parts.catalog.items
    return [
        [
            {ID: items.get_id(int(judged.item_rows[place])), "share": round(float(shares[place, answer]), 6)}
            for place in best[:, answer]
            if shares[place, answer] > 0
        ]
        for answer in range(len(rows))
    ]


@dataclass(frozen=True)
class Touches:
    """Who has touched each item: users[offsets[row]:offsets[row + 1]]. Memory: 4 bytes for each item that a user has
    seen, and 8 for each item of the catalog; five times that while it is built."""

    offsets: NDArray[np.int64]
    users: NDArray[np.int32]
    n_users: int

    @staticmethod
    def build(seen: Bags, n_items: int) -> Touches:
        """From what each user has seen."""
        users = np.repeat(np.arange(len(seen), dtype=np.int32), seen.sizes)
        sizes = np.bincount(seen.item_rows, minlength=n_items)
        order = np.argsort(seen.item_rows, kind="stable")
        return Touches(np.concatenate(([0], np.cumsum(sizes))), users[order], len(seen))

    def count_both(self, row: int, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """How many users touched both the item at `row` and each of those at `rows` [n]."""
        own = np.zeros(self.n_users, dtype=np.bool_)
        own[self.users[self.offsets[row] : self.offsets[row + 1]]] = True
        starts, sizes = self.offsets[rows], self.offsets[rows + 1] - self.offsets[rows]
        hits = own[self.users[expand_ranges(starts, sizes)]]
        total = np.concatenate(([0], np.cumsum(hits)))
        ends = np.cumsum(sizes)
        counts: NDArray[np.int64] = total[ends] - total[ends - sizes]
        return counts
