"""Tuning: comes in item vectors and those who will ask, goes out an index that finds enough at the least cost.

Cost is the number of vectors that are compared with a query, which is the same on every machine and in every run; what
a query took is kept beside it, for people. A setting finds enough where the wanted ann_recall@10 lies below its mean
over the queries tried by more than chance, so that other queries are served as well.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import faiss
import numpy as np
from numpy.typing import NDArray

from recsys_cl.config import IndexConfig
from recsys_cl.index.build import build_index, choose_kind, choose_n_lists, count_bytes, fits_half
from recsys_cl.index.facts import Trial
from recsys_cl.index.recall import draw_queries, find_bounds, share_found
from recsys_cl.index.structure import Index

_N_QUERIES, _K = 1000, 10
_TUNED = {"ivf": "n_probe", "ivfpq": "n_probe", "hnsw": "ef_search"}
_LEAST = {"n_probe": 1, "ef_search": 2 * _K}
_MOST_EF = 4096
_STEP = 1.5  # from one setting that is tried to the next
_FINE = 20  # the chosen number lies above one that does not do by at most such a part
_REFINED = (10, 40, 160)  # coarse answers that ivfpq scores again for each one wanted
_FLAT_GAIN = 0.001  # in two steps: then the codes of ivfpq, not the lists, are what hides the answers
_BEYOND = 2  # settings tried past the first that does, to show what more would bring
_LIST_FACTORS = (2.0, 4.0)  # times the root of the items
_DEVIATIONS = 1.645  # of the mean: 95% of other samples of queries find what was wanted


@dataclass(frozen=True)
class _Asked:
    """Queries [m, dim], and the exact 10th score of each [m, 1]."""

    queries: NDArray[np.float32]
    bounds: NDArray[np.float32]


def build_tuned(
    vectors: NDArray[np.float32], asking: Sequence[NDArray[np.float32]], config: IndexConfig, seed: int
) -> Index:
    """The index of vectors [n, dim] for those who ask, each as queries [m, dim] of which at most 1,000 are drawn.

    What `config` gives as a number is kept, the rest is chosen: lists, and how many candidates a query looks at, within
    `config.most_mib`. `facts.trade_off` holds all that was tried; where nothing finds `config.wanted_ann_recall`, the
    setting that finds most is chosen. The same input gives the same choice. Memory: at most two indexes at a time.
    Raises RefusedError as `build_index` does.
    """
    n_items, dim = vectors.shape
    layouts = _layouts(n_items, choose_kind(n_items, dim, config, fits_half(vectors)), config)
    index, _ = build_index(vectors, layouts[0])
    asked = []
    for queries in asking:
        drawn = draw_queries(queries, _N_QUERIES, seed)
        if len(drawn):
            asked.append(_Asked(drawn, find_bounds(vectors, drawn, _K)))
    if not asked:
        return index
    tried: list[tuple[Trial, Index]] = []
    for place, layout in enumerate(layouts):
        if place:
            index, _ = build_index(vectors, layout)
        tried += [(trial, index) for trial in _try_settings(index, vectors, asked, layout)]
    chosen, index = min(tried, key=lambda one: _rank(one[0]))
    trade_off = tuple(replace(trial, chosen=trial is chosen) for trial, _ in tried)
    return Index(index.structure, replace(index.facts, parameters=chosen.parameters, trade_off=trade_off))


def _layouts(n_items: int, kind: str, config: IndexConfig) -> list[IndexConfig]:
    """What is built to be compared; the first is what a catalog gets that nobody asks."""
    if kind not in ("ivf", "ivfpq") or config.n_lists:
        return [config]
    factors = _LIST_FACTORS if kind == "ivf" else _LIST_FACTORS[-1:]  # codes take far longer to train
    numbers = dict.fromkeys(choose_n_lists(n_items, config, factor) for factor in factors)
    return [config.model_copy(update={"n_lists": number}) for number in numbers]


def _rank(trial: Trial) -> tuple[float, ...]:
    """Least first: what finds enough by its cost, else by what it misses."""
    return (0.0, trial.n_compared) if trial.reached else (1.0, -trial.ann_recall, trial.n_compared)


def _try_settings(
    index: Index, vectors: NDArray[np.float32], asked: Sequence[_Asked], config: IndexConfig
) -> list[Trial]:
    """All that is tried of an index as it was built."""
    name = _TUNED.get(index.facts.kind)
    if name is None or getattr(config, name):
        return [_try(index, vectors, asked, config)]
    most = index.facts.parameters["n_lists"] if name == "n_probe" else min(_MOST_EF, len(vectors))

    def ask(parameters: dict[str, int]) -> Trial:
        facts = replace(index.facts, parameters=index.facts.parameters | parameters)
        return _try(Index(index.structure, facts), vectors, asked, config)

    if index.facts.kind != "ivfpq":
        return _climb(lambda value: ask({name: value}), (min(_LEAST[name], most), most))
    tried = []
    for refined in _REFINED:
        ask_refined = partial(lambda refined, value: ask({name: value, "n_refined": refined}), refined)
        tried += _climb(ask_refined, (1, most), _FLAT_GAIN)
    return tried


def _climb(ask: Callable[[int], Trial], ends: tuple[int, int], least_gain: float = -1.0) -> list[Trial]:
    """Ever more candidates until enough is found, or two steps bring less than `least_gain`; then fewer, down to about
    the least number that does."""
    tried: dict[int, Trial] = {}
    recalls: list[float] = []
    (value, most), last, beyond = ends, 0, 0
    while beyond <= _BEYOND:
        trial = tried[value] = ask(value)
        recalls.append(trial.ann_recall)
        last, beyond = (last, beyond + 1) if trial.reached else (value, beyond)
        gained = recalls[-1] - recalls[-3] if len(recalls) > 2 else 1.0
        if value == most or (not beyond and gained < least_gain):
            break
        value = min(most, max(value + 1, round(value * _STEP)))
    if beyond:
        first = min(value for value, trial in tried.items() if trial.reached)
        while first - last > max(1, first // _FINE):
            middle = (first + last) // 2
            tried[middle] = ask(middle)
            first, last = (middle, last) if tried[middle].reached else (first, middle)
    return [tried[value] for value in sorted(tried)]


def _try(index: Index, vectors: NDArray[np.float32], asked: Sequence[_Asked], config: IndexConfig) -> Trial:
    """What a setting finds, and its cost; the worst of those who ask counts."""
    n_items, dim = vectors.shape
    n_queries, recalls, lows = 0, [], []
    before, seconds = _count_compared(index), 0.0
    for one in asked:
        started = time.perf_counter()
        found = index.search(one.queries, min(_K, n_items)).rows
        seconds += time.perf_counter() - started
        shares = share_found(found, vectors, one.queries, one.bounds)
        n_queries += len(shares)
        recalls.append(float(shares.mean()))
        lows.append(recalls[-1] - _DEVIATIONS * float(shares.std()) / math.sqrt(len(shares)))
    facts, half = index.facts, isinstance(index.structure, faiss.IndexIVFScalarQuantizer)
    known = facts.parameters
    n_compared = (_count_compared(index) - before) / n_queries + known.get("n_lists", 0)
    n_compared += _K * known.get("n_refined", 0)
    if facts.kind == "flat":
        n_compared = float(n_items)
    return Trial(
        kind=facts.kind,
        parameters=known,
        ann_recall=min(recalls),
        n_compared=n_compared,
        microseconds=seconds / n_queries * 1e6,
        mib=round(count_bytes(facts.kind, n_items, dim, config, half) / 2**20, 1),
        reached=min(lows) >= config.wanted_ann_recall,
    )


def _count_compared(index: Index) -> int:
    """Vectors compared by all searches of this process so far, centers of lists left out."""
    counts = {"hnsw": faiss.cvar.hnsw_stats, "ivf": faiss.cvar.indexIVF_stats, "ivfpq": faiss.cvar.indexIVF_stats}
    return int(counts[index.facts.kind].ndis) if index.facts.kind in counts else 0
