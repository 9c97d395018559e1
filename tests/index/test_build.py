"""Building: the kind follows from size and memory, and the same vectors give the same index."""

from __future__ import annotations

from pathlib import Path

import faiss
import numpy as np
import pytest

from recsys_cl.config import IndexConfig
from recsys_cl.errors import RefusedError
from recsys_cl.evaluation.topk import search_exact
from recsys_cl.index.build import LEAST_TRAINED, build_index, choose_kind
from recsys_cl.index.tune import build_tuned


def draw(n: int, dim: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(n, dim)).astype(np.float32)


@pytest.mark.parametrize(
    ("n_items", "most_mib", "half", "kind"),
    [
        (1, 4096, True, "flat"),
        (4_999, 4096, True, "flat"),
        (5_000, 4096, True, "ivf"),
        (1_000_000, 200, True, "ivf"),
        (1_000_000, 200, False, "ivfpq"),
        (1_000_000, 4096, False, "ivf"),
        (20_000_000, 4096, False, "ivfpq"),
        (20_000_000, 4096, True, "ivf"),
    ],
)
def test_the_kind_follows_from_size_and_memory(n_items: int, most_mib: int, half: bool, kind: str) -> None:
    assert choose_kind(n_items, 64, IndexConfig(most_mib=most_mib), half) == kind


@pytest.mark.parametrize(("half", "least"), [(True, 131), (False, 164)])
def test_where_nothing_fits_the_smallest_kind_is_named(half: bool, least: int) -> None:
    with pytest.raises(RefusedError, match=f"at least {least} MiB"):
        choose_kind(1_000_000, 64, IndexConfig(most_mib=100), half)


def test_no_vectors_are_refused() -> None:
    with pytest.raises(RefusedError, match="no item vectors"):
        build_tuned(np.empty((0, 8), dtype=np.float32), [], IndexConfig(), 0)


@pytest.mark.parametrize(
    ("greatest", "half"), [(1.0, True), (1.001, False), (300.0, False), (1e15, False), (0.02, True), (0.01, False)]
)
@pytest.mark.parametrize("sign", [1, -1])
def test_lists_are_in_half_precision_where_that_holds_the_vectors_well(greatest: float, half: bool, sign: int) -> None:
    vectors = np.clip(draw(2_000, 8), -3, 3)
    vectors *= sign * greatest / vectors.max()
    vectors[1, 1] = sign * greatest
    vectors = np.clip(vectors, -greatest, greatest)
    index, _ = build_index(vectors, IndexConfig(kind="ivf", n_probe=10_000))
    assert isinstance(index.structure, faiss.IndexIVFScalarQuantizer if half else faiss.IndexIVFFlat)
    found, exact = index.search(vectors[:50], 5), search_exact(vectors[:50], vectors, 5)
    np.testing.assert_allclose(found.scores, exact.scores, rtol=2e-3)
    assert (found.rows[:, 0] == exact.rows[:, 0]).mean() > 0.9


def test_the_configured_kind_holds_whatever_the_size() -> None:
    assert choose_kind(10, 64, IndexConfig(kind="hnsw")) == "hnsw"
    assert choose_kind(10**9, 64, IndexConfig(kind="flat")) == "flat"


def test_too_few_vectors_to_train_codes_are_held_flat() -> None:
    assert choose_kind(LEAST_TRAINED - 1, 64, IndexConfig(kind="ivfpq")) == "flat"
    assert choose_kind(LEAST_TRAINED, 64, IndexConfig(kind="ivfpq")) == "ivfpq"
    _, facts = build_index(draw(20, 4), IndexConfig(kind="ivfpq"))
    assert facts.kind == "flat"


@pytest.mark.parametrize("kind", ["flat", "ivf", "hnsw", "ivfpq"])
def test_the_same_vectors_give_the_same_file(tmp_path: Path, kind: str) -> None:
    vectors = draw(LEAST_TRAINED, 8)
    for name in ("a", "b"):
        build_index(vectors, IndexConfig(kind=kind))[0].write(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_settings_reach_the_index() -> None:
    config = IndexConfig(kind="hnsw", hnsw_links=7, ef_construction=33, ef_search=44)
    index, facts = build_index(draw(100, 4), config)
    assert facts.parameters == {"links": 7, "ef_construction": 33, "ef_search": 44}
    graph = index.structure
    assert (graph.hnsw.nb_neighbors(1), graph.hnsw.efConstruction, graph.hnsw.efSearch) == (7, 33, 44)


@pytest.mark.parametrize("kind", ["ivf", "ivfpq"])
def test_lists_looked_at_change_what_is_found(kind: str) -> None:
    from recsys_cl.index.recall import measure_ann_recall

    vectors = draw(LEAST_TRAINED, 16)
    recalls = [
        measure_ann_recall(build_index(vectors, IndexConfig(kind=kind, n_probe=n))[0], vectors, vectors[:100])
        for n in (1, 1000)
    ]
    assert recalls[0] < 0.8 < 0.95 < recalls[1]


def test_vectors_on_disk_are_indexed_in_blocks(tmp_path: Path) -> None:
    vectors = draw(70_000, 4)  # more than one block
    np.save(tmp_path / "v.npy", vectors)
    index, _ = build_index(np.load(tmp_path / "v.npy", mmap_mode="r"), IndexConfig(kind="flat"))
    assert index.search(vectors[[0, 65_535, 65_536, 69_999]] * 100, 1).scores.shape == (4, 1)
    same, _ = build_index(vectors, IndexConfig(kind="flat"))
    np.testing.assert_array_equal(index.search(vectors[:50], 9).rows, same.search(vectors[:50], 9).rows)
