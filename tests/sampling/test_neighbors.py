"""Neighbors of items: those of a reference too simple to be wrong, however the work is cut, and bounded for anyone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_cl.bags import Bags
from recsys_cl.sampling import neighbors
from recsys_cl.sampling.neighbors import build_neighbors

N_ITEMS = 9
SETS = st.lists(st.sets(st.integers(0, N_ITEMS - 1), max_size=N_ITEMS), max_size=12)


def join(users: list[set[int]]) -> Bags:
    rows = np.array([item for user in users for item in sorted(user)], dtype=np.int32)
    return Bags(np.cumsum([0, *map(len, users)]).astype(np.int64), rows, np.ones(len(rows), dtype=np.float32))


def read(bags: Bags, row: int) -> dict[int, float]:
    places = slice(bags.offsets[row], bags.offsets[row + 1])
    return dict(zip(bags.item_rows[places].tolist(), bags.weights[places].tolist(), strict=True))


def compute_cosine(users: list[set[int]], one: int, other: int) -> float:
    """Of the two items' users, each counting with one over their number of items."""
    shared = sum(1 / len(user) for user in users if one in user and other in user)
    return shared / (sum(one in user for user in users) * sum(other in user for user in users)) ** 0.5 if shared else 0


@settings(deadline=None, max_examples=150)
@given(SETS, st.integers(1, 5), st.integers(1, 30))
def test_they_are_those_of_all_cosines(users: list[set[int]], k: int, block: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(neighbors, "_BLOCK_PAIRS", block)
        found = build_neighbors(join(users), N_ITEMS, k, seed=0)
    whole = build_neighbors(join(users), N_ITEMS, k, seed=0)
    assert found.item_rows.tolist() == whole.item_rows.tolist()  # also where several are equally near
    assert len(found) == N_ITEMS
    for item in range(N_ITEMS):
        cosines = {other: compute_cosine(users, item, other) for other in range(N_ITEMS) if other != item}
        near = sorted((cosine for cosine in cosines.values() if cosine), reverse=True)[:k]
        got = read(found, item)
        assert sorted((cosines[other] for other in got), reverse=True) == pytest.approx(near)
        for other, weight in got.items():
            assert weight == pytest.approx(cosines[other] / sum(near), rel=1e-4)


def test_who_holds_everything_is_read_in_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbors, "_MOST_ITEMS", 4)
    found = build_neighbors(join([set(range(N_ITEMS))]), N_ITEMS, 8, seed=0)
    assert sorted(found.sizes.tolist()) == [0] * (N_ITEMS - 4) + [3] * 4
    again, other = (build_neighbors(join([set(range(N_ITEMS))]), N_ITEMS, 8, seed=seed) for seed in (0, 1))
    assert again.item_rows.tolist() == found.item_rows.tolist() != other.item_rows.tolist()
