"""Windows: the ranges of a draw, and what is in them, against a loop that is too simple to be wrong."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_cl.bags import Bags
from recsys_cl.config import SamplingConfig
from recsys_cl.interactions.table import MICROSECONDS_PER_DAY
from recsys_cl.sampling.windows import build_windows

HISTORIES = st.lists(
    st.lists(st.tuples(st.integers(0, 12), st.integers(0, 5)), max_size=9).map(sorted), min_size=1, max_size=6
)


@settings(deadline=None, max_examples=150)
@given(HISTORIES, st.sampled_from([0.0, 1.0, 3.0]), st.sampled_from([0.0, 2.0]))
def test_ranges_and_distinct_items_are_those_of_a_plain_loop(
    histories: list[list[tuple[int, int]]], window: float, gap_days: float
) -> None:
    if not window and not gap_days:
        window = 2.0
    flat = [event for history in histories for event in history]
    days, items = np.array([d for d, _ in flat]), np.array([i for _, i in flat], dtype=np.int32)
    offsets = np.cumsum([0, *map(len, histories)])
    events = Bags(offsets, items, np.ones(len(items), dtype=np.float32))
    config = SamplingConfig(window_days=window, session_gap_minutes=gap_days * 1440)
    found = build_windows(events, days.astype(np.int64) * MICROSECONDS_PER_DAY, config)
    n_ends = []
    for user in range(len(histories)):
        low, high = offsets[user], offsets[user + 1]
        pairable = 0
        for event in range(low, high):
            first = event
            while first > low and (not gap_days or days[first] - days[first - 1] < gap_days):
                first -= 1
            last = event
            if not window:
                while last + 1 < high and days[last + 1] - days[last] < gap_days:
                    last += 1
            else:
                while days[first] < days[event] - window:
                    first += 1
            assert (found.first[event], found.last[event]) == (first, last)
            distinct = len(set(items[first : last + 1].tolist()))
            assert found.n_distinct[event] == distinct
            assert (event in found.ends) == (distinct >= 2)
            pairable += distinct >= 2
        n_ends.append(pairable)
    assert np.diff(found.end_offsets).tolist() == n_ends
