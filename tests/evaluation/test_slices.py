from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from recsys_cl.bags import Bags
from recsys_cl.config import EvaluationConfig
from recsys_cl.evaluation.slices import Slice, find_slices, judge_slices
from recsys_cl.evaluation.targets import Judged, choose_judged
from recsys_cl.ids import IdMap
from recsys_cl.interactions.table import Interactions

N_ITEMS, KS = 12, (2, 5)
CONFIG = EvaluationConfig(ks=KS, n_resamples=200)
BUCKETS = ("history_1_4", "history_5_19", "history_20_99", "history_100_up")


def build_interactions(
    log: list[list[int]], times: list[list[int]] | None = None, n_items: int = N_ITEMS
) -> Interactions:
    """One list of item rows a user; timed where times are given."""
    rows = np.array([row for items in log for row in items], dtype=np.int32)
    offsets = np.concatenate(([0], np.cumsum([len(items) for items in log])))
    users = IdMap.build([f"u{user:03d}" for user in range(len(log))])
    items = IdMap.build([f"i{row:03d}" for row in range(n_items)])
    moments = np.arange(len(rows), dtype=np.int64)
    if times is not None:
        moments = np.array([time for given in times for time in given], dtype=np.int64)
    weights = np.ones(len(rows), dtype=np.float32)
    return Interactions(users, items, offsets, rows, moments, weights, timed=times is not None)


def build_judged(sizes: list[int]) -> tuple[Judged, Interactions]:
    """Users with so many training items each, and one target; the last user has only what the others are to find."""
    n_items = max(sizes) + 1
    train = build_interactions([*(list(range(size)) for size in sizes), [n_items - 1]], n_items=n_items)
    test = build_interactions([*([n_items - 1] for _ in sizes), []], n_items=n_items)
    return choose_judged(train, test, 10_000, np.random.default_rng(0)), train


def list_targets(part: Slice) -> dict[int, set[int]]:
    bags = part.targets
    return {
        int(user): set(bags.item_rows[bags.offsets[place] : bags.offsets[place + 1]].tolist())
        for place, user in enumerate(part.users)
    }


def find_targets_slowly(train_log: list[list[int]], test_log: list[list[int]], wanted: set[int]) -> dict[int, set[int]]:
    """Targets of the users that can be judged, by their place among them; those without a `wanted` one left out."""
    known = {row for items in train_log for row in items}
    targets = [(set(b) & known) - set(a) for a, b in zip(train_log, test_log, strict=True) if a]
    return {place: found & wanted for place, found in enumerate(t for t in targets if t) if found & wanted}


log = st.lists(st.lists(st.integers(0, N_ITEMS - 1), max_size=8), min_size=6, max_size=6)


@settings(deadline=None, max_examples=60)
@given(train_log=log, test_log=log, seed=st.integers(0, 99))
def test_slices_are_those_of_sets(train_log: list[list[int]], test_log: list[list[int]], seed: int) -> None:
    rng = np.random.default_rng(seed)
    times = [sorted(rng.integers(0, 20, len(items)).tolist()) for items in train_log]
    train, test = build_interactions(train_log, times), build_interactions(test_log, [[0] * len(b) for b in test_log])
    known = sorted({row for items in train_log for row in items})
    if not find_targets_slowly(train_log, test_log, set(known)):
        return
    slices = find_slices(choose_judged(train, test, 100, rng), train)
    n_users = {row: sum(row in items for items in train_log) for row in known}
    popular = set(sorted(known, key=lambda row: (-n_users[row], row))[: math.ceil(len(known) / 5)])
    events = sorted(time for given in times for time in given)
    cut = events[-max(1, round(len(events) / 10))]
    first = {
        row: min(
            t for items, ts in zip(train_log, times, strict=True) for i, t in zip(items, ts, strict=True) if i == row
        )
        for row in known
    }
    wanted = {
        "head_items": popular,
        "tail_items": set(known) - popular,
        "new_items": {r for r in known if first[r] >= cut},
    }
    for name, items in wanted.items():
        found = {user: {known[row] for row in rows} for user, rows in list_targets(slices[name]).items()}
        assert found == find_targets_slowly(train_log, test_log, items), name


def test_new_items_are_known_only_where_the_log_has_times() -> None:
    train_log, test_log = [[0, 1], [2]], [[2], [0]]
    timed = build_interactions(train_log, [[1, 9], [5]])
    untimed = build_interactions(train_log)
    for train, there in ((timed, True), (untimed, False)):
        test = replace(build_interactions(test_log), timed=train.timed)
        slices = find_slices(choose_judged(train, test, 10, np.random.default_rng(0)), train)
        assert ("new_items" in slices) is there
        assert list(slices)[:8] == ["light_users", "heavy_users", *BUCKETS, "head_items", "tail_items"]


def find_users(sizes: list[int], name: str) -> list[int]:
    judged, train = build_judged(sizes)
    assert judged.seen.sizes.tolist() == sizes
    part = find_slices(judged, train)[name]
    assert all(list_targets(part).values())
    return part.users.tolist()


@pytest.mark.parametrize(
    ("sizes", "light", "heavy"),
    [
        ([3, 1, 2, 6, 5, 4], [1, 2], [3, 4]),
        ([1, 1, 1, 1, 2, 3], [0, 1, 2, 3], [4, 5]),  # a tie at the end of a third makes it larger
        ([1, 2, 3, 3, 3, 3], [0, 1], [2, 3, 4, 5]),
        ([1, 2, 2, 2, 2, 3], [0, 1, 2, 3, 4], [5]),  # where they would meet, the ties are light
        ([4, 4, 4], [0, 1, 2], []),
        ([1, 2, 3, 4], [0, 1], [2, 3]),  # a third is rounded up
        ([7], [0], []),
    ],
)
def test_light_and_heavy_users_are_thirds_with_ties_kept_together(
    sizes: list[int], light: list[int], heavy: list[int]
) -> None:
    assert find_users(sizes, "light_users") == light
    assert find_users(sizes, "heavy_users") == heavy


def test_every_user_is_in_the_one_bucket_of_their_history() -> None:
    sizes = [1, 4, 5, 19, 20, 99, 100, 230]
    assert [find_users(sizes, name) for name in BUCKETS] == [[0, 1], [2, 3], [4, 5], [6, 7]]


def draw_world(seed: int) -> tuple[Judged, Interactions, dict[str, NDArray[np.int64]]]:
    """90 users of 60 items, some popular; lists of a model that finds half of what is to be found, of chance, and of
    popularity."""
    rng = np.random.default_rng(seed)
    shares = rng.random(60) ** 3
    train_log = [np.flatnonzero(rng.random(60) < shares * rng.uniform(0.1, 1.0)).tolist() for _ in range(90)]
    test_log = [rng.choice(60, 8, replace=False).tolist() for _ in range(90)]
    times = [sorted(rng.integers(0, 1000, len(items)).tolist()) for items in train_log]
    train = build_interactions(train_log, times, 60)
    test = build_interactions(test_log, [[2000] * len(items) for items in test_log], 60)
    judged = choose_judged(train, test, 1000, rng)
    m, n = len(judged.users), len(judged.items)
    scores = rng.random((m, n))
    owners = np.repeat(np.arange(m), judged.targets.sizes)
    better = scores.copy()
    better[owners, judged.targets.item_rows] += rng.random(len(owners)) < 0.5
    popularity = np.tile(np.bincount(judged.histories.item_rows, minlength=n), (m, 1)).astype(float)
    named = {"model": better, "popularity": popularity, "item_knn": scores}
    return judged, train, {name: np.argsort(-s, axis=1, kind="stable")[:, : max(KS)] for name, s in named.items()}


def measure_slowly(listed: list[int], wanted: set[int], k: int) -> dict[str, float]:
    gains = [1 / math.log2(rank + 1) for rank, row in enumerate(listed[:k], 1) if row in wanted]
    ideal = sum(1 / math.log2(rank + 1) for rank in range(1, min(k, len(wanted)) + 1))
    return {f"recall@{k}": len(gains) / len(wanted), f"ndcg@{k}": sum(gains) / ideal}


def test_figures_are_means_over_the_users_of_the_slice_with_full_lists() -> None:
    judged, train, lists = draw_world(0)
    slices = find_slices(judged, train)
    found = judge_slices(slices, lists, CONFIG, np.random.default_rng(0))
    assert list(found) == list(slices)
    n_filled = 0
    for name, part in slices.items():
        figures: dict[str, Any] = dict(found[name])
        targets = list_targets(part)
        assert figures["n_users"] == len(targets)
        assert figures["n_targets"] == sum(map(len, targets.values()))
        if not targets:
            continue
        n_filled += 1
        means: dict[str, dict[str, float]] = {}
        for model, rows in lists.items():
            users = [
                measure_slowly(rows[user].tolist(), wanted, 2) | measure_slowly(rows[user].tolist(), wanted, 5)
                for user, wanted in targets.items()
            ]
            means[model] = {metric: float(np.mean([user[metric] for user in users])) for metric in users[0]}
            values = {metric: figure["value"] for metric, figure in figures["metrics"][model].items()}
            assert values == pytest.approx(means[model], abs=1e-12), (name, model)
        for baseline in ("popularity", "item_knn"):
            assert set(figures["differences"][baseline]) == {"recall@5", "ndcg@5"}
            for metric, figure in figures["differences"][baseline].items():
                assert figure["value"] == pytest.approx(means["model"][metric] - means[baseline][metric], abs=1e-12)
                assert figure["low"] <= figure["value"] <= figure["high"]
    assert n_filled >= 7


def test_a_slice_of_nobody_has_counts_and_no_figures() -> None:
    judged, train, lists = draw_world(1)
    found = judge_slices(find_slices(judged, train), lists, CONFIG, np.random.default_rng(0))["history_100_up"]
    assert found == {"n_users": 0, "n_targets": 0, "metrics": {}, "differences": {}}


def test_a_slice_is_resampled_over_its_own_users() -> None:
    """Ten users of a thousand are found by the model, and by nothing else: their interval does not know the others."""
    targets = Bags.of_items(np.zeros(1000, dtype=np.int32))
    rows = np.tile(np.array([[1, 2, 3, 4, 5]]), (1000, 1))
    found = rows.copy()
    found[:10, 0] = 0
    some = Slice(np.arange(10), targets.take(np.arange(10)))
    everybody = Slice(np.arange(1000), targets)
    figures = judge_slices(
        {"some": some, "everybody": everybody}, {"model": found, "popularity": rows}, CONFIG, np.random.default_rng(0)
    )
    inside = figures["some"]["differences"]["popularity"]["recall@5"]
    outside: Any = figures["everybody"]["differences"]["popularity"]["recall@5"]
    assert inside == {"value": 1.0, "low": 1.0, "high": 1.0}
    assert outside["value"] == 0.01
    assert 0.0 < outside["low"] < 0.01 < outside["high"] < 0.02


def test_users_without_a_target_belong_to_no_slice() -> None:
    bags = Bags(np.array([0, 1, 1]), np.array([3], dtype=np.int32), np.ones(1, dtype=np.float32))
    with pytest.raises(ValueError, match="2 users, 1 of them with targets"):
        Slice(np.arange(2), bags)
