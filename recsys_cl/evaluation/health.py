"""Health of embeddings: comes in as vectors, goes out as figures that a report shows and a gate can refuse.

effective rank: exp of the entropy of the normalized singular values (Roy and Vetterli, EUSIPCO 2007); near 1, all
vectors lie along one line (collapse); at most the dimension.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_BLOCK_ROWS = 65_536


def measure_health(vectors: NDArray[np.float32]) -> dict[str, Any]:
    """Figures of vectors [n, dim]: n, dim, n_nonfinite (rows with NaN or infinity), and over the finite rows
    norm_min, norm_median, norm_max and effective_rank (0 where there is no row or all are zero).

    JSON values. Memory: a block of 65,536 rows and 8 bytes a row.
    """
    n, dim = vectors.shape
    gram = np.zeros((dim, dim))
    norms = np.full(n, np.nan)
    for start in range(0, n, _BLOCK_ROWS):
        block = np.asarray(vectors[start : start + _BLOCK_ROWS], dtype=np.float64)
        finite = np.isfinite(block).all(axis=1)
        norms[start : start + len(block)][finite] = np.linalg.norm(block[finite], axis=1)
        gram += block[finite].T @ block[finite]
    finite_norms = norms[np.isfinite(norms)]
    has_rows = len(finite_norms) > 0
    return {
        "n": n,
        "dim": dim,
        "n_nonfinite": n - len(finite_norms),
        "norm_min": float(finite_norms.min()) if has_rows else 0.0,
        "norm_median": float(np.median(finite_norms)) if has_rows else 0.0,
        "norm_max": float(finite_norms.max()) if has_rows else 0.0,
        "effective_rank": _measure_rank(gram),
    }


def _measure_rank(gram: NDArray[np.float64]) -> float:
    """Effective rank from VᵀV [dim, dim]: its eigenvalues are the squared singular values of V."""
    singular = np.sqrt(np.maximum(np.linalg.eigvalsh(gram), 0.0))
    if singular.sum() == 0.0:
        return 0.0
    shares = singular / singular.sum()
    shares = shares[shares > 0]
    return float(np.exp(-(shares * np.log(shares)).sum()))
