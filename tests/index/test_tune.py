"""Tuning: enough is found at the least cost, within the memory given, the same way each time, or it says that not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from recsys_cl.config import IndexConfig
from recsys_cl.errors import RefusedError
from recsys_cl.index.build import LEAST_TRAINED, build_index, count_bytes
from recsys_cl.index.recall import measure_ann_recall
from recsys_cl.index.tune import build_tuned

N = LEAST_TRAINED + 100
SMALL = IndexConfig(exact_below=1_000, ef_construction=40, hnsw_links=8)


def draw_clustered(n: int, seed: int, dim: int = 16) -> np.ndarray:
    """Vectors around 100 centers, with log popularity in the last float."""
    rng, centers = np.random.default_rng(seed), np.random.default_rng(9).normal(size=(100, dim - 1))
    vectors = centers[rng.integers(100, size=n)] + 0.6 * rng.normal(size=(n, dim - 1))
    popularity = 0.3 * np.log(rng.zipf(1.5, size=n).clip(1, 10_000))
    return np.c_[vectors / np.linalg.norm(vectors, axis=1, keepdims=True), popularity].astype(np.float32)


def ask(n: int, seed: int, popularity: float = 1.0) -> np.ndarray:
    queries = draw_clustered(n, seed)
    queries[:, -1] = popularity
    return queries


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    return draw_clustered(N, 0)


@pytest.mark.parametrize("kind", ["ivf", "hnsw"])
def test_other_queries_find_what_was_wanted_and_nothing_cheaper_would_do(vectors: np.ndarray, kind: str) -> None:
    config = SMALL.model_copy(update={"kind": kind})
    index = build_tuned(vectors, [ask(1_500, 1), ask(1_500, 2, 0.0)], config, seed=0)
    trade_off = index.facts.trade_off
    (chosen,) = [trial for trial in trade_off if trial.chosen]
    assert (chosen.kind, chosen.parameters) == (index.facts.kind, index.facts.parameters)
    assert chosen.reached
    for popularity in (1.0, 0.0):
        assert measure_ann_recall(index, vectors, ask(1_000, 3, popularity)) >= 0.985
    cheaper = [trial for trial in trade_off if trial.n_compared < chosen.n_compared]
    assert not any(trial.reached for trial in cheaper)
    assert min(trial.ann_recall for trial in cheaper) < 0.95
    assert chosen.n_compared < N / 3


def draw_adversarial(name: str) -> np.ndarray:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(3_000, 24)).astype(np.float32)
    if name == "all alike":
        vectors[:] = vectors[0]
    elif name == "one far from all others":
        vectors[17] *= 1e4
    elif name == "two heaps of one point each":
        vectors = vectors[rng.integers(2, size=len(vectors))]
    elif name == "nothing":
        vectors[:] = 0.0
    return vectors


@pytest.mark.parametrize(
    "name", ["no structure", "all alike", "one far from all others", "two heaps of one point each", "nothing"]
)
@pytest.mark.parametrize("kind", ["ivf", "hnsw"])
def test_adversarial_vectors_are_found_or_it_says_that_they_are_not(name: str, kind: str) -> None:
    vectors = draw_adversarial(name)
    queries = np.random.default_rng(1).normal(size=(300, 24)).astype(np.float32)
    index = build_tuned(vectors, [queries], SMALL.model_copy(update={"kind": kind}), seed=0)
    (chosen,) = [trial for trial in index.facts.trade_off if trial.chosen]
    recall = measure_ann_recall(index, vectors, queries)
    assert chosen.ann_recall == pytest.approx(recall)
    assert chosen.reached == any(trial.reached for trial in index.facts.trade_off)
    assert recall >= 0.99 or not chosen.reached
    assert chosen.reached or kind == "hnsw", "looking at every list finds everything"


def test_codes_that_cannot_tell_vectors_apart_are_said_not_to_do() -> None:
    rng = np.random.default_rng(0)
    points = rng.normal(size=(40, 8))
    vectors = (points[rng.integers(40, size=N)] + 1e-3 * rng.normal(size=(N, 8))).astype(np.float32)
    index = build_tuned(vectors, [vectors[:200] + vectors[200:400]], SMALL.model_copy(update={"kind": "ivfpq"}), seed=0)
    (chosen,) = [trial for trial in index.facts.trade_off if trial.chosen]
    assert not chosen.reached
    assert chosen.ann_recall == max(trial.ann_recall for trial in index.facts.trade_off) < 0.99
    assert len(index.facts.trade_off) < 40, "it does not look at every list when more bring nothing"


@pytest.mark.parametrize("n_threads", [1, 2])
def test_the_same_vectors_and_seed_give_the_same_choice(vectors: np.ndarray, n_threads: int) -> None:
    asking = [ask(500, 1)]
    first = build_tuned(vectors, asking, SMALL, seed=3).facts
    with threadpool_limits(limits=n_threads):
        again = build_tuned(vectors, asking, SMALL, seed=3).facts
    assert first == again
    assert first.kind == "ivf"


def test_the_worst_of_those_who_ask_counts(vectors: np.ndarray) -> None:
    rng = np.random.default_rng(5)
    strangers = rng.normal(size=(500, 16)).astype(np.float32)
    known, both = (build_tuned(vectors, asking, SMALL, 0) for asking in ([ask(500, 1)], [ask(500, 1), strangers]))
    assert measure_ann_recall(known, vectors, strangers) < 0.98 < 0.985 < measure_ann_recall(both, vectors, strangers)


@pytest.mark.parametrize(("most_mib", "kind"), [(2, "ivf"), (1, "ivfpq")])
def test_memory_stays_below_the_limit(tmp_path: Path, most_mib: int, kind: str) -> None:
    vectors = draw_clustered(N, 0, dim=24)
    config = SMALL.model_copy(update={"most_mib": most_mib})
    index = build_tuned(vectors, [vectors[:300]], config, seed=0)
    assert index.facts.kind == kind
    index.write(tmp_path / "index.faiss")
    size = (tmp_path / "index.faiss").stat().st_size / 2**20
    assert size <= most_mib
    (chosen,) = [trial for trial in index.facts.trade_off if trial.chosen]
    assert chosen.mib <= most_mib


def test_a_limit_that_no_kind_keeps_is_refused() -> None:
    with pytest.raises(RefusedError, match=r"at least \d+ MiB.*index.most_mib is 1"):
        build_tuned(draw_clustered(N, 0, dim=64), [], SMALL.model_copy(update={"most_mib": 1}), seed=0)


@pytest.mark.parametrize("half", [True, False])
@pytest.mark.parametrize("kind", ["flat", "ivf", "hnsw", "ivfpq"])
def test_what_an_index_is_said_to_take_is_about_the_size_of_its_file(
    vectors: np.ndarray, tmp_path: Path, kind: str, half: bool
) -> None:
    held = vectors / np.abs(vectors).max() * (1 if half else 2)
    index, facts = build_index(held, SMALL.model_copy(update={"kind": kind}))
    index.write(tmp_path / "index.faiss")
    size = (tmp_path / "index.faiss").stat().st_size
    assert count_bytes(facts.kind, *vectors.shape, SMALL, half) == pytest.approx(size, rel=0.15)


@pytest.mark.parametrize(
    ("kind", "given"), [("ivf", {"n_lists": 50, "n_probe": 7}), ("hnsw", {"ef_search": 30}), ("ivfpq", {"n_probe": 3})]
)
def test_numbers_that_are_given_are_kept(vectors: np.ndarray, kind: str, given: dict[str, int]) -> None:
    index = build_tuned(vectors, [ask(100, 1)], SMALL.model_copy(update={"kind": kind} | given), seed=0)
    assert given.items() <= index.facts.parameters.items()
    assert {trial.parameters[name] for trial in index.facts.trade_off for name in given} == set(given.values())


def test_an_exact_index_has_nothing_to_choose(vectors: np.ndarray) -> None:
    index = build_tuned(vectors[:200], [ask(100, 1)], SMALL, seed=0)
    (trial,) = index.facts.trade_off
    assert (trial.kind, trial.ann_recall, trial.n_compared, trial.chosen) == ("flat", 1.0, 200, True)


def test_an_index_that_nobody_asks_is_built(vectors: np.ndarray) -> None:
    index = build_tuned(vectors, [np.empty((0, 16), dtype=np.float32)], SMALL, seed=0)
    assert (index.facts.kind, index.facts.trade_off) == ("ivf", ())


def test_vectors_that_are_not_finite_are_refused(vectors: np.ndarray) -> None:
    broken = vectors.copy()
    broken[3, 2] = np.nan
    with pytest.raises(RefusedError, match="1 of"):
        build_tuned(broken, [ask(10, 1)], SMALL, seed=0)
