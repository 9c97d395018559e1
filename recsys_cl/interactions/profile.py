"""A profile: comes in interactions or parsed sources, goes out how many, by whom, on what, when, and what was refused.

Two scopes are profiled in one way: the whole log that a run learns from, and the sources that arrived since the run
before. Memory: the distinct ids, a block of events, and one number for each hour that holds an event.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from recsys_cl.ids import IdMap
from recsys_cl.interactions.raw import Part
from recsys_cl.interactions.rules import RowRules
from recsys_cl.interactions.table import Interactions
from recsys_cl.interactions.times import format_times

WHOLE, ARRIVED = "whole", "arrived"  # scopes
_BLOCK_EVENTS = 4_000_000
_MICROSECONDS_PER_HOUR = 3_600_000_000
_HOURS = 24
_TOPS = {"top_1": 100, "top_5": 20, "top_20": 5}  # one in so many of the items
_QUANTILES = {"least": 0.0, "p25": 0.25, "median": 0.5, "p75": 0.75, "p95": 0.95, "p99": 0.99, "most": 1.0}


@dataclass(frozen=True)
class Former:
    """The users and items of the run before."""

    users: IdMap
    items: IdMap


@dataclass(frozen=True)
class Times:
    """first, last: hours that hold an event, ISO 8601 UTC. n_days: from the first day to the last, both counted, of
    which n_silent_days have no event. longest_gap_hours: whole hours in a row without one. hours [24]: share of the
    events in each hour of the day (UTC). days: events of each day that has some, by its date."""

    first: str
    last: str
    n_days: int
    n_silent_days: int
    longest_gap_hours: int
    hours: list[float]
    days: dict[str, int]


@dataclass(frozen=True)
class Profile:
    """n_read == n_events + sum(refused.values()), refused by reason; refused_share: of n_read.

    kinds: events of each, empty where the log has no kinds. new_users, new_items: share that the run before did not
    have, None without one. popularity: `gini` of the events of the items, 0 where all are alike, and `top_1`, `top_5`,
    `top_20`, the share of the events on so many percent of the items. per_user, per_item: events of one, its quantiles
    (`least`, `p25`, `median`, … `most`) and `mean`. times: None where the log has none.
    """

    n_read: int
    n_events: int
    n_users: int
    n_items: int
    refused: dict[str, int]
    kinds: dict[str, int]
    new_users: float | None
    new_items: float | None
    popularity: dict[str, float]
    per_user: dict[str, float]
    per_item: dict[str, float]
    times: Times | None

    @property
    def refused_share(self) -> float:
        """Rows refused, of those read."""
        return sum(self.refused.values()) / max(1, self.n_read)

    def dump(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self) | {"refused_share": self.refused_share}

    @staticmethod
    def load(values: Mapping[str, Any]) -> Profile:
        """From what `dump` gave. Raises KeyError and TypeError for anything else."""
        known = {name: values[name] for name in Profile.__dataclass_fields__}
        return Profile(**known | {"times": None if values["times"] is None else Times(**values["times"])})


@dataclass(frozen=True)
class _Counts:
    """per_user, per_item: events of each that has some; hours: ascending, since 1970, with events; per_hour [n_hours]:
    of each; None where there are no times."""

    per_user: NDArray[np.int64]
    per_item: NDArray[np.int64]
    hours: tuple[NDArray[np.int64], NDArray[np.int64]] | None


def profile_interactions(
    log: Interactions, kinds: Mapping[str, int], refused: Mapping[str, int], former: Former | None = None
) -> Profile:
    """The profile of a log, each of its users and items with an event. kinds: events of each; refused: rows by reason.

    Time: a pass over the events. former: None for a first run.
    """
    per_item = np.zeros(log.n_items, dtype=np.int64)
    hours: Counter[int] = Counter()
    for start in range(0, log.n_events, _BLOCK_EVENTS):
        block = slice(start, start + _BLOCK_EVENTS)
        per_item += np.bincount(log.item_rows[block], minlength=log.n_items)
        if log.timed:
            found, n = np.unique(log.times[block] // _MICROSECONDS_PER_HOUR, return_counts=True)
            hours.update(dict(zip(found.tolist(), n.tolist(), strict=True)))
    per_hour = sorted(hours.items())
    counted = tuple(np.array([pair[place] for pair in per_hour], dtype=np.int64) for place in (0, 1))
    counts = _Counts(np.diff(log.offsets), per_item, (counted[0], counted[1]) if log.timed else None)
    return _describe(counts, kinds, refused, _find_new(log.users.to_series(), log.items.to_series(), former))


def profile_parts(parts: Sequence[Part], raw: Path, rules: RowRules, former: Former | None = None) -> Profile:
    """The profile of parsed sources alone: their events that pass the rules of a row, before those of users.

    parts: one at least; raw: the cache they lie in. Time: four passes over the columns.
    """
    judged = pl.concat([part.scan(raw) for part in parts]).with_columns(rules.find_reasons().alias("reason"))
    reasons = judged.filter(pl.col("reason").is_not_null()).group_by("reason").len().collect(engine="streaming")
    refused = Counter(dict(reasons.iter_rows()))
    for part in parts:
        refused.update(part.refused)
    events = judged.filter(pl.col("reason").is_null())
    users, items = (_count(events, name, pl.col(name)) for name in ("user", "item"))
    columns = parts[0].columns
    kinds = dict(_count(events, "kind", pl.col("kind")).iter_rows()) if "kind" in columns else {}
    hours = None
    if "time" in columns:
        per_hour = _count(events, "hour", pl.col("time") // _MICROSECONDS_PER_HOUR)
        hours = (per_hour["hour"].to_numpy(), per_hour["len"].to_numpy().astype(np.int64))
    per_user, per_item = (table["len"].to_numpy().astype(np.int64) for table in (users, items))
    counts = _Counts(per_user, per_item, hours)
    return _describe(counts, kinds, refused, _find_new(users["user"], items["item"], former))


def _count(events: pl.LazyFrame, name: str, of: pl.Expr) -> pl.DataFrame:
    """Events of each value, in order of the values: columns `name` and `len`."""
    return events.group_by(of.alias(name)).len().collect(engine="streaming").sort(name)


def _find_new(users: pl.Series, items: pl.Series, former: Former | None) -> tuple[float | None, float | None]:
    """Shares of the users and items that the run before did not have."""
    if former is None or not len(users):
        return None, None
    pairs = ((former.users, users), (former.items, items))
    new_users, new_items = (float(np.mean(known.find_rows(ids) < 0)) for known, ids in pairs)
    return new_users, new_items


def _describe(
    counts: _Counts, kinds: Mapping[str, int], refused: Mapping[str, int], new: tuple[float | None, float | None]
) -> Profile:
    n_events = int(counts.per_user.sum())
    return Profile(
        n_read=n_events + sum(refused.values()),
        n_events=n_events,
        n_users=len(counts.per_user),
        n_items=len(counts.per_item),
        refused=dict(sorted(refused.items())),
        kinds=dict(sorted(kinds.items())),
        new_users=new[0],
        new_items=new[1],
        popularity=_measure_popularity(counts.per_item),
        per_user=_find_quantiles(counts.per_user),
        per_item=_find_quantiles(counts.per_item),
        times=_describe_times(*counts.hours) if counts.hours is not None and n_events else None,
    )


def _measure_popularity(per_item: NDArray[np.int64]) -> dict[str, float]:
    """`gini` and the shares of the top, of which one item at least; empty without events."""
    n, total = len(per_item), int(per_item.sum())
    if not total:
        return {}
    ascending = np.sort(per_item)
    # Gini's mean difference over twice the mean, by the ranks of the sorted counts.
    ranks = 2 * np.arange(1, n + 1) - n - 1
    gini = float((ranks * ascending.astype(np.float64)).sum() / (n * total))
    tops = {name: -(-n // part) for name, part in _TOPS.items()}
    return {"gini": gini} | {name: float(ascending[n - size :].sum() / total) for name, size in tops.items()}


def _find_quantiles(counts: NDArray[np.int64]) -> dict[str, float]:
    if not len(counts):
        return {}
    values = np.quantile(counts, list(_QUANTILES.values()), method="inverted_cdf")
    return dict(zip(_QUANTILES, map(float, values), strict=True)) | {"mean": float(counts.mean())}


def _describe_times(hours: NDArray[np.int64], per_hour: NDArray[np.int64]) -> Times:
    days, of_hour = np.unique(hours // _HOURS, return_inverse=True)
    per_day = np.bincount(of_hour, per_hour).astype(np.int64)
    n_days = int(days[-1] - days[0]) + 1
    shares = np.bincount(hours % _HOURS, per_hour, _HOURS) / per_hour.sum()
    first, last = format_times(pl.Series([int(hours[0]), int(hours[-1])]) * _MICROSECONDS_PER_HOUR)
    dates = format_times(pl.Series(days) * (_HOURS * _MICROSECONDS_PER_HOUR)).str.head(10)
    return Times(
        first=first,
        last=last,
        n_days=n_days,
        n_silent_days=n_days - len(days),
        longest_gap_hours=int(np.diff(hours).max(initial=1)) - 1,
        hours=shares.tolist(),
        days=dict(zip(dates, per_day.tolist(), strict=True)),
    )
