"""What differs between two releases: comes in both, goes out metrics, items gained and lost, neighbors that moved."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys_cl.bags import Bags
from recsys_cl.catalog import ID
from recsys_cl.evaluation.drift import map_rows, share_changed
from recsys_cl.serving.lookup import Release

_K = 10  # neighbors of an item that are compared
_MOST_ITEMS, _MOST_NAMED, _BLOCK = 5_000, 20, 1024


def diff_releases(first: Release, second: Release) -> dict[str, Any]:
    """`{"first", "second", "metrics", "n_items", "gained", "lost", "n_compared", "churn", "moved"}`.

    metrics: name -> the values of both. gained, lost: at most 20 item_ids each, their numbers in n_items. churn: the
    share of the top 10 neighbors that changed, over at most 5,000 items that both have, drawn evenly; moved: the 20
    items that lost most of them, each with the share.
    """
    ids = [release.parts.catalog.items for release in (first, second)]
    shared = ids[1].find_rows(ids[0].to_series())
    lost = ids[0].get_ids(np.flatnonzero(shared < 0))
    gained = ids[1].get_ids(np.flatnonzero(ids[0].find_rows(ids[1].to_series()) < 0))
    rows = np.flatnonzero(shared >= 0)
    if len(rows) > _MOST_ITEMS:
        rows = np.sort(np.random.default_rng(0).permutation(rows)[:_MOST_ITEMS])
    changed = _compare_neighbors(first, second, rows, shared)
    order = np.argsort(-changed, kind="stable")[:_MOST_NAMED]
    moved = [{ID: ids[0].get_id(int(rows[place])), "changed": float(changed[place])} for place in order]
    return {
        "first": first.version,
        "second": second.version,
        "metrics": {
            name: [release.manifest.metrics.get(name) for release in (first, second)]
            for name in sorted(first.manifest.metrics | second.manifest.metrics)
        },
        "n_items": {"first": len(ids[0]), "second": len(ids[1]), "gained": len(gained), "lost": len(lost)},
        "gained": gained.head(_MOST_NAMED).to_list(),
        "lost": lost.head(_MOST_NAMED).to_list(),
        "n_compared": len(rows),
        "churn": float(changed.mean()) if len(rows) else None,
        "moved": moved,
    }


def _compare_neighbors(
    first: Release, second: Release, rows: NDArray[np.int64], shared: NDArray[np.int64]
) -> NDArray[np.float64]:
    """The share of each item's neighbors in the first release that are none in the second [n]."""
    k = min(_K, first.n_items - 1, second.n_items - 1)
    changed = np.zeros(len(rows))
    if k < 1:
        return changed
    for start in range(0, len(rows), _BLOCK):
        own = rows[start : start + _BLOCK]
        before = first.search(first.encode_items(own), k, Bags.of_items(own)).rows
        other = shared[own]
        after = second.search(second.encode_items(other), k, Bags.of_items(other)).rows
        known = map_rows(before, shared)
        changed[start : start + len(own)] = share_changed(known, after)
    return changed
