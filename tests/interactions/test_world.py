"""What is planted in the synthetic world can be found in its log, and the log is the same however it is drawn."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import polars as pl
import pytest
import scipy.sparse as sp
from numpy.typing import NDArray
from polars.testing import assert_frame_equal

from recsys_cl.errors import InputError
from recsys_cl.interactions.world import DAY_S, N_TOPICS, START_S, World, WorldConfig, build_world, draw_events


@pytest.fixture(scope="module")
def world() -> World:
    return build_world(WorldConfig())


@pytest.fixture(scope="module")
def log(world: World) -> pl.DataFrame:
    """The default log, ids as rows: user, item, event, timestamp."""
    frame = pl.concat(draw_events(world))
    rows = [pl.col(f"{name}_id").str.slice(1).cast(pl.Int64).alias(name) for name in ("user", "item")]
    return frame.with_columns(rows)


def _count(frame: pl.DataFrame, world: World) -> NDArray[np.float32]:
    """1 where a user touched an item, else 0: [n_users, n_items]."""
    touched = np.zeros((world.config.n_users, world.config.n_items), dtype=np.float32)
    touched[frame["user"].to_numpy(), frame["item"].to_numpy()] = 1
    return touched


def _recall(scores: NDArray[np.float64], seen: NDArray[np.float32], held: NDArray[np.float32], k: int = 20) -> float:
    top = np.argsort(-np.where(seen > 0, -np.inf, scores), axis=1)[:, :k]
    return float((np.take_along_axis(held, top, axis=1).sum(axis=1) / held.sum(axis=1)).mean())


def test_the_log_has_the_size_the_order_and_the_ids_that_were_asked_for(world: World, log: pl.DataFrame) -> None:
    assert log.height == world.config.n_events
    assert log["timestamp"].is_sorted()
    assert log["timestamp"][0] >= START_S
    assert log["timestamp"][-1] < START_S + (world.config.days + 1) * DAY_S
    assert set(log["event"].unique()) == {"view", "like", "purchase"}
    assert log["user_id"].is_in(world.user_ids.implode()).all()
    assert log["item_id"].is_in(world.item_ids.implode()).all()
    assert world.user_ids.is_sorted()
    assert world.item_ids.is_sorted()


def test_nothing_happens_before_a_user_has_joined_or_an_item_is_born(world: World, log: pl.DataFrame) -> None:
    times = log["timestamp"].to_numpy()
    assert np.all(times >= world.item_born_s[log["item"].to_numpy()])
    assert np.all(times >= world.user_joined_s[log["user"].to_numpy()])
    assert np.sum(world.item_born_s > START_S) > 50
    assert np.sum(world.user_joined_s > START_S) > 300


@pytest.mark.parametrize("chunk_rows", [1, 777, 10_000_000])
def test_the_size_of_a_chunk_does_not_change_the_log(chunk_rows: int) -> None:
    world = build_world(WorldConfig(n_users=50, n_items=30, n_events=2_000, seed=3, days=10))
    chunks = list(draw_events(world, chunk_rows))
    assert all(chunk.height == chunk_rows for chunk in chunks[:-1])
    assert_frame_equal(pl.concat(chunks), pl.concat(draw_events(world, 500)))


def test_the_seed_alone_decides() -> None:
    config = WorldConfig(n_users=50, n_items=30, n_events=2_000, seed=3, days=10)
    first, again, other = (
        pl.concat(draw_events(build_world(c)))
        for c in (config, config, WorldConfig(n_users=50, n_items=30, n_events=2_000, seed=4, days=10))
    )
    assert_frame_equal(first, again)
    assert not first.equals(other)


@pytest.mark.parametrize(
    "config",
    [
        WorldConfig(n_users=1, n_items=1, n_events=1, days=1),
        WorldConfig(n_users=1, n_items=3, n_events=500, days=1),
        WorldConfig(n_users=9, n_items=1, n_events=500, days=400),
        WorldConfig(n_users=5, n_items=3_000, n_events=300, seed=9, days=3),
    ],
)
def test_the_smallest_worlds_work(config: WorldConfig) -> None:
    world = build_world(config)
    assert pl.concat(draw_events(world)).height == config.n_events
    np.testing.assert_allclose(world.score(np.arange(config.n_users), START_S + 0.5 * DAY_S).sum(axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "value"), [("n_users", 0), ("n_items", -1), ("n_events", 0), ("days", 0), ("seed", -1)]
)
def test_a_size_out_of_bounds_is_named(name: str, value: int) -> None:
    with pytest.raises(InputError, match=f"{name} of a sample is {value}"):
        WorldConfig(**{name: value})


def test_true_scores_are_the_shares_with_which_events_are_drawn() -> None:
    world = build_world(WorldConfig(n_users=3, n_items=60, n_events=400_000, seed=1, days=40))
    log = pl.concat(draw_events(world)).with_columns(day=(pl.col("timestamp") - START_S) // DAY_S)
    n_judged = 0
    for row, user in enumerate(world.user_ids):
        own = log.filter(pl.col("user_id") == user)
        if own.height < 50_000:
            continue
        drawn = np.bincount(own["item_id"].str.slice(1).cast(pl.Int64), minlength=60) / own.height
        days = own.group_by("day").len().sort("day")
        true = [world.score(np.array([row]), START_S + day * DAY_S)[0] for day in days["day"]]
        assert np.abs(drawn - np.average(true, axis=0, weights=days["len"])).sum() < 0.05
        n_judged += 1
    assert n_judged >= 2


def test_popularity_is_skewed(log: pl.DataFrame, world: World) -> None:
    touched = np.sort(np.bincount(log["item"], minlength=world.config.n_items))[::-1]
    assert touched[: len(touched) // 10].sum() > 0.28 * touched.sum()
    assert touched[: len(touched) // 2].sum() > 0.7 * touched.sum()
    active = np.sort(np.bincount(log["user"], minlength=world.config.n_users))[::-1]
    assert active[: len(active) // 10].sum() > 0.25 * active.sum()


def test_events_come_in_sessions(log: pl.DataFrame) -> None:
    gaps = log.sort("user", "timestamp", maintain_order=True).select(pl.col("timestamp").diff().over("user"))
    gap_s = gaps.drop_nulls().to_series().to_numpy()
    within, between = np.mean(gap_s < 1_300), np.mean(gap_s > 4 * 3600)
    assert within > 0.45  # inside a session
    assert between > 0.3  # from one session to the next
    assert within + between > 0.95  # and hardly anything in the middle


def test_tastes_and_popularity_drift(world: World, log: pl.DataFrame) -> None:
    users = np.arange(world.config.n_users)
    early, late = (world.score(users, START_S + share * world.config.days * DAY_S) for share in (0.1, 0.9))
    assert np.median(np.abs(early - late).sum(axis=1)) > 0.1
    topics = pl.Series(world.item_topics)
    time = pl.col("timestamp") - START_S
    days = world.config.days * DAY_S
    shares = [np.zeros((world.config.n_users, N_TOPICS)) for _ in range(4)]
    for place, share in enumerate(shares):
        part = log.filter(time.is_between(place * days // 4, (place + 1) * days // 4, closed="left"))
        np.add.at(share, (part["user"].to_numpy(), topics.gather(part["item"]).to_numpy()), 1)
    kept = np.all([share.sum(axis=1) >= 5 for share in shares], axis=0)
    first, second, _, last = (share[kept] / share[kept].sum(axis=1, keepdims=True) for share in shares)
    near, far = np.abs(first - second).sum(axis=1), np.abs(first - last).sum(axis=1)
    assert far.mean() - near.mean() > 2 * np.std(far - near) / np.sqrt(len(near))


def test_later_events_can_be_foretold_best_by_the_true_scores_then_by_neighbors_then_by_popularity(
    world: World, log: pl.DataFrame
) -> None:
    cut = log["timestamp"][int(0.8 * log.height)]
    before, after = log.filter(pl.col("timestamp") < cut), log.filter(pl.col("timestamp") >= cut)
    seen = _count(before, world)
    held = _count(after, world) * (1 - seen)
    judged = np.flatnonzero((seen.sum(axis=1) > 0) & (held.sum(axis=1) > 0))
    assert len(judged) >= 1_000
    users = seen[judged]
    popularity = seen.sum(axis=0)
    together = np.asarray((sp.csr_matrix(seen).T @ sp.csr_matrix(seen)).todense(), dtype=np.float64)
    cosine = together / np.maximum(np.sqrt(np.outer(popularity, popularity)), 1e-9)
    np.fill_diagonal(cosine, 0)
    cosine[cosine < np.partition(cosine, -100, axis=1)[:, -100:-99]] = 0
    scores = {
        "popularity": np.tile(popularity.astype(np.float64), (len(judged), 1)),
        "neighbors": users @ cosine.T,
        "truth": world.score(judged, float(cut) + 0.1 * world.config.days * DAY_S),
    }
    recall = {name: _recall(values, users, held[judged]) for name, values in scores.items()}
    assert recall["neighbors"] > 1.5 * recall["popularity"]
    assert recall["truth"] > 1.25 * recall["neighbors"]


def test_purchases_tell_more_of_a_taste_than_views(world: World, log: pl.DataFrame) -> None:
    topics = world.item_topics[log["item"].to_numpy()]
    own = np.any(world.tastes[log["user"].to_numpy()] == topics[:, None], axis=1)
    shares = log.with_columns(own=own).group_by("event").agg(pl.col("own").mean())
    share = dict(shares.iter_rows())
    assert share["purchase"] > share["like"] > share["view"] + 0.03


def test_memory_does_not_grow_with_the_number_of_events() -> None:
    script = (
        "import resource, sys\n"
        "from recsys_cl.interactions.world import WorldConfig, build_world, draw_events\n"
        "world = build_world(WorldConfig(n_users=5_000, n_items=2_000, n_events=int(sys.argv[1])))\n"
        "n = sum(frame.height for frame in draw_events(world, 100_000))\n"
        "print(n, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)\n"
    )
    peaks = []
    for n_events in (300_000, 2_000_000):
        done = subprocess.run(
            [sys.executable, "-c", script, str(n_events)], capture_output=True, text=True, check=True, timeout=120
        )
        n, peak_mib = map(int, done.stdout.split())
        assert n == n_events
        peaks.append(peak_mib)
    # All of the longer log would take 100 MiB more.
    assert peaks[1] - peaks[0] < 60
