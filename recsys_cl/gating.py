"""Gathering for the gate: comes in a run, its settled vectors and the live release, goes out what the gate judges."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from recsys_cl.bags import Bags
from recsys_cl.errors import StoreError
from recsys_cl.evaluation.beside import EarlierFit, judge_beside
from recsys_cl.evaluation.evaluate import Evaluation
from recsys_cl.evaluation.ordering import measure_train_auc
from recsys_cl.ids import IdMap
from recsys_cl.index.recall import measure_ann_recall
from recsys_cl.indexing import list_asking
from recsys_cl.interactions.split import Split
from recsys_cl.interactions.table import Interactions
from recsys_cl.publishing.gate import Beside, Gain, GateFacts, check_finite, measure_vectors
from recsys_cl.publishing.parts import EvaluatedFit, ReleaseParts
from recsys_cl.publishing.store import find_current, find_releases
from recsys_cl.runs import Run
from recsys_cl.serving.lookup import Release, open_release
from recsys_cl.settling import Settled, read_fit

GATE_K = 20
_STREAM = 9  # of chance


@dataclass(frozen=True)
class Live:
    """The release that is live in a store. name: as CURRENT has it, None for none; release: None where it cannot be
    opened, and `trouble` says why: a damaged release must not keep a whole one from being published."""

    name: str | None
    release: Release | None
    trouble: str | None = None


def open_live(store: Path) -> Live:
    """What is live in a store, opened. Raises StoreError where CURRENT itself cannot be read."""
    try:
        find_releases(store)
    except StoreError:  # a first release
        return Live(None, None, "no release is live")
    name = find_current(store)
    if name is None:
        return Live(None, None, "no release is live")
    try:
        return Live(name, open_release(store / "releases" / name))
    except StoreError as error:
        return Live(name, None, f"the live release cannot be compared with: {error}")


def read_evaluated(folder: Path, interactions: Interactions, split: Split) -> EvaluatedFit:
    """The evaluated fit of a run, over the rows of the published one."""
    users, items = (
        _find_all(split.train.users, interactions.users),
        _find_all(split.train.items, interactions.items),
    )
    queries, candidates = read_fit(folder / "evaluated")
    check_finite({"evaluated user vectors": queries, "evaluated item vectors": candidates})
    seen, trained = interactions.to_bags(), split.train.to_bags()
    n_items = split.train.n_items
    asked = Bags(seen.offsets, items[seen.item_rows].astype(np.int32), seen.weights)
    keys = users.repeat(seen.sizes) * n_items + asked.item_rows
    return EvaluatedFit(candidates[items], queries[users], np.isin(keys, trained.number_pairs(n_items)))


def gather_facts(
    run: Run, parts: ReleaseParts, settled: Settled, evidence: tuple[Split, Evaluation, Live]
) -> GateFacts:
    """What the gate judges, of pictures too where there are any; ann_recall: the lowest of all.

    Costs an exact search for the judged users with the vectors of each of the two releases.
    """
    split, evaluation, live = evidence
    shown = {"item vectors": parts.item_vectors, "user vectors": parts.user_vectors}
    seed = run.config.training.seed
    ann_recall = _judge_index(parts, settled, seed)
    if parts.images is not None:
        images = parts.images
        shown["picture vectors"] = images.vectors
        ann_recall = min(ann_recall, measure_ann_recall(images.index, images.vectors, images.queries, seed=seed))
    health = {name: measure_vectors(vectors, run.config.model.dim - 1) for name, vectors in shown.items()}
    beside = None
    if live.release is not None and run.config.publishing.compare_live:
        beside = _judge_beside(run, parts, settled, split, live.release)
    alone = None if beside is not None else live.trouble or "publishing.compare_live is off"
    rng = _draw(seed)
    aucs = (
        measure_train_auc(*read_fit(run.folder / "evaluated"), split.train.to_bags(), rng),
        measure_train_auc(parts.user_vectors, parts.item_vectors, parts.seen, rng),
    )
    return GateFacts(health, ann_recall, _judge_gain(evaluation), aucs, beside, alone)


def _judge_beside(run: Run, parts: ReleaseParts, settled: Settled, split: Split, live: Release) -> Beside:
    assert settled.drift is not None, "it was settled beside the same release"
    theirs, config = live.parts, run.config
    seen = theirs.seen
    owners = np.repeat(np.arange(len(seen)), seen.sizes)[theirs.evaluated.seen]
    offsets = np.concatenate(([0], np.cumsum(np.bincount(owners, minlength=len(seen)))))
    trained = Bags(offsets, seen.item_rows[theirs.evaluated.seen], seen.weights[theirs.evaluated.seen])
    earlier = EarlierFit(
        theirs.users,
        theirs.catalog.items,
        theirs.evaluated.users,
        theirs.evaluated.items,
        trained,
        live.manifest.cut,
    )
    k = max((k for k in config.evaluation.ks if k <= GATE_K), default=min(config.evaluation.ks))
    how = (k, config.publishing.live_confidence, config.evaluation.most_users)
    compared = judge_beside(read_fit(run.folder / "evaluated"), split, earlier, how, config.training.seed)
    kept = parts.catalog.items.find_rows(theirs.catalog.items.to_series()) >= 0
    tables = {"item vectors": theirs.item_vectors, "user vectors": theirs.user_vectors}
    health = {name: measure_vectors(vectors, live.manifest.popularity_dim) for name, vectors in tables.items()}
    auc = measure_train_auc(theirs.evaluated.users, theirs.evaluated.items, trained, _draw(config.training.seed))
    return Beside(live.version, compared, health, float(1 - kept.mean()), settled.drift, auc)


def _draw(seed: int) -> np.random.Generator:
    return np.random.default_rng([seed, _STREAM])


def _judge_index(parts: ReleaseParts, settled: Settled, seed: int) -> float:
    """ann_recall@10, the lower of two: for users, and for items that ask for their neighbors as in lookup."""
    asking = list_asking(settled, seed)
    return min(measure_ann_recall(parts.index, parts.item_vectors, queries, seed=seed) for queries in asking)


def _judge_gain(evaluation: Evaluation) -> Gain:
    """The model beside popularity, for the gate, by NDCG at the greatest k not above 20."""
    k = max((k for k in evaluation.ks if k <= GATE_K), default=min(evaluation.ks))
    metric = f"ndcg@{k}"
    difference = evaluation.differences["popularity"][metric]
    model, popularity = (evaluation.metrics[name][metric]["value"] for name in ("model", "popularity"))
    low, high = difference["low"], difference["high"]
    assert None not in (model, popularity, low, high), "means over users have intervals"
    return Gain(metric, float(model), float(popularity), float(low), float(high), evaluation.n_users)  # type: ignore[arg-type]


def _find_all(known: IdMap, wanted: IdMap) -> np.ndarray:
    """Rows in `known` of all `wanted`, which it holds."""
    return known.find_rows(wanted.to_series())
