"""Vectors come off the disk bit for bit as they went on it, and nothing else is taken for them."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recsys_cl.embeddings import EmbeddingTable
from recsys_cl.errors import StoreError


def make(n: int = 5, dim: int = 3) -> EmbeddingTable:
    return EmbeddingTable(np.random.default_rng(0).normal(size=(n, dim)).astype(np.float32), "candidate")


@pytest.mark.parametrize("shape", [(5, 3), (0, 3), (1, 1), (70_000, 2)])
def test_a_table_comes_back_mapped_and_bit_for_bit(tmp_path: Path, shape: tuple[int, int]) -> None:
    table = make(*shape)
    table.write(tmp_path / "v.npy")
    found = EmbeddingTable.read(tmp_path / "v.npy", "candidate")
    assert isinstance(found.vectors, np.memmap)
    assert found.vectors.tobytes() == table.vectors.tobytes()
    assert (found.n_rows, found.dim, found.kind) == (*shape, "candidate")
    assert found.hash() == table.hash()
    with pytest.raises(ValueError, match="read-only"):
        found.vectors[:] = 0


def test_the_hash_tells_values_order_and_shape_apart() -> None:
    table = make(6, 2)
    changed = table.vectors.copy()
    changed[3, 1] = np.nextafter(changed[3, 1], np.float32(9))
    others = [changed, table.vectors[::-1], table.vectors.reshape(4, 3), table.vectors.reshape(3, 4), table.vectors[:5]]
    hashes = {EmbeddingTable(vectors, "query").hash() for vectors in (table.vectors, *others)}
    assert len(hashes) == 6
    assert EmbeddingTable(np.asfortranarray(table.vectors), "bag").hash() == table.hash()


def test_the_hash_of_many_rows_covers_all_of_them() -> None:
    vectors = make(70_000, 2).vectors
    expected = hashlib.sha256(b"(70000, 2)" + vectors.tobytes()).hexdigest()
    assert EmbeddingTable(vectors, "query").hash() == expected


@pytest.mark.parametrize("vectors", [np.zeros((2, 2)), np.zeros(4, np.float32), np.zeros((1, 2, 2), np.float32)])
def test_what_is_no_table_of_floats_is_refused(vectors: Any) -> None:
    with pytest.raises(ValueError, match=r"expected float32 \[n, dim\]"):
        EmbeddingTable(vectors, "query")


def test_a_file_that_is_no_table_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "v.npy"
    make().write(path)
    whole = path.read_bytes()
    arrays = {"doubles": np.zeros((2, 2)), "line": np.zeros(3, np.float32), "pickled": np.array([{}], dtype=object)}
    for name, array in arrays.items():
        np.save(tmp_path / f"{name}.npy", array)
    np.savez(tmp_path / "archive.npz", make().vectors)
    broken = {name: (tmp_path / f"{name}.npy").read_bytes() for name in arrays}
    broken |= {f"cut at {size}": whole[:size] for size in (0, 1, 7, 60, len(whole) - 1)}
    broken |= {"text": b"1.0 2.0\n", "zip": b"PK\x03\x04", "archive": (tmp_path / "archive.npz").read_bytes()}
    for how, data in broken.items():
        path.write_bytes(data)
        with pytest.raises(StoreError, match=r"v\.npy is not a table of embeddings"):
            print(how, EmbeddingTable.read(path, "query"))  # noqa: T201
    for other in (tmp_path, tmp_path / "missing.npy"):
        with pytest.raises(StoreError, match="is not a table of embeddings"):
            EmbeddingTable.read(other, "query")
