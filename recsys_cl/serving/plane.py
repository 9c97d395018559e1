"""The map of all items: comes in their vectors, goes out a point of the plane for each, and a color by attribute."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from recsys_cl.catalog import Catalog

_BLOCK_ROWS = 65_536
MOST_CATEGORIES = 200
OTHER = 255
"""The code of values beyond the most frequent `MOST_CATEGORIES`; 0 is that of items without a value."""


def project_items(vectors: NDArray[np.float32], popularity_dim: int | None) -> NDArray[np.float32]:
    """The two directions in which vectors [n, dim] differ most (principal components), as points [n, 2] within -1…1.

    The coordinate of popularity is left out. The larger component of each direction is positive, so that the same
    vectors give the same map. Memory: the points and one block.
    """
    kept = [place for place in range(vectors.shape[1]) if place != popularity_dim]
    starts = range(0, len(vectors), _BLOCK_ROWS)
    total, square = np.zeros(len(kept)), np.zeros((len(kept), len(kept)))
    for start in starts:
        block = vectors[start : start + _BLOCK_ROWS, kept].astype(np.float64)
        total += block.sum(axis=0)
        square += block.T @ block
    mean = total / max(1, len(vectors))
    directions = np.zeros((len(kept), 2))
    found = np.linalg.eigh(square / max(1, len(vectors)) - np.outer(mean, mean))[1][:, ::-1][:, :2]
    signs = np.sign(found[np.abs(found).argmax(axis=0), np.arange(found.shape[1])])
    directions[:, : found.shape[1]] = found * np.where(signs == 0, 1, signs)
    points = np.empty((len(vectors), 2), dtype=np.float32)
    for start in starts:
        points[start : start + _BLOCK_ROWS] = (vectors[start : start + _BLOCK_ROWS, kept] - mean) @ directions
    farthest = float(np.abs(points).max(initial=0))
    if farthest > 0:
        points /= farthest
    return points


def color_items(catalog: Catalog, attribute: str) -> dict[str, Any]:
    """`{"attribute", "categories", "codes"}`: the values of an attribute, most frequent first, at most 200; and in
    base64 one byte for each row: 0 for none, c for categories[c - 1], 255 for any other.

    Raises InputError for an attribute that the catalog has not, naming those that it has.
    """
    values = catalog.get_attribute(attribute).alias("value")
    counts = values.drop_nulls().value_counts(name="n").sort("n", "value", descending=[True, False])
    categories = counts["value"].head(MOST_CATEGORIES)
    numbered = pl.DataFrame({"value": categories, "code": np.arange(1, len(categories) + 1, dtype=np.uint8)})
    codes = pl.DataFrame({"value": values}).join(numbered, on="value", how="left", maintain_order="left")["code"]
    filled = np.where(values.is_null(), 0, codes.fill_null(OTHER)).astype(np.uint8)
    return {
        "attribute": attribute,
        "categories": categories.to_list(),
        "codes": base64.b64encode(filled.tobytes()).decode("ascii"),
    }
