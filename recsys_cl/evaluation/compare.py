"""Comparison of two models, user by user: comes in as a table of each, goes out paired differences with intervals.

A table has one line a user: user_id, n_targets, targets_hash, and the figures of one model. Only like is compared with
like: users whom both judged on the same targets, which the hash tells without the log.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, TypedDict

import numpy as np
import polars as pl
from numpy.typing import NDArray

from recsys_cl.bags import Bags
from recsys_cl.errors import InputError
from recsys_cl.evaluation.bootstrap import resample_means
from recsys_cl.evaluation.figures import Figure, get_figure

KEYS = ("user_id", "n_targets", "targets_hash")
KEPT = ("recall", "ndcg", "mrr")  # the metrics of a table, each at each k
_SECOND = " of the second"  # behind the name of a column where two tables are joined


class Compared(TypedDict):
    """One metric: the mean of each model, and first minus second with its interval."""

    first: float
    second: float
    difference: Figure


@dataclass(frozen=True)
class Comparison:
    """What `compare_users` found over n_users, by the metrics that both tables have.

    n_first, n_second: users that one of the two judged alone; n_other_targets: that both judged, on other targets.
    """

    n_users: int
    n_first: int
    n_second: int
    n_other_targets: int
    confidence: float
    metrics: dict[str, Compared]

    def dump(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


def build_user_table(
    user_ids: pl.Series, item_ids: pl.Series, targets: Bags, per_user: Mapping[str, NDArray[np.float64]]
) -> pl.DataFrame:
    """The table of one model: a line a user, with recall, ndcg and mrr of per_user (metric -> [n_users]).

    item_ids: of the rows in targets, which hold at least one item a user.
    """
    keys = (user_ids, pl.Series(targets.sizes), pl.Series(hash_targets(targets, item_ids)))
    kept = {metric: values for kind in KEPT for metric, values in per_user.items() if metric.startswith(f"{kind}@")}
    return pl.DataFrame(dict(zip(KEYS, keys, strict=True)) | kept)


def hash_targets(targets: Bags, item_ids: pl.Series) -> NDArray[np.uint64]:
    """A number for each bag [n_bags] uint64, the same for the same set of item_ids, in any log, order and process: the
    sum, modulo 2^64, of 64 bits of BLAKE2b of each. Bags hold at least one item each."""
    rows, places = np.unique(targets.item_rows, return_inverse=True)
    digests = (hashlib.blake2b(item_id.encode(), digest_size=8).digest() for item_id in item_ids[rows])
    hashes = np.array([int.from_bytes(digest, "little") for digest in digests], dtype=np.uint64)
    summed: NDArray[np.uint64] = np.add.reduceat(hashes[places], targets.offsets[:-1])
    return summed


def compare_users(
    first: pl.DataFrame, second: pl.DataFrame, n_resamples: int, confidence: float, rng: np.random.Generator
) -> Comparison:
    """Compare two models over the users that both judged on the same targets, by a paired bootstrap of these users.

    Raises InputError where there is no such user, or no metric that both tables have.
    """
    for table in (first, second):
        if not set(KEYS) <= set(table.columns):
            raise InputError(f"a table of users has the columns {', '.join(table.columns)}", f"{', '.join(KEYS)} too")
    metrics = [name for name in first.columns if name in second.columns and name not in KEYS]
    if not metrics:
        raise InputError("the two have no metric in common", "lists of the same length (evaluation.ks) judged by both")
    both = first.join(second, on=list(KEYS), suffix=_SECOND).sort(KEYS[0])
    n_shared = first.join(second, on=KEYS[0], how="semi").height
    if not both.height:
        others = f"{n_shared:,} were judged by both, on other items" if n_shared else "none was judged by both"
        raise InputError(
            f"no user was judged on the same held-out items: of {first.height:,} and {second.height:,}, {others}",
            "two models judged on the same test",
            "give both the same log and the same [split]",
        )
    ours = both.select(metrics).to_numpy()
    theirs = both.select(f"{metric}{_SECOND}" for metric in metrics).to_numpy()
    intervals = resample_means(ours - theirs, n_resamples, confidence, rng)
    means = zip(ours.mean(axis=0).tolist(), theirs.mean(axis=0).tolist(), strict=True)
    return Comparison(
        n_users=both.height,
        n_first=first.height - n_shared,
        n_second=second.height - n_shared,
        n_other_targets=n_shared - both.height,
        confidence=confidence,
        metrics={
            metric: Compared(first=mean, second=other, difference=get_figure(intervals, place))
            for place, (metric, (mean, other)) in enumerate(zip(metrics, means, strict=True))
        },
    )
