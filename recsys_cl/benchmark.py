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
from pathlib import Path
from typing import Any

import numpy as np

from recsys_cl.bags import Bags
from recsys_cl.config import Config, apply_settings
from recsys_cl.embeddings import EmbeddingTable
from recsys_cl.errors import ConfigError, InputError
from recsys_cl.evaluation.evaluate import judge_model
from recsys_cl.interactions.ingest import ingest_log
from recsys_cl.interactions.split import split_interactions
from recsys_cl.interactions.table import Interactions
from recsys_cl.progress import Progress, report_nothing

_SECTIONS = ("split", "sampling", "model", "loss", "training")


def run_benchmark(
    config: Config,
    *,
    train: Path | None = None,
    test: Path | None = None,
    sequences: Path | None = None,
    progress: Progress = report_nothing,
) -> dict[str, Any]:
    """Train on one file and judge on another (`train`, `test`), or on the last item of each sequence (`sequences`).

    Raises ConfigError unless exactly one of the two forms is given; what readers and training raise.
    """
    if (train is None) != (test is None) or (train is None) == (sequences is None):
        raise ConfigError("which files to use is not clear", "--train FILE --test FILE, or --sequences FILE")
    if sequences is not None:
        config = apply_settings(config, ["split.by=leave_last", "split.n_last=1"])
        parts = split_interactions(read_events(sequences, config, progress), config.split, config.training.seed)
        last = parts.test.to_bags()
        return _measure(parts.train, lambda: (last, 0), config, (5, 10), progress)
    config = apply_settings(config, ["split.by=random"])
    assert train is not None
    assert test is not None
    known, given = (read_events(path, config, progress) for path in (train, test))
    return _measure(known, lambda: project_events(given, known), config, (20,), progress)


def _measure(known: Interactions, find: Any, config: Config, ks: tuple[int, ...], progress: Progress) -> dict[str, Any]:
    """Train, then call `find` for the targets: the test is out of reach until the vectors are final."""
    from recsys_cl.recipe import Place, choose_steps, fit

    started = time.perf_counter()
    choice = choose_steps(known, config, Place(progress))
    fitted = fit(known, config, choice, Place(progress))
    trained = time.perf_counter()
    targets, n_unknown = find()
    judged = judge_model(fitted.queries, fitted.candidates, known.to_bags(), targets, ks)
    metrics: dict[str, Any] = {name: float(values.mean()) for name, values in judged.items()}
    digest = hashlib.sha256()
    for vectors in (fitted.queries, fitted.candidates):
        digest.update(EmbeddingTable(vectors, "query").hash().encode())
    chosen = {"n_steps": choice.n_steps, "chosen_because": choice.reason}
    return metrics | {
        "train_seconds": round(trained - started, 3),
        "evaluate_seconds": round(time.perf_counter() - trained, 3),
        "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        * (1 if sys.platform == "darwin" else 1024),
        "n_users": known.n_users,
        "n_items": known.n_items,
        "n_train": known.n_events,
        "n_users_judged": int((targets.sizes > 0).sum()),
        "n_test_unknown": n_unknown,
        "settings": {name: config.dump()[name] for name in _SECTIONS} | chosen,
        "embeddings_sha256": digest.hexdigest(),
    }


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
