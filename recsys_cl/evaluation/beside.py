"""Two evaluated fits side by side: comes in a candidate and an earlier one, goes out what users would gain or lose.

Both rank their own catalog for the same users. Counted are held-out items that neither was trained on: later than the
cut of the earlier one, and no training item of the user in either; what either knows of a user is left out of both
lists. Differences are paired, with bootstrap intervals over the users.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys_cl.bags import Bags
from recsys_cl.errors import InputError
from recsys_cl.evaluation.bootstrap import resample_means
from recsys_cl.evaluation.metrics import judge, judge_popularity, measure_coverage
from recsys_cl.evaluation.slices import Slice, find_slices
from recsys_cl.evaluation.targets import Judged, choose_judged, select_items
from recsys_cl.evaluation.topk import search_exact
from recsys_cl.ids import IdMap
from recsys_cl.interactions.split import Split

EVERYONE = "everyone"
_SLICES = ("new_items", "tail_items", "light_users")
_METRICS = ("recall", "ndcg")
_N_RESAMPLES = 4000  # a joint interval of eight leaves a dozen of them on either side
_STREAM = 7  # of chance


@dataclass(frozen=True)
class EarlierFit:
    """queries [n_users, dim], candidates [n_items, dim] of the rows of users and items; seen: a bag for each user, of
    what it was trained on; cut: where its training ended, microseconds since 1970, None where not at one time."""

    users: IdMap
    items: IdMap
    queries: NDArray[np.float32]
    candidates: NDArray[np.float32]
    seen: Bags
    cut: int | None


@dataclass(frozen=True)
class Change:
    """One metric in one part of the evaluation: the means of both, and candidate minus earlier with its interval."""

    part: str
    metric: str
    earlier: float
    candidate: float
    low: float
    high: float
    n_users: int


@dataclass(frozen=True)
class Comparison:
    """coverage: share of its own catalog that each recommends; popularity_share: of the lists that is among the most
    popular fifth; earlier first, then the candidate."""

    n_users: int
    changes: tuple[Change, ...]
    coverage: tuple[float, float]
    popularity_share: tuple[float, float]

    def dump(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self) | {"changes": [asdict(change) for change in self.changes]}


def judge_beside(
    fit: tuple[NDArray[np.float32], NDArray[np.float32]],
    split: Split,
    earlier: EarlierFit,
    how: tuple[int, float, int],
    seed: int,
) -> Comparison | None:
    """Compare a candidate's fit, queries [n_users, dim] and candidates [n_items, dim] over the rows of split, with an
    earlier one; how: k, confidence that all intervals together hold, most users. None where nobody can be compared.
    """
    k, confidence, most_users = how
    shared = _find_shared(split, earlier, most_users, seed)
    if shared is None:
        return None
    judged, users, seen = shared
    queries, candidates = fit[0][judged.users], fit[1][judged.items]
    k = min(k, len(candidates))
    ours = search_exact(queries, candidates, k, seen).rows
    theirs, n_known = _search_earlier(earlier, users, judged, split.train.items, seen, k)
    popularity = np.bincount(judged.histories.item_rows, minlength=len(judged.items))
    metric = f"popularity_share@{k}"
    shares = [float(judge_popularity(rows, popularity, (k,))[metric].mean()) for rows in (theirs.mapped, ours)]
    covered = [
        measure_coverage(theirs.rows, n_known, (k,))[f"coverage@{k}"],
        measure_coverage(ours, len(judged.items), (k,))[f"coverage@{k}"],
    ]
    slices = find_slices(judged, split.train)
    parts = {EVERYONE: Slice(np.arange(len(judged.users)), judged.targets)}
    parts |= {name: slices[name] for name in _SLICES if name in slices}
    parts = {name: part for name, part in parts.items() if len(part.users)}
    rng = np.random.default_rng([seed, _STREAM, 1])
    each = 1 - (1 - confidence) / (len(parts) * len(_METRICS))  # Bonferroni: all hold together
    changes = tuple(
        change for name, part in parts.items() for change in _compare(name, part, (theirs.mapped, ours), (k, each), rng)
    )
    return Comparison(len(judged.users), changes, (covered[0], covered[1]), (shares[0], shares[1]))


@dataclass(frozen=True)
class _Lists:
    """rows [m, k] in the earlier catalog; mapped [m, k]: the same in the candidate's, -1 where it lacks the item."""

    rows: NDArray[np.int64]
    mapped: NDArray[np.int64]


def _find_shared(
    split: Split, earlier: EarlierFit, most_users: int, seed: int
) -> tuple[Judged, NDArray[np.int64], Bags] | None:
    """Who is judged on what; their rows in the earlier fit; and what is left out for them, in rows of judged items."""
    test = split.test
    if earlier.cut is not None and test.timed:
        test = test.select(test.times >= earlier.cut)
    try:
        judged = choose_judged(split.train, test, most_users, np.random.default_rng([seed, _STREAM]))
    except InputError:  # nobody
        return None
    users = earlier.users.find_rows(split.train.users.get_ids(judged.users))
    known = (users >= 0) & (earlier.seen.sizes[np.maximum(users, 0)] > 0)
    # Items of the earlier fit as rows of the judged items: what it knows of each judged user.
    places = earlier.items.find_rows(split.train.items.get_ids(judged.items))
    rows_of = _invert(places, len(earlier.items))
    before = earlier.seen.take(np.where(known, users, 0))
    before = _map_items(before, rows_of)
    keys = judged.targets.number_pairs(len(judged.items))
    owners = np.repeat(np.arange(len(judged.targets)), judged.targets.sizes)
    fresh = ~np.isin(keys, before.number_pairs(len(judged.items))) & known[owners]
    targets = select_items(judged.targets, fresh)
    kept = np.flatnonzero(targets.sizes > 0)
    if not len(kept):
        return None
    judged = replace(judged, users=judged.users[kept], seen=judged.seen.take(kept), targets=targets.take(kept))
    return judged, users[kept], _unite(judged.seen, before.take(kept), len(judged.items))


def _search_earlier(
    earlier: EarlierFit, users: NDArray[np.int64], judged: Judged, items: IdMap, seen: Bags, k: int
) -> tuple[_Lists, int]:
    """What the earlier fit recommends out of the items it was trained on, and how many those are."""
    known = np.flatnonzero(np.bincount(earlier.seen.item_rows, minlength=len(earlier.items)) > 0)
    places = earlier.items.find_rows(items.get_ids(judged.items))  # judged row -> earlier row
    among_known = np.full(len(earlier.items) + 1, -1)
    among_known[known] = np.arange(len(known))
    left_out = _map_items(seen, among_known[places])
    found = search_exact(earlier.queries[users], earlier.candidates[known], min(k, len(known)), left_out).rows
    rows = np.where(found >= 0, known[np.maximum(found, 0)], -1)
    if rows.shape[1] < k:
        rows = np.pad(rows, ((0, 0), (0, k - rows.shape[1])), constant_values=-1)
    back = np.append(_invert(places, len(earlier.items)), -1)
    return _Lists(rows, back[rows]), len(known)


def _compare(
    name: str,
    part: Slice,
    lists: tuple[NDArray[np.int64], NDArray[np.int64]],
    how: tuple[int, float],
    rng: np.random.Generator,
) -> Iterator[Change]:
    k, confidence = how
    before, after = (judge(rows[part.users], part.targets, (k,)) for rows in lists)
    metrics = [f"{metric}@{k}" for metric in _METRICS]
    differences = np.stack([after[metric] - before[metric] for metric in metrics], axis=1)
    found = resample_means(differences, _N_RESAMPLES, confidence, rng)
    for place, metric in enumerate(metrics):
        means = float(before[metric].mean()), float(after[metric].mean())
        yield Change(name, metric, *means, float(found.low[place]), float(found.high[place]), len(part.users))


def _invert(places: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    """Of places [m] among n, -1 for none: which one of the m lies at each place [n], -1 for none."""
    inverse = np.full(n, -1)
    inverse[places[places >= 0]] = np.flatnonzero(places >= 0)
    return inverse


def _map_items(bags: Bags, rows_of: NDArray[np.int64]) -> Bags:
    """The items under other rows, without those at -1."""
    rows = rows_of[bags.item_rows]
    kept = select_items(bags, rows >= 0)
    return Bags(kept.offsets, rows[rows >= 0].astype(np.int32), kept.weights)


def _unite(one: Bags, other: Bags, n_items: int) -> Bags:
    """Bag by bag the items of both, each once."""
    keys = np.union1d(one.number_pairs(n_items), other.number_pairs(n_items))
    offsets = np.searchsorted(keys, np.arange(len(one) + 1, dtype=np.int64) * n_items)
    return Bags(offsets.astype(np.int64), (keys % n_items).astype(np.int32), np.ones(len(keys), dtype=np.float32))
