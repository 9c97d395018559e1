"""Bags hold each item once with its weight, in the order they were taken."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys_cl.bags import Bags

BAGS = st.lists(st.lists(st.tuples(st.integers(0, 50), st.floats(0.5, 4, width=32)), max_size=6), max_size=8)
Plain = list[list[tuple[int, float]]]


def make(bags: Plain) -> Bags:
    flat = [pair for bag in bags for pair in bag]
    offsets = np.cumsum([0, *map(len, bags)]).astype(np.int64)
    rows, weights = (np.array([pair[side] for pair in flat]) for side in (0, 1))
    return Bags(offsets, rows.astype(np.int32), weights.astype(np.float32))


def unmake(bags: Bags) -> Plain:
    pairs = list(zip(bags.item_rows.tolist(), bags.weights.tolist(), strict=True))
    return [pairs[low:high] for low, high in zip(bags.offsets[:-1], bags.offsets[1:], strict=True)]


@given(BAGS, st.data())
def test_bags_are_taken_in_any_order_and_as_often_as_asked_for(plain: Plain, data: st.DataObject) -> None:
    places = st.lists(st.integers(0, len(plain) - 1), max_size=12) if plain else st.just([])
    wanted = data.draw(places)
    bags = make(plain)
    taken = bags.take(np.array(wanted, dtype=np.int64))
    assert unmake(taken) == [plain[place] for place in wanted]
    assert taken.sizes.tolist() == [len(plain[place]) for place in wanted]
    assert len(taken) == len(wanted)
    assert (taken.offsets.dtype, taken.item_rows.dtype, taken.weights.dtype) == (np.int64, np.int32, np.float32)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 5)), max_size=20))
def test_a_history_is_one_bag_with_the_weights_of_repeats_added(history: list[tuple[int, int]]) -> None:
    bag = Bags.of_history([row for row, _ in history], [weight for _, weight in history])
    added: dict[int, float] = {}
    for row, weight in history:
        added[row] = added.get(row, 0) + weight
    assert unmake(bag) == [list(added.items())], "in the order in which the items came"
    counted = Bags.of_history([row for row, _ in history])
    assert dict(unmake(counted)[0]) == {row: [r for r, _ in history].count(row) for row in added}


@given(BAGS, st.integers(1, 8))
def test_the_last_items_of_each_bag_are_kept(plain: Plain, most: int) -> None:
    assert unmake(make(plain).keep_last(most)) == [bag[-most:] for bag in plain]


def test_each_item_alone_is_a_bag_of_one() -> None:
    assert unmake(Bags.of_items(np.array([7, 3, 7]))) == [[(7, 1.0)], [(3, 1.0)], [(7, 1.0)]]
    assert len(Bags.of_items(np.array([], dtype=np.int64))) == 0


@pytest.mark.parametrize(
    ("offsets", "n_items", "n_weights"), [([0, 2], 3, 3), ([0, 2], 2, 1), ([], 0, 0), ([0, 3], 2, 2)]
)
def test_parts_that_do_not_belong_together_are_refused(offsets: list[int], n_items: int, n_weights: int) -> None:
    with pytest.raises(ValueError, match="offsets end at"):
        Bags(
            np.array(offsets, dtype=np.int64),
            np.zeros(n_items, dtype=np.int32),
            np.zeros(n_weights, dtype=np.float32),
        )
