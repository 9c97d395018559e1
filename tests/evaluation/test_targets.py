from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_cl.bags import Bags
from recsys_cl.errors import InputError
from recsys_cl.evaluation.targets import choose_judged, find_targets, keep_items
from recsys_cl.ids import IdMap
from recsys_cl.interactions.table import Interactions

Log = list[list[int]]


def build_interactions(log: Log, n_items: int) -> Interactions:
    """One list of item rows a user."""
    rows = np.array([row for items in log for row in items], dtype=np.int32)
    offsets = np.concatenate(([0], np.cumsum([len(items) for items in log])))
    users = IdMap.build([f"u{user:03d}" for user in range(len(log))])
    items = IdMap.build([f"i{row:03d}" for row in range(n_items)])
    times = np.arange(len(rows), dtype=np.int64)
    return Interactions(users, items, offsets, rows, times, np.ones(len(rows), dtype=np.float32), timed=False)


def list_bags(bags: Bags) -> list[set[int]]:
    return [set(bags.item_rows[bags.offsets[b] : bags.offsets[b + 1]].tolist()) for b in range(len(bags))]


log = st.lists(st.lists(st.integers(0, 9), max_size=6), min_size=5, max_size=5)


@settings(deadline=None, max_examples=60)
@given(train_log=log, test_log=log)
def test_targets_and_counts_are_those_of_sets(train_log: Log, test_log: Log) -> None:
    train, test = build_interactions(train_log, 10), build_interactions(test_log, 10)
    known = {row for items in train_log for row in items}
    targets = [{row for row in b if row in known and row not in a} for a, b in zip(train_log, test_log, strict=True)]
    assert list_bags(find_targets(train, test)) == targets
    judged_users = [user for user in range(5) if train_log[user] and targets[user]]
    if not judged_users:
        with pytest.raises(InputError, match="no user can be judged"):
            choose_judged(train, test, 100, np.random.default_rng(0))
        return
    judged = choose_judged(train, test, 100, np.random.default_rng(0))
    assert judged.users.tolist() == judged_users
    assert judged.items.tolist() == sorted(known)
    back = judged.items
    assert [set(back[list(bag)].tolist()) for bag in list_bags(judged.targets)] == [targets[u] for u in judged_users]
    assert [set(back[list(bag)].tolist()) for bag in list_bags(judged.seen)] == [
        set(train_log[u]) for u in judged_users
    ]
    active = [(set(a), set(b)) for a, b in zip(train_log, test_log, strict=True) if a]
    assert judged.dropped == {
        "users_without_training": sum(1 for a, b in zip(train_log, test_log, strict=True) if b and not a),
        "users_without_targets": sum(1 for a, b in active if b and not {row for row in b - a if row in known}),
        "targets_not_in_catalog": sum(len(b - known) for _, b in active),
        "targets_seen_in_training": sum(len(b & a) for a, b in active),
    }


def test_users_are_drawn_evenly_and_the_seed_fixes_the_draw() -> None:
    n = 200
    train = build_interactions([[user % 2] for user in range(n)], 2)
    test = build_interactions([[1 - user % 2] for user in range(n)], 2)
    draws = [choose_judged(train, test, 20, np.random.default_rng(seed)) for seed in range(200)]
    assert all(len(judged.users) == 20 and judged.n_users_eligible == n for judged in draws)
    times = np.bincount(np.concatenate([judged.users for judged in draws]), minlength=n)
    assert times.min() >= 4
    assert times.max() <= 42  # mean 20, standard deviation 4.2
    again = choose_judged(train, test, 20, np.random.default_rng(0))
    np.testing.assert_array_equal(again.users, draws[0].users)


def test_kept_items_are_renumbered_in_order() -> None:
    bags = Bags(np.array([0, 2, 3]), np.array([0, 3, 1], dtype=np.int32), np.array([1, 2, 3], dtype=np.float32))
    kept = keep_items(bags, np.array([False, True, False, True]))
    assert (kept.offsets.tolist(), kept.item_rows.tolist(), kept.weights.tolist()) == ([0, 1, 2], [1, 0], [2.0, 3.0])


def test_parts_of_different_logs_are_refused() -> None:
    with pytest.raises(ValueError, match="differ in rows"):
        find_targets(build_interactions([[0]], 1), build_interactions([[0]], 2))
