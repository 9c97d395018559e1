"""Positive pairs: comes in the users of a batch, goes out a bag and its positives for each.

A positive pair is (bag, item touched by the same user, not in the bag). Instead of one pair a row, each user gives one
row: the items of a window are parted into a bag and the positives of that bag, all learned at once. So no positive ever
sits in its own bag, and one encoded query serves many pairs. `positives = "next"` keeps the order instead: each item is
the positive of the bag of all that came before it (as in SASRec; Kang and McAuley, ICDM 2018).

Nothing is materialized beyond the batch: 20 bytes an item of its users; windows take 24 bytes an event, once.

A user of whom only m of n items are drawn is heard as loudly as without that bound: each of the n is as likely to be
drawn, and counts n / m times as much (Horvitz and Thompson, JASA 1952).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from recsys_cl.bags import Bags
from recsys_cl.config import SamplingConfig
from recsys_cl.interactions.table import MICROSECONDS_PER_DAY, Interactions
from recsys_cl.sampling.windows import Windows, build_windows, count_offers


@dataclass(frozen=True)
class PairSource:
    """What pairs are drawn from.

    events: each user's items in order of time; distinct ones, unless `windows` keeps repeats apart. positive_weights
    [n_events] float32: what each counts as a positive. histories: each user's distinct items, all of them. windows:
    where a draw begins and ends, None where it is all of a user. user_rows: users that hold a pair. offers [n_items]:
    how often an item is expected to be a positive when each of user_rows is drawn once.
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
    an entry a query, its weights those of the loss.
    """

    user_rows: NDArray[np.int64]
    bags: Bags
    positives: Bags


def build_pair_source(interactions: Interactions, config: SamplingConfig, most_items: int | None = None) -> PairSource:
    """Prepare drawing; most_items bounds the items of a draw further than the configuration.

    Without times, windows, sessions and recency are off: the whole history counts, and every event alike.
    """
    if most_items is not None and most_items < config.most_items_per_user:
        config = config.model_copy(update={"most_items_per_user": most_items})
    histories = interactions.to_bags()
    events, windows = histories, None
    if interactions.timed and (config.window_days or config.session_gap_minutes):
        events = Bags(interactions.offsets, interactions.item_rows, interactions.weights)
        windows = build_windows(events, interactions.times, config)
    weights = events.weights
    if interactions.timed and config.recency_half_life_days and interactions.n_events:
        age_days = (interactions.times.max() - interactions.times) / MICROSECONDS_PER_DAY
        weights = (interactions.weights * 0.5 ** (age_days / config.recency_half_life_days)).astype(np.float32)
        if windows is None:
            weights = replace(interactions, weights=weights).to_bags().weights
    user_rows = np.flatnonzero(events.sizes >= 2 if windows is None else np.diff(windows.end_offsets) > 0)
    offers = count_offers(events, windows, config, interactions.n_items)
    return PairSource(events, weights, histories, windows, user_rows, offers, config)


def draw_pairs(source: PairSource, user_rows: NDArray[np.int64], rng: np.random.Generator) -> Pairs:
    """Draw a bag and its positives for each of `user_rows` [n], users among `source.user_rows`, in their order."""
    starts, stops = _draw_ranges(source, user_rows, rng)
    sizes = stops - starts
    places = np.repeat(starts - _find_starts(sizes), sizes) + np.arange(sizes.sum())
    if source.windows is not None:
        places, sizes = _drop_repeats(source.events.item_rows, places, sizes)
    draw = _draw_next if source.config.positives == "next" else _draw_rest
    return draw(source, user_rows, places, sizes, rng)


def _draw_rest(
    source: PairSource,
    user_rows: NDArray[np.int64],
    places: NDArray[np.int64],
    full: NDArray[np.int64],
    rng: np.random.Generator,
) -> Pairs:
    """Part the events at `places`, `full` [b] of them a user, by chance into bag and positives, neither empty."""
    most = source.config.most_items_per_user
    sizes = np.minimum(full, most)
    if (full > most).any():
        places = places[_draw_evenly(full, most, rng)]
    starts = _find_starts(sizes)
    in_bag = rng.random(len(places)) < source.config.bag_share
    n_bag = np.add.reduceat(in_bag, starts, dtype=np.int64) if len(places) else np.zeros(0, dtype=np.int64)
    lone = np.flatnonzero((n_bag == 0) | (n_bag == sizes))  # one side is empty: one item changes sides
    moved = starts[lone] + (rng.random(len(lone)) * sizes[lone]).astype(np.int64)
    in_bag[moved] = n_bag[lone] == 0
    n_bag[lone] += np.where(n_bag[lone] == 0, 1, -1)
    n_positives = sizes - n_bag
    # A user's positives together weigh √n: between one vote a user and one vote an event.
    scale = np.sqrt(full / sizes / n_positives).astype(np.float32)
    positives = _gather(source.events.item_rows, source.positive_weights, places[~in_bag], n_positives)
    positives.weights[:] *= np.repeat(scale, n_positives)
    bags = _gather(source.events.item_rows, source.events.weights, places[in_bag], n_bag)
    return Pairs(user_rows, bags, positives)


def _draw_next(
    source: PairSource,
    user_rows: NDArray[np.int64],
    places: NDArray[np.int64],
    full: NDArray[np.int64],
    rng: np.random.Generator,
) -> Pairs:
    """A stretch of each user's events at `places`: all but the last is the bag, all but the first are positives.

    A longer history gives a stretch that may begin before it or end after it, so that each of its positives is as
    likely to be in it.
    """
    most = source.config.most_items_per_user - 1  # positives of a stretch
    targets = full - 1
    long = targets > most
    begins = np.where(long, np.floor(rng.random(len(full)) * (targets + most - 1)) - (most - 1), 0).astype(np.int64)
    ends = np.where(long, np.minimum(begins + most, targets), targets)
    begins = np.maximum(begins, 0)
    sizes = ends - begins  # of bag and positives alike
    first = np.repeat(_find_starts(full) + begins - _find_starts(sizes), sizes) + np.arange(sizes.sum())
    louder = np.where(long, (targets + most - 1) / most, 1.0)
    weights = (source.positive_weights[places[first + 1]] * np.repeat(louder / np.sqrt(targets), sizes)).astype(
        np.float32
    )
    positives = Bags(np.arange(len(first) + 1), source.events.item_rows[places[first + 1]], weights)
    bags = _gather(source.events.item_rows, source.events.weights, places[first], sizes)
    return Pairs(user_rows, bags, positives)


def _draw_ranges(
    source: PairSource, user_rows: NDArray[np.int64], rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The events [start, stop) of each user to draw from: all, or the window of a random event."""
    if source.windows is None:
        return source.events.offsets[user_rows], source.events.offsets[user_rows + 1]
    low, high = source.windows.end_offsets[user_rows], source.windows.end_offsets[user_rows + 1]
    ends = source.windows.ends[low + (rng.random(len(user_rows)) * (high - low)).astype(np.int64)]
    return source.windows.first[ends], source.windows.last[ends] + 1


def _drop_repeats(
    item_rows: NDArray[np.int32], places: NDArray[np.int64], sizes: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Within each part of `places`, the first event of each item; order is kept."""
    owners = np.repeat(np.arange(len(sizes)), sizes)
    keys = owners * np.int64(item_rows.max(initial=0) + 1) + item_rows[places]
    fresh = np.sort(np.unique(keys, return_index=True)[1])
    return places[fresh], np.bincount(owners[fresh], minlength=len(sizes))


def _draw_evenly(sizes: NDArray[np.int64], most: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """At most `most` positions of each part of `sizes` [b], every subset as likely; in order."""
    starts = _find_starts(sizes)
    kept = np.ones(sizes.sum(), dtype=bool)
    heavy = np.flatnonzero(sizes > most)  # only they are sorted
    owners = np.repeat(np.arange(len(heavy)), sizes[heavy])
    positions = np.repeat(starts[heavy] - _find_starts(sizes[heavy]), sizes[heavy]) + np.arange(len(owners))
    order = np.argsort(owners + rng.random(len(owners)))  # by owner, and by chance within
    ranks = np.arange(len(owners)) - _find_starts(sizes[heavy])[owners]
    kept[positions[order[ranks >= most]]] = False
    return np.flatnonzero(kept)


def _gather(
    item_rows: NDArray[np.int32], weights: NDArray[np.float32], places: NDArray[np.int64], sizes: NDArray[np.int64]
) -> Bags:
    return Bags(np.concatenate(([0], np.cumsum(sizes))), item_rows[places], weights[places])


def _find_starts(sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.cumsum(sizes) - sizes
