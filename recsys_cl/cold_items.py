"""Cold items: comes in a log and pictures, goes out how well new items are placed by their picture alone.

A share of the items that have a picture is taken out of the training events, as if they were new. What a picture
finds is compared with the ten items that share most users with its item in the whole log (by cosine, as item-kNN): by
the place that the picture is given among the interactions, by pictures alone, by raw pixels (shrunk to some 16 a side),
and by popularity. And pictures alone are asked, as a recommender, for what users touched after the cut.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys_cl.bags import Bags, expand_ranges
from recsys_cl.config import Config, apply_settings
from recsys_cl.evaluation.evaluate import find_targets, judge_model
from recsys_cl.evaluation.figures import MODEL, build_figures
from recsys_cl.evaluation.metrics import judge
from recsys_cl.evaluation.targets import select_items
from recsys_cl.evaluation.topk import search_exact
from recsys_cl.images.duplicates import shrink_all
from recsys_cl.images.encoders import Run
from recsys_cl.interactions.split import Split
from recsys_cl.interactions.table import Interactions
from recsys_cl.pictured import Before, PicturedItems
from recsys_cl.progress import Progress, report_nothing
from recsys_cl.recipe import Fit, fit_plan
from recsys_cl.sampling.neighbors import build_neighbors
from recsys_cl.training.encode import encode_candidates, encode_queries
from recsys_cl.training.loop import Hooks
from recsys_cl.training.pictures import TrainedPictures, train_pictures
from recsys_cl.trials import Place

TRUE_NEIGHBORS, KS = 10, (10, 20)
LEAST_ITEMS = 20  # with fewer cold items chance decides
PICTURES, PIXELS, POPULARITY = "pictures_alone", "raw_pixels", "popularity"
_STREAM = 6  # of chance

Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class ColdItems:
    """rows [n], ascending: catalog rows of the items taken out; neighbors: for each, at most 10 pictured items that
    stayed."""

    rows: NDArray[np.int64]
    neighbors: Bags


def choose_cold(interactions: Interactions, pictured: NDArray[np.int64], share: float, seed: int) -> ColdItems | None:
    """Draw `share` of the touched ones among catalog rows `pictured`; None where fewer than 20 have neighbors."""
    rng = np.random.default_rng([seed, _STREAM])
    touched = pictured[interactions.count_users()[pictured] > 0]
    stays = np.zeros(interactions.n_items, dtype=bool)
    stays[touched] = True
    rows = np.sort(rng.permutation(touched)[: int(share * len(touched))])
    near = build_neighbors(interactions.to_bags(), interactions.n_items, 3 * TRUE_NEIGHBORS, seed).take(rows)
    stays[rows] = False
    kept = select_items(near, stays[near.item_rows])
    sizes = np.minimum(kept.sizes, TRUE_NEIGHBORS)
    firsts = expand_ranges(kept.offsets[:-1], sizes)  # a bag begins with the nearest
    neighbors = Bags(np.concatenate(([0], np.cumsum(sizes))), kept.item_rows[firsts], kept.weights[firsts])
    known = np.flatnonzero(sizes > 0)
    return ColdItems(rows[known], neighbors.take(known)) if len(known) >= LEAST_ITEMS else None


def evaluate_cold(
    pictured: PicturedItems,
    before: Before,
    config: Config,
    run: Run | None = None,
    progress: Progress = report_nothing,
) -> dict[str, Any]:
    """Train without a share of the items and judge as the module says; `{"reason"}` where that cannot be.

    Gives `{"n_cold", "metrics", "differences", "users"}`: figures with intervals over the cold items, differences those
    of the place minus each other one; users: recall of pictures alone on the users' later items. Costs one fit of the
    plan and two trainings on pictures.
    """
    images, seed = config.images, config.training.seed
    interactions, split = before.interactions, before.split
    warm = pictured.catalog_rows[pictured.catalog_rows >= 0]
    cold = choose_cold(interactions, warm, images.cold_share, seed) if images.cold_share else None
    if cold is None:
        return {"reason": f"images.cold_share {images.cold_share:g} leaves fewer than {LEAST_ITEMS} items to judge"}
    is_cold = np.zeros(interactions.n_items, dtype=bool)
    is_cold[cold.rows] = True
    train = split.train.select(~is_cold[split.train.item_rows])
    fitted = fit_plan(train, config, before.plan, Place(progress).name("cold items"))
    hooks = Hooks(progress=progress)
    places = find_places(fitted, train)
    alone = apply_settings(config, ["images.collaborative=0", *(["images.views=1"] if images.places_alone else [])])
    trained = train_pictures(pictured.describe(train, None), alone, run, hooks)
    lists = _search_alike(pictured, trained, cold, train)
    if images.collaborative:
        guided = train_pictures(pictured.describe(train, places), config, run, hooks)
        lists = {MODEL: _search_places(pictured, guided, cold, fitted, train)} | lists
    else:
        lists = {MODEL: lists[PICTURES]} | lists
    per_item = {name: judge(rows, cold.neighbors, KS) for name, rows in lists.items()}
    rng = np.random.default_rng([seed, _STREAM, 1])
    recalls = [f"recall@{k}" for k in KS]
    metrics, differences = build_figures(per_item, recalls, config.evaluation, rng)
    return {
        "n_cold": len(cold.rows),
        "metrics": {name: {metric: found[metric] for metric in recalls} for name, found in metrics.items()},
        "differences": differences,
        "users": _judge_users(pictured, trained, split),
    }


def find_places(fitted: Fit, interactions: Interactions) -> Vectors:
    """Where items lie by interactions [n_items, dim - 1]: the direction with which each asks for its neighbors; NaN
    without an event."""
    items = Bags.of_items(np.arange(interactions.n_items))
    places = encode_queries(fitted.model, items, None)[:, :-1]
    lengths = np.linalg.norm(places, axis=1, keepdims=True)
    known = (interactions.count_users() > 0)[:, None] & (lengths > 0)
    return np.where(known, places / np.maximum(lengths, 1e-12), np.float32("nan")).astype(np.float32)


def _search_places(
    pictured: PicturedItems, trained: TrainedPictures, cold: ColdItems, fitted: Fit, train: Interactions
) -> NDArray[np.int64]:
    """What the places of the cold items' pictures find among the items of the interactions."""
    assert trained.table.place is not None, "it was trained towards places"
    places = trained.table.read_features(trained.table.place).numpy()[_find_pictures(pictured, cold.rows)]
    queries = np.concatenate((places, np.zeros_like(places[:, :1])), axis=1)
    warm = pictured.catalog_rows[_find_warm(pictured, train)]
    return warm[search_exact(queries, fitted.candidates[warm], min(max(KS), len(warm))).rows]


def _search_alike(
    pictured: PicturedItems, trained: TrainedPictures, cold: ColdItems, train: Interactions
) -> dict[str, NDArray[np.int64]]:
    """What pictures alone, raw pixels and popularity find."""
    popularity = train.count_users()
    warm = _find_warm(pictured, train)
    asking = _find_pictures(pictured, cold.rows)
    k = min(max(KS), len(warm))
    queries = encode_queries(trained.model, Bags.of_items(asking), None)
    pixels = shrink_all(pictured.pictures.take, len(pictured))
    tables = {PICTURES: (queries, encode_candidates(trained.model)[warm]), PIXELS: (pixels[asking], pixels[warm])}
    found = {name: pictured.catalog_rows[warm[search_exact(*pair, k).rows]] for name, pair in tables.items()}
    known = pictured.catalog_rows[warm]
    best = known[np.argsort(-popularity[known], kind="stable")[:k]]
    return found | {POPULARITY: np.broadcast_to(best, (len(asking), len(best))).copy()}


def _judge_users(pictured: PicturedItems, trained: TrainedPictures, split: Split) -> dict[str, float]:
    """Recall and NDCG of pictures alone for users' later items, among the pictured ones; beside chance."""
    train, test = pictured.project(split.train), pictured.project(split.test)
    targets = find_targets(train, test)
    users = np.flatnonzero((targets.sizes > 0) & (train.to_bags().sizes > 0))
    if not len(users):
        return {}
    seen = train.to_bags().take(users)
    known = train.count_users() > 0
    queries, candidates = encode_queries(trained.model, seen, None), encode_candidates(trained.model)
    found = judge_model(queries, candidates, seen, targets.take(users), (max(KS),), known)
    figures = {metric: float(values.mean()) for metric, values in found.items()}
    chance = float((max(KS) / np.maximum(known.sum() - seen.sizes, 1)).mean())
    return figures | {"n_users": float(len(users)), f"recall@{max(KS)}_by_chance": chance}


def _find_warm(pictured: PicturedItems, train: Interactions) -> NDArray[np.int64]:
    """Rows of the pictured items that have events."""
    known = pictured.catalog_rows >= 0
    return np.flatnonzero(known & (train.count_users()[np.where(known, pictured.catalog_rows, 0)] > 0))


def _find_pictures(pictured: PicturedItems, catalog_rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """The pictures of items at catalog rows, all of which have one."""
    order = np.argsort(pictured.catalog_rows, kind="stable")
    return order[np.searchsorted(pictured.catalog_rows[order], catalog_rows)]
