"""Building: comes in item vectors and a configuration, goes out a FAISS index that answers their dot products.

Graphs and lists are made for vectors of one length; ours carry log popularity in a coordinate that can outweigh all
others, and on such vectors an inner-product HNSW was seen to find 9% of the exact top 10. So hnsw and ivfpq hold the
vectors moved to the mean and completed to one length, after Bachrach et al., "Speeding Up the Xbox Recommender System
Using a Euclidean Transformation for Inner-Product Spaces" (RecSys 2014): item x becomes [x - mean, sqrt(M² - |x -
mean|²), 1], and a linear map stored in the file makes of query q [q, 0, q·mean]; their dot product is q·x again.

The same vectors and configuration give the same flat and ivfpq index. The links of an hnsw graph depend on the order
in which threads reach the items, so two builds may differ in a few answers; what is published is the one built.
"""

from __future__ import annotations

import math
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from recsys_cl.config import IndexConfig
from recsys_cl.errors import RefusedError
from recsys_cl.index.structure import Index, IndexFacts, Kind

LEAST_TRAINED = 39 * 256
"""Vectors needed to train the 256 codes of a product quantizer; a smaller catalog is held flat instead of ivfpq."""

_BLOCK_ROWS = 65_536
_MOST_TRAINING_ROWS = 200_000
_FLOATS_PER_CODE = 4
_CODE_ROUNDS = 8  # of k-means for the codes; FAISS makes 25, three times as long, for answers that are scored again
_SEED = 1234


def build_index(vectors: NDArray[np.float32], config: IndexConfig) -> tuple[Index, IndexFacts]:
    """Build the index of vectors [n, dim] of the kind that `config` names or that `choose_kind` finds.

    Raises RefusedError where a vector holds NaN or infinity, or there is none. Memory: the index and one block.
    """
    n, dim = vectors.shape
    if n == 0:
        raise RefusedError("no index was built", ["there are no item vectors, at least 1 is needed"])
    n_broken = sum(_count_broken(vectors[start : start + _BLOCK_ROWS]) for start in range(0, n, _BLOCK_ROWS))
    if n_broken:
        raise RefusedError("no index was built", [f"{n_broken} of {n} item vectors hold NaN or infinity, 0 may"])
    kind = choose_kind(n, dim, config)
    if kind == "flat":
        structure: Any = faiss.IndexFlatIP(dim)
        for start in range(0, n, _BLOCK_ROWS):
            structure.add(np.ascontiguousarray(vectors[start : start + _BLOCK_ROWS], dtype=np.float32))
        parameters: dict[str, int] = {}
    elif kind == "hnsw":
        structure, parameters = _build_hnsw(vectors, config)
    else:
        structure, parameters = _build_ivfpq(vectors, config)
    facts = IndexFacts(kind, n, dim, parameters)
    return Index(structure, facts), facts


def choose_kind(n_items: int, dim: int, config: IndexConfig) -> Kind:
    """The kind for a catalog: the configured one, or by size and memory; ivfpq only where it can be trained."""
    kind: Kind
    if config.kind != "auto":
        kind = config.kind
    elif n_items < config.exact_below:
        kind = "flat"
    else:
        hnsw_bytes = n_items * (4 * (dim + 2) + 4 * 2 * config.hnsw_links + 16)
        kind = "hnsw" if hnsw_bytes <= config.most_mib << 20 else "ivfpq"
    return "flat" if kind == "ivfpq" and n_items < LEAST_TRAINED else kind


def _count_broken(block: NDArray[np.float32]) -> int:
    return int((~np.isfinite(block).all(axis=1)).sum())


class _Completion:
    """Vectors [n, dim] moved to their mean and completed to one length, as [n, width] in blocks."""

    def __init__(self, vectors: NDArray[np.float32], multiple: int) -> None:
        self.vectors = vectors
        self.n, self.dim = vectors.shape
        self.width = math.ceil((self.dim + 2) / multiple) * multiple
        starts = range(0, self.n, _BLOCK_ROWS)
        total = sum(vectors[start : start + _BLOCK_ROWS].sum(axis=0, dtype=np.float64) for start in starts)
        self.mean = (total / self.n).astype(np.float32)
        self.square = max(float(self._square(start).max()) for start in starts)

    def _square(self, start: int) -> NDArray[np.float32]:
        moved = self.vectors[start : start + _BLOCK_ROWS] - self.mean
        squares: NDArray[np.float32] = np.einsum("ij,ij->i", moved, moved)
        return squares

    def complete(self, rows: NDArray[np.integer] | slice) -> NDArray[np.float32]:
        """The completed vectors at these rows [b, width]."""
        block = self.vectors[rows]
        out = np.zeros((len(block), self.width), dtype=np.float32)
        moved = out[:, : self.dim]
        np.subtract(block, self.mean, out=moved)
        out[:, self.dim] = np.sqrt(np.maximum(self.square - np.einsum("ij,ij->i", moved, moved), 0.0))
        out[:, self.dim + 1] = 1.0
        return out

    def wrap(self, inner: Any) -> Any:
        """Add all completed vectors to `inner`, and put the map of the queries before it."""
        for start in range(0, self.n, _BLOCK_ROWS):
            inner.add(self.complete(slice(start, start + _BLOCK_ROWS)))
        matrix = np.zeros((self.width, self.dim), dtype=np.float32)
        matrix[: self.dim] = np.eye(self.dim, dtype=np.float32)
        matrix[self.dim + 1] = self.mean
        query_map = faiss.LinearTransform(self.dim, self.width, False)
        faiss.copy_array_to_vector(matrix.ravel(), query_map.A)
        query_map.is_trained = True
        wrapped = faiss.IndexPreTransform(query_map, inner)
        wrapped.ntotal = self.n
        return wrapped


def _build_hnsw(vectors: NDArray[np.float32], config: IndexConfig) -> tuple[Any, dict[str, int]]:
    completion = _Completion(vectors, multiple=1)
    graph = faiss.IndexHNSWFlat(completion.width, config.hnsw_links, faiss.METRIC_INNER_PRODUCT)
    graph.hnsw.efConstruction = config.ef_construction
    graph.hnsw.efSearch = config.ef_search
    parameters = {
        "links": config.hnsw_links,
        "ef_construction": config.ef_construction,
        "ef_search": config.ef_search,
    }
    return completion.wrap(graph), parameters


def _build_ivfpq(vectors: NDArray[np.float32], config: IndexConfig) -> tuple[Any, dict[str, int]]:
    completion = _Completion(vectors, multiple=2 * _FLOATS_PER_CODE)
    n, width = completion.n, completion.width
    sample = np.arange(n)
    if n > _MOST_TRAINING_ROWS:
        sample = np.sort(np.random.default_rng(_SEED).choice(n, size=_MOST_TRAINING_ROWS, replace=False))
    n_lists = max(1, min(round(4 * math.sqrt(n)), len(sample) // 39))
    n_codes = width // _FLOATS_PER_CODE
    metric = faiss.METRIC_INNER_PRODUCT
    lists = faiss.index_factory(width, f"IVF{n_lists},PQ{n_codes}x8", metric)
    lists.cp.seed = lists.pq.cp.seed = _SEED
    lists.pq.cp.niter = _CODE_ROUNDS
    lists.do_polysemous_training = False  # for a search by Hamming distance, which is not ours
    half = faiss.IndexScalarQuantizer(width, faiss.ScalarQuantizer.QT_fp16, metric)
    refined = faiss.IndexRefine(lists, half)
    refined.train(completion.complete(sample))
    parameters = {"n_lists": n_lists, "n_codes": n_codes, "n_probe": config.n_probe}
    return completion.wrap(refined), parameters
