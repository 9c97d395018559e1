"""The index of a release: comes in settled vectors and the evaluated fit, goes out an index tuned for those who ask,
which knows what it costs in recall against held-out interactions; or the same one again, from what was recorded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recsys_cl.config import Config, IndexConfig
from recsys_cl.evaluation.metrics import judge
from recsys_cl.evaluation.targets import choose_judged
from recsys_cl.evaluation.topk import search_exact
from recsys_cl.index.build import build_index
from recsys_cl.index.facts import HeldOut, IndexFacts
from recsys_cl.index.structure import Index
from recsys_cl.index.tune import build_tuned
from recsys_cl.interactions.split import Split
from recsys_cl.serving.search import search_unseen
from recsys_cl.settling import Settled, read_fit

_N_ITEMS_ASKING = 1_000  # of the catalog, whose neighbors are asked for
_K, _MOST_USERS, _STREAM = 20, 2_000, 11


def index_items(settled: Settled, evaluated: tuple[Path, Split], config: Config) -> Index:
    """The tuned index of a release's items; evaluated: the folder of the evaluated fit, and the split it was judged on.

    An approximate index costs a second one, over the candidates of the evaluated fit, in which the held-out items of at
    most 2,000 users are looked for as lookup does. Raises RefusedError for vectors with NaN or infinity.
    """
    seed = config.training.seed
    index = build_tuned(settled.candidates, list_asking(settled, seed), config.index, seed)
    if index.facts.kind == "flat":
        return index
    held_out = _judge_held_out(index, evaluated, config)
    return Index(index.structure, replace(index.facts, held_out=held_out))


def list_asking(settled: Settled, seed: int) -> Sequence[NDArray[np.float32]]:
    """Who asks an index, as queries: all users, and at most 1,000 items that ask for their neighbors as in lookup."""
    dim = settled.candidates.shape[1]
    drawn = np.random.default_rng(seed).permutation(len(settled.bags))[:_N_ITEMS_ASKING]
    return settled.queries, settled.open_tower().encode_items(drawn, settled.bags, dim - 1)


def repeat_index(facts: IndexFacts, vectors: NDArray[np.float32], config: IndexConfig) -> Index:
    """An index of the recorded kind and parameters over vectors [n, dim], without tuning; over the vectors that it was
    recorded for, and by the same `config`, the same one bit for bit."""
    layout = {"kind": facts.kind, "n_lists": facts.parameters.get("n_lists", 0)}
    built, own = build_index(vectors, config.model_copy(update=layout))
    parameters = facts.parameters | {name: own.parameters[name] for name in ("n_lists",) if name in own.parameters}
    return built if own.kind == "flat" else Index(built.structure, replace(own, parameters=parameters))


def _judge_held_out(index: Index, evaluated: tuple[Path, Split], config: Config) -> HeldOut:
    folder, split = evaluated
    judged = choose_judged(split.train, split.test, _MOST_USERS, np.random.default_rng([config.training.seed, _STREAM]))
    users, items = read_fit(folder)
    queries, candidates = users[judged.users], items[judged.items]
    same = repeat_index(index.facts, candidates, config.index)
    k = min(_K, len(candidates))
    lists = (
        search_exact(queries, candidates, k, judged.seen).rows,
        search_unseen(same, candidates, queries, k, judged.seen).rows,
    )
    exact, found = (float(judge(rows, judged.targets, (k,))[f"recall@{k}"].mean()) for rows in lists)
    return HeldOut(k, len(judged.users), exact, found)
