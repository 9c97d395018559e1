"""EmbeddingTable: vectors as they lie on disk, where the learning arm hands them to the retrieval arm."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from recsys_cl.errors import StoreError
from recsys_cl.files import write_file

Kind = Literal["query", "candidate", "bag"]


@dataclass(frozen=True)
class EmbeddingTable:
    """vectors [n, dim] float32, row i of the table is row i of the catalog or of the users.

    kind: `query` (what is searched with), `candidate` (what is found), `bag` (what a query tower takes of an item).
    """

    vectors: NDArray[np.float32]
    kind: Kind

    def __post_init__(self) -> None:
        if self.vectors.ndim != 2 or self.vectors.dtype != np.float32:
            raise ValueError(f"vectors are {self.vectors.dtype} {self.vectors.shape}, expected float32 [n, dim]")

    @property
    def n_rows(self) -> int:
        """Number of vectors."""
        return int(self.vectors.shape[0])

    @property
    def dim(self) -> int:
        """Floats of a vector."""
        return int(self.vectors.shape[1])

    def hash(self) -> str:
        """The sha256 of the vectors' bytes, rows in order."""
        digest = hashlib.sha256(repr(self.vectors.shape).encode())
        for start in range(0, self.n_rows, 65_536):
            digest.update(np.ascontiguousarray(self.vectors[start : start + 65_536]).tobytes())
        return digest.hexdigest()

    def write(self, path: Path) -> None:
        """Write as .npy, whole or not at all."""
        with write_file(path) as temporary, temporary.open("wb") as file:
            np.save(file, self.vectors, allow_pickle=False)

    @staticmethod
    def read(path: Path, kind: Kind) -> EmbeddingTable:
        """Map the file written by `write`. Raises StoreError where it is not one."""
        try:
            # Not `np.load`, which opens archives too.
            return EmbeddingTable(np.lib.format.open_memmap(path, mode="r"), kind)
        except (OSError, ValueError) as error:
            raise StoreError(f"{path} is not a table of embeddings ({error})") from error
