from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from recsys_cl.bags import Bags
from recsys_cl.evaluation import diversity
from recsys_cl.evaluation.diversity import judge_diversity


def draw_world(seed: int, m: int, n_items: int, length: int) -> tuple[NDArray[np.int64], Bags, list[set[int]]]:
    """Lists, some of them short; histories of 30 users, and the same as the set of users of each item."""
    rng = np.random.default_rng(seed)
    dense = rng.random((30, n_items)) < rng.random(n_items) ** 2
    rows = np.argsort(rng.random((m, n_items)), axis=1)[:, :length]
    rows = np.where(np.arange(length) < rng.integers(0, length + 1, (m, 1)), rows, -1)
    items = np.nonzero(dense)[1].astype(np.int32)
    bags = Bags(np.concatenate(([0], np.cumsum(dense.sum(axis=1)))), items, np.ones(len(items), dtype=np.float32))
    return rows, bags, [set(np.flatnonzero(column).tolist()) for column in dense.T]


def judge_slowly(listed: list[int], users: list[set[int]]) -> float:
    """One pair of items after the other; an item that nobody touched is like no other."""
    pairs = list(combinations([row for row in listed if row >= 0], 2))
    cosines = [
        len(users[a] & users[b]) / (len(users[a]) * len(users[b])) ** 0.5 if users[a] and users[b] else 0.0
        for a, b in pairs
    ]
    return 1.0 - sum(cosines) / len(pairs) if pairs else 0.0


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 10_000), m=st.integers(1, 8), n_items=st.integers(6, 40))
def test_diversity_is_that_of_every_pair_counted_one_by_one(seed: int, m: int, n_items: int) -> None:
    rows, histories, users = draw_world(seed, m, n_items, 6)
    found = judge_diversity(rows, histories, n_items, (1, 2, 5, 6), 256)
    assert set(found) == {"diversity@1", "diversity@2", "diversity@5", "diversity@6"}
    for k in (1, 2, 5, 6):
        expected = [judge_slowly(listed, users) for listed in rows[:, :k].tolist()]
        np.testing.assert_allclose(found[f"diversity@{k}"], expected, atol=1e-6)


def test_memory_does_not_change_the_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, histories, _ = draw_world(1, 40, 300, 10)
    whole = judge_diversity(rows, histories, 300, (3, 10), 256)
    monkeypatch.setattr(diversity, "_HELD_PAIRS", 25)  # two places of a list of ten at a time
    found = judge_diversity(rows, histories, 300, (3, 10), 0)  # and the cosines of one item
    for metric, values in whole.items():
        np.testing.assert_array_equal(found[metric], values)


def test_items_of_the_same_users_have_no_diversity_and_items_of_others_have_all() -> None:
    histories = Bags(np.array([0, 2, 4, 5]), np.array([0, 1, 0, 1, 2], dtype=np.int32), np.ones(5, dtype=np.float32))
    rows = np.array([[0, 1], [0, 2], [2, -1], [-1, -1]])
    found = judge_diversity(rows, histories, 3, (2,), 1)["diversity@2"]
    np.testing.assert_allclose(found, [0.0, 1.0, 0.0, 0.0], atol=1e-6)  # without a pair: 0
    assert found.min() >= 0.0


def test_rounding_makes_no_list_less_diverse_than_not_at_all() -> None:
    for n_users in range(1, 60):
        same = np.tile(np.arange(3, dtype=np.int32), n_users)
        histories = Bags(3 * np.arange(n_users + 1), same, np.ones(len(same), dtype=np.float32))
        found = judge_diversity(np.array([[0, 1, 2]]), histories, 3, (2, 3), 1)
        for values in found.values():
            assert 0.0 <= values[0] < 1e-6
