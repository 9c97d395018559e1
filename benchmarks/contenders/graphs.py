"""Nearest-neighbor libraries: built on vectors [n, dim] of unit length, asked for the greatest dot products.

Both are compiled for the processor they run on, hnswlib when it is installed, usearch by choosing at run time.
"""

from __future__ import annotations

from typing import Any, Protocol

import hnswlib
import numpy as np
import usearch.index
from numpy.typing import NDArray


class Contender(Protocol):
    """A built index. efforts: settings, least work first; mib: of the index in memory."""

    name: str
    efforts: tuple[int, ...]
    mib: float

    def search(self, queries: NDArray[np.float32], k: int, effort: int, n_threads: int) -> NDArray[np.int64]:
        """Rows [m, k]."""
        ...


_EFFORTS: tuple[int, ...] = (10, 12, 16, 20, 24, 32, 40, 48, 64, 80, 96, 128, 160, 192, 256, 384, 512)


class Hnswlib:
    """hnswlib with its defaults: 16 links, 200 candidates looked at to link an item."""

    name, efforts = "hnswlib", _EFFORTS

    def __init__(self, vectors: NDArray[np.float32], n_threads: int) -> None:
        n, dim = vectors.shape
        self._index: Any = hnswlib.Index("ip", dim)
        self._index.init_index(n)
        self._index.add_items(vectors, num_threads=n_threads)
        self.mib = self._index.index_file_size() / 2**20
        self._effort = 0

    def search(self, queries: NDArray[np.float32], k: int, effort: int, n_threads: int) -> NDArray[np.int64]:
        """Rows [m, k]."""
        if effort != self._effort:  # once for a turn
            self._index.set_ef(effort)
            self._effort = effort
        rows: NDArray[np.uint64] = self._index.knn_query(queries, k, num_threads=n_threads)[0]
        return rows.view(np.int64)


class Usearch:
    """usearch with its defaults: 16 links, 128 candidates looked at to link an item; single precision."""

    name, efforts = "usearch", _EFFORTS

    def __init__(self, vectors: NDArray[np.float32], n_threads: int) -> None:
        n, dim = vectors.shape
        self._index: Any = usearch.index.Index(ndim=dim, metric="ip", dtype="f32")
        self._index.add(np.arange(n), vectors, threads=n_threads)
        self.mib = self._index.serialized_length / 2**20

    def search(self, queries: NDArray[np.float32], k: int, effort: int, n_threads: int) -> NDArray[np.int64]:
        """Rows [m, k]; one query as a vector, which the library answers faster than a matrix of one line."""
        self._index.expansion_search = effort
        if len(queries) == 1:
            queries = queries[0]
        rows: NDArray[np.uint64] = self._index.search(queries, k, threads=n_threads).keys
        return rows.reshape(-1, k).view(np.int64)
