"""A blend scores as its members do together, as well as `dim` floats can, and its exported tower says the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from recsys_cl.bags import Bags
from recsys_cl.config import Config, apply_settings
from recsys_cl.model.blend import Blend, compress
from recsys_cl.model.towers import TwoTowers
from recsys_cl.serving.towers import QueryTower
from recsys_cl.training.encode import build_blend, encode_bag_vectors, encode_candidates, encode_queries
from recsys_cl.training.save import load_towers, save_towers

N_ITEMS, N_USERS = 30, 40
BAG = ["model.dim=6", "model.tied=true", "model.user_weight=0.0"]
MEMBERS = {
    "two bags": [BAG, [*BAG, "model.temperature=0.5"]],
    "order beside none": [BAG, [*BAG, "model.history=transformer", "model.history_length=4"]],
    "untied, with users": [["model.dim=6"], [*BAG, "model.history=gru", "model.score=dot"]],
}


def draw_bags(longest: int = 7) -> Bags:
    rng = np.random.default_rng(1)
    sizes = rng.integers(1, longest + 1, N_USERS)
    rows = np.concatenate([rng.choice(N_ITEMS, size, replace=False) for size in sizes]).astype(np.int32)
    return Bags(np.concatenate(([0], np.cumsum(sizes))), rows, np.ones(len(rows), dtype=np.float32))


def build_members(settings: list[list[str]]) -> list[TwoTowers]:
    popularity = np.arange(1, N_ITEMS + 1)
    models = [apply_settings(Config(), each).model for each in settings]
    return [TwoTowers(N_USERS, popularity, m, torch.Generator().manual_seed(n)).eval() for n, m in enumerate(models)]


def score(model: TwoTowers | Blend, bags: Bags) -> np.ndarray:
    scores: np.ndarray = encode_queries(model, bags, np.arange(N_USERS)) @ encode_candidates(model).T
    return scores - scores.mean(axis=1, keepdims=True)


@pytest.mark.parametrize("name", MEMBERS)
def test_with_floats_enough_it_ranks_by_the_weighted_sum_of_logits(name: str) -> None:
    bags, weights = draw_bags(4), [2.0, 0.5]
    members = build_members(MEMBERS[name])
    blend = build_blend(members, weights, 16, bags, np.arange(N_USERS))
    wanted = sum(w * score(m, bags) / float(m.temperature) for m, w in zip(members, weights, strict=True))
    np.testing.assert_allclose(score(blend, bags), wanted, atol=1e-3)


def test_with_fewer_floats_it_is_the_nearest_of_that_rank() -> None:
    """As near as the singular values allow; what all users share stands in the popularity float and costs nothing."""
    rng = np.random.default_rng(0)
    queries, candidates = (rng.standard_normal((n, 12)).astype(np.float32) + 1 for n in (50, 40))
    popularity = rng.standard_normal(40).astype(np.float32)
    compressed = compress(queries, candidates, popularity, 6)
    found = compressed.encode(queries) @ compressed.candidates.T
    whole = queries @ (candidates - candidates.mean(axis=0)).T + popularity
    spread = (queries - queries.mean(axis=0)) @ (candidates - candidates.mean(axis=0)).T
    left = np.linalg.svd(spread, compute_uv=False)[5:]
    assert np.linalg.norm(found - whole) == pytest.approx(np.linalg.norm(left), rel=1e-3)


def test_members_that_span_little_give_zeros_and_no_nan() -> None:
    ones = np.ones((5, 3), dtype=np.float32)
    compressed = compress(ones, ones, np.arange(5, dtype=np.float32), 8)
    assert np.isfinite(compressed.encode(ones)).all()
    np.testing.assert_allclose(compressed.candidates[:, -1], np.arange(5), atol=1e-5)


@pytest.mark.parametrize("name", MEMBERS)
def test_its_exported_tower_answers_as_it_does_and_its_file_gives_it_back(name: str, tmp_path: Path) -> None:
    bags = draw_bags()
    blend = build_blend(build_members(MEMBERS[name]), [1.0, 1.0], 8, bags, np.arange(N_USERS))
    save_towers(blend, tmp_path)
    table = encode_bag_vectors(blend)
    asked = bags if blend.history_length is None else bags.keep_last(blend.history_length)
    exported = QueryTower(tmp_path / "query_tower.onnx", table.shape[1], 8).encode(asked, table)
    np.testing.assert_allclose(exported, encode_queries(blend, bags, None), atol=1e-4)
    other = build_blend(build_members(MEMBERS[name][::-1])[::-1], [3.0, 1.0], 8, bags, np.arange(N_USERS))
    assert not np.allclose(encode_candidates(other), encode_candidates(blend))
    load_towers(other, tmp_path)
    assert encode_candidates(other).tobytes() == encode_candidates(blend).tobytes()
    assert encode_queries(other, bags, None).tobytes() == encode_queries(blend, bags, None).tobytes()


def test_it_reads_as_many_items_as_its_shortest_member() -> None:
    bags = draw_bags()
    blend = build_blend(build_members(MEMBERS["order beside none"]), [1.0, 1.0], 8, bags, np.arange(N_USERS))
    assert blend.history_length == 4
    same = encode_queries(blend, bags.keep_last(4), None)
    assert same.tobytes() == encode_queries(blend, bags, None).tobytes()
