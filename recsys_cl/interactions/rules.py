"""Which events count: rules of a row, of a user, of the whole (k-core); the first that an event breaks is its reason.

A k-core keeps the largest set in which each user has `core_users` distinct items and each item `core_items` distinct
users (Seidman, Social Networks 1983, for two kinds of nodes). Memory: one bucket of users, and a few bytes an id.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from recsys_cl.config import IngestConfig
from recsys_cl.errors import ConfigError, LogError
from recsys_cl.interactions.schema import Role
from recsys_cl.interactions.table import MICROSECONDS_PER_DAY
from recsys_cl.interactions.times import parse_bound

ALIVE = np.iinfo(np.int32).max


@dataclass(frozen=True)
class RowRules:
    """The rules that look at one row; since, until in microseconds UTC."""

    kinds: tuple[str, ...]
    least_rating: float | None
    since: int | None
    until: int | None

    def find_reasons(self) -> pl.Expr:
        """The reason why a row does not count, or null, from the columns kind, weight, time."""
        reasons = [pl.lit(None, pl.String)]
        if self.kinds:
            reasons.append(pl.when(~pl.col("kind").is_in(list(self.kinds))).then(pl.lit("kind_not_counted")))
        if self.least_rating is not None:
            reasons.append(pl.when(pl.col("weight") < self.least_rating).then(pl.lit("below_least_rating")))
        if self.since is not None:
            reasons.append(pl.when(pl.col("time") < self.since).then(pl.lit("outside_date_window")))
        if self.until is not None:
            reasons.append(pl.when(pl.col("time") >= self.until).then(pl.lit("outside_date_window")))
        return pl.coalesce(reasons)


def check_row_rules(config: IngestConfig) -> RowRules:
    """The rules of a row as the configuration has them. Raises ConfigError for a time that is none, or out of order."""
    since = parse_bound(config.since, "ingest.since")
    until = parse_bound(config.until, "ingest.until")
    if since is not None and until is not None and since >= until:
        raise ConfigError(f"ingest.since {config.since} is not before ingest.until {config.until}")
    return RowRules(tuple(sorted(config.kind_weights)), config.least_rating or None, since, until)


def check_roles(rules: RowRules, columns: dict[Role, str], where: str) -> None:
    """Raise LogError where a rule needs a column that the log does not have."""
    for needed, role, option in (
        (bool(rules.kinds), "kind", "ingest.kind_weights"),
        (rules.least_rating is not None, "weight", "ingest.least_rating"),
        (rules.since is not None, "time", "ingest.since"),
        (rules.until is not None, "time", "ingest.until"),
    ):
        if needed and role not in columns:
            raise LogError(
                f"{option} is set, but {where} has no column for the {role}",
                remedy=f"name the column with --set ingest.{role}_column=NAME, or leave {option} out",
            )


def find_refused(events: pl.DataFrame, config: IngestConfig) -> pl.Series:
    """The reason why each event of a bucket does not count, or null: `bot`, `duplicate`.

    events: whole users, in order of user, time, log; columns user, item and those of kind, time that there are.
    """
    timed = "time" in events.columns
    reasons = [pl.lit(None, pl.String)]
    if timed and config.most_events_per_day:
        day = pl.col("time") // MICROSECONDS_PER_DAY
        per_day = events.group_by("user", day.alias("day")).len()
        bots = per_day.filter(pl.col("len") > config.most_events_per_day)["user"].unique()
        if len(bots):
            reasons.append(pl.when(pl.col("user").is_in(bots.implode())).then(pl.lit("bot")))
    same: list[str] = []
    if config.duplicates == "pair":
        same = ["user", "item"]
    elif config.duplicates == "event" and timed:  # without times a repeat may be the same thing done twice
        same = [name for name in ("user", "item", "kind", "time") if name in events.columns]
    if same:
        reasons.append(pl.when(_find_repeats(events, same)).then(pl.lit("duplicate")))
    return events.with_columns(pl.coalesce(reasons).alias("reason"))["reason"]


def _find_repeats(events: pl.DataFrame, same: list[str]) -> pl.Series:
    """Which events agree with an earlier one in the columns `same` [n]; sorting is faster here than hashing rows."""
    ordered = events.select(same).with_row_index("place").sort(*same, "place")
    again = pl.all_horizontal(pl.col(name) == pl.col(name).shift(1) for name in same).fill_null(False)
    repeated = np.zeros(events.height, dtype=bool)
    repeated[ordered.filter(again)["place"].to_numpy()] = True
    return pl.Series("repeated", repeated)


def find_core(
    size: tuple[int, int], load_pairs: Callable[[int], NDArray[np.int32]], n_buckets: int, least: tuple[int, int]
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """When each user and item leaves the k-core: a step that orders all departures, or ALIVE.

    size: (n_users, n_items). load_pairs(b) gives bucket b as distinct (user, item) [n, 2]; a user is in one bucket.
    least: (core_users, core_items).
    """
    died_users = np.full(size[0], ALIVE, dtype=np.int32)
    died_items = np.full(size[1], ALIVE, dtype=np.int32)
    changed, step = True, 0
    while changed:
        changed = False
        n_users_of = np.zeros(size[1], dtype=np.int64)
        for bucket in range(n_buckets):
            pairs = load_pairs(bucket)
            users, items = pairs[:, 0], pairs[:, 1]
            if not len(users):
                continue
            low = int(users.min())
            alive = (died_users[users] == ALIVE) & (died_items[items] == ALIVE)
            n_items_of = np.bincount(users[alive] - low, minlength=int(users.max()) - low + 1)
            leaving = np.unique(users[n_items_of[users - low] < least[0]])
            leaving = leaving[died_users[leaving] == ALIVE]
            died_users[leaving] = step
            changed |= bool(len(leaving))
            alive &= died_users[users] == ALIVE
            n_users_of += np.bincount(items[alive], minlength=size[1])
        gone = (n_users_of < least[1]) & (died_items == ALIVE)
        died_items[gone] = step + 1
        changed |= bool(gone.any())
        step += 2
    return died_users, died_items
