"""Building: comes in item vectors and a configuration, goes out a FAISS index that answers their dot products.

Graphs and lists are made for vectors of one length; ours carry log popularity in a coordinate that can outweigh all
others, and on such vectors an inner-product HNSW was seen to find 9% of the exact top 10. So all kinds but flat are
made for the vectors moved to the mean and completed to one length, after Bachrach et al., "Speeding Up the Xbox
Recommender System Using a Euclidean Transformation for Inner-Product Spaces" (RecSys 2014): item x becomes [x - mean,
sqrt(M² - |x - mean|²), 1], query q [q, 0, q·mean]; their dot product is q·x again. Therefore graphs and lists, once
made, hold the vectors as they are (lists in half precision, where that holds them well), and centers of lists what the
map of the queries makes of them: nothing is left of the completion. Codes of ivfpq are of completed vectors; there the
map is stored in the file.

The same vectors and configuration give the same index, however many threads build it.
"""

from __future__ import annotations

import math
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from recsys_cl.config import IndexConfig
from recsys_cl.errors import RefusedError
from recsys_cl.index.facts import IndexFacts, Kind
from recsys_cl.index.structure import Index

LEAST_TRAINED = 39 * 256
"""Vectors needed to train the 256 codes of a product quantizer; a smaller catalog is held flat instead of ivfpq."""

_APPROXIMATE: tuple[Kind, ...] = ("ivf", "ivfpq")  # that are chosen, best first
_BLOCK_ROWS = 65_536
_MOST_TRAINING_ROWS = 200_000
_TRAINED_PER_LIST = 39  # vectors, the least that FAISS asks for
_FLOATS_PER_CODE = 4
_CODE_ROUNDS = 8  # of k-means for the codes; FAISS makes 25, three times as long, for answers that are scored again
_LIST_ROUNDS = 10  # of k-means for the lists
_TRAINING_PER_LIST = 64  # vectors; more move the centers by little
_LEAST_HALF = 2.0**-6
_EF_SEARCH, _N_PROBE = 128, 32  # until they are tuned
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
    kind = choose_kind(n, dim, config, fits_half(vectors))
    parameters: dict[str, int] = {}
    if kind == "flat":
        structure: Any = faiss.IndexFlatIP(dim)
        for start in range(0, n, _BLOCK_ROWS):
            structure.add(_take(vectors, start))
    else:
        build = {"hnsw": _build_hnsw, "ivf": _build_ivf, "ivfpq": _build_ivfpq}[kind]
        structure, parameters = build(vectors, config)
    facts = IndexFacts(kind, n, dim, parameters)
    return Index(structure, facts), facts


def choose_kind(n_items: int, dim: int, config: IndexConfig, half: bool = True) -> Kind:
    """The kind for a catalog: the configured one, or by size and memory; lists only where they can be trained. half:
    whether lists can be held in half precision.

    Raises RefusedError where no kind keeps within `config.most_mib`.
    """
    kind: Kind
    if config.kind != "auto":
        kind = config.kind
    elif n_items < config.exact_below:
        kind = "flat"
    else:
        most = config.most_mib << 20
        fitting = (kind for kind in _APPROXIMATE if count_bytes(kind, n_items, dim, config, half) <= most)
        kind = next(fitting, "flat")
        if kind == "flat":
            sizes = [count_bytes(kind, n_items, dim, config, half) for kind in _APPROXIMATE]
            least_mib = math.ceil(min(sizes) / 2**20)
            raise RefusedError(
                "no index was built",
                [f"the smallest takes at least {least_mib:,} MiB, index.most_mib is {config.most_mib:,}"],
                "give it more (index.most_mib), or search exactly (index.kind=flat)",
            )
    least = {"ivf": _TRAINED_PER_LIST, "ivfpq": LEAST_TRAINED}.get(kind, 1)
    return kind if n_items >= least else "flat"


def count_bytes(kind: Kind, n_items: int, dim: int, config: IndexConfig, half: bool = True) -> int:
    """About how much memory an index of this kind takes; half: lists in half precision."""
    if kind == "flat":
        return n_items * 4 * dim
    if kind == "hnsw":
        return n_items * (4 * dim + 4 * 2 * config.hnsw_links + 16)
    if kind == "ivf":
        return n_items * ((2 if half else 4) * dim + 8) + choose_n_lists(n_items, config) * (4 * dim + 8)
    width = _widen(dim, 2 * _FLOATS_PER_CODE)
    return n_items * (2 * width + width // _FLOATS_PER_CODE + 8) + (choose_n_lists(n_items, config) + 256) * 4 * width


def fits_half(vectors: NDArray[np.float32]) -> bool:
    """Whether half precision holds these numbers well: what is 1 at most is off by 2^-12 at most, and the greatest lies
    far above the least step there is. Lists of half the bytes are searched half as fast again: memory bounds them."""
    if not len(vectors):
        return True
    blocks = (vectors[start : start + _BLOCK_ROWS] for start in range(0, len(vectors), _BLOCK_ROWS))
    return _LEAST_HALF <= max(max(float(block.max()), -float(block.min())) for block in blocks) <= 1


def choose_n_lists(n_items: int, config: IndexConfig, factor: float = 4.0) -> int:
    """How many lists: as configured, or `factor` times the root of the items; as many as can be trained at most."""
    wanted = config.n_lists or round(factor * math.sqrt(n_items))
    return max(1, min(wanted, min(n_items, _MOST_TRAINING_ROWS) // _TRAINED_PER_LIST))


def _count_broken(block: NDArray[np.float32]) -> int:
    return int((~np.isfinite(block).all(axis=1)).sum())


def _take(vectors: NDArray[np.float32], start: int) -> NDArray[np.float32]:
    """The block of rows from `start`, as FAISS reads it."""
    return np.ascontiguousarray(vectors[start : start + _BLOCK_ROWS], dtype=np.float32)


def _widen(dim: int, multiple: int) -> int:
    """Floats of a completed vector, at least dim + 2."""
    return math.ceil((dim + 2) / multiple) * multiple


class _Completion:
    """Vectors [n, dim] moved to their mean and completed to one length, as [n, width] in blocks."""

    def __init__(self, vectors: NDArray[np.float32], multiple: int) -> None:
        self.vectors = vectors
        self.n, self.dim = vectors.shape
        self.width = _widen(self.dim, multiple)
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

    def map_queries(self) -> NDArray[np.float32]:
        """The matrix [width, dim] that makes of a query what asks completed vectors."""
        matrix = np.zeros((self.width, self.dim), dtype=np.float32)
        matrix[: self.dim] = np.eye(self.dim, dtype=np.float32)
        matrix[self.dim + 1] = self.mean
        return matrix

    def draw_sample(self, n_lists: int) -> NDArray[np.float32]:
        """Completed vectors from which centers, and codes, are learned."""
        most = max(_TRAINED_PER_LIST * n_lists, min(_TRAINING_PER_LIST * n_lists, _MOST_TRAINING_ROWS), LEAST_TRAINED)
        sample = np.arange(self.n)
        if self.n > most:
            sample = np.sort(np.random.default_rng(_SEED).choice(self.n, size=most, replace=False))
        return self.complete(sample)


def _build_hnsw(vectors: NDArray[np.float32], config: IndexConfig) -> tuple[Any, dict[str, int]]:
    completion = _Completion(vectors, multiple=1)
    graph = faiss.IndexHNSWFlat(completion.width, config.hnsw_links, faiss.METRIC_INNER_PRODUCT)
    graph.hnsw.efConstruction = config.ef_construction
    graph.hnsw.efSearch = config.ef_search or _EF_SEARCH
    held = faiss.IndexFlatIP(completion.dim)
    for start in range(0, completion.n, _BLOCK_ROWS):
        graph.add(completion.complete(slice(start, start + _BLOCK_ROWS)))
        held.add(_take(vectors, start))
    completed = faiss.downcast_index(graph.storage)
    graph.storage, graph.d = held, completion.dim
    held.this.disown()  # the graph owns what it holds
    completed.this.own(True)
    parameters = {
        "links": config.hnsw_links,
        "ef_construction": config.ef_construction,
        "ef_search": config.ef_search or _EF_SEARCH,
    }
    return graph, parameters


def _build_ivf(vectors: NDArray[np.float32], config: IndexConfig) -> tuple[Any, dict[str, int]]:
    completion = _Completion(vectors, multiple=1)
    n_lists = choose_n_lists(completion.n, config)
    rounds = faiss.ClusteringParameters()
    rounds.niter, rounds.seed, rounds.spherical = _LIST_ROUNDS, _SEED, True
    learned = faiss.Clustering(completion.width, n_lists, rounds)
    nearest = faiss.IndexFlatIP(completion.width)
    learned.train(completion.draw_sample(n_lists), nearest)
    centers = faiss.vector_to_array(learned.centroids).reshape(n_lists, completion.width) @ completion.map_queries()
    quantizer = faiss.IndexFlatIP(completion.dim)
    quantizer.add(centers)
    given = (quantizer, completion.dim, n_lists)
    if fits_half(vectors):
        lists = faiss.IndexIVFScalarQuantizer(*given, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT, False)
        lists.is_trained = True  # there is nothing to learn
    else:
        lists = faiss.IndexIVFFlat(*given, faiss.METRIC_INNER_PRODUCT)
    lists.own_fields = True
    quantizer.this.disown()
    for start in range(0, completion.n, _BLOCK_ROWS):
        assigned = nearest.search(completion.complete(slice(start, start + _BLOCK_ROWS)), 1)[1]
        block = _take(vectors, start)
        lists.add_core(len(block), faiss.swig_ptr(block), None, faiss.swig_ptr(assigned))
    return lists, {"n_lists": n_lists, "n_probe": min(config.n_probe or _N_PROBE, n_lists)}


def _build_ivfpq(vectors: NDArray[np.float32], config: IndexConfig) -> tuple[Any, dict[str, int]]:
    completion = _Completion(vectors, multiple=2 * _FLOATS_PER_CODE)
    width, n_lists = completion.width, choose_n_lists(completion.n, config)
    n_codes, metric = width // _FLOATS_PER_CODE, faiss.METRIC_INNER_PRODUCT
    lists = faiss.index_factory(width, f"IVF{n_lists},PQ{n_codes}x8", metric)
    lists.cp.seed = lists.pq.cp.seed = _SEED
    lists.cp.niter, lists.pq.cp.niter = _LIST_ROUNDS, _CODE_ROUNDS
    lists.do_polysemous_training = False  # for a search by Hamming distance, which is not ours
    refined = faiss.IndexRefine(lists, faiss.IndexScalarQuantizer(width, faiss.ScalarQuantizer.QT_fp16, metric))
    refined.train(completion.draw_sample(n_lists))
    for start in range(0, completion.n, _BLOCK_ROWS):
        refined.add(completion.complete(slice(start, start + _BLOCK_ROWS)))
    query_map = faiss.LinearTransform(completion.dim, width, False)
    faiss.copy_array_to_vector(completion.map_queries().ravel(), query_map.A)
    query_map.is_trained = True
    wrapped = faiss.IndexPreTransform(query_map, refined)
    wrapped.ntotal = completion.n
    return wrapped, {"n_lists": n_lists, "n_probe": min(config.n_probe or _N_PROBE, n_lists), "n_codes": n_codes}
