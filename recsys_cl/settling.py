"""Settling: comes in what a run has trained and the live release, goes out the same vectors turned onto that release.

Consumers store our vectors. So a new release lies in the space of the one before: item and user vectors and the towers
are rotated together, which changes no score; the rotation is kept, and what was trained can be had back from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recsys_cl.bags import Bags
from recsys_cl.embeddings import EmbeddingTable
from recsys_cl.evaluation.drift import Rotation, find_rotation, map_rows, rotate, share_changed, widen_rotation
from recsys_cl.evaluation.topk import search_exact
from recsys_cl.ids import IdMap
from recsys_cl.publishing.folding import fold_matrices
from recsys_cl.publishing.manifest import Drift
from recsys_cl.publishing.parts import QUERY_TOWER
from recsys_cl.serving.lookup import Release
from recsys_cl.serving.towers import QueryTower

CANDIDATE_TOWER = "candidate_tower.onnx"
TABLES = ("candidates", "queries", "bags")
_K, _MOST_ITEMS, _STREAM = 10, 1_000, 8


@dataclass(frozen=True)
class Settled:
    """candidates [n_items, dim] and queries [n_users, dim], rotated; bags [n_items, bag_dim], which the query tower
    takes, as they were trained. towers: the files of the rotated towers by name. drift: None without a live release."""

    candidates: NDArray[np.float32]
    queries: NDArray[np.float32]
    bags: NDArray[np.float32]
    rotation: Rotation
    towers: Mapping[str, Path]
    drift: Drift | None

    def open_tower(self) -> QueryTower:
        """The rotated query tower."""
        return QueryTower(self.towers[QUERY_TOWER], self.bags.shape[1], self.candidates.shape[1])


def read_tables(folder: Path) -> dict[str, NDArray[np.float32]]:
    """The vectors of a published fit, by the names in `TABLES`."""
    return {name: EmbeddingTable.read(folder / f"{name}.npy", "query").vectors for name in TABLES}


def read_fit(folder: Path) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Queries and candidates of an evaluated fit."""
    queries = EmbeddingTable.read(folder / "queries.npy", "query").vectors
    return queries, EmbeddingTable.read(folder / "candidates.npy", "candidate").vectors


def settle(published: Path, work: Path, items: IdMap, live: Release | None, seed: int) -> Settled:
    """Rotate the fit in the folder `published`, of these items, onto the live release; towers are written into `work`.

    Costs a pass over the items that both have, and an exact search for at most 1,000 of them.
    """
    tables = read_tables(published)
    candidates = tables["candidates"]
    dim = candidates.shape[1]
    rotation = np.eye(dim - 1)
    if live is not None:
        rotation = find_rotation(items, candidates, live.parts.catalog.items, live.parts.item_vectors, dim - 1)
    work.mkdir(exist_ok=True)
    wide = widen_rotation(rotation, dim)
    towers = {QUERY_TOWER: work / QUERY_TOWER, CANDIDATE_TOWER: work / CANDIDATE_TOWER}
    for (name, path), output in zip(towers.items(), ("query", "candidate"), strict=True):
        fold_matrices(published / name, path, {output: wide})
    rotated = rotate(candidates, rotation), rotate(tables["queries"], rotation)
    settled = Settled(*rotated, tables["bags"], rotation, towers, None)
    if live is None:
        return settled
    drift = _measure_drift(settled, candidates, items, live, seed)
    return Settled(*rotated, tables["bags"], rotation, towers, drift)


def _measure_drift(settled: Settled, unrotated: NDArray[np.float32], items: IdMap, live: Release, seed: int) -> Drift:
    """How many of the top 10 of items that both have, of at most 1,000 drawn evenly, are others now."""
    live_items = live.parts.catalog.items
    places = items.find_rows(live_items.to_series())  # live row -> own row
    rows = np.flatnonzero(places >= 0)
    rows = np.sort(np.random.default_rng([seed, _STREAM]).permutation(rows)[:_MOST_ITEMS])
    k, dim = min(_K, len(items) - 1, len(live_items) - 1), settled.candidates.shape[1]
    if not len(rows) or k < 1:
        return Drift(release=live.version, n_items=0, churn=0.0, stored_before=0.0, stored_after=0.0)
    own = places[rows]
    stored = live.encode_items(rows)
    before = map_rows(search_exact(stored, live.parts.item_vectors, k, Bags.of_items(rows)).rows, places)
    asking = [(settled.open_tower().encode_items(own, settled.bags, dim - 1), settled.candidates)]
    if stored.shape[1] == dim:
        asking += [(stored, unrotated), (stored, settled.candidates)]
    churns = [
        float(share_changed(before, search_exact(queries, vectors, k, Bags.of_items(own)).rows).mean())
        for queries, vectors in asking
    ]
    churns += [1.0] * (3 - len(churns))  # of another dim: what is stored can ask nothing
    return Drift(
        release=live.version, n_items=len(rows), churn=churns[0], stored_before=churns[1], stored_after=churns[2]
    )
