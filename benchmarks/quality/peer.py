"""One peer on one split, in a process of its own so that its memory can be told: prints one JSON line."""

from __future__ import annotations

import functools
import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.contenders import ease, peers, popularity
from benchmarks.quality.published import DATA
from recsys_cl.bags import Bags
from recsys_cl.benchmark import project_events, read_events
from recsys_cl.config import Config, apply_settings
from recsys_cl.evaluation.metrics import judge
from recsys_cl.interactions.split import Split, split_interactions
from recsys_cl.interactions.table import Interactions
from recsys_cl.progress import report_nothing

PEERS: dict[str, Callable[[Interactions, int], NDArray[np.int64]]] = {popularity.name: popularity.recommend}
PEERS |= {name: functools.partial(peers.recommend, name) for name in peers.MODELS}
PEERS[ease.name] = ease.recommend


def read_train(root: Path, data: str) -> Interactions:
    """Training events; of a split that has two files the other is not opened."""
    return _read_sequences(root, data).train if "--sequences" in DATA[data].files else _read_file(root, data, "--train")


def read_parts(root: Path, data: str) -> tuple[Interactions, Bags]:
    """Training events, and the targets of every user."""
    if "--sequences" in DATA[data].files:
        parts = _read_sequences(root, data)
        return parts.train, parts.test.to_bags()
    train = read_train(root, data)
    return train, project_events(_read_file(root, data, "--test"), train)[0]


def _read_file(root: Path, data: str, name: str) -> Interactions:
    return read_events(root / data / DATA[data].files[name], Config(), report_nothing)


def _read_sequences(root: Path, data: str) -> Split:
    config = apply_settings(Config(), ["split.by=leave_last", "split.n_last=1"])
    events = read_events(root / data / DATA[data].files["--sequences"], config, report_nothing)
    return split_interactions(events, config.split, config.training.seed)


def main(root: Path, data: str, name: str) -> None:
    """Fit and judge one peer."""
    k = DATA[data].k
    train, targets = read_parts(root, data)
    judged = np.flatnonzero(targets.sizes > 0)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.perf_counter()
    lists = PEERS[name](train, k)
    seconds = time.perf_counter() - started
    found = judge(lists[judged], targets.take(judged), (k,))
    figures = {metric: float(found[f"{metric}@{k}"].mean()) for metric in ("recall", "ndcg")}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps(figures | {"seconds": seconds, "peak_mib": peak / 1024, "before_mib": before / 1024}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
