"""An open FAISS index: comes in as one file or fresh from `build_index`; goes out the best rows for queries.

Every kind answers dot products with the vectors it was built on, whatever it does to them inside, so that kinds can
be exchanged. A file is mapped, not read: opening costs milliseconds, memory only what searches touch.
"""

from __future__ import annotations

import math
import threading
from functools import lru_cache
from operator import gt
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from recsys_cl.errors import InputError, StoreError
from recsys_cl.evaluation.topk import Neighbors
from recsys_cl.files import write_file
from recsys_cl.index.facts import IndexFacts, Kind

_REFINED = 10  # ivfpq: coarse answers that are scored again in half precision for each one wanted, until tuned
_TUNED_K = 10  # answers for which the lists to look at were chosen
_MOST_PARAMETERS = 256  # kept, of as many different k
_WRITE_BYTES = 1 << 20
_NEEDED: dict[Kind, tuple[str, ...]] = {"flat": (), "hnsw": ("ef_search",)}
_NEEDED |= dict.fromkeys(("ivf", "ivfpq"), ("n_lists", "n_probe"))
_limit_lock = threading.Lock()  # FAISS keeps its limit for the whole process


class Index:
    """A FAISS structure with what is known of it."""

    def __init__(self, structure: Any, facts: IndexFacts) -> None:
        self.structure, self.facts = structure, facts
        self._search = structure.search_c  # what `search` of FAISS calls, which adds a tenth to a query alone
        # To make them anew for each query would take as long as to search a small index.
        self._find_parameters = lru_cache(maxsize=_MOST_PARAMETERS)(self._choose_parameters)

    def search(self, queries: NDArray[np.float32], k: int) -> Neighbors:
        """The best k rows for queries [m, dim]: best first, ties by lower row; -1 with score -inf where there are
        fewer than k, or where an approximate kind found fewer. Raises InputError for k < 1 and for NaN, StoreError
        where FAISS finds its structure broken."""
        queries = np.ascontiguousarray(queries, dtype=np.float32)
        if queries.ndim != 2 or queries.shape[1] != self.facts.dim:
            raise InputError(f"queries of shape {queries.shape}", f"[m, {self.facts.dim}]")
        if k < 1:
            raise InputError(f"k is {k}", "at least 1")
        if not (math.isfinite(np.vdot(queries, queries)) or np.isfinite(queries).all()):
            raise InputError("a query holds NaN or infinity", "finite numbers")  # FAISS would answer -1 without a word
        shape = len(queries), min(k, self.facts.n_items)
        rows, scores = np.empty(shape, dtype=np.int64), np.empty(shape, dtype=np.float32)
        places = faiss.swig_ptr(scores), faiss.swig_ptr(rows)
        try:
            self._search(shape[0], faiss.swig_ptr(queries), shape[1], *places, self._find_parameters(shape[1]))
        except RuntimeError as error:
            raise StoreError(f"the index is broken ({_explain(error)})", "the index of this release") from error
        if shape[1] == k and _is_settled(rows, scores):
            return Neighbors(rows, scores)
        scores[rows < 0] = -np.inf
        order = np.lexsort((np.where(rows < 0, np.iinfo(np.int64).max, rows), -scores), axis=1)
        wide = ((0, 0), (0, k - shape[1]))
        return Neighbors(
            np.pad(np.take_along_axis(rows, order, axis=1), wide, constant_values=-1),
            np.pad(np.take_along_axis(scores, order, axis=1), wide, constant_values=-np.inf),
        )

    def write(self, path: Path) -> None:
        """Write one FAISS file, whole or not at all. Raises OSError where the disk refuses."""
        with write_file(path) as temporary, temporary.open("wb") as file:
            # Not by name: FAISS then ignores an error of the last, buffered bytes, as on a full disk.
            faiss.write_index(self.structure, faiss.PyCallbackIOWriter(file.write, _WRITE_BYTES))

    def _choose_parameters(self, k: int) -> Any:
        """Search parameters that look at enough candidates for k answers."""
        known = self.facts.parameters
        if self.facts.kind == "flat":
            return None
        if self.facts.kind == "hnsw":
            chosen = faiss.SearchParametersHNSW(efSearch=max(min(known["ef_search"], self.facts.n_items), 2 * k))
        else:
            # The k-th best lies the further out the greater k is, so that more lists may hold it.
            n_probe = math.ceil(known["n_probe"] * math.sqrt(max(1.0, k / _TUNED_K)))
            chosen = faiss.SearchParametersIVF(nprobe=min(n_probe, known["n_lists"]))
        if self.facts.kind == "ivfpq":
            refined = float(min(known.get("n_refined", _REFINED), self.facts.n_items))
            chosen = faiss.IndexRefineSearchParameters(k_factor=refined, base_index_params=chosen)
        if isinstance(self.structure, faiss.IndexPreTransform):
            chosen = faiss.SearchParametersPreTransform(index_params=chosen)
        return chosen


def read_index(path: Path, facts: IndexFacts) -> Index:
    """Map the file that `Index.write` left. Raises StoreError where it is not that index.

    No vector of it may claim more bytes than four times the file, so a broken header cannot exhaust memory. Inverted
    lists are read through once, 8 bytes an item.
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
    if isinstance(structure, faiss.IndexIVFScalarQuantizer) and not _is_half(structure):
        raise StoreError(f"{path} holds other numbers than its header says", "half precision")
    if "n_lists" in _NEEDED[facts.kind] and not _lists_each_once(structure, facts.n_items):
        raise StoreError(f"{path} holds lists of other rows than its own", f"each of {facts.n_items} rows once")
    return Index(structure, facts)


def _is_half(structure: Any) -> bool:
    """Whether vectors are as long as FAISS will take them to be."""
    sizes = {structure.sq.code_size, structure.code_size, structure.invlists.code_size}
    return structure.sq.qtype == faiss.ScalarQuantizer.QT_fp16 and sizes == {2 * structure.d}


def _lists_each_once(structure: Any, n_items: int) -> bool:
    """Whether the lists hold each row once: FAISS answers with whatever stands there, and reads vectors by it."""
    lists = faiss.extract_index_ivf(structure.base_index if hasattr(structure, "base_index") else structure).invlists
    sizes = [lists.list_size(number) for number in range(lists.nlist)]
    if sum(sizes) != n_items:
        return False
    listed = np.zeros(n_items, dtype=np.bool_)
    for number, size in enumerate(sizes):
        if not size:
            continue
        rows = faiss.rev_swig_ptr(lists.get_ids(number), size)
        if rows.min() < 0 or rows.max() >= n_items:
            return False
        listed[rows] = True
    return bool(listed.all())


def _is_settled(rows: NDArray[np.int64], scores: NDArray[np.float32]) -> bool:
    """Whether every place [m, k] has an answer, and no two of a line are equal: nothing has to be put in order."""
    if len(rows) == 1:  # each call of numpy would add a tenth to a query alone
        line = scores[0].tolist()
        return rows.item(-1) >= 0 and all(map(gt, line, line[1:]))
    return bool((rows[:, -1] >= 0).all() and (scores[:, 1:] < scores[:, :-1]).all())


def _explain(error: Exception) -> str:
    return str(error).rpartition("Error: ")[2]


def _name_kind(structure: Any) -> str:
    inner = structure
    if isinstance(structure, faiss.IndexPreTransform):
        inner = faiss.downcast_index(structure.index)
    names = {
        faiss.IndexFlatIP: "flat",
        faiss.IndexFlat: "flat",
        faiss.IndexIVFFlat: "ivf",
        faiss.IndexIVFScalarQuantizer: "ivf",
        faiss.IndexHNSWFlat: "hnsw",
        faiss.IndexRefine: "ivfpq",
    }
    return names.get(type(inner), type(inner).__name__)
