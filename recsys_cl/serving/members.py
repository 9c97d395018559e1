"""Answers as JSON values: comes in a row of the catalog that was found, goes out its members; and how many there may
be."""

from __future__ import annotations

from typing import Any

import numpy as np

from recsys_cl.catalog import ID, Catalog
from recsys_cl.errors import InputError

Answer = dict[str, Any]
"""`{"item_id", "score", "rank"}`, rank from 1, and what the catalog knows of the item, such as `title`."""

OWN = frozenset(("score", "rank", "space", "why", "image", "row", "release"))
"""Names of members that are ours: an attribute of such a name is left out of answers. It still filters and colors."""


def build_answer(item_id: str, score: float, rank: int, known: Answer) -> Answer:
    """One of the items that were found; known: see `describe_known`."""
    return {ID: item_id, "score": score, "rank": rank} | {name: known[name] for name in known if name != ID}


def describe_known(catalog: Catalog, row: int) -> Answer:
    """What the catalog knows of an item, item_id first, without attributes whose names are ours."""
    return {name: value for name, value in catalog.describe(row).items() if name not in OWN}


def bound_k(k: object, most: int) -> int:
    """How many answers there may be of `most` that exist. Raises InputError unless k is a whole number from 1."""
    if isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 1:
        raise InputError(f"k is {k!r}", "a whole number from 1")
    return min(int(k), most)
