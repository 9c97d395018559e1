"""Real pictures for a synthetic world: scikit-learn's 1,797 handwritten digits, 8 x 8 (Alpaydin and Kaynak, UCI 1998).

Nothing comes in (the pictures ship with scikit-learn); goes out each picture with its digit and its *topic*: the digit
in one of four styles of writing, measured on the picture itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

N_STYLES = 4  # upright light, upright bold, slanted light, slanted bold


@dataclass(frozen=True)
class Pictures:
    """The digits: images [n, 8, 8] uint8 from 0 to 16, digits [n], topics [n] = 4 * digit + style."""

    images: NDArray[np.uint8]
    digits: NDArray[np.int64]
    topics: NDArray[np.int64]


def load_pictures() -> Pictures:
    """The pictures, each with its topic: its slant to the right and its ink, above or below the median of its digit."""
    from sklearn.datasets import load_digits  # slow to import, and only a world needs it

    found = load_digits()
    images, digits = found.images.astype(np.int64), found.target.astype(np.int64)  # [n, row, column], 0..16
    place = np.arange(8)
    ink = images.sum(axis=(1, 2))
    down = place - (images.sum(axis=2) @ place / ink)[:, None]  # [n, 8], from the center of the ink
    right = place - (images.sum(axis=1) @ place / ink)[:, None]
    spread = (images.sum(axis=2) * down**2).sum(axis=1)
    slant = -np.einsum("nyx,ny,nx->n", images, down, right) / spread  # columns to the right for each row up
    topics = np.empty(len(digits), dtype=np.int64)
    for digit in range(10):
        own = digits == digit
        style = 2 * (slant[own] > np.median(slant[own])) + (ink[own] > np.median(ink[own]))
        topics[own] = N_STYLES * digit + style
    return Pictures(images.astype(np.uint8), digits, topics)
