"""Drift between two tables of vectors: comes in the new and the live one, goes out the rotation that brings them
together, and how many neighbors changed.

A model that is trained again lies in its space as chance would have it; dot products alone have a meaning. The
rotation is the orthogonal matrix that brings the new vectors nearest to the live ones (orthogonal Procrustes,
Schönemann, Psychometrika 1966); it changes no dot product.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recsys_cl.ids import IdMap

_BLOCK_ROWS = 65_536

Rotation = NDArray[np.float64]
"""[d, d], orthogonal; vectors of dim >= d are rotated in their first d coordinates, the others (popularity) stay."""


def find_rotation(
    items: IdMap, vectors: NDArray[np.float32], live_items: IdMap, live_vectors: NDArray[np.float32], n_floats: int
) -> Rotation:
    """The rotation [n_floats, n_floats] of vectors [n, dim] that brings the items that both have nearest to their
    live_vectors [m, dim]; the identity where none is shared or the live ones have another dim."""
    if vectors.shape[1] != live_vectors.shape[1]:
        return np.eye(n_floats)
    places = live_items.find_rows(items.to_series())
    rows = np.flatnonzero(places >= 0)
    product = np.zeros((n_floats, n_floats))
    for start in range(0, len(rows), _BLOCK_ROWS):
        own = rows[start : start + _BLOCK_ROWS]
        live = live_vectors[places[own], :n_floats].astype(np.float64)
        product += vectors[own, :n_floats].astype(np.float64).T @ live
    if not product.any():
        return np.eye(n_floats)
    left, _, right = np.linalg.svd(product)
    return np.ascontiguousarray(left @ right)


def rotate(vectors: NDArray[np.float32], rotation: Rotation) -> NDArray[np.float32]:
    """vectors [n, dim] rotated; the very same where the rotation is the identity."""
    n_floats = len(rotation)
    if np.array_equal(rotation, np.eye(n_floats)):
        return vectors
    rotated = np.array(vectors, dtype=np.float32)
    for start in range(0, len(vectors), _BLOCK_ROWS):
        block = slice(start, start + _BLOCK_ROWS)
        rotated[block, :n_floats] = vectors[block, :n_floats].astype(np.float64) @ rotation
    return rotated


def widen_rotation(rotation: Rotation, dim: int) -> Rotation:
    """The same rotation as a matrix [dim, dim] that leaves the coordinates behind the first alone."""
    wide = np.eye(dim)
    wide[: len(rotation), : len(rotation)] = rotation
    return wide


_GONE = -2  # an answer whose item the other release lacks


def map_rows(rows: NDArray[np.int64], other_rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Answers [m, k] under the rows of another release: other_rows [n], -1 for an item it lacks; -1 stays no answer."""
    mapped = other_rows[rows]
    return np.where(rows < 0, -1, np.where(mapped < 0, _GONE, mapped))


def share_changed(before: NDArray[np.int64], after: NDArray[np.int64]) -> NDArray[np.float64]:
    """For each line, the share of the answers before [m, k], from `map_rows`, that are not in after [m, j] [m]."""
    n_kept = ((before[:, :, None] == after[:, None, :]) & (before >= 0)[:, :, None]).any(axis=2).sum(axis=1)
    n_before = (before != -1).sum(axis=1)
    changed: NDArray[np.float64] = np.where(n_before > 0, 1 - n_kept / np.maximum(n_before, 1), 0.0)
    return changed
