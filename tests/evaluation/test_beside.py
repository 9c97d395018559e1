"""Two fits side by side: as counting user by user with sets says, whatever rows and items each has."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from recsys_cl.bags import Bags
from recsys_cl.config import SplitConfig
from recsys_cl.evaluation.beside import EVERYONE, Comparison, EarlierFit, judge_beside
from recsys_cl.evaluation.targets import find_targets
from recsys_cl.ids import IdMap
from recsys_cl.interactions.split import Split, split_interactions
from recsys_cl.interactions.table import Interactions

K, HOUR = 5, 3_600_000_000


def draw_log(seed: int, n_users: int, items: range, n_each: int = 12) -> Interactions:
    """Users who like items near to their own number, at random times."""
    rng = np.random.default_rng(seed)
    span = len(items)
    rows = [(u * span // n_users + rng.integers(0, 9, n_each)) % span for u in range(n_users)]
    times = np.sort(rng.integers(0, 1000, (n_users, n_each)), axis=1) * HOUR
    offsets = np.arange(n_users + 1, dtype=np.int64) * n_each
    return Interactions(
        IdMap.build([f"u{u:03}" for u in range(n_users)]),
        IdMap.build([f"i{i:03}" for i in items]),
        offsets,
        np.concatenate(rows).astype(np.int32),
        times.ravel(),
        np.ones(n_users * n_each, dtype=np.float32),
        timed=True,
    )


def fit(split: Split, seed: int, noise: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    """Places on a circle, more or less exact."""
    rng = np.random.default_rng(seed)

    def place(n: int) -> np.ndarray:
        angles = 2 * np.pi * np.arange(n) / n + rng.normal(size=n) * noise
        return np.column_stack((np.cos(angles), np.sin(angles))).astype(np.float32)

    return place(split.train.n_users), place(split.train.n_items)


def make_earlier(split: Split, vectors: tuple[np.ndarray, np.ndarray]) -> EarlierFit:
    train = split.train
    return EarlierFit(train.users, train.items, *vectors, train.to_bags(), split.cut)


def list_bags(bags: Bags, ids: IdMap) -> list[set[str]]:
    pieces = np.split(bags.item_rows, bags.offsets[1:-1])
    return [set(ids.get_ids(rows).to_list()) for rows in pieces]


def count_by_hand(split: Split, ours: tuple[np.ndarray, np.ndarray], earlier: EarlierFit) -> dict[str, list[float]]:
    """recall@K of both, user by user, with sets of ids."""
    train = split.train
    late = split.test.select(split.test.times >= (earlier.cut or 0))
    targets = list_bags(find_targets(train, late), train.items)
    trained, theirs = list_bags(train.to_bags(), train.items), list_bags(earlier.seen, earlier.items)
    known = {"ours": set().union(*trained), "theirs": set().union(*theirs)}
    fits = {"ours": (train, *ours), "theirs": (earlier, earlier.queries, earlier.candidates)}
    found: dict[str, list[float]] = {"ours": [], "theirs": []}
    for user_id in train.users.to_series():
        own = train.users.find_row(user_id)
        other = earlier.users.find_row(user_id)
        if other is None or not theirs[other] or not trained[own]:
            continue
        wanted = targets[own] - theirs[other]
        if not wanted:
            continue
        for name, (catalog, queries, candidates) in fits.items():
            scores = candidates @ queries[own if name == "ours" else other]
            ids = catalog.items.to_series().to_list()
            best = sorted((-float(s), row) for row, s in enumerate(scores))
            shown = [ids[row] for _, row in best if ids[row] in known[name] - trained[own] - theirs[other]][:K]
            found[name].append(len(wanted & set(shown)) / len(wanted))
    return found


def compare(split: Split, ours: tuple[np.ndarray, np.ndarray], earlier: EarlierFit) -> Comparison | None:
    return judge_beside(ours, split, earlier, (K, 0.95, 10_000), 0)


@pytest.mark.parametrize("by", ["time", "random"])
def test_recall_of_both_is_that_of_counting_by_hand(by: str) -> None:
    """Random splits of two seeds: much of one's test part is training for the other."""
    before = split_interactions(draw_log(1, 60, range(50)), SplitConfig(by=by), seed=1)  # type: ignore[arg-type]
    after = split_interactions(draw_log(1, 70, range(10, 60)), SplitConfig(by=by), seed=2)  # type: ignore[arg-type]
    earlier, ours = make_earlier(before, fit(before, 3)), fit(after, 4)
    found = compare(after, ours, earlier)
    assert found is not None
    by_hand = count_by_hand(after, ours, earlier)
    recall = next(change for change in found.changes if (change.part, change.metric) == (EVERYONE, f"recall@{K}"))
    assert (recall.n_users, found.n_users) == (len(by_hand["ours"]), len(by_hand["ours"]))
    assert recall.candidate == pytest.approx(np.mean(by_hand["ours"]))
    assert recall.earlier == pytest.approx(np.mean(by_hand["theirs"]))
    assert recall.low <= recall.candidate - recall.earlier <= recall.high


def test_a_fit_beside_itself_changes_nothing() -> None:
    split = split_interactions(draw_log(1, 60, range(50)), SplitConfig(), seed=1)
    ours = fit(split, 1)
    found = compare(split, ours, make_earlier(split, ours))
    assert found is not None
    assert all(change.low == change.high == 0 and change.earlier == change.candidate for change in found.changes)
    assert found.coverage[0] == found.coverage[1]
    assert found.popularity_share[0] == found.popularity_share[1]
    assert {change.part for change in found.changes} >= {EVERYONE, "tail_items", "light_users"}


def test_a_better_fit_gains_and_a_random_one_loses_beyond_chance() -> None:
    split = split_interactions(draw_log(1, 200, range(50)), SplitConfig(), seed=1)
    good, noise = fit(split, 1, noise=0.1), fit(split, 2, noise=9.0)
    lost, gained = compare(split, noise, make_earlier(split, good)), compare(split, good, make_earlier(split, noise))
    assert lost is not None
    assert gained is not None
    assert lost.changes[0].high < 0 < gained.changes[0].low


def test_events_before_the_cut_of_the_earlier_fit_do_not_count() -> None:
    log = draw_log(1, 60, range(50))
    late, early = (split_interactions(log, SplitConfig(test_share=share), seed=1) for share in (0.2, 0.6))
    found = compare(early, fit(early, 1), make_earlier(late, fit(late, 1)))
    fewer = compare(late, fit(late, 1), make_earlier(late, fit(late, 1)))
    assert found is not None
    assert fewer is not None
    assert late.cut is not None
    assert found.n_users <= fewer.n_users  # of the 60 % that is held out here, only what came after the later cut


def test_where_nobody_is_shared_nothing_is_compared() -> None:
    split = split_interactions(draw_log(1, 60, range(50)), SplitConfig(), seed=1)
    ours, earlier = fit(split, 1), make_earlier(split, fit(split, 2))
    strangers = IdMap.build([f"x{n:03}" for n in range(60)])
    assert compare(split, ours, replace(earlier, users=strangers)) is None
    assert compare(split, ours, replace(earlier, cut=10**15)) is None
