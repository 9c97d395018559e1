"""Near-duplicates: comes in pixels, goes out groups of pictures that show the same.

Two pictures whose pixels correlate above a bound are near-duplicates, and so are those that a chain of such pairs
joins. They are compared shrunk, so that noise and small shifts do not part them.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components

from recsys_cl.images.features import Take

_SIDE = 16  # pixels of a side that are compared
_BLOCK = 2048  # pictures shrunk at a time
_COMPARED = 256  # pictures compared with all at a time


def group_duplicates(take: Take, n_pictures: int, least_correlation: float) -> NDArray[np.int64]:
    """The group of each picture [n_pictures], numbered from 0.

    Time: n² × 768 products, n being the distinct ones; memory: 3 KiB a picture, and for a block of 256 of them at most
    20 bytes a pair. A picture of one color alone, which correlates with nothing, has a group of its own.
    """
    shrunk = shrink_all(take, n_pictures)
    lit = np.flatnonzero(shrunk.any(axis=1))  # the others correlate with nothing
    copies = {row: shrunk[row].tobytes() for row in lit}
    firsts = dict(zip(reversed(copies.values()), reversed(copies), strict=True))  # content -> the first that has it
    distinct = np.array(sorted(firsts.values()), dtype=np.int64)
    kept = shrunk[distinct]
    joined = np.arange(len(distinct))  # the group of each distinct picture so far
    for start in range(0, len(distinct), _COMPARED):
        lines, columns = np.nonzero(kept[start : start + _COMPARED] @ kept[start:].T >= least_correlation)
        lines, columns = (
            np.concatenate((lines + start, np.arange(len(distinct)))),
            np.concatenate((columns + start, joined)),
        )
        pairs = sp.coo_matrix((np.ones(len(lines), dtype=bool), (lines, columns)), shape=(len(distinct),) * 2)
        joined = connected_components(pairs, directed=False)[1].astype(np.int64)
        joined = np.unique(joined, return_index=True)[1][joined]  # named by its first picture
    groups = np.arange(n_pictures)
    groups[distinct] = distinct[joined]
    for row, content in copies.items():
        groups[row] = groups[firsts[content]]
    numbered: NDArray[np.int64] = np.unique(groups, return_inverse=True)[1].astype(np.int64)
    return numbered


def shrink_all(take: Take, n_pictures: int) -> NDArray[np.float32]:
    """All pictures shrunk to some 16 pixels a side, of mean 0 and length 1 [n_pictures, floats]: their dot product is
    their correlation; one of one color alone is 0."""
    starts = range(0, n_pictures, _BLOCK)
    blocks = [_shrink(take(np.arange(start, min(start + _BLOCK, n_pictures)))) for start in starts]
    return np.concatenate(blocks or [np.zeros((0, 1), dtype=np.float32)])


def _shrink(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    n, channels, side, _ = pixels.shape
    step = max(1, side // _SIDE)
    kept = side - side % step
    parts = pixels[:, :, :kept, :kept].reshape(n, channels, kept // step, step, kept // step, step)
    flat = parts.mean(axis=(3, 5), dtype=np.float32).reshape(n, -1)
    flat -= flat.mean(axis=1, keepdims=True)
    lengths = np.linalg.norm(flat, axis=1, keepdims=True)
    shrunk: NDArray[np.float32] = np.divide(flat, lengths, out=np.zeros_like(flat), where=lengths > 1e-3)
    return shrunk
