"""Scores: comes in the vectors of queries and items, goes out vectors whose dot product is the score.

    cosine      q · v of vectors of unit length
    dot         q · v of vectors of any length
    euclidean   -½ ‖q - v‖² = q · v - ½ ‖v‖² - ½ ‖q‖²  (Hsieh et al., WWW 2017, ranked by distance)

At unit length the last is the cosine minus 1. Of a distance, the published vectors carry q · v - ½ ‖v‖² in one more
float: ‖q‖² is the same for every item that a query is asked about.
"""

from __future__ import annotations

import torch
from torch import Tensor

from recsys_cl.config import ModelConfig


def count_taste_floats(config: ModelConfig) -> int:
    """Floats of a vector that are learned: `dim` without the one for popularity, and the one for an item's length."""
    return config.dim - (2 if config.score == "euclidean" else 1)


def widen_queries(queries: Tensor, score: str, with_length: bool = True) -> Tensor:
    """queries [n, d] -> [n, d] or, for a distance, [n, d + 2]; without_length [n, d + 1], as they are published."""
    if score != "euclidean":
        return queries
    ones = torch.ones_like(queries[:, :1])
    parts = [queries, ones, -0.5 * queries.square().sum(dim=1, keepdim=True)]
    return torch.cat(parts if with_length else parts[:2], dim=1)


def widen_candidates(candidates: Tensor, score: str, with_length: bool = True) -> Tensor:
    """candidates [n, d] -> what `widen_queries` of the same arguments is multiplied with."""
    if score != "euclidean":
        return candidates
    parts = [candidates, -0.5 * candidates.square().sum(dim=1, keepdim=True), torch.ones_like(candidates[:, :1])]
    return torch.cat(parts if with_length else parts[:2], dim=1)
