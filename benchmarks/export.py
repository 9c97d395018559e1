"""Users a second of an export, beside implicit's own batched `recommend`, on the same vectors.

`python -m benchmarks.export` writes `export.md`. For each split that is at hand (RECSYS_CL_DATA) a release is trained
and published, shortly: what matters is that its vectors are of the kind that a model learns. The same vectors are given
to implicit as its factors, so that both compute the same dot products, leave out the same training items, and must find
the same items. implicit is asked in batches of 1,000 and of 10,000 users and for all at once, its BLAS held to one
thread as it advises; the quickest of the three is the one to compare with. One process, all in turn, `--rounds` times;
ratios are of the same turn, and, where others use the machine, too, of the best turns of each. Ours is timed alone
(`search_exact`), as a whole export to a Parquet file, and as a whole export by an index (`--approximate`), tuned as
that of a release, with what it holds of the exact answers.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import scipy.sparse as sp
from implicit.cpu.als import AlternatingLeastSquares
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from recsys_cl import library
from recsys_cl.config import IndexConfig
from recsys_cl.evaluation.topk import search_exact
from recsys_cl.index.tune import build_tuned
from recsys_cl.machine import count_cores
from recsys_cl.serving.export import export
from recsys_cl.serving.export_jobs import Request
from recsys_cl.serving.lookup import Release, open_release
from recsys_cl.serving.sinks import FileSink

HERE = Path(__file__).parent
SPLITS = ("ml-1m-split", "gowalla")
BATCHES = (1_000, 10_000, 0)  # 0: all at once
SETTINGS = ("recipe.search=false", "training.epochs=5", "training.least_steps=0", "split.by=random")


@dataclass
class Contender:
    """seconds: of each turn."""

    name: str
    run: Callable[[], Any]
    seconds: list[float] = field(default_factory=list)

    def measure(self) -> None:
        """Run once more."""
        started = time.perf_counter()
        self.run()
        self.seconds.append(time.perf_counter() - started)


def main() -> None:
    """Measure on each split that is at hand, and write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("-k", type=int, default=20)
    parser.add_argument("--store", type=Path, help="folder in which releases of an earlier call are found, and kept")
    given = parser.parse_args()
    root = Path(os.environ.get("RECSYS_CL_DATA", "../shared/data"))
    lines = [f"# Users exported a second, {count_cores()} cores", "", "Written by `python -m benchmarks.export`.", ""]
    with tempfile.TemporaryDirectory() as folder:
        for split in SPLITS:
            if (root / split).exists():
                release = _open(root / split / "train.txt", (given.store or Path(folder)) / split)
                lines += _compare(split, release, given.k, given.rounds, Path(folder))
    (HERE / "export.md").write_text("\n".join(lines), encoding="utf-8")
    print("\n".join(lines))


def _open(log: Path, store: Path) -> Release:
    if not (store / "releases" / "CURRENT").exists():
        settings: dict[str, dict[str, Any]] = {"ingest": {"log": str(log)}}
        for setting in SETTINGS:
            name, value = setting.split("=")
            section, key = name.split(".")
            settings.setdefault(section, {})[key] = {"false": False}.get(
                value, int(value) if value.isdigit() else value
            )
        library.run(settings, store=store, force="a benchmark of exports")
    return open_release(store)


def _compare(split: str, release: Release, k: int, rounds: int, folder: Path) -> list[str]:
    parts, n_users = release.parts, len(release.parts.users)
    users, items = np.asarray(parts.user_vectors), np.asarray(parts.item_vectors)
    found: dict[str, NDArray[np.int64]] = {}

    def search() -> None:
        found["ours"] = search_exact(users, items, k, parts.seen).rows

    peers = [Contender(f"{batch}", _ask_implicit(release, k, batch, found)) for batch in BATCHES]
    ours = [
        Contender("search alone, exact", search),
        Contender("export to Parquet, exact", _export(release, Request("recommendations", k), folder)),
    ]
    recalls: dict[str, float] = {}
    for kind in ("ivf", "hnsw"):
        index = build_tuned(items, [users], IndexConfig(kind=kind), 0)
        indexed = replace(release, parts=replace(parts, index=index))
        request = Request("recommendations", k, approximate=True)
        ours.append(Contender(f"export to Parquet, {kind}", _export(indexed, request, folder)))
        recalls[ours[-1].name] = export(indexed, request, FileSink(folder / "r.parquet")).ann_recall or 0.0
    for one in (*peers, *peers):  # twice: the first time warms up
        one.measure()
    peer = min(peers, key=lambda one: one.seconds[-1])
    peer.seconds.clear()
    for _ in range(rounds):
        for one in (peer, *ours):
            one.measure()
    same = np.mean(np.sort(found["ours"], axis=1) == np.sort(found["implicit"], axis=1))
    gap = np.abs(_score(users, items, found["ours"]) - _score(users, items, found["implicit"])).max()
    batch = f"batches of {int(peer.name):,}" if int(peer.name) else "all at once"
    lines = [
        f"## {split}: {n_users:,} users, {len(items):,} items, {users.shape[1]} floats, top {k}",
        "",
        f"{same:.4%} of the items found are the same; the scores of the others differ by {gap:.0e} at most.",
        "",
        f"| | users a second, best of {rounds} | times implicit, best turns | turn by turn | of the exact answers |",
        "| --- " * 5 + "|",
        f"| implicit `recommend`, {batch} | {n_users / min(peer.seconds):,.0f} | 1 | 1 | 100.0% |",
    ]
    for one in ours:
        ratios = [base / seconds for base, seconds in zip(peer.seconds, one.seconds, strict=True)]
        lines.append(
            f"| {one.name} | {n_users / min(one.seconds):,.0f} | {min(peer.seconds) / min(one.seconds):.1f} | "
            f"{median(ratios):.1f} ({min(ratios):.1f} to {max(ratios):.1f}) | {recalls.get(one.name, 1.0):.1%} |"
        )
    return [*lines, ""]


def _score(users: NDArray[np.float32], items: NDArray[np.float32], rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """The scores of the items found [n, k], greatest first, in double precision."""
    scores = np.stack([np.einsum("ij,ij->i", users, items[column], dtype=np.float64) for column in rows.T], axis=1)
    return -np.sort(-scores, axis=1)


def _ask_implicit(release: Release, k: int, batch: int, found: dict[str, NDArray[np.int64]]) -> Callable[[], None]:
    parts = release.parts
    shape = (len(parts.users), len(parts.catalog))
    seen = sp.csr_matrix(
        (np.ones(len(parts.seen.item_rows), np.float32), np.array(parts.seen.item_rows), np.array(parts.seen.offsets)),
        shape,
    )
    seen.sort_indices()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = AlternatingLeastSquares()
    model.user_factors, model.item_factors = np.array(parts.user_vectors), np.array(parts.item_vectors)
    users = np.arange(shape[0])
    step = batch or shape[0]

    def run() -> None:
        with threadpool_limits(1, "blas"):
            starts = range(0, shape[0], step)
            rows = [model.recommend(users[s : s + step], seen[s : s + step], N=k)[0] for s in starts]
        found["implicit"] = np.concatenate(rows)

    return run


def _export(release: Release, request: Request, folder: Path) -> Callable[[], None]:
    def run() -> None:
        export(release, request, FileSink(folder / "x.parquet"))

    return run


if __name__ == "__main__":
    main()
