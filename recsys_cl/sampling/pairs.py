"""Positive pairs: comes in the users of a batch, goes out a bag and its positives for each.

A positive pair is (bag, item touched by the same user, not in the bag). Instead of one pair a row, each user gives one
row: their items, drawn without replacement, are parted into a bag and the positives of that bag, all learned at once.
So no positive ever sits in its own bag, and one encoded query serves many pairs. Nothing is materialized beyond the
batch: 12 bytes an item of its users.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys_cl.bags import Bags
from recsys_cl.config import SamplingConfig
from recsys_cl.interactions.table import MICROSECONDS_PER_DAY, Interactions


@dataclass(frozen=True)
class PairSource:
    """What pairs are drawn from: each user's items in order of time, and the times where a window applies.

    bags: the distinct items of each user. times [n] int64 or None; a window needs the time of each item.
    """

    bags: Bags
    times: NDArray[np.int64] | None
    window: int

    @property
    def user_rows(self) -> NDArray[np.int64]:
        """Users with two items or more: only they hold a pair."""
        return np.flatnonzero(self.bags.sizes >= 2)


def build_pair_source(interactions: Interactions, config: SamplingConfig) -> PairSource:
    """Prepare drawing. Without times the window is off: the whole history counts.

    With a window, repeats of an item stay apart, since each lies at its own time; without, they are merged.
    """
    if not config.window_days or not interactions.timed:
        return PairSource(interactions.to_bags(), None, 0)
    bags = Bags(interactions.offsets, interactions.item_rows, interactions.weights)
    return PairSource(bags, interactions.times, round(config.window_days * MICROSECONDS_PER_DAY))


def draw_pairs(
    source: PairSource, user_rows: NDArray[np.int64], config: SamplingConfig, rng: np.random.Generator
) -> tuple[NDArray[np.int64], Bags, Bags]:
    """Draw a bag and its positives for each of `user_rows` [n], users among `source.user_rows`.

    Returns (user_rows [b], bags, positives), both with b entries and at least one item each; a user whose window
    holds a single item is left out. At most `most_items_per_user` items of a user are drawn, evenly.
    """
    starts, stops = _draw_windows(source, user_rows, rng)
    sizes = stops - starts
    owners = np.repeat(np.arange(len(user_rows)), sizes)
    first = np.concatenate(([0], np.cumsum(sizes)[:-1]))
    places = np.arange(len(owners)) - first[owners] + starts[owners]
    order = np.lexsort((rng.random(len(owners)), owners))  # a random order within each user
    owners, places = owners[order], places[order]
    if source.times is not None:  # an item that repeats within the window counts once
        keys = owners * np.int64(source.bags.item_rows.max(initial=0) + 1) + source.bags.item_rows[places]
        fresh = np.sort(np.unique(keys, return_index=True)[1])
        owners, places = owners[fresh], places[fresh]
        sizes = np.bincount(owners, minlength=len(user_rows))
        first = np.concatenate(([0], np.cumsum(sizes)[:-1]))
    ranks = np.arange(len(owners)) - first[owners]
    drawn = np.minimum(sizes, config.most_items_per_user)
    n_bag = np.clip((drawn * config.bag_share).astype(np.int64), 1, np.maximum(drawn - 1, 1))
    usable = (drawn >= 2)[owners]
    in_bag = usable & (ranks < n_bag[owners])
    positive = usable & (ranks >= n_bag[owners]) & (ranks < drawn[owners])
    kept = np.flatnonzero(drawn >= 2)
    return (
        user_rows[kept],
        _gather(source.bags, owners, places, in_bag, kept),
        _gather(source.bags, owners, places, positive, kept),
    )


def _draw_windows(
    source: PairSource, user_rows: NDArray[np.int64], rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The part [start, stop) of each user's events to draw from: all, or a window that ends at a random event."""
    starts, stops = source.bags.offsets[user_rows], source.bags.offsets[user_rows + 1]
    if source.times is None:
        return starts, stops
    last = starts + (rng.random(len(user_rows)) * (stops - starts)).astype(np.int64)
    earliest = source.times[last] - source.window
    return _search_sorted_parts(source.times, starts, last, earliest), last + 1


def _search_sorted_parts(
    values: NDArray[np.int64], low: NDArray[np.int64], high: NDArray[np.int64], wanted: NDArray[np.int64]
) -> NDArray[np.int64]:
    """For each part values[low:high], sorted, the first position whose value is not below `wanted`; all at once."""
    low, high = low.copy(), high.copy()
    while (open_ := low < high).any():
        middle = (low + high) // 2
        below = open_ & (values[middle] < wanted)
        low = np.where(below, middle + 1, low)
        high = np.where(open_ & ~below, middle, high)
    return low


def _gather(
    bags: Bags, owners: NDArray[np.int64], places: NDArray[np.int64], mask: NDArray[np.bool_], kept: NDArray[np.int64]
) -> Bags:
    sizes = np.bincount(owners[mask])
    sizes = np.concatenate((sizes, np.zeros(max(0, kept.max(initial=-1) + 1 - len(sizes)), dtype=sizes.dtype)))[kept]
    taken = places[mask]
    return Bags(np.concatenate(([0], np.cumsum(sizes))), bags.item_rows[taken], bags.weights[taken])
