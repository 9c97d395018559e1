"""Why: shares are what the tower loses without an item, and both touched is counted as by hand."""

from __future__ import annotations

import numpy as np
import pytest

from recsys_cl.bags import Bags
from recsys_cl.serving.explain import Touches, explain_history
from recsys_cl.serving.lookup import Release


def score(release: Release, rows: list[int], weights: list[float]) -> np.ndarray:
    """Scores of all items for a history, as the small release's tower makes them."""
    taste = np.average(release.parts.bag_vectors[rows].astype(np.float64), axis=0, weights=weights)
    query = np.append(taste / np.linalg.norm(taste), 1.0)
    return release.parts.item_vectors.astype(np.float64) @ query


def test_shares_are_what_is_lost_without_an_item(release: Release) -> None:
    rows, weights = [3, 11, 20, 34, 41, 50, 9], [1.0, 2.0, 1.0, 0.5, 1.0, 3.0, 1.0]
    whole = score(release, rows, weights)
    lost = np.array(
        [whole - score(release, rows[:i] + rows[i + 1 :], weights[:i] + weights[i + 1 :]) for i in range(7)]
    )
    brought = np.maximum(lost, 0)
    asked = np.arange(60, dtype=np.int64)
    found = explain_history(release, Bags.of_history(rows, weights), asked)
    for item in asked:
        shares = brought[:, item] / brought[:, item].sum()
        best = [place for place in np.argsort(-shares)[:5] if shares[place] > 1e-5]
        named = [cause for cause in found[item] if cause["share"] > 1e-5]
        assert [cause["item_id"] for cause in named] == [release.parts.catalog.items.get_id(rows[p]) for p in best]
        assert [cause["share"] for cause in named] == pytest.approx([shares[place] for place in best], abs=1e-4)


def test_one_item_brings_everything_and_nobody_brings_nothing(release: Release) -> None:
    rows = np.arange(3, dtype=np.int64)
    alone = explain_history(release, Bags.of_history([7]), rows)
    assert alone == [[{"item_id": release.parts.catalog.items.get_id(7), "share": 1.0}]] * 3
    assert explain_history(release, release.parts.seen.take(np.array([1])), rows) == [[]] * 3
    assert explain_history(release, Bags.of_history([7, 8]), rows[:0]) == []


def test_a_long_history_is_judged_by_its_end(release: Release, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recsys_cl.serving.explain._MOST_ITEMS", 3)
    rows = np.arange(10, dtype=np.int64)
    found = explain_history(release, Bags.of_history(list(range(30, 50))), rows)
    assert found == explain_history(release, Bags.of_history([47, 48, 49]), rows)


def test_who_touched_both_is_counted_as_by_hand(release: Release) -> None:
    seen = release.parts.seen
    touched = np.zeros((len(seen), release.n_items), dtype=np.int64)
    touched[np.repeat(np.arange(len(seen)), seen.sizes), seen.item_rows] = 1
    touches = Touches.build(seen, release.n_items)
    everything = np.arange(release.n_items)
    for row in (0, 17, 59):
        assert touches.count_both(row, everything).tolist() == (touched.T @ touched)[row].tolist()
    assert touches.count_both(5, everything[:0]).tolist() == []


def test_an_item_that_nobody_touched_is_touched_with_none() -> None:
    bags = Bags(np.array([0, 2, 3]), np.array([0, 3, 3], dtype=np.int32), np.ones(3, dtype=np.float32))
    touches = Touches.build(bags, 6)
    assert touches.count_both(3, np.arange(6)).tolist() == [1, 0, 0, 2, 0, 0]
    assert touches.count_both(5, np.arange(6)).tolist() == [0] * 6
