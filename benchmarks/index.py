"""Queries a second at equal ann_recall, beside hnswlib and usearch, on the same vectors in one process, in turns.

`python -m benchmarks.index` writes `index.md`. Vectors are unit ones of 64 floats around centers, as many as the root
of the items, spread unevenly over them as items are over tastes; queries are drawn likewise. Ours is what a release
gets: tuned, through `Index.search`. Each library is asked with ever more effort until it finds .99 of the exact top
10; the two efforts on either side are timed in turns with those of the others, and the time at .99 lies between them.
On one thread the time is that of the processor, so that what else runs on the machine counts for little; on two it is
that of the clock. A ratio compares times of the same turn.
"""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from benchmarks.contenders.graphs import Contender, Hnswlib, Usearch
from benchmarks.drawn import DIM, draw_vectors
from recsys_cl.config import IndexConfig
from recsys_cl.index.recall import find_bounds, share_found
from recsys_cl.index.structure import Index
from recsys_cl.index.tune import build_tuned
from recsys_cl.machine import count_cores

HERE = Path(__file__).parent
K, WANTED, N_QUERIES, N_ALONE = 10, 0.99, 2_000, 300
BATCH, BOTH, ALONE = MODES = ("batch, one thread", "batch, two threads", "one at a time")
_AROUND = (0.35, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.2, 1.5)  # times the tuned number of lists


class Ours:
    """A release's index. efforts: lists looked at, around the tuned number; exact search has only one."""

    name = "recsys_cl"

    def __init__(self, vectors: NDArray[np.float32], asking: NDArray[np.float32]) -> None:
        index = build_tuned(vectors, [asking], IndexConfig(), 0)
        facts = self.facts = index.facts
        probes = facts.parameters.get("n_probe", 0)
        self.efforts: tuple[int, ...] = tuple(sorted({max(1, round(probes * share)) for share in _AROUND}))
        self._indexes = {
            effort: Index(index.structure, replace(facts, parameters=facts.parameters | {"n_probe": effort}))
            for effort in self.efforts
        }
        self._n_threads = 0
        with tempfile.TemporaryDirectory() as folder:
            index.write(Path(folder) / "index")
            self.mib = (Path(folder) / "index").stat().st_size / 2**20

    def search(self, queries: NDArray[np.float32], k: int, effort: int, n_threads: int) -> NDArray[np.int64]:
        """Rows [m, k]."""
        if n_threads != self._n_threads:  # once for a turn
            threadpool_limits(limits=n_threads)
            self._n_threads = n_threads
        return self._indexes[effort].search(queries, k).rows


@dataclass(frozen=True)
class Bracket:
    """A contender's efforts on either side of the wanted recall, and their recalls."""

    contender: Contender
    low: int
    high: int
    recall_low: float
    recall_high: float

    def place(self, seconds_low: float, seconds_high: float) -> float:
        """The time at the wanted recall, between two, on the scale of what is missed."""
        if self.recall_low >= WANTED or self.recall_high <= self.recall_low:
            return seconds_low
        missed = [math.log(max(1 - recall, 1e-4)) for recall in (self.recall_low, WANTED, self.recall_high)]
        share = (missed[1] - missed[0]) / (missed[2] - missed[0])
        return math.exp((1 - share) * math.log(seconds_low) + share * math.log(seconds_high))


def main() -> None:
    """Measure at each size, and write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--rounds", type=int, default=9, help="turns of each contender")
    parser.add_argument("--output", type=Path, default=HERE / "index.md")
    given = parser.parse_args()
    lines = [
        f"# Queries a second at ann_recall@{K} {WANTED}, {count_cores()} cores",
        "",
        f"Written by `python -m benchmarks.index`: {N_QUERIES:,} queries, {DIM} floats, median of {given.rounds} "
        f"turns; graphs are built by the defaults of their libraries. One thread: seconds of the processor; two: "
        "of the clock. In brackets: times the pace of the better of the other two, median over the turns, least and "
        "greatest.",
        "",
    ]
    for n_items in given.sizes:
        lines += _compare(n_items, given.rounds)
        given.output.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


def _compare(n_items: int, n_rounds: int) -> list[str]:
    vectors, queries = draw_vectors(n_items, n_items, 0), draw_vectors(N_QUERIES, n_items, 1)
    tuning = draw_vectors(N_QUERIES, n_items, 2)  # ours must not be tuned for the queries that are timed
    bounds = find_bounds(vectors, queries, K)
    makers: list[Callable[[], Contender]] = [
        lambda: Ours(vectors, tuning),
        lambda: Hnswlib(vectors, count_cores()),
        lambda: Usearch(vectors, count_cores()),
    ]

    def judge(rows: NDArray[np.int64]) -> float:
        return float(share_found(rows, vectors, queries, bounds).mean())

    built, brackets = [], []
    for make in makers:
        wall, processor = time.perf_counter(), time.process_time()
        contender = make()
        built.append((time.perf_counter() - wall, time.process_time() - processor))
        brackets.append(_find_bracket(contender, judge, queries))
        print(f"{n_items:,} items, {contender.name}: built in {built[-1][0]:.0f} s", flush=True)
    times = {
        mode: [[bracket.place(*_time(bracket, mode, queries)) for bracket in brackets] for _ in range(n_rounds)]
        for mode in MODES
    }
    lines = [
        f"## {n_items:,} items",
        "",
        f"| | {' | '.join(MODES)} | built in s (of the processor) | MiB | ann_recall (effort) on either side |",
        "| --- " * (len(MODES) + 4) + "|",
    ]
    for place, (bracket, (wall, processor)) in enumerate(zip(brackets, built, strict=True)):
        cells = [_show([turn[place] for turn in turns], [min(turn[1:]) for turn in turns]) for turns in times.values()]
        cells += [f"{wall:,.0f} ({processor:,.0f})", f"{bracket.contender.mib:,.0f}"]
        cells += [f"{bracket.recall_low:.4f} ({bracket.low}), {bracket.recall_high:.4f} ({bracket.high})"]
        lines.append(f"| {_describe(bracket.contender)} | {' | '.join(cells)} |")
    return [*lines, ""]


def _find_bracket(
    contender: Contender, judge: Callable[[NDArray[np.int64]], float], queries: NDArray[np.float32]
) -> Bracket:
    """The first effort that finds enough, or the last one, and the one before it."""
    tried: list[tuple[int, float]] = []
    for effort in contender.efforts:
        tried.append((effort, judge(contender.search(queries, K, effort, count_cores()))))
        if tried[-1][1] >= WANTED:
            break
    (low, recall_low), (high, recall_high) = tried[-2:] if len(tried) > 1 else 2 * tried
    return Bracket(contender, low, high, recall_low, recall_high)


def _time(bracket: Bracket, mode: str, queries: NDArray[np.float32]) -> tuple[float, float]:
    """Seconds a query at the two efforts of a bracket."""
    n_threads, contender = 2 if mode == BOTH else 1, bracket.contender
    clock = time.perf_counter if mode == BOTH else time.process_time
    asked = [queries[place : place + 1] for place in range(N_ALONE)] if mode == ALONE else [queries]
    found = []
    for effort in (bracket.low, bracket.high):
        contender.search(queries[:N_ALONE], K, effort, n_threads)  # so that no turn pays for the one before
        started = clock()
        for some in asked:
            contender.search(some, K, effort, n_threads)
        found.append((clock() - started) / sum(len(some) for some in asked))
    return found[0], found[1]


def _describe(contender: Contender) -> str:
    if not isinstance(contender, Ours):
        return contender.name
    parameters = ", ".join(f"{name} {value:,}" for name, value in contender.facts.parameters.items())
    return f"{contender.name}: {contender.facts.kind}" + (f" ({parameters})" if parameters else "")


def _show(seconds: list[float], best_of_others: list[float]) -> str:
    """Queries a second, and the ratio to the better of the others in the same turn."""
    ratios = [other / own for own, other in zip(seconds, best_of_others, strict=True)]
    return f"{1 / median(seconds):,.0f} ({median(ratios):.2f}; {min(ratios):.2f} to {max(ratios):.2f})"


if __name__ == "__main__":
    main()
