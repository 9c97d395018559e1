"""The most popular items for everybody."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recsys_cl.evaluation.topk import search_exact
from recsys_cl.interactions.table import Interactions

name = "popularity"


def recommend(train: Interactions, k: int) -> NDArray[np.int64]:
    """Items by number of users."""
    counts = train.count_users().astype(np.float32)[:, None]
    return search_exact(np.ones((train.n_users, 1), dtype=np.float32), counts, k, train.to_bags()).rows
