"""Benchmarks on public splits: comes in a training and a test file, goes out one object of figures.

Every choice is made on a validation part of the training file; the test file is looked at once, after the vectors are
final, and plays no part in them. Definitions: recall@k is the hits over all of a user's test items; NDCG@k is binary,
its ideal list cut at min(k, n); means over the users with a test item; the full catalog is ranked, training items left
out of the lists.
"""

from __future__ import annotations

import hashlib
import resource
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from recsys_cl.bags import Bags
from recsys_cl.config import Config, apply_settings
from recsys_cl.embeddings import EmbeddingTable
from recsys_cl.errors import ConfigError, InputError
from recsys_cl.evaluation.baselines import score_by_neighbors
from recsys_cl.evaluation.evaluate import judge_model
from recsys_cl.evaluation.metrics import judge
from recsys_cl.evaluation.slices import find_slices
from recsys_cl.evaluation.targets import Judged
from recsys_cl.evaluation.topk import search_exact, search_scores
from recsys_cl.interactions.ingest import ingest_log
from recsys_cl.interactions.split import split_interactions
from recsys_cl.interactions.table import Interactions
from recsys_cl.progress import Progress, report_nothing

if TYPE_CHECKING:
    from recsys_cl.plan import Plan
    from recsys_cl.recipe import Fit

_SECTIONS = ("split", "sampling", "model", "loss", "training", "recipe")


def run_benchmark(
    config: Config,
    *,
    train: Path | None = None,
    test: Path | None = None,
    sequences: Path | None = None,
    explain: bool = False,
    progress: Progress = report_nothing,
) -> dict[str, Any]:
    """Train on one file and judge on another (`train`, `test`), or on the last item of each sequence (`sequences`).

    explain: test the samplers of negatives, too (see `training/explain.py`). Raises ConfigError unless exactly one of
    the two forms is given; what readers and training raise.
    """
    if (train is None) != (test is None) or (train is None) == (sequences is None):
        raise ConfigError("which files to use is not clear", "--train FILE --test FILE, or --sequences FILE")
    if sequences is not None:
        config = apply_settings(config, ["split.by=leave_last", "split.n_last=1"])
        parts = split_interactions(read_events(sequences, config, progress), config.split, config.training.seed)
        last = parts.test.to_bags()
        return _measure(parts.train, lambda: (last, 0), config, (5, 10), progress, explain)
    config = apply_settings(config, ["split.by=random"])
    assert train is not None
    assert test is not None
    known, given = (read_events(path, config, progress) for path in (train, test))
    return _measure(known, lambda: project_events(given, known), config, (20,), progress, explain)


def _measure(
    known: Interactions, find: Any, config: Config, ks: tuple[int, ...], progress: Progress, explain: bool
) -> dict[str, Any]:
    """Train, then call `find` for the targets: the test is out of reach until the vectors are final."""
    from recsys_cl.recipe import choose_plan, fit_plan
    from recsys_cl.trials import Place

    started = time.perf_counter()
    plan = choose_plan(known, config, Place(progress))
    chosen = time.perf_counter()
    fitted = fit_plan(known, config, plan, Place(progress))
    trained = time.perf_counter()
    targets, n_unknown = find()
    judged = judge_model(fitted.queries, fitted.candidates, known.to_bags(), targets, ks)
    metrics: dict[str, Any] = {name: float(values.mean()) for name, values in judged.items()}
    evaluated = time.perf_counter()
    digest = hashlib.sha256()
    for vectors in (fitted.queries, fitted.candidates):
        digest.update(EmbeddingTable(vectors, "query").hash().encode())
    settings = {name: config.dump()[name] for name in _SECTIONS}
    settings |= {"members": [asdict(member) for member in plan.members], "chosen_because": plan.reasons}
    settings |= {"validation": plan.validation}
    found: dict[str, Any] = metrics | {
        "train_seconds": round(trained - started, 3),
        "choose_seconds": round(chosen - started, 3),
        "evaluate_seconds": round(evaluated - trained, 3),
        "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        * (1 if sys.platform == "darwin" else 1024),
        "n_users": known.n_users,
        "n_items": known.n_items,
        "n_train": known.n_events,
        "n_users_judged": int((targets.sizes > 0).sum()),
        "n_test_unknown": n_unknown,
        "settings": settings,
        "embeddings_sha256": digest.hexdigest(),
        "slices": _judge_slices(known, targets, fitted, max(ks), config),
    }
    strangers = _judge_strangers(known, targets, fitted, ks)
    found |= {f"{name}_new_users": value for name, value in strangers.items()}
    if explain:
        found["samplers"] = _explain(known, plan, fitted, config)
    return found


def _judge_slices(known: Interactions, targets: Bags, fitted: Fit, k: int, config: Config) -> dict[str, Any]:
    """recall and ndcg of parts of the users and of the items, beside item-kNN's."""
    histories = known.to_bags()
    users = np.flatnonzero((targets.sizes > 0) & (histories.sizes > 0))
    judged = Judged(users, np.arange(known.n_items), histories, histories.take(users), targets.take(users), 0, {})
    score = score_by_neighbors(
        histories, judged.seen, known.n_items, config.evaluation.knn_neighbors, config.evaluation.block_mib
    )
    lists = {
        "": search_exact(fitted.queries[users], fitted.candidates, k, judged.seen).rows,
        "item_knn_": search_scores(score, (len(users), known.n_items), k, judged.seen).rows,
    }
    found: dict[str, Any] = {}
    for name, part in find_slices(judged, known).items():
        figures: dict[str, Any] = {"n_users": len(part.users), "n_targets": len(part.targets.item_rows)}
        for model, rows in lists.items() if len(part.users) else ():
            values = judge(rows[part.users], part.targets, (k,))
            figures |= {f"{model}{metric}@{k}": float(values[f"{metric}@{k}"].mean()) for metric in ("recall", "ndcg")}
        found[name] = figures
    return found


def _judge_strangers(known: Interactions, targets: Bags, fitted: Fit, ks: tuple[int, ...]) -> dict[str, float]:
    """The same users as if they were new: by their items alone, without a free embedding."""
    from recsys_cl.training.encode import encode_queries

    seen = known.to_bags()
    queries = encode_queries(fitted.model, seen, None)
    judged = judge_model(queries, fitted.candidates, seen, targets, ks)
    return {f"{metric}@{max(ks)}": float(judged[f"{metric}@{max(ks)}"].mean()) for metric in ("recall", "ndcg")}


def _explain(known: Interactions, plan: Plan, fitted: Fit, config: Config) -> list[dict[str, Any]]:
    from recsys_cl.training.encode import list_members
    from recsys_cl.training.explain import explain_samplers

    for member, model in zip(plan.members, list_members(fitted.model), strict=True):
        if member.kind != "linear":
            return [test.dump() for test in explain_samplers(model, known, apply_settings(config, member.settings))]
    return []


def read_events(path: Path, config: Config, progress: Progress) -> Interactions:
    """Read a file in any form of log; nothing is kept but the arrays in memory."""
    ingest = config.ingest.model_copy(update={"log": str(path), "incremental": False})
    with tempfile.TemporaryDirectory(prefix="recsys-cl-") as folder:
        work = Path(folder)
        found = ingest_log(ingest, config.images, work / "raw", work, progress, check_enough=False).interactions
        return found.copy()


def project_events(test: Interactions, known: Interactions) -> tuple[Bags, int]:
    """The test items of each known user, as rows of the training catalog; the number of events that are in neither."""
    users = known.users.find_rows(test.users.to_series())[test.expand_users()]
    items = known.items.find_rows(test.items.to_series())[test.item_rows]
    kept = (users >= 0) & (items >= 0)
    if not kept.any():
        raise InputError("no event of the test file has a user and an item of the training file", "files of one split")
    pairs = np.unique(users[kept] * np.int64(known.n_items) + items[kept])
    sizes = np.bincount(pairs // known.n_items, minlength=known.n_users)
    offsets = np.concatenate(([0], np.cumsum(sizes)))
    rows = (pairs % known.n_items).astype(np.int32)
    return Bags(offsets, rows, np.ones(len(rows), dtype=np.float32)), int((~kept).sum())
