"""Rotations: found again where there was one, harmless to every score, and blind to popularity."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_cl.evaluation.drift import find_rotation, map_rows, rotate, share_changed, widen_rotation
from recsys_cl.ids import IdMap


def draw_rotation(n: int, seed: int) -> np.ndarray:
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(n, n)))[0]


def name_items(numbers: range) -> IdMap:
    return IdMap.build([f"i{n:04}" for n in numbers])


@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_the_rotation_between_two_spaces_is_found_whatever_else_each_holds(scale: float) -> None:
    rng, turn = np.random.default_rng(0), draw_rotation(7, 1)
    live = rng.normal(size=(300, 8)).astype(np.float32) * np.float32(scale)
    new = rng.normal(size=(300, 8)).astype(np.float32)
    new[:200, :7] = live[100:, :7] @ turn.T.astype(np.float32)  # items 100 … 299 of the live ones, turned away
    found = find_rotation(name_items(range(100, 400)), new, name_items(range(300)), live, 7)
    np.testing.assert_allclose(found @ found.T, np.eye(7), atol=1e-12)
    np.testing.assert_allclose(found, turn, atol=1e-4)
    np.testing.assert_allclose(rotate(new, found)[:200, :7], live[100:, :7], atol=1e-4 * scale)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 12), st.sampled_from([0.05, 1.0, 30.0]))
def test_no_score_changes_and_popularity_stays(seed: int, n_floats: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    queries, candidates = ((rng.normal(size=(n, n_floats + 1)) * scale).astype(np.float32) for n in (20, 30))
    turn = draw_rotation(n_floats, seed)
    turned = rotate(queries, turn), rotate(candidates, turn)
    before, after = queries.astype(np.float64) @ candidates.T, turned[0].astype(np.float64) @ turned[1].T
    lengths = np.linalg.norm(queries, axis=1)[:, None] * np.linalg.norm(candidates, axis=1)
    assert (np.abs(before - after) <= 1e-6 * np.maximum(lengths, 1e-12)).all()
    np.testing.assert_array_equal(turned[1][:, -1], candidates[:, -1])
    np.testing.assert_allclose(queries @ widen_rotation(turn, n_floats + 1), turned[0], rtol=1e-5, atol=1e-5 * scale)


def test_nothing_in_common_or_another_dim_turns_nothing_at_all() -> None:
    vectors = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    here, there = name_items(range(5)), name_items(range(5, 10))
    for live_items, live in ((there, vectors), (here, vectors[:, :3])):
        found = find_rotation(here, vectors, live_items, live, 3)
        np.testing.assert_array_equal(found, np.eye(3))
        assert rotate(vectors, found) is vectors


def test_what_changed_among_neighbors_is_counted_by_hand() -> None:
    other_rows = np.array([10, 11, -1, 13])  # item 2 is gone
    before = map_rows(np.array([[0, 1], [2, 3], [3, -1], [-1, -1]]), other_rows)
    after = np.array([[11, 10], [13, 12], [12, 11], [10, 11]])
    np.testing.assert_allclose(share_changed(before, after), [0.0, 0.5, 1.0, 0.0])
