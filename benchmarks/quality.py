"""Quality and time of whole contenders on the public splits that are at hand: `python -m benchmarks.quality`.

Each contender trains and recommends in one call, two threads; recall@20 and NDCG@20 as in recsys_cl.benchmark. Data is
looked for in RECSYS_CL_DATA (default ../shared/data).
"""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.contenders import ours, peers, popularity
from recsys_cl.benchmark import project_events, read_events
from recsys_cl.config import Config
from recsys_cl.evaluation.metrics import judge
from recsys_cl.interactions.table import Interactions
from recsys_cl.progress import report_nothing
from recsys_cl.summary import format_table

K = 20
SPLITS = ("ml-1m-split", "gowalla")
Contender = Callable[[Interactions, int], NDArray[np.int64]]


def main() -> None:
    """Print one table a split."""
    root = Path(os.environ.get("RECSYS_CL_DATA", "../shared/data"))
    contenders: dict[str, Contender] = {ours.name: ours.recommend, popularity.name: popularity.recommend}
    contenders |= {name: functools.partial(peers.recommend, name) for name in peers.MODELS}
    for split in SPLITS:
        folder = root / split
        if not folder.exists():
            print(f"{split}: not at hand in {root} (set RECSYS_CL_DATA)")
            continue
        train = read_events(folder / "train.txt", Config(), report_nothing)
        targets, _ = project_events(read_events(folder / "test.txt", Config(), report_nothing), train)
        judged = np.flatnonzero(targets.sizes > 0)
        rows = [[split, f"recall@{K}", f"ndcg@{K}", "seconds"]]
        for name, recommend in contenders.items():
            started = time.perf_counter()
            lists = recommend(train, K)
            seconds = time.perf_counter() - started
            found = judge(lists[judged], targets.take(judged), (K,))
            rows.append(
                [name, *(f"{found[f'{metric}@{K}'].mean():.4f}" for metric in ("recall", "ndcg")), f"{seconds:.1f}"]
            )
        print(format_table(rows), end="\n\n")


if __name__ == "__main__":
    main()
