"""The closed form is what its formula says, and a query of it is what lookup computes."""

from __future__ import annotations

import numpy as np
import pytest

from recsys_cl.config import ModelConfig
from recsys_cl.ids import IdMap
from recsys_cl.interactions.table import Interactions
from recsys_cl.training.encode import encode_candidates, encode_queries
from recsys_cl.training.linear import fit_linear

N_USERS, N_ITEMS = 60, 15


@pytest.fixture(scope="module")
def log() -> Interactions:
    rng = np.random.default_rng(0)
    lists = [np.sort(rng.choice(N_ITEMS - 1, rng.integers(2, 9), replace=False)) for _ in range(N_USERS)]
    sizes = [len(items) for items in lists]
    n = sum(sizes)
    return Interactions(
        IdMap.build([f"u{row:03d}" for row in range(N_USERS)]),
        IdMap.build([f"i{row:03d}" for row in range(N_ITEMS)]),
        np.concatenate(([0], np.cumsum(sizes))),
        np.concatenate(lists).astype(np.int32),
        np.arange(n),
        np.ones(n, dtype=np.float32),
        False,
    )


@pytest.mark.parametrize("user_power", [0.0, 0.3])
def test_scores_are_those_of_the_ridge_solved_item_by_item(log: Interactions, user_power: float) -> None:
    """At full rank, up to each query's length: every item regressed on the others, one normal equation each."""
    ridge, bags = 5.0, log.to_bags()
    matrix = np.zeros((N_USERS, N_ITEMS))
    matrix[log.expand_users(), log.item_rows] = 1.0
    weights = bags.sizes.astype(float) ** -user_power
    scaled = matrix * weights[:, None]
    expected = np.zeros((N_ITEMS, N_ITEMS))
    for item in range(N_ITEMS):
        others = np.arange(N_ITEMS) != item
        known = scaled[:, others]
        gram = known.T @ known + ridge * np.mean(weights**2) * np.eye(N_ITEMS - 1)
        expected[others, item] = np.linalg.solve(gram, known.T @ scaled[:, item])
    towers = fit_linear(log, ModelConfig(dim=N_ITEMS + 1), ridge, user_power)
    queries = encode_queries(towers, bags, None)
    np.testing.assert_allclose(np.linalg.norm(queries[:, :-1], axis=1), 1, rtol=1e-5)
    found, wanted = queries @ encode_candidates(towers).T, matrix @ expected
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    wanted /= np.linalg.norm(wanted, axis=1, keepdims=True)
    np.testing.assert_allclose(found, wanted, atol=1e-4)


def test_a_lower_rank_keeps_what_predicts_most(log: Interactions) -> None:
    """The kept part of the predictions is the best of that rank: as far from them as the singular values say."""
    bags, rank = log.to_bags(), 4
    matrix = np.zeros((N_USERS, N_ITEMS))
    matrix[log.expand_users(), log.item_rows] = 1.0
    full, low = (fit_linear(log, ModelConfig(dim=dim), 5.0, 0.0) for dim in (N_ITEMS + 1, rank + 1))
    scores = [matrix @ towers.bag_table.table.numpy() @ towers.item_table.table.numpy().T for towers in (full, low)]
    values = np.linalg.svd(scores[0], compute_uv=False)
    assert np.linalg.norm(scores[0] - scores[1]) == pytest.approx(np.linalg.norm(values[rank:]), rel=1e-3)
    assert len(bags) == N_USERS


def test_an_item_that_nobody_has_is_no_part_of_anything(log: Interactions) -> None:
    towers = fit_linear(log, ModelConfig(dim=8, query_hidden=16), 5.0, 0.3)
    assert towers.query_tower.layer is None, "it is linear whatever is given"
    assert not (log.item_rows == N_ITEMS - 1).any()
    assert np.abs(encode_candidates(towers)[-1]).max() < 1e-6


def test_the_same_log_gives_the_same_bits(log: Interactions) -> None:
    one, two = (encode_candidates(fit_linear(log, ModelConfig(dim=8), 5.0, 0.3)) for _ in range(2))
    assert one.tobytes() == two.tobytes()
