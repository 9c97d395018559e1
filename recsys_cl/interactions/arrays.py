"""An array on disk, written from front to back: comes in as pieces, goes out as a .npy file. Memory: one piece."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


class ArrayFile:
    """A .npy file of one dimension that grows: its header, of fixed length, is written again at the end."""

    def __init__(self, path: Path, dtype: Any) -> None:
        self._file = path.open("wb")
        self._dtype, self._n = np.dtype(dtype), 0

    def __enter__(self) -> ArrayFile:
        self._write_header()
        return self

    def __exit__(self, *error: object) -> None:
        self._file.seek(0)
        self._write_header()
        self._file.close()

    def append(self, values: NDArray[Any]) -> None:
        """Add values behind those that are there."""
        self._file.write(np.ascontiguousarray(values, dtype=self._dtype).data)
        self._n += len(values)

    def _write_header(self) -> None:
        # numpy leaves room in the header for a length to grow, so that both headers are as long
        header = {"descr": self._dtype.str, "fortran_order": False, "shape": (self._n,)}
        np.lib.format.write_array_header_1_0(self._file, header)
