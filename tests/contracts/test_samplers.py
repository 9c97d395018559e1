"""One suite over every kind of pairs and negatives: whole, masked, bounded, and as likely as they say."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from recsys_cl.config import SamplingConfig
from recsys_cl.ids import IdMap
from recsys_cl.interactions.table import MICROSECONDS_PER_DAY, Interactions
from recsys_cl.sampling.batches import Batch, BatchDrawer
from recsys_cl.sampling.negatives import build_negative_sampler
from recsys_cl.sampling.pairs import build_pair_source

N_USERS, N_ITEMS = 30, 40
NEGATIVES = ("popularity", "uniform", "in_batch", "mixed", "hard")
WINDOWS: dict[str, dict[str, float]] = {
    "whole history": {},
    "window": {"window_days": 3.0},
    "session": {"session_gap_minutes": 1440.0 * 2},
    "window in a session": {"window_days": 3.0, "session_gap_minutes": 1440.0 * 2},
}


def build_log(seed: int = 0, n_users: int = N_USERS, most: int = 14) -> Interactions:
    """Users with up to `most` events, repeats among them, some days apart; the last item is nobody's."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, most, size=n_users)
    sizes[0] = most
    days = [np.cumsum(rng.integers(0, 3, size=size)) for size in sizes]
    return Interactions(
        IdMap.build([f"u{row:03d}" for row in range(n_users)]),
        IdMap.build([f"i{row:03d}" for row in range(N_ITEMS)]),
        np.concatenate(([0], np.cumsum(sizes))).astype(np.int64),
        np.minimum(rng.geometric(0.08, size=sizes.sum()) - 1, N_ITEMS - 2).astype(np.int32),
        np.concatenate(days).astype(np.int64) * MICROSECONDS_PER_DAY,
        rng.uniform(0.5, 2.0, size=sizes.sum()).astype(np.float32),
        True,
    )


def build_drawer(log: Interactions, batch_users: int = 8, tied: bool = False, **settings: object) -> BatchDrawer:
    config = SamplingConfig(**({"n_negatives": 12} | settings))
    source = build_pair_source(log, config, 10_000)
    sampler = build_negative_sampler(log.count_users(), source.offers, config)
    drawer = BatchDrawer(source, sampler, batch_users, seed=1, tied=tied)
    if config.negatives == "hard":
        rows = np.random.default_rng(2).permutation(N_ITEMS - 1)[:4]
        drawer.hard = source.histories.of_items(np.repeat(rows[0], log.n_users))
    return drawer


def list_queries(batch: Batch) -> list[tuple[int, list[int], list[int]]]:
    """(user, bag, positives) of each query, in item rows."""
    found = []
    offsets = batch.bags.offsets
    for bag, user in enumerate(batch.user_rows.tolist()):
        items = batch.bag_items[batch.bags.item_rows[offsets[bag] : offsets[bag + 1]]].tolist()
        bags = [items[: place + 1] for place in range(len(items))] if batch.every_place else [items]
        found += [(user, read, []) for read in bags]
    for query, (_, _, positives) in enumerate(found):
        part = slice(batch.positives.offsets[query], batch.positives.offsets[query + 1])
        positives += batch.items[batch.positives.item_rows[part]].tolist()
    assert len(found) == len(batch.positives)
    return found


@pytest.fixture(params=NEGATIVES)
def negatives(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(params=["rest", "next"])
def positives(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(params=WINDOWS)
def window(request: pytest.FixtureRequest) -> dict[str, float]:
    return WINDOWS[request.param]


@pytest.mark.parametrize("tied", [False, True])
def test_local_rows_stand_for_the_users_own_items(
    negatives: str, positives: str, window: dict[str, float], tied: bool
) -> None:
    log = build_log()
    drawer = build_drawer(log, negatives=negatives, positives=positives, tied=tied, **window)
    for step in range(2 * drawer.steps_an_epoch):
        batch = drawer.draw(step)
        for table in (batch.items, batch.bag_items):
            assert (np.diff(table) > 0).all()
        assert not tied or np.array_equal(batch.items, batch.bag_items)
        for user, bag, wanted in list_queries(batch):
            own = log.item_rows[log.offsets[user] : log.offsets[user + 1]].tolist()
            assert bag, "a pair has both sides"
            assert wanted, "a pair has both sides"
            assert not set(bag) & set(wanted), "no positive sits in its own bag"
            assert set(bag) | set(wanted) <= set(own)
            assert len(set(bag)) == len(bag), "a bag holds an item once"
            firsts = [own.index(item) for item in bag]
            assert window or firsts == sorted(firsts), "bags are in order of time"
        if batch.columns is not None:
            assert np.array_equal(batch.candidates[batch.columns], batch.positives.item_rows)


def test_what_is_left_unmasked_is_a_true_negative(negatives: str, positives: str, window: dict[str, float]) -> None:
    log = build_log()
    drawer = build_drawer(log, negatives=negatives, positives=positives, **window)
    popularity = log.count_users()
    for step in range(drawer.steps_an_epoch):
        batch = drawer.draw(step)
        queries = list_queries(batch)
        bag_of = np.arange(len(batch.bags))
        if batch.every_place:
            bag_of = np.repeat(bag_of, batch.bags.sizes)
        masked = np.zeros((len(batch.bags), len(batch.candidates)), dtype=bool)
        masked[batch.hit_bags, batch.hit_candidates] = True
        drawable = set(drawer.sampler.drawable.tolist())
        offered = batch.items[batch.candidates]
        assert (popularity[offered] > 0).all(), "an item without events is never offered"
        assert len(set(offered.tolist())) == len(offered)
        for query, (user, _, _) in enumerate(queries):
            own = set(log.item_rows[log.offsets[user] : log.offsets[user + 1]].tolist())
            assert masked[bag_of[query]].tolist() == [row in own for row in offered.tolist()]
            assert batch.n_others[bag_of[query]] == len(drawable - own)
        assert 0 <= batch.shift < len(batch.candidates)


def test_windows_hold_what_lies_in_them(window: dict[str, float], positives: str) -> None:
    log = build_log()
    drawer = build_drawer(log, positives=positives, **window)
    for step in range(3 * drawer.steps_an_epoch):
        for user, bag, wanted in list_queries(drawer.draw(step)):
            part = slice(log.offsets[user], log.offsets[user + 1])
            items, days = log.item_rows[part], log.times[part] / MICROSECONDS_PER_DAY
            sessions = np.concatenate(([0], np.cumsum(np.diff(days) >= 2)))
            touched = [np.flatnonzero(items == item) for item in bag + wanted]
            if "window_days" in window:
                assert max(days[places].min() for places in touched) - 3 <= min(days[p].max() for p in touched)
            if "session_gap_minutes" in window:
                assert set.intersection(*(set(sessions[places].tolist()) for places in touched))


def test_an_epoch_hears_every_user_with_a_pair_once(negatives: str, positives: str, window: dict[str, float]) -> None:
    log = build_log()
    drawer = build_drawer(log, negatives=negatives, positives=positives, batch_users=7, **window)
    heard = np.concatenate([drawer.draw(step).user_rows for step in range(drawer.steps_an_epoch)])
    assert len(set(heard.tolist())) == len(heard)
    if not window:
        assert sorted(heard.tolist()) == np.flatnonzero(log.to_bags().sizes >= 2).tolist()
    again = np.concatenate([drawer.draw(drawer.steps_an_epoch + s).user_rows for s in range(drawer.steps_an_epoch)])
    assert sorted(again.tolist()) == sorted(heard.tolist())
    assert again.tolist() != heard.tolist()


def test_a_step_is_a_function_of_seed_and_step(negatives: str, positives: str) -> None:
    log = build_log()
    one, other = (build_drawer(log, negatives=negatives, positives=positives) for _ in range(2))
    for step in (3, 0, 11, 3):
        first, second = one.draw(step), other.draw(step)
        for name in ("user_rows", "items", "bag_items", "candidates", "log_q", "hit_bags"):
            assert np.array_equal(getattr(first, name), getattr(second, name)), name
        assert first.shift == second.shift
    assert one.draw(4).user_rows.tolist() != one.draw(5).user_rows.tolist()


@pytest.mark.parametrize(("most", "bag_share"), [(256, 0.5), (4, 0.5), (4, 0.8), (256, 0.2)])
def test_items_are_positives_as_often_as_expected(
    positives: str, window: dict[str, float], most: int, bag_share: float
) -> None:
    """`offers` is what the logQ correction of in-batch negatives stands on."""
    if positives == "next" and bag_share != 0.5:
        pytest.skip("next has no share")
    settings = {"most_items_per_user": most, "bag_share": bag_share} | window
    drawer = build_drawer(build_log(), positives=positives, batch_users=N_USERS, **settings)
    n_epochs = 1500
    counts = np.zeros((n_epochs, N_ITEMS))
    for epoch in range(n_epochs):
        batch = drawer.draw(epoch)
        counts[epoch] = np.bincount(batch.items[batch.positives.item_rows], minlength=N_ITEMS)
    error = counts.std(axis=0) / np.sqrt(n_epochs)
    offers = drawer.source.offers
    assert (np.abs(counts.mean(axis=0) - offers) <= 4.5 * error + 0.01).all()
    assert offers.min() > -1e-9
    assert offers[N_ITEMS - 1] == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("bag_share", [0.5, 0.8])
def test_a_bound_on_heavy_users_changes_nobodys_voice(positives: str, bag_share: float) -> None:
    """Summed over many draws, each item of a bounded user weighs what it weighs without the bound."""
    log = build_log(n_users=3, most=40)
    weights = {}
    for most in (256, 6):
        drawer = build_drawer(log, positives=positives, most_items_per_user=most, bag_share=bag_share)
        total: Counter[tuple[int, int]] = Counter()
        for step in range(4000):
            batch = drawer.draw(step)
            owners = np.repeat(np.arange(len(batch.positives)), batch.positives.sizes)
            if batch.every_place:
                owners = np.repeat(np.arange(len(batch.bags)), batch.bags.sizes)[owners]
            rows, users = batch.items[batch.positives.item_rows], batch.user_rows[owners]
            for user, row, weight in zip(users.tolist(), rows.tolist(), batch.positives.weights, strict=True):
                total[user, row] += float(weight) / 4000
        weights[most] = total
    assert weights[6].keys() == weights[256].keys()
    for key, weight in weights[256].items():
        assert weights[6][key] == pytest.approx(weight, rel=0.15 if bag_share == 0.5 else 0.3), key
    for asked in range(3):
        voices = [sum(weight for (user, _), weight in found.items() if user == asked) for found in weights.values()]
        assert voices[0] == pytest.approx(voices[1], rel=0.05), asked


def test_a_batch_draws_no_more_than_the_bound(positives: str) -> None:
    drawer = build_drawer(build_log(most=40), positives=positives, most_items_per_user=5)
    for step in range(20):
        sizes = Counter[int]()
        batch = drawer.draw(step)
        for user, bag, wanted in list_queries(batch):
            sizes[user] = max(sizes[user], len(bag) + len(wanted))
        assert max(sizes.values()) <= 5


def test_recency_halves_the_weight_of_a_positive() -> None:
    log = build_log()
    plain = build_pair_source(log, SamplingConfig(window_days=5.0), 100)
    aged = build_pair_source(log, SamplingConfig(window_days=5.0, recency_half_life_days=2.0), 100)
    age_days = (log.times.max() - log.times) / MICROSECONDS_PER_DAY
    wanted = plain.positive_weights * 0.5 ** (age_days / 2)
    np.testing.assert_allclose(aged.positive_weights, wanted / wanted.mean(), rtol=1e-5)
    assert np.array_equal(aged.events.weights, plain.events.weights), "the bag stays what lookup makes of it"
    merged = build_pair_source(log, SamplingConfig(recency_half_life_days=2.0), 100)
    summed = np.bincount(
        log.expand_users() * N_ITEMS + log.item_rows, log.weights * 0.5 ** (age_days / 2), N_USERS * N_ITEMS
    )
    owners = np.repeat(np.arange(N_USERS), merged.events.sizes)
    wanted = summed[owners * N_ITEMS + merged.events.item_rows]
    np.testing.assert_allclose(merged.positive_weights, wanted / wanted.mean(), rtol=1e-5)


def test_one_user_with_two_items_is_a_pair(negatives: str, positives: str) -> None:
    log = Interactions(
        IdMap.build(["u"]),
        IdMap.build([f"i{row:03d}" for row in range(N_ITEMS)]),
        np.array([0, 2]),
        np.array([3, 5], dtype=np.int32),
        np.array([0, 1]),
        np.ones(2, dtype=np.float32),
        True,
    )
    batch = build_drawer(log, negatives=negatives, positives=positives, n_negatives=1).draw(0)
    ((user, bag, wanted),) = list_queries(batch)
    assert user == 0
    assert sorted(bag + wanted) == [3, 5]
    assert np.isfinite(batch.log_q).all()


def test_weights_of_repeats_are_added_within_a_window_as_without() -> None:
    """A view and a later purchase of one item count as both, in the bag and as a positive."""
    log = Interactions(
        IdMap.build(["u"]),
        IdMap.build(["a", "b"]),
        np.array([0, 3]),
        np.array([0, 1, 0], dtype=np.int32),
        np.array([0, 1, 2]) * 60_000_000,
        np.array([1, 2, 10], dtype=np.float32),
        True,
    )
    for window, mean in ((WINDOWS["whole history"], 13 / 2), (WINDOWS["session"], 13 / 3)):
        drawer = build_drawer(log, n_negatives=5, **window)
        for step in range(20):
            batch = drawer.draw(step)
            bag, positive = batch.bag_items[batch.bags.item_rows[0]], batch.items[batch.positives.item_rows[0]]
            assert batch.bags.weights[0] == (11, 2)[bag]
            assert batch.positives.weights[0] == pytest.approx((11, 2)[positive] / mean)


def test_kinds_and_the_vote_of_a_user_are_in_the_weights_of_the_loss(positives: str) -> None:
    """A positive weighs its event's weight over the mean; a user's n of them √n together."""
    log = build_log()
    bags = log.to_bags()
    batch = build_drawer(log, positives=positives, batch_users=N_USERS).draw(0)
    owners = np.repeat(np.arange(len(batch.positives)), batch.positives.sizes)
    if batch.every_place:
        owners = np.repeat(np.arange(len(batch.bags)), batch.bags.sizes)[owners]
    table = np.zeros((N_USERS, N_ITEMS))
    table[np.repeat(np.arange(N_USERS), bags.sizes), bags.item_rows] = bags.weights / bags.weights.mean()
    users = batch.user_rows[owners]
    # Of n items half are positives (an even share needs no correction for empty sides), or all but the first.
    n_expected = bags.sizes[users] - 1 if batch.every_place else bags.sizes[users] / 2
    voices = 1 / np.sqrt(n_expected)
    np.testing.assert_allclose(
        batch.positives.weights, table[users, batch.items[batch.positives.item_rows]] * voices, rtol=1e-5
    )
    assert batch.total_weight == pytest.approx(voices.sum(), rel=1e-5)


def test_a_catalog_no_larger_than_the_sample_is_taken_whole() -> None:
    log = build_log()
    n_touched = int(np.count_nonzero(log.count_users()))
    for negatives in NEGATIVES:
        batch = build_drawer(log, negatives=negatives, n_negatives=n_touched).draw(0)
        whole = batch.items[batch.candidates].tolist() == np.flatnonzero(log.count_users()).tolist()
        assert whole == (negatives != "in_batch")
        assert not whole or not batch.log_q.any()
