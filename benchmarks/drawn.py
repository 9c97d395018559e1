"""Releases of any size for benchmarks: drawn vectors of 64 floats, and the towers of a small release."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recsys_cl.bags import Bags
from recsys_cl.catalog import Catalog
from recsys_cl.config import IndexConfig, apply_settings, build_config
from recsys_cl.ids import IdMap
from recsys_cl.index.tune import build_tuned
from recsys_cl.interactions.sample import write_sample
from recsys_cl.interactions.world import WorldConfig
from recsys_cl.pipeline import run_all
from recsys_cl.publishing.parts import EvaluatedFit, ReleaseParts
from recsys_cl.publishing.release import ReleaseFacts, publish_release
from recsys_cl.runs import create_run
from recsys_cl.serving.lookup import Release, open_release

DIM, N_SEEN = 64, 20
_SPECTRUM = (1 + np.arange(DIM)) ** -0.35  # of the item vectors that MovieLens-100K gives
_QUICK = ("recipe.search=false", "training.epochs=1", "evaluation.n_resamples=100")
_ANY_MODEL = ("publishing.require_gain=false", "publishing.least_effective_rank=0")


def draw_vectors(n: int, n_items: int, seed: int) -> NDArray[np.float32]:
    """Unit vectors [n, DIM] around the centers of a catalog of `n_items`, drawn with `seed`."""
    rng, n_centers = np.random.default_rng(seed), round(math.sqrt(n_items))
    centers = np.random.default_rng(7).normal(size=(n_centers, DIM)) * _SPECTRUM
    shares = (1 + np.arange(n_centers)) ** -0.5
    vectors = centers[rng.choice(n_centers, size=n, p=shares / shares.sum())].astype(np.float32)
    vectors += rng.standard_normal(size=(n, DIM), dtype=np.float32) * _SPECTRUM.astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def make_small(folder: Path) -> Release:
    """A release of a drawn log of 300 items, 64 floats wide."""
    write_sample(folder / "world", WorldConfig(n_users=400, n_items=300, n_events=12_000))
    settings = [f'ingest.log="{folder}/world/events.csv"', f'publishing.store="{folder}/small"', *_QUICK, *_ANY_MODEL]
    run_all(create_run(folder / "small", apply_settings(build_config({}), settings)))
    return open_release(folder / "small")


def publish_large(small: Release, store: Path, n_users: int, n_items: int) -> None:
    """Publish a release of as many users and items, with the towers of the small one; each user has seen 20 items."""
    rng = np.random.default_rng(0)
    items, users = draw_vectors(n_items, n_items, 0), draw_vectors(n_users, n_items, 1)
    bags = rng.standard_normal((n_items, small.parts.bag_vectors.shape[1]), dtype=np.float32)
    first = rng.integers(0, n_items - N_SEEN, size=(n_users, 1))
    seen = (first + np.arange(N_SEEN)).astype(np.int32).reshape(-1)
    parts = ReleaseParts(
        catalog=Catalog.build(IdMap.build([f"item-{n}" for n in range(n_items)]), None),
        users=IdMap.build([f"user-{n}" for n in range(n_users)]),
        item_vectors=items,
        bag_vectors=bags / np.linalg.norm(bags, axis=1, keepdims=True),
        user_vectors=users,
        seen=Bags(np.arange(n_users + 1, dtype=np.int64) * N_SEEN, seen, np.ones(len(seen), np.float32)),
        evaluated=EvaluatedFit(items, users, np.ones(len(seen), np.bool_)),
        rotation=small.parts.rotation,
        index=build_tuned(items, [users[:2_000]], IndexConfig(), 0),
        files=small.parts.files,
    )
    manifest = small.manifest
    facts = ReleaseFacts(
        run_id="drawn",
        code_version=manifest.code_version,
        config=manifest.config,
        config_fingerprint=manifest.config_fingerprint,
        data_fingerprint=manifest.data_fingerprint,
        n_events=len(seen),
        popularity_dim=None,  # drawn vectors are of unit length, and have no float for it
        history_length=manifest.history_length,
        floats_per_pair=manifest.floats_per_pair,
        ann_recall=1.0,
        metrics={},
    )
    publish_release(parts, facts, store)
