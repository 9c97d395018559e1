"""An open FAISS index: comes in as one file or fresh from `build_index`; goes out the best rows for queries.

Every kind answers dot products with the vectors it was built on, whatever it does to them inside, so that kinds can
be exchanged. A file is mapped, not read: opening costs milliseconds, memory only what searches touch.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import faiss
import numpy as np
from numpy.typing import NDArray

from recsys_cl.errors import InputError, StoreError
from recsys_cl.evaluation.topk import Neighbors
from recsys_cl.files import write_file

Kind = Literal["flat", "hnsw", "ivfpq"]

REFINE_FACTOR = 10  # ivfpq: coarse answers that are scored again with half-precision vectors, for each one wanted
_WRITE_BYTES = 1 << 20
_NEEDED: dict[Kind, tuple[str, ...]] = {"flat": (), "hnsw": ("ef_search",), "ivfpq": ("n_lists", "n_probe")}
_limit_lock = threading.Lock()  # FAISS keeps its limit for the whole process


@dataclass(frozen=True)
class IndexFacts:
    """What a manifest says of an index. parameters: those of its kind, as built (`ef_search`, `n_lists`, …)."""

    kind: Kind
    n_items: int
    dim: int
    parameters: dict[str, int]


class Index:
    """A FAISS structure with what is known of it."""

    def __init__(self, structure: Any, facts: IndexFacts) -> None:
        self.structure, self.facts = structure, facts

    def search(self, queries: NDArray[np.float32], k: int) -> Neighbors:
        """The best k rows for queries [m, dim]: best first, ties by lower row; -1 with score -inf where there are
        fewer than k, or where an approximate kind found fewer. Raises InputError for k < 1 and for NaN, StoreError
        where FAISS finds its structure broken."""
        queries = np.ascontiguousarray(queries, dtype=np.float32)
        if queries.ndim != 2 or queries.shape[1] != self.facts.dim:
            raise InputError(f"queries of shape {queries.shape}", f"[m, {self.facts.dim}]")
        if k < 1:
            raise InputError(f"k is {k}", "at least 1")
        if not np.isfinite(queries).all():
            raise InputError("a query holds NaN or infinity", "finite numbers")  # FAISS would answer -1 without a word
        rows = np.full((len(queries), k), -1, dtype=np.int64)
        scores = np.full((len(queries), k), -np.inf, dtype=np.float32)
        n_found = min(k, self.facts.n_items)
        try:
            found_scores, found = self.structure.search(queries, n_found, params=self._tune(n_found))
        except RuntimeError as error:
            raise StoreError(f"the index is broken ({_explain(error)})", "the index of this release") from error
        found_scores[found < 0] = -np.inf
        order = np.lexsort((np.where(found < 0, np.iinfo(np.int64).max, found), -found_scores), axis=1)
        rows[:, :n_found] = np.take_along_axis(found, order, axis=1)
        scores[:, :n_found] = np.take_along_axis(found_scores, order, axis=1)
        return Neighbors(rows, scores)

    def write(self, path: Path) -> None:
        """Write one FAISS file, whole or not at all. Raises OSError where the disk refuses."""
        with write_file(path) as temporary, temporary.open("wb") as file:
            # Not by name: FAISS then ignores an error of the last, buffered bytes, as on a full disk.
            faiss.write_index(self.structure, faiss.PyCallbackIOWriter(file.write, _WRITE_BYTES))

    def _tune(self, k: int) -> Any:
        """Search parameters that look at enough candidates for k answers."""
        known = self.facts.parameters
        if self.facts.kind == "hnsw":
            inner = faiss.SearchParametersHNSW(efSearch=max(min(known["ef_search"], self.facts.n_items), 2 * k))
        elif self.facts.kind == "ivfpq":
            lists = faiss.SearchParametersIVF(nprobe=min(known["n_probe"], known["n_lists"]))
            inner = faiss.IndexRefineSearchParameters(k_factor=float(REFINE_FACTOR), base_index_params=lists)
        else:
            return None
        return faiss.SearchParametersPreTransform(index_params=inner)


def read_index(path: Path, facts: IndexFacts) -> Index:
    """Map the file that `Index.write` left. Raises StoreError where it is not that index.

    No vector of it may claim more bytes than four times the file, so a broken header cannot exhaust memory.
    """
    try:
        limit = 4 * path.stat().st_size + 4096  # FAISS compares counts of four-byte units, and strictly
        with _limit_lock:
            before = faiss.get_deserialization_vector_byte_limit()
            faiss.set_deserialization_vector_byte_limit(limit)
            try:
                structure = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
            finally:
                faiss.set_deserialization_vector_byte_limit(before)
    except (RuntimeError, OSError) as error:
        raise StoreError(f"{path} is not a FAISS index ({_explain(error)})") from error
    found = (_name_kind(structure), int(structure.ntotal), int(structure.d), int(structure.metric_type))
    expected = (facts.kind, facts.n_items, facts.dim, faiss.METRIC_INNER_PRODUCT)
    if found != expected:
        raise StoreError(f"{path} holds (kind, vectors, dim, metric) {found}", f"{expected}")
    if not all(facts.parameters.get(name, 0) > 0 for name in _NEEDED[facts.kind]):
        raise StoreError(f"the parameters of {path} are {facts.parameters}", f"{_NEEDED[facts.kind]} above 0")
    return Index(structure, facts)


def _explain(error: Exception) -> str:
    return str(error).rpartition("Error: ")[2]


def _name_kind(structure: Any) -> str:
    inner = structure
    if isinstance(structure, faiss.IndexPreTransform):
        inner = faiss.downcast_index(structure.index)
    names = {
        faiss.IndexFlatIP: "flat",
        faiss.IndexFlat: "flat",
        faiss.IndexHNSWFlat: "hnsw",
        faiss.IndexRefine: "ivfpq",
    }
    return names.get(type(inner), type(inner).__name__)
