"""Windows of a history: comes in events in order of time, goes out the part of them that a draw at each event is from.

With `window_days` a draw at an event is from the days before it (and within its session, where sessions are set); with
`session_gap_minutes` alone it is from its whole session. Both are ranges of neighboring events whose ends never go back
in time, so that everything here is sums over ranges: exact, and without a loop over users.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys_cl.bags import Bags
from recsys_cl.config import SamplingConfig
from recsys_cl.interactions.table import MICROSECONDS_PER_DAY

_MICROSECONDS_PER_MINUTE = 60_000_000


@dataclass(frozen=True)
class Windows:
    """A draw at event e is from events first[e] to last[e], both included, all of one user.

    first, last, n_distinct [n_events] int64: n_distinct counts the items of the range. ends, by user in end_offsets
    [n_users + 1]: the events at which a draw can be made, for their ranges hold two items or more.
    """

    first: NDArray[np.int64]
    last: NDArray[np.int64]
    n_distinct: NDArray[np.int64]
    ends: NDArray[np.int64]
    end_offsets: NDArray[np.int64]


def build_windows(events: Bags, times: NDArray[np.int64], config: SamplingConfig) -> Windows:
    """times [n_events], microseconds, ascending within a user.

    Time: a sort of the events. Memory: 32 bytes an event, and as much again on the way.
    """
    n = len(times)
    positions = np.arange(n)
    user_starts = np.repeat(events.offsets[:-1], events.sizes)
    first, last = user_starts, positions
    if config.session_gap_minutes:
        opens = positions == user_starts
        opens[1:] |= np.diff(times) >= config.session_gap_minutes * _MICROSECONDS_PER_MINUTE
        session_starts = np.flatnonzero(opens)
        sizes = np.diff(np.append(session_starts, n))
        first = np.repeat(session_starts, sizes)
        if not config.window_days:
            last = first + np.repeat(sizes, sizes) - 1
    if config.window_days:
        window = round(config.window_days * MICROSECONDS_PER_DAY)
        first = _search_sorted_parts(times, first, positions, times - window)
    low, high = _find_draws(events, first, last)
    n_distinct = _add_ranges(low, high, n)
    ends = np.flatnonzero(n_distinct >= 2)
    return Windows(first, last, n_distinct, ends, np.searchsorted(ends, events.offsets))


def count_offers(events: Bags, windows: Windows | None, config: SamplingConfig, n_items: int) -> NDArray[np.float64]:
    """How often each item is expected to be a positive when every user with a pair is drawn once [n_items]."""
    if windows is None:
        sizes = events.sizes
        chance = np.where(sizes >= 2, expect_positives(sizes, config) / np.maximum(sizes, 1), 0.0)
        offers = np.bincount(events.item_rows, np.repeat(chance, sizes), n_items).astype(np.float64)
        if config.positives == "next":
            paired = np.flatnonzero(sizes >= 2)
            offers -= np.bincount(events.item_rows[events.offsets[paired]], chance[paired], n_items)
        return offers
    n_draws = np.repeat(np.diff(windows.end_offsets), events.sizes)  # of the user of each event
    expected = expect_positives(windows.n_distinct, config) / np.maximum(windows.n_distinct, 1)
    chance = np.where(windows.n_distinct >= 2, expected / np.maximum(n_draws, 1), 0.0)
    summed = np.concatenate(([0.0], np.cumsum(chance)))
    low, high = _find_draws(events, windows.first, windows.last)
    stands = summed[np.maximum(high + 1, low)] - summed[low]
    offers = np.bincount(events.item_rows, stands, n_items).astype(np.float64)
    if config.positives == "next":  # the first item of a range is no positive
        offers -= np.bincount(events.item_rows[windows.first], chance, n_items)
    return offers


def expect_positives(sizes: NDArray[np.int64], config: SamplingConfig, *, bounded: bool = True) -> NDArray[np.float64]:
    """Expected positives among n >= 2 distinct items, times n over the number that can be one of them."""
    n = sizes.astype(np.float64)
    most = config.most_items_per_user if bounded else max(int(sizes.max(initial=2)), 2)
    if config.positives == "next":
        targets = n - 1
        return n * np.where(targets > most - 1, (most - 1) / np.maximum(targets + most - 2, 1), 1.0)
    m, share = np.minimum(n, most), config.bag_share
    return m * (1 - share) + share**m - (1 - share) ** m  # the last two: one item changes sides


def _find_draws(
    events: Bags, first: NDArray[np.int64], last: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """For each event, the draws [low, high] in whose range it is the last event of its item (none where low > high)."""
    n = len(first)
    owners = np.repeat(np.arange(len(events)), events.sizes)
    order = np.lexsort((events.item_rows, owners))  # stable: events of one item stay in order of time
    again = (np.diff(owners[order]) == 0) & (np.diff(events.item_rows[order]) == 0)
    follows = np.full(n, np.iinfo(np.int64).max)  # the next event of the same user and item
    follows[order[:-1][again]] = order[1:][again]
    positions = np.arange(n)
    low = np.searchsorted(last, positions, side="left")  # the first draw whose range reaches the event
    high = np.searchsorted(first, positions, side="right") - 1  # the last draw whose range still holds it
    high = np.minimum(high, np.searchsorted(last, follows, side="left") - 1)  # but not its next
    return low, high


def _add_ranges(low: NDArray[np.int64], high: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    """How many of the ranges [low, high] hold each of 0 … n - 1."""
    real = low <= high
    steps = np.bincount(low[real], minlength=n + 1) - np.bincount(high[real] + 1, minlength=n + 1)
    return np.cumsum(steps[:n])


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
