"""Arrays on disk, written from front to back: comes in as pieces, goes out as a .npy file. Memory: one piece."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_BLOCK_BYTES = 16 << 20

Ranges = Sequence[tuple[int, int]]
"""Rows, as (first, behind the last) of each piece, ascending."""


class ArrayFile:
    """A .npy file that grows row by row: its header, of fixed length, is written again at the end. row: the shape of
    one row, () for an array of one dimension."""

    def __init__(self, path: Path, dtype: Any, row: tuple[int, ...] = ()) -> None:
        self._file = path.open("wb")
        self._dtype, self._row, self._n = np.dtype(dtype), row, 0

    def __enter__(self) -> ArrayFile:
        self._write_header()
        return self

    def __exit__(self, *error: object) -> None:
        self._file.seek(0)
        self._write_header()
        self._file.close()

    def append(self, values: NDArray[Any]) -> None:
        """Add values [n, …] behind those that are there."""
        self._file.write(np.ascontiguousarray(values, dtype=self._dtype).data)
        self._n += len(values)

    def _write_header(self) -> None:
        # numpy leaves room in the header for a length to grow, so that both headers are as long
        header = {"descr": self._dtype.str, "fortran_order": False, "shape": (self._n, *self._row)}
        np.lib.format.write_array_header_1_0(self._file, header)


def copy_ranges(
    array: NDArray[Any], ranges: Ranges, path: Path, change: Callable[[NDArray[Any]], NDArray[Any]] = lambda part: part
) -> None:
    """Write these rows of an array [n, …], which may be mapped, to `path`; change: what becomes of each block."""
    size = max(1, _BLOCK_BYTES // max(1, array[:1].nbytes))
    with ArrayFile(path, array.dtype, array.shape[1:]) as file:
        for first, behind in ranges:
            for start in range(first, behind, size):
                file.append(change(array[start : min(start + size, behind)]))


def leave_out(n: int, rows: NDArray[np.int64]) -> list[tuple[int, int]]:
    """The ranges of 0 … n - 1 without these rows, which are ascending."""
    edges = np.concatenate(([-1], rows, [n]))
    return [(int(a) + 1, int(b)) for a, b in pairwise(edges) if a + 1 < b]
