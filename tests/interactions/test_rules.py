"""Rules agree with ones that are too simple to be wrong."""

from __future__ import annotations

from collections import Counter, defaultdict

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_cl.config import IngestConfig
from recsys_cl.errors import ConfigError, LogError
from recsys_cl.interactions.rules import ALIVE, check_roles, check_row_rules, find_core, find_refused

PAIRS = st.sets(st.tuples(st.integers(0, 8), st.integers(0, 8)), max_size=50)


def peel(pairs: set[tuple[int, int]], least_items: int, least_users: int) -> set[tuple[int, int]]:
    while True:
        of_user, of_item = Counter(u for u, _ in pairs), Counter(i for _, i in pairs)
        kept = {(u, i) for u, i in pairs if of_user[u] >= least_items and of_item[i] >= least_users}
        if kept == pairs:
            return kept
        pairs = kept


@settings(deadline=None, max_examples=100)
@given(PAIRS, st.integers(1, 4), st.integers(1, 4), st.integers(1, 4))
def test_the_core_is_what_peeling_leaves(
    pairs: set[tuple[int, int]], least_items: int, least_users: int, n_buckets: int
) -> None:
    buckets = [
        np.array(sorted(p for p in pairs if p[0] * n_buckets // 9 == b), dtype=np.int32).reshape(-1, 2)
        for b in range(n_buckets)
    ]
    users, items = find_core((9, 9), lambda b: buckets[b], n_buckets, (least_items, least_users))
    assert {(u, i) for u, i in pairs if users[u] == items[i] == ALIVE} == peel(pairs, least_items, least_users)
    gone = [(u, i) for u, i in pairs if not users[u] == items[i] == ALIVE]
    assert all(users[u] != items[i] for u, i in gone), "each has one reason"


EVENTS = st.lists(st.tuples(*[st.integers(0, 2)] * 3, st.integers(0, 3)), max_size=40)


def sort_events(rows: list[tuple[int, int, int, int]], timed: bool) -> pl.DataFrame:
    frame = pl.DataFrame(rows, schema=["user", "item", "kind", "time"], orient="row").with_row_index("seq")
    frame = frame.with_columns(pl.col("time").cast(pl.Int64) * 40_000_000_000)
    return frame.sort("user", "time", "seq") if timed else frame.drop("time").sort("user", "seq")


@settings(deadline=None, max_examples=100)
@given(EVENTS, st.sampled_from(["event", "pair", "keep"]), st.integers(0, 4), st.booleans())
def test_bots_and_duplicates_agree_with_a_loop(
    rows: list[tuple[int, int, int, int]], duplicates: str, most: int, timed: bool
) -> None:
    events = sort_events(rows, timed)
    config = IngestConfig(duplicates=duplicates, most_events_per_day=most)  # type: ignore[arg-type]
    per_day: dict[tuple[int, int], int] = defaultdict(int)
    for row in events.rows(named=True):
        per_day[row["user"], row.get("time", 0) // 86_400_000_000] += 1
    seen, expected = set(), []
    for row in events.rows(named=True):
        key = {
            "event": (row["user"], row["item"], row["kind"], row.get("time", row["seq"])),
            "pair": (row["user"], row["item"]),
            "keep": row["seq"],
        }[duplicates]
        bot = timed and most and any(n > most for (user, _), n in per_day.items() if user == row["user"])
        expected.append("bot" if bot else "duplicate" if key in seen else None)
        seen.add(key)
    assert find_refused(events, config).to_list() == expected


def test_rules_of_a_row() -> None:
    config = IngestConfig(kind_weights={"buy": 2.0}, least_rating=3, since="1970-01-02", until="1970-01-03")
    day = 86_400_000_000
    rows = [("buy", 3.0, day), ("view", 1.0, 0), ("buy", 2.9, 0), ("buy", 3.0, day - 1), ("buy", 5.0, 2 * day)]
    frame = pl.DataFrame(rows, schema=["kind", "weight", "time"], orient="row")
    found = frame.with_columns(check_row_rules(config).find_reasons().alias("reason"))["reason"].to_list()
    window = "outside_date_window"
    assert found == [None, "kind_not_counted", "below_least_rating", window, window]
    assert check_row_rules(IngestConfig()).find_reasons().meta.root_names() == []


def test_bounds_that_make_no_sense() -> None:
    for config in (IngestConfig(since="x"), IngestConfig(until="2024-99-01")):
        with pytest.raises(ConfigError, match="ISO 8601"):
            check_row_rules(config)
    with pytest.raises(ConfigError, match="not before"):
        check_row_rules(IngestConfig(since="2024-01-02", until="2024-01-01"))


@pytest.mark.parametrize(
    ("config", "option"),
    [
        (IngestConfig(kind_weights={"a": 1.0}), "kind_weights"),
        (IngestConfig(least_rating=1), "least_rating"),
        (IngestConfig(since="2024-01-01"), "since"),
        (IngestConfig(until="2024-01-01"), "until"),
    ],
)
def test_a_rule_without_its_column_is_an_error(config: IngestConfig, option: str) -> None:
    with pytest.raises(LogError, match=rf"ingest\.{option} is set"):
        check_roles(check_row_rules(config), {"user": "u", "item": "i"}, "the log")
