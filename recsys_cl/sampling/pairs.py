"""Positive pairs: comes in the users of a batch, goes out a bag and its positives for each.

A positive pair is (bag, item touched by the same user, not in the bag). Instead of one pair a row, each user gives one
row: the items of a window are parted into a bag and the positives of that bag, all learned at once. So no positive ever
sits in its own bag, and one encoded query serves many pairs. `positives = "next"` keeps the order instead: each item is
the positive of the bag of all that came before it (as in SASRec; Kang and McAuley, ICDM 2018).

Nothing is materialized beyond the batch: some 50 bytes an item of its users; windows take 32 bytes an event, once.

A positive's weight is that of its event over the mean of all. A user's n expected positives weigh n^voice_power
together, √n by default: between one vote a user and one vote an event. Of a user with more items than a batch draws,
each is as likely to be drawn, and weighs so much more that its expected weight is what it is without that bound
(Horvitz and Thompson, JASA 1952).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from recsys_cl.bags import Bags, expand_ranges
from recsys_cl.config import SamplingConfig
from recsys_cl.interactions.table import MICROSECONDS_PER_DAY, Interactions
from recsys_cl.sampling.windows import Windows, build_windows, count_offers, expect_positives


@dataclass(frozen=True)
class PairSource:
    """What pairs are drawn from.

    events: each user's items in order of time; distinct ones, unless `windows` keeps repeats apart. positive_weights
    [n_events] float32: what each counts as a positive, 1 on average. histories: each user's distinct items, all of
    them. windows: where a draw begins and ends, None where it is all of a user. user_rows: users that hold a pair.
    offers [n_items]: how often an item is expected to be a positive when each of user_rows is drawn once.
    """

    events: Bags
    positive_weights: NDArray[np.float32]
    histories: Bags
    windows: Windows | None
    user_rows: NDArray[np.int64]
    offers: NDArray[np.float64]
    config: SamplingConfig


@dataclass(frozen=True)
class Pairs:
    """A bag for each of user_rows [b], in order of time, and the positives of each query.

    With `rest` a bag is a query; with `next` each place in a bag is one, which has read the bag up to there. positives:
    an entry a query, its weights those of the loss. total_weight: what they would weigh together, were every event of
    the mean weight; a batch of old events weighs less than that.
    """

    user_rows: NDArray[np.int64]
    bags: Bags
    positives: Bags
    total_weight: float


@dataclass(frozen=True)
class _Drawn:
    """The items to part, `full` [b] of them a user, in order of time: item_rows, bag_weights, positive_weights [n]."""

    full: NDArray[np.int64]
    item_rows: NDArray[np.int32]
    bag_weights: NDArray[np.float32]
    positive_weights: NDArray[np.float32]


def build_pair_source(interactions: Interactions, config: SamplingConfig, longest: int) -> PairSource:
    """Prepare drawing; longest: items of a stretch that is read in order (`next`).

    Without times, windows, sessions and recency are off: the whole history counts, and every event alike.
    """
    if config.positives == "next" and longest < config.most_items_per_user:
        config = config.model_copy(update={"most_items_per_user": longest})
    histories = interactions.to_bags()
    events, windows = histories, None
    if interactions.timed and (config.window_days or config.session_gap_minutes):
        events = Bags(interactions.offsets, interactions.item_rows, interactions.weights)
        windows = build_windows(events, interactions.times, config)
    weights = events.weights
    if interactions.timed and config.recency_half_life_days and interactions.n_events:
        age_days = (interactions.times.max() - interactions.times) / MICROSECONDS_PER_DAY
        aged = interactions.weights * np.float64(0.5) ** (age_days / config.recency_half_life_days)
        weights = aged if windows is not None else _sum_repeats(interactions, aged)
    user_rows = np.flatnonzero(events.sizes >= 2 if windows is None else np.diff(windows.end_offsets) > 0)
    offers = count_offers(events, windows, config, interactions.n_items)
    mean = weights.mean(dtype=np.float64) if len(weights) else 1.0
    return PairSource(events, (weights / mean).astype(np.float32), histories, windows, user_rows, offers, config)


def draw_pairs(source: PairSource, user_rows: NDArray[np.int64], rng: np.random.Generator) -> Pairs:
    """Draw a bag and its positives for each of `user_rows` [n], users among `source.user_rows`, in their order."""
    starts, stops = _draw_ranges(source, user_rows, rng)
    sizes = stops - starts
    places = expand_ranges(starts, sizes)
    events = source.events
    drawn = _Drawn(sizes, events.item_rows[places], events.weights[places], source.positive_weights[places])
    if source.windows is not None:
        drawn = _merge_repeats(drawn)
    draw = _draw_next if source.config.positives == "next" else _draw_rest
    return draw(drawn, user_rows, source.config, rng)


def _draw_rest(drawn: _Drawn, user_rows: NDArray[np.int64], config: SamplingConfig, rng: np.random.Generator) -> Pairs:
    """Part each user's items by chance into bag and positives, neither empty."""
    sizes = np.minimum(drawn.full, config.most_items_per_user)
    places = draw_evenly(drawn.full, config.most_items_per_user, rng)
    starts = np.cumsum(sizes) - sizes
    in_bag = rng.random(len(places)) < config.bag_share
    n_bag = np.add.reduceat(in_bag, starts, dtype=np.int64) if len(places) else np.zeros(0, dtype=np.int64)
    lone = np.flatnonzero((n_bag == 0) | (n_bag == sizes))  # one side is empty: one item changes sides
    moved = starts[lone] + (rng.random(len(lone)) * sizes[lone]).astype(np.int64)
    in_bag[moved] = n_bag[lone] == 0
    n_bag[lone] += np.where(n_bag[lone] == 0, 1, -1)
    n_expected = expect_positives(drawn.full, config, bounded=False)
    voices = n_expected**config.voice_power / expect_positives(drawn.full, config)
    scale = np.repeat(voices, sizes - n_bag).astype(np.float32)
    positives = _gather(drawn.item_rows, drawn.positive_weights, places[~in_bag], sizes - n_bag)
    positives.weights[:] *= scale
    bags = _gather(drawn.item_rows, drawn.bag_weights, places[in_bag], n_bag)
    return Pairs(user_rows, bags, positives, float(scale.sum(dtype=np.float64)))


def _draw_next(drawn: _Drawn, user_rows: NDArray[np.int64], config: SamplingConfig, rng: np.random.Generator) -> Pairs:
    """A stretch of each user's items: all but the last is the bag, all but the first are positives.

    A longer history gives a stretch that may begin before it or end after it, so that each of its positives is as
    likely to be in it.
    """
    most = config.most_items_per_user - 1  # positives of a stretch
    targets = drawn.full - 1
    long = targets > most
    begins = np.where(long, np.floor(rng.random(len(targets)) * (targets + most - 1)) - (most - 1), 0).astype(np.int64)
    ends = np.where(long, np.minimum(begins + most, targets), targets)
    begins = np.maximum(begins, 0)
    sizes = ends - begins  # of bag and positives alike
    first = expand_ranges(np.cumsum(drawn.full) - drawn.full + begins, sizes)
    louder = np.where(long, (targets + most - 1) / most, 1.0)
    scale = np.repeat(louder * targets ** (config.voice_power - 1.0), sizes).astype(np.float32)
    weights = drawn.positive_weights[first + 1] * scale
    positives = Bags(np.arange(len(first) + 1), drawn.item_rows[first + 1], weights)
    bags = _gather(drawn.item_rows, drawn.bag_weights, first, sizes)
    return Pairs(user_rows, bags, positives, float(scale.sum(dtype=np.float64)))


def _draw_ranges(
    source: PairSource, user_rows: NDArray[np.int64], rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The events [start, stop) of each user to draw from: all, or the window of a random event."""
    if source.windows is None:
        return source.events.offsets[user_rows], source.events.offsets[user_rows + 1]
    low, high = source.windows.end_offsets[user_rows], source.windows.end_offsets[user_rows + 1]
    ends = source.windows.ends[low + (rng.random(len(user_rows)) * (high - low)).astype(np.int64)]
    return source.windows.first[ends], source.windows.last[ends] + 1


def _merge_repeats(drawn: _Drawn) -> _Drawn:
    """Each item of a user once, where it first stands, with the weights of its events added."""
    owners = np.repeat(np.arange(len(drawn.full)), drawn.full)
    keys = owners * (np.int64(drawn.item_rows.max(initial=0)) + 1) + drawn.item_rows
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    order = np.argsort(first)
    kept = first[order]
    bag_weights, positive_weights = (
        np.bincount(inverse, weights, len(first))[order].astype(np.float32)
        for weights in (drawn.bag_weights, drawn.positive_weights)
    )
    sizes = np.bincount(owners[kept], minlength=len(drawn.full))
    return _Drawn(sizes, drawn.item_rows[kept], bag_weights, positive_weights)


def draw_evenly(sizes: NDArray[np.int64], most: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """At most `most` positions of each part of `sizes` [b], every subset as likely; in order."""
    kept = np.ones(sizes.sum(), dtype=bool)
    heavy = np.flatnonzero(sizes > most)  # only they are sorted
    owners = np.repeat(np.arange(len(heavy)), sizes[heavy])
    positions = expand_ranges((np.cumsum(sizes) - sizes)[heavy], sizes[heavy])
    order = np.argsort(owners + rng.random(len(owners)))  # by owner, and by chance within
    ranks = expand_ranges(np.zeros(len(heavy), dtype=np.int64), sizes[heavy])
    kept[positions[order[ranks >= most]]] = False
    return np.flatnonzero(kept)


def _gather(
    item_rows: NDArray[np.int32], weights: NDArray[np.float32], places: NDArray[np.int64], sizes: NDArray[np.int64]
) -> Bags:
    return Bags(np.concatenate(([0], np.cumsum(sizes))), item_rows[places], weights[places])


def _sum_repeats(interactions: Interactions, weights: NDArray[np.float64]) -> NDArray[np.float32]:
    """Weights of events as those of each user's distinct items."""
    return replace(interactions, weights=weights.astype(np.float32)).to_bags().weights
