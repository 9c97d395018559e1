"""Positive pairs: never a positive in its own bag, every user heard, windows and caps kept."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_cl.config import SamplingConfig
from recsys_cl.ids import IdMap
from recsys_cl.interactions.table import MICROSECONDS_PER_DAY, Interactions
from recsys_cl.sampling.pairs import build_pair_source, draw_pairs

N_ITEMS = 30
HISTORIES = st.lists(
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, N_ITEMS - 1)), max_size=12), min_size=1, max_size=8
)


def build(histories: list[list[tuple[int, int]]], timed: bool = True) -> Interactions:
    """Interactions from (day, item) lists, one list a user."""
    events = [sorted(history, key=lambda event: event[0]) for history in histories]
    flat = [event for history in events for event in history]
    return Interactions(
        IdMap.build([f"u{row:03d}" for row in range(len(events))]),
        IdMap.build([f"i{row:03d}" for row in range(N_ITEMS)]),
        np.cumsum([0, *map(len, events)]).astype(np.int64),
        np.array([item for _, item in flat], dtype=np.int32),
        np.array([day * MICROSECONDS_PER_DAY for day, _ in flat], dtype=np.int64),
        np.ones(len(flat), dtype=np.float32),
        timed,
    )


def parts(bags, index: int) -> set[int]:  # type: ignore[no-untyped-def]
    return set(bags.item_rows[bags.offsets[index] : bags.offsets[index + 1]].tolist())


@settings(deadline=None, max_examples=80)
@given(HISTORIES, st.integers(2, 6), st.floats(0.1, 0.9), st.integers(0, 5), st.integers(0, 2**31))
def test_bag_and_positives_part_the_users_items(
    histories: list[list[tuple[int, int]]], cap: int, share: float, window: int, seed: int
) -> None:
    config = SamplingConfig(most_items_per_user=cap, bag_share=share, window_days=window)
    interactions = build(histories)
    source = build_pair_source(interactions, config, 1000)
    drawn = draw_pairs(source, source.user_rows, np.random.default_rng(seed))
    users, bags, positives = drawn.user_rows, drawn.bags, drawn.positives
    assert len(users) == len(bags) == len(positives)
    for index, user in enumerate(users):
        bag, wanted = parts(bags, index), parts(positives, index)
        days = {item: [day for day, other in histories[user] if other == item] for item in bag | wanted}
        assert bag, "a pair has both sides"
        assert wanted, "a pair has both sides"
        assert not bag & wanted, "no positive sits in its own bag"
        assert len(bag) + len(wanted) == bags.sizes[index] + positives.sizes[index] <= cap
        assert all(days.values()), "items are the user's own"
        if window:
            assert min(map(max, days.values())) >= max(map(min, days.values())) - window
        elif len({item for _, item in histories[user]}) <= cap:
            assert bag | wanted == {item for _, item in histories[user]}
    if not window:
        heard = {row for row, history in enumerate(histories) if len({item for _, item in history}) >= 2}
        assert set(users.tolist()) == heard


def test_every_split_of_a_user_comes_up_equally_often() -> None:
    config = SamplingConfig(bag_share=0.5)
    source = build_pair_source(build([[(0, item) for item in range(4)]]), config, 1000)
    rng = np.random.default_rng(0)
    counts = np.zeros(N_ITEMS)
    for _ in range(4000):
        counts[list(parts(draw_pairs(source, np.array([0]), rng).bags, 0))] += 1
    assert np.abs(counts[:4] / 4000 - 0.5).max() < 0.04


def test_the_cap_takes_items_of_a_heavy_user_evenly() -> None:
    config = SamplingConfig(most_items_per_user=5)
    source = build_pair_source(build([[(0, item) for item in range(20)]]), config, 1000)
    rng = np.random.default_rng(0)
    counts = np.zeros(N_ITEMS)
    for _ in range(4000):
        drawn = draw_pairs(source, np.array([0]), rng)
        bags, positives = drawn.bags, drawn.positives
        counts[list(parts(bags, 0) | parts(positives, 0))] += 1
    assert np.abs(counts[:20] / 4000 - 0.25).max() < 0.04


def test_without_times_the_window_is_off() -> None:
    histories = [[(0, 1), (9, 2)]]
    config = SamplingConfig(window_days=1)
    source = build_pair_source(build(histories, timed=False), config, 1000)
    assert draw_pairs(source, np.array([0]), np.random.default_rng(0)).user_rows.tolist() == [0]
    assert not len(build_pair_source(build(histories), config, 1000).user_rows), "nine days apart is no co-interaction"
