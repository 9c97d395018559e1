"""A synthetic world: users with planted tastes, items with real pictures, and the log that they would leave.

Comes in a size and a seed; goes out a `World` with its own true scores, and its events in order of time, in chunks.

- A *topic* is a digit in one style of writing: 40 topics. The style is measured on the picture (digits.py), so a
  picture tells more than its digit does.
- A user has a mixture over two topics, each as likely as not in a style of writing that the user prefers; the mixture
  moves in a straight line from a first to a last one over the period.
- A session is a user, a start, and a topic drawn from the user's mixture at that time. Each of its events takes an item
  of the topic by popularity; some stray to another style of the same digit, some take any item by popularity alone.
- Popularity is Zipf-like and falls with an item's age. Items appear and users join during the period.
- Likes and purchases are likelier for items of the session's own topic than for the others.

Memory: some 60 bytes a user, 60 bytes an item, and one slice of time (some 250,000 events) however long the log.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from recsys_cl.errors import InputError
from recsys_cl.interactions.digits import N_STYLES, Pictures, load_pictures

START_S = 1_735_689_600  # 2025-01-01, UTC
DAY_S = 86_400
KINDS = ("view", "like", "purchase")
N_TOPICS = 10 * N_STYLES

_N_TASTES = 2
_OWN_STYLE_SHARE = 0.5
_DRIFT = 0.4  # share of the last mixture that is new
_STRAY_SHARE, _NOISE_SHARE = 0.35, 0.25
_ZIPF_POWER = 0.7
_FRESH_DAYS, _FRESH_LIFT = 20.0, 1.0  # a new item draws twice what it settles at
_NEW_ITEM_SHARE, _NEW_USER_SHARE = 0.1, 0.25
_ACTIVITY_SPREAD = 0.7
_SESSION_EVENTS = 2.5
_GAP_S, _MOST_GAP_S = 45.0, 1200.0
_SLICE_EVENTS = 250_000
# Odds of view, like, purchase (cumulated) of an event on topic, strayed, and anywhere.
_KIND_ODDS = np.cumsum([[0.70, 0.20, 0.10], [0.82, 0.13, 0.05], [0.93, 0.05, 0.02]], axis=1)


@dataclass(frozen=True)
class WorldConfig:
    """Size and seed of a world. Raises InputError where a number is out of bounds."""

    n_users: int = 2_000
    n_items: int = 1_000
    n_events: int = 80_000
    seed: int = 0
    days: int = 120

    def __post_init__(self) -> None:
        most = {"n_users": 2**31 - 1, "n_items": 2**31 - 1, "n_events": 2**40, "seed": 2**31 - 1, "days": 36_500}
        for name, bound in most.items():
            value, least = getattr(self, name), 0 if name == "seed" else 1
            if not least <= value <= bound:
                raise InputError(f"{name} of a sample is {value}", f"a whole number from {least} to {bound}")

    @property
    def n_slices(self) -> int:
        """Slices of time in which the log is drawn, each with its own stream of chance: about one a day at least."""
        return max(min(self.days, self.n_events), -(-self.n_events // _SLICE_EVENTS))


@dataclass(frozen=True)
class World:
    """Everything that was planted. Row r of users and items has the r-th id in byte order; times are seconds UTC.

    items: item_pictures, item_topics, item_base (popularity before age), item_born_s [n_items]; by_topic [n_items],
    the item rows in order of topic; topic_bounds [N_TOPICS + 1] into it; strays [N_TOPICS, N_STYLES], cumulated odds of
    the style that an event of the topic strays to.
    users, in order of joining: tastes [n_users, 2] topics, first and last [n_users, 2] their weights at the two ends
    of the period; user_joined_s, and activity (cumulated) [n_users].
    clock [2, n]: share of the events that lie before a time, and that time.
    """

    config: WorldConfig
    pictures: Pictures
    item_pictures: NDArray[np.int64]
    item_topics: NDArray[np.int64]
    item_base: NDArray[np.float64]
    item_born_s: NDArray[np.float64]
    by_topic: NDArray[np.int64]
    topic_bounds: NDArray[np.int64]
    strays: NDArray[np.float64]
    tastes: NDArray[np.uint8]
    first: NDArray[np.float32]
    last: NDArray[np.float32]
    user_joined_s: NDArray[np.float64]
    activity: NDArray[np.float64]
    clock: NDArray[np.float64]

    @property
    def user_ids(self) -> pl.Series:
        """`u000000` … in row order."""
        return _number_ids("u", self.config.n_users, 6)

    @property
    def item_ids(self) -> pl.Series:
        """`i00000` … in row order."""
        return _number_ids("i", self.config.n_items, 5)

    def weigh_items(self, time_s: float) -> NDArray[np.float64]:
        """Popularity of each item at a time [n_items], up to a factor; 0 before the item is born."""
        age_days = (time_s - self.item_born_s) / DAY_S
        lift = 1 + _FRESH_LIFT * np.exp(-np.maximum(age_days, 0) / _FRESH_DAYS)
        return np.where(age_days >= 0, self.item_base * lift, 0.0)

    def mix_tastes(self, user_rows: NDArray[np.integer], time_s: NDArray[np.float64] | float) -> NDArray[np.float32]:
        """Weights of the users' topics at a time [n, 2], each line adding up to 1."""
        passed = np.clip((np.asarray(time_s) - START_S) / (self.config.days * DAY_S), 0, 1)
        share = np.broadcast_to(passed, len(user_rows))[:, None].astype(np.float32)
        mixed: NDArray[np.float32] = self.first[user_rows] * (1 - share) + self.last[user_rows] * share
        return mixed

    def score(self, user_rows: NDArray[np.integer], time_s: float) -> NDArray[np.float64]:
        """The true probability that a user's next event at this time takes an item: [n, n_items], lines add up to 1."""
        n = len(user_rows)
        topics = np.zeros((n, N_TOPICS))  # of the session
        np.add.at(topics, (np.arange(n)[:, None], self.tastes[user_rows]), self.mix_tastes(user_rows, time_s))
        odds = np.diff(self.strays, axis=1, prepend=0).reshape(10, N_STYLES, N_STYLES)
        strayed = np.einsum("nds,dst->ndt", topics.reshape(n, 10, N_STYLES), odds).reshape(n, N_TOPICS)
        weights = self.weigh_items(time_s)
        totals = np.bincount(self.item_topics, weights, N_TOPICS)
        on_topic = (1 - _NOISE_SHARE - _STRAY_SHARE) * topics + _STRAY_SHARE * strayed  # of the event [n, N_TOPICS]
        scores: NDArray[np.float64] = on_topic[:, self.item_topics] * (weights / totals[self.item_topics])
        scores += _NOISE_SHARE * weights / weights.sum()
        return scores


def build_world(config: WorldConfig) -> World:
    """Plant items, users and the rhythm of time; the same config gives the same world."""
    rng = np.random.default_rng([config.seed, 0])
    pictures, n_items, period_s = load_pictures(), config.n_items, config.days * DAY_S
    item_pictures = rng.permutation(len(pictures.digits))[np.arange(n_items) % len(pictures.digits)]
    item_topics = pictures.topics[item_pictures]
    born = START_S - rng.exponential(90, n_items) * DAY_S
    late = rng.random(n_items) < _NEW_ITEM_SHARE
    born[late] = START_S + rng.random(int(late.sum())) * period_s
    by_topic = np.argsort(item_topics, kind="stable")
    bounds = np.searchsorted(item_topics[by_topic], np.arange(N_TOPICS + 1))
    filled = np.flatnonzero(np.diff(bounds))
    oldest = by_topic[bounds[filled]]
    born[oldest] = np.minimum(born[oldest], START_S)  # a topic always has an item to offer
    has_items = (np.diff(bounds) > 0).reshape(10, 1, N_STYLES).astype(np.float64)
    odds = np.broadcast_to(has_items, (10, N_STYLES, N_STYLES)).reshape(N_TOPICS, N_STYLES).copy()
    odds[odds.sum(axis=1) == 0] = 1.0  # a digit without items: nobody's taste, so never drawn
    tastes, first, last = _plant_tastes(rng, config.n_users, filled)
    late = rng.random(config.n_users) < _NEW_USER_SHARE
    joined = START_S + np.where(late, rng.random(config.n_users), -rng.exponential(1, config.n_users)) * period_s
    joined.sort()
    joined[0] = min(joined[0], START_S)  # somebody must be there from the start
    return World(
        config=config,
        pictures=pictures,
        item_pictures=item_pictures,
        item_topics=item_topics,
        item_base=np.power(1.0 + rng.permutation(n_items), -_ZIPF_POWER, dtype=np.float64),
        item_born_s=np.ceil(born),
        by_topic=by_topic,
        topic_bounds=bounds,
        strays=np.cumsum(odds / odds.sum(axis=1, keepdims=True), axis=1),
        tastes=tastes,
        first=first,
        last=last,
        user_joined_s=np.ceil(joined),
        activity=np.cumsum(np.exp(_ACTIVITY_SPREAD * rng.standard_normal(config.n_users))),
        clock=_wind_clock(config.days),
    )


def draw_events(world: World, chunk_rows: int = 1_000_000) -> Iterator[pl.DataFrame]:
    """The log, `n_events` lines in order of time, `chunk_rows` at a time (the last chunk may be shorter).

    Columns: user_id, item_id, event (`view`, `like` or `purchase`), timestamp (whole seconds UTC). The log does not
    depend on `chunk_rows`: every slice of time has its own stream of chance.
    """
    if chunk_rows < 1:
        raise InputError(f"chunk_rows is {chunk_rows}", "at least 1")
    user_ids, item_ids, kinds = world.user_ids, world.item_ids, pl.Series("event", KINDS)
    waiting = pl.DataFrame()
    for rows in _draw_slices(world):
        frame = pl.DataFrame(
            {
                "user_id": user_ids.gather(rows["user"]),
                "item_id": item_ids.gather(rows["item"]),
                "event": kinds.gather(rows["kind"]),
                "timestamp": rows["time"],
            }
        )
        waiting = pl.concat([waiting, frame], how="vertical") if waiting.height else frame
        while waiting.height >= chunk_rows:
            yield waiting.head(chunk_rows)
            waiting = waiting.slice(chunk_rows)
    if waiting.height:
        yield waiting


def _plant_tastes(
    rng: np.random.Generator, n_users: int, filled: NDArray[np.int64]
) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.float32]]:
    """Topics [n_users, 2], among those `filled` with items, and their weights at the start and at the end."""
    shape = (n_users, _N_TASTES)
    digit_odds = np.cumsum((1.0 + rng.permutation(10)) ** -0.5)
    digits = np.searchsorted(digit_odds, rng.random(shape) * digit_odds[-1])
    own_style = rng.integers(N_STYLES, size=(n_users, 1))
    styles = np.where(rng.random(shape) < _OWN_STYLE_SHARE, own_style, rng.integers(N_STYLES, size=shape))
    topics = N_STYLES * digits + styles
    empty = ~np.isin(topics, filled)
    topics[empty] = filled[rng.integers(len(filled), size=int(empty.sum()))]
    first, new = (rng.exponential(size=shape) for _ in range(2))
    first, new = first / first.sum(axis=1, keepdims=True), new / new.sum(axis=1, keepdims=True)
    last = (1 - _DRIFT) * first + _DRIFT * new
    return topics.astype(np.uint8), first.astype(np.float32), last.astype(np.float32)


def _wind_clock(days: int) -> NDArray[np.float64]:
    """[2, 24 * days + 1]: share of all sessions before each full hour, and that hour; evenings, weekends are busy."""
    hours = np.arange(24 * days)
    busy = (1 - 0.8 * np.cos((hours % 24 - 7.5) * np.pi / 12)) * np.where(hours // 24 % 7 >= 5, 1.4, 1.0)
    grown = np.concatenate(([0.0], np.cumsum(busy * (1 + 0.3 * hours / len(hours)))))
    return np.stack([grown / grown[-1], START_S + np.arange(24 * days + 1) * 3600.0])


def _draw_slices(world: World) -> Iterator[dict[str, NDArray[np.int64]]]:
    """The events of one slice of time after the other; what a session leaves for the next slice waits for it."""
    config, waiting = world.config, None
    quotas = np.diff(config.n_events * np.arange(config.n_slices + 1) // config.n_slices)
    for place, quota in enumerate(quotas):
        end_s = np.interp((place + 1) / config.n_slices, *world.clock) if place + 1 < config.n_slices else np.inf
        events = _draw_slice(world, place, int(quota))
        if waiting is not None:
            events = {name: np.concatenate((waiting[name], events[name])) for name in events}
        order = np.argsort(events["time"], kind="stable")
        done = int(np.sum(events["time"] < np.floor(end_s)))
        waiting = {name: values[order[done:]] for name, values in events.items()}
        yield {name: values[order[:done]] for name, values in events.items()}


def _draw_slice(world: World, place: int, quota: int) -> dict[str, NDArray[np.int64]]:
    """`quota` events of the sessions that start in one slice: user and item rows, place in KINDS, time in seconds."""
    rng = np.random.default_rng([world.config.seed, 1, place])
    ends = np.cumsum(rng.geometric(1 / _SESSION_EVENTS, quota))
    n_sessions = int(np.searchsorted(ends, quota)) + 1 if quota else 0
    lengths = np.diff(np.minimum(ends[:n_sessions], quota), prepend=0)
    start_s = np.interp((place + rng.random(n_sessions)) / world.config.n_slices, *world.clock)
    slice_s = float(np.interp(place / world.config.n_slices, *world.clock))
    # Users are in order of joining, so those who are there are the first ones.
    present = world.activity[: np.searchsorted(world.user_joined_s, slice_s, side="right")]
    # Sessions are alike until they have a user, so their users may be drawn in order: a search that stays in cache.
    users = np.searchsorted(present, np.sort(rng.random(n_sessions)) * present[-1], side="right")
    users = np.minimum(users, len(present) - 1)  # the product may round up to the end
    mixed = np.cumsum(world.mix_tastes(users, start_s)[:, :-1], axis=1)
    tastes = (rng.random((n_sessions, 1)) >= mixed).sum(axis=1)
    topics = np.repeat(world.tastes[users, tastes].astype(np.int64), lengths)
    items, way = _draw_items(rng, world, topics, slice_s)
    gaps = np.minimum(_GAP_S * np.exp(0.8 * rng.standard_normal(quota)), _MOST_GAP_S)
    passed = np.cumsum(gaps)
    firsts = np.cumsum(lengths) - lengths
    time = np.repeat(start_s, lengths) + (passed - np.repeat(passed[firsts], lengths))
    kinds = (rng.random((quota, 1)) >= _KIND_ODDS[way, :-1]).sum(axis=1)
    return {"user": np.repeat(users, lengths), "item": items, "kind": kinds, "time": time.astype(np.int64)}


def _draw_items(
    rng: np.random.Generator, world: World, topics: NDArray[np.int64], time_s: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """An item row for each event of a topic [n], and the way to it [n]: 0 on topic, 1 strayed, 2 anywhere."""
    chance, point = rng.random(len(topics)), rng.random(len(topics))
    way = (chance < _NOISE_SHARE + _STRAY_SHARE).astype(np.int64) + (chance < _NOISE_SHARE)
    strayed = np.flatnonzero(way == 1)
    style = (rng.random((len(strayed), 1)) >= world.strays[topics[strayed]]).sum(axis=1)
    topics = topics.copy()
    topics[strayed] += np.minimum(style, N_STYLES - 1) - topics[strayed] % N_STYLES
    grown = np.concatenate(([0.0], np.cumsum(world.weigh_items(time_s)[world.by_topic])))
    low = np.where(way == 2, 0.0, grown[world.topic_bounds[topics]])
    high = np.where(way == 2, grown[-1], grown[world.topic_bounds[topics + 1]])
    places = np.searchsorted(grown, low + point * (high - low), side="right") - 1
    return world.by_topic[np.minimum(places, len(world.by_topic) - 1)], way


def _number_ids(letter: str, n: int, width: int) -> pl.Series:
    """Ids of one width, so that the order of numbers is the order of bytes."""
    digits = max(width, len(str(n - 1)))
    numbers = pl.int_range(n, dtype=pl.Int64, eager=True)
    return letter + numbers.cast(pl.String).str.zfill(digits)
