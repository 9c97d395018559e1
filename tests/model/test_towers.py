"""Towers: the popularity float, and tables that move where they are touched."""

from __future__ import annotations

import math

import numpy as np
import torch

from recsys_cl.bags import Bags
from recsys_cl.config import ModelConfig
from recsys_cl.model.encoders import RowTable
from recsys_cl.model.towers import FeedForward, TwoTowers
from recsys_cl.training.encode import encode_candidates, encode_queries

POPULARITY = np.array([5, 1, 3, 0, 2, 2])


def build(**settings: float) -> TwoTowers:
    return TwoTowers(3, POPULARITY, ModelConfig(dim=8, **settings), torch.Generator().manual_seed(0))  # type: ignore[arg-type]


def test_taste_has_unit_length_and_the_last_float_carries_popularity() -> None:
    model = build(popularity_weight=0.5, temperature=0.2)
    candidates = encode_candidates(model)
    assert np.allclose(np.linalg.norm(candidates[:, :-1], axis=1), 1, atol=1e-6)
    share = np.maximum(POPULARITY, 0.5) / np.maximum(POPULARITY, 0.5).mean()
    assert np.allclose(candidates[:, -1], 0.1 * np.log(share), atol=1e-6)
    queries = encode_queries(model, Bags.of_items(np.arange(6)), None)
    assert np.allclose(np.linalg.norm(queries[:, :-1], axis=1), 1, atol=1e-6)
    assert (queries[:, -1] == 1).all()


def test_an_empty_bag_of_a_stranger_leaves_popularity_to_decide() -> None:
    model = build()
    empty = Bags(np.array([0, 0]), np.zeros(0, dtype=np.int32), np.zeros(0, dtype=np.float32))
    scores = encode_queries(model, empty, None) @ encode_candidates(model).T
    assert scores[0].argmax() == POPULARITY.argmax()


def test_a_layer_begins_as_nothing_and_then_is_its_formula() -> None:
    layer = FeedForward(3, 5, torch.Generator().manual_seed(0))
    vectors = torch.nn.functional.normalize(torch.randn(4, 3, generator=torch.Generator().manual_seed(1)), dim=1)
    assert torch.equal(layer(vectors), vectors)
    with torch.no_grad():
        layer.narrow.weight.copy_(torch.arange(15.0).view(3, 5) / 7 - 1)
        hidden = 3**0.5 * vectors.numpy() @ layer.wide.weight.numpy().T
        bent = hidden * np.vectorize(lambda x: 0.5 * (1 + math.erf(x / 2**0.5)))(hidden)
        expected = vectors.numpy() + bent @ layer.narrow.weight.numpy().T
        np.testing.assert_allclose(layer(vectors), expected, atol=1e-6)
        assert (layer(torch.zeros(1, 3)) == 0).all()


def test_the_first_weights_of_a_layer_keep_the_length_of_what_comes_in() -> None:
    wide = FeedForward(63, 1024, torch.Generator().manual_seed(0)).wide.weight
    assert torch.isclose(wide.norm(dim=1).mean(), torch.tensor(1.0), atol=0.02)


def test_what_a_layer_makes_of_a_bag_has_unit_length_whatever_the_bag_weighs() -> None:
    model = build(query_hidden=16, user_weight=0.0)
    assert model.query_tower.layer is not None
    torch.nn.init.normal_(model.query_tower.layer.narrow.weight, generator=torch.Generator().manual_seed(2))
    bags = Bags.of_items(np.arange(6))
    queries = encode_queries(model, bags, None)
    assert np.allclose(np.linalg.norm(queries[:, :-1], axis=1), 1, atol=1e-6)
    heavier = Bags(bags.offsets, np.arange(6, dtype=np.int32), np.full(6, 5.0, dtype=np.float32))
    with torch.no_grad():
        model.bag_table.table.mul_(3.0)  # the layer sees a direction
    assert np.allclose(encode_queries(model, heavier, None), queries, atol=1e-5)


def test_a_row_table_moves_as_adam_does_and_only_where_touched() -> None:
    table = RowTable(4, 3, 0.1, torch.Generator().manual_seed(0))
    start = table.table.clone()
    reference = start[[1, 3]].clone().requires_grad_()
    adam = torch.optim.Adam([reference], lr=0.05)
    for step in range(1, 6):
        loss = (table.gather(torch.tensor([1, 3])) ** 2 * step).sum()
        loss.backward()
        table.update(step, 0.05, 0.0)
        adam.zero_grad()
        (reference**2 * step).sum().backward()
        adam.step()
    assert torch.allclose(table.table[[1, 3]], reference, atol=1e-6)
    assert torch.equal(table.table[[0, 2]], start[[0, 2]])


def test_rows_with_neighbors_are_read_and_learn_as_one_dense_product() -> None:
    """row = itself + its neighbors' weighted sum: values, gradients and what a step moves, beside a dense matrix."""
    near = Bags(
        np.array([0, 2, 3, 5, 6]), np.array([0, 1, 1, 2, 1, 3], dtype=np.int32), np.float32([1, 2, 1, 1, 0.5, 1])
    )
    mixing = torch.tensor([[1, 2, 0, 0], [0, 1, 0, 0], [0, 0.5, 1, 0], [0, 0, 0, 1]])
    table = RowTable(4, 3, 0.1, torch.Generator().manual_seed(0))
    start = table.table.clone()
    table.neighbors = near
    assert torch.allclose(table.read(), mixing @ start)
    rows = torch.tensor([0, 2])
    reference = start.clone().requires_grad_()
    adam = torch.optim.Adam([reference], lr=0.05)
    for step in range(1, 6):
        (table.gather(rows) ** 2 * step).sum().backward()
        table.update(step, 0.05, 0.0)
        adam.zero_grad()
        ((mixing @ reference)[rows] ** 2 * step).sum().backward()
        adam.step()
    assert torch.allclose(table.table, reference, atol=1e-6)
    assert torch.equal(table.table[3], start[3])
    read = table.read().clone()
    table.settle()
    assert table.neighbors is None
    assert torch.equal(table.table, read)


def test_neighbors_share_what_an_item_says_by_their_weight() -> None:
    model = build(tied=True, neighbor_weight=0.5)
    before = model.item_table.table.clone()
    one, two = np.array([0, 1, 1, 1, 1, 1, 1]), np.array([3], dtype=np.int32)
    model.smooth(Bags(one, two, np.ones(1, dtype=np.float32)))
    model.settle()
    assert torch.allclose(model.item_table.table[0], before[0] + 0.5 * before[3])
    assert torch.equal(model.item_table.table[1:], before[1:])
