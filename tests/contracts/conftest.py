"""A planted world for the contracts of the learning arm: who likes what is known, and the best recall."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from recsys_cl.config import Config, apply_settings
from recsys_cl.evaluation.evaluate import judge_model
from recsys_cl.evaluation.metrics import judge
from recsys_cl.evaluation.topk import search_scores
from recsys_cl.ids import IdMap
from recsys_cl.index.mine import mine_items
from recsys_cl.interactions.table import Interactions
from recsys_cl.training.encode import encode_candidates, encode_queries
from recsys_cl.training.loop import Hooks
from recsys_cl.training.trainer import train

N_USERS, N_ITEMS, N_TOPICS = 600, 150, 5
N_TRAIN, N_TEST = 30, 10
K = 20


def gather_events(item_rows: np.ndarray, n_items: int) -> Interactions:
    """Interactions from one line of items a user [n_users, n], a day between two events."""
    n_users, each = item_rows.shape
    n = item_rows.size
    return Interactions(
        IdMap.build([f"u{row:04d}" for row in range(n_users)]),
        IdMap.build([f"i{row:04d}" for row in range(n_items)]),
        np.arange(0, n + 1, each, dtype=np.int64),
        item_rows.ravel().astype(np.int32),
        np.tile(np.arange(each, dtype=np.int64), n_users) * 86_400_000_000,
        np.ones(n, dtype=np.float32),
        True,
    )


@dataclass(frozen=True)
class Planted:
    """chances [n_users, n_items]: how likely each user is to touch each item next; train and test are drawn by it."""

    chances: np.ndarray
    train: Interactions
    test: Interactions

    def measure(self, settings: list[str]) -> float:
        """Recall@20 of a model trained with these settings, as a share of what the true chances reach."""
        small = ["model.dim=16", "training.least_steps=200", "training.batch_users=100", "training.n_threads=1"]
        config = apply_settings(Config(), [*small, *settings])
        seen, targets = self.train.to_bags(), self.test.to_bags()
        model = train(self.train, config, hooks=Hooks(mine=mine_items)).model
        queries = encode_queries(model, seen, np.arange(len(seen)))
        reached = judge_model(queries, encode_candidates(model), seen, targets, (K,))[f"recall@{K}"].mean()
        true = search_scores(lambda a, b: self.chances[a:b].astype(np.float32), self.chances.shape, K, seen)
        return float(reached / judge(true.rows, targets, (K,))[f"recall@{K}"].mean())


@pytest.fixture(scope="session")
def planted() -> Planted:
    """Users of two topics each, items of one, popularity by rank to the power -.6; items are drawn without return."""
    rng = np.random.default_rng(0)
    topics = np.arange(N_ITEMS) % N_TOPICS
    popularity = (1.0 + rng.permutation(N_ITEMS)) ** -0.6
    shares = np.full((N_USERS, N_TOPICS), 0.02)
    own = np.stack([rng.permutation(N_TOPICS)[:2] for _ in range(N_USERS)])
    first = rng.uniform(0.3, 0.7, N_USERS)
    shares[np.arange(N_USERS), own[:, 0]] += first
    shares[np.arange(N_USERS), own[:, 1]] += 1 - first
    chances = shares[:, topics] * popularity
    chances /= chances.sum(axis=1, keepdims=True)
    drawn = np.argsort(-(np.log(chances) + rng.gumbel(size=chances.shape)), axis=1)[:, : N_TRAIN + N_TEST]
    drawn = rng.permuted(drawn, axis=1)
    return Planted(chances, gather_events(drawn[:, :N_TRAIN], N_ITEMS), gather_events(drawn[:, N_TRAIN:], N_ITEMS))
