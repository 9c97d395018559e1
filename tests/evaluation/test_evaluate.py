from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from recsys_cl.bags import Bags
from recsys_cl.config import EvaluationConfig
from recsys_cl.errors import InputError
from recsys_cl.evaluation.evaluate import Evaluation, evaluate, judge_model
from recsys_cl.evaluation.report_data import SLICES
from recsys_cl.ids import IdMap
from recsys_cl.interactions.table import Interactions

KS = EvaluationConfig(ks=(2, 10), n_resamples=200)


def build_interactions(items_of_user: list[NDArray[np.integer]], n_items: int) -> Interactions:
    rows = np.concatenate(items_of_user).astype(np.int32)
    offsets = np.concatenate(([0], np.cumsum([len(items) for items in items_of_user])))
    users = IdMap.build([f"{user:07d}" for user in range(len(items_of_user))])
    items = IdMap.build([f"{row:07d}" for row in range(n_items)])
    times = np.arange(len(rows), dtype=np.int64)
    return Interactions(users, items, offsets, rows, times, np.ones(len(rows), dtype=np.float32), timed=False)


def build_world(seed: int) -> tuple[NDArray[np.float32], NDArray[np.float32], Interactions, Interactions]:
    """True vectors of users and items, and the items each user likes best, in part held out."""
    rng = np.random.default_rng(seed)
    queries = rng.standard_normal((120, 8)).astype(np.float32)
    candidates = rng.standard_normal((80, 8)).astype(np.float32)
    best = np.argsort(-(queries @ candidates.T), axis=1)[:, :12]
    shuffled = rng.permuted(best, axis=1)
    return (
        queries,
        candidates,
        build_interactions(list(shuffled[:, :8]), 80),
        build_interactions(list(shuffled[:, 8:]), 80),
    )


def test_the_true_scores_find_everything_and_chance_does_not() -> None:
    queries, candidates, train, test = build_world(0)
    truth = evaluate(queries, candidates, train, test, KS, 0)
    assert truth.metrics["model"]["recall@10"]["value"] == 1.0
    assert truth.metrics["model"]["ndcg@10"]["value"] == 1.0
    for baseline in ("popularity", "item_knn"):
        low = truth.differences[baseline]["ndcg@10"]["low"]
        assert low is not None
        assert low > 0.0
    chance = evaluate(np.random.default_rng(9).permutation(queries), candidates, train, test, KS, 0)
    high = chance.differences["item_knn"]["recall@10"]["high"]
    assert high is not None
    assert high < 0.0


def test_every_figure_of_every_model_is_there_in_order_within_its_interval_and_survives_json() -> None:
    queries, candidates, train, test = build_world(1)
    found = evaluate(queries, candidates, train, test, KS, 0)
    names = {"recall", "ndcg", "mrr", "hit_rate", "popularity_share", "coverage", "novelty", "diversity"}
    for model in ("model", "popularity", "item_knn"):
        assert set(found.metrics[model]) == {f"{name}@{k}" for name in names for k in (2, 10)}
        for metric, figure in found.metrics[model].items():
            if not metric.startswith("coverage"):
                assert figure["low"] <= figure["value"] <= figure["high"]  # type: ignore[operator]
    for baseline, differences in found.differences.items():
        assert set(differences) == {"recall@2", "recall@10", "ndcg@2", "ndcg@10"}
        for metric, figure in differences.items():
            expected = found.metrics["model"][metric]["value"] - found.metrics[baseline][metric]["value"]  # type: ignore[operator]
            assert figure["value"] == pytest.approx(expected, abs=1e-12)
    assert [*found.slices, "new_items"] == list(SLICES)  # this log has no times
    assert found.per_user is not None
    for metric in ("recall@2", "ndcg@10", "mrr@10"):
        assert found.per_user[metric].mean() == pytest.approx(found.metrics["model"][metric]["value"])
    assert Evaluation.load(json.loads(json.dumps(found.dump(), allow_nan=False))) == found


def test_a_slice_of_everybody_has_the_figures_of_everybody_and_slices_of_items_share_out_the_targets() -> None:
    queries, candidates, train, test = build_world(6)
    noisy = queries + np.random.default_rng(0).standard_normal(queries.shape).astype(np.float32)
    found = evaluate(noisy, candidates, train, test, KS, 0)
    everybody = found.slices["history_5_19"]  # each has 8 items in training
    assert (everybody["n_users"], everybody["n_targets"]) == (found.n_users, found.n_targets)
    assert found.slices["history_1_4"]["n_users"] == 0
    for model, figures in everybody["metrics"].items():
        for metric, figure in figures.items():
            whole = found.metrics[model][metric]
            assert figure["value"] == whole["value"]
            assert figure["low"] == pytest.approx(whole["low"], abs=0.03)  # other resamples
    parts = [found.slices[name]["n_targets"] for name in ("head_items", "tail_items")]
    assert sum(parts) == found.n_targets
    assert min(parts) > 0


def test_popularity_shows_what_everybody_knows_and_always_the_same() -> None:
    queries, candidates, train, test = build_world(7)
    found = evaluate(queries, candidates, train, test, KS, 0).metrics
    for metric, sign in (("novelty@10", -1), ("coverage@10", -1), ("popularity_share@10", 1)):
        for other in ("model", "item_knn"):
            ours, theirs = found["popularity"][metric]["value"], found[other][metric]["value"]
            assert sign * (ours - theirs) > 0, (metric, other)  # type: ignore[operator]
    sets = [set(np.flatnonzero(train.item_rows == row) // 8) for row in range(80)]  # users of each item, 8 items each
    users = np.array([len(users) for users in sets])
    popular = np.argsort(-users, kind="stable")
    seen = np.split(train.item_rows, train.offsets[1:-1])
    lists = [[row for row in popular if row not in seen[user]][:2] for user in range(120)]
    cosines = [len(sets[a] & sets[b]) / (users[a] * users[b]) ** 0.5 for a, b in lists]
    assert found["popularity"]["diversity@2"]["value"] == pytest.approx(1 - np.mean(cosines), abs=1e-6)
    bits = [np.mean([-np.log2(users[row] / 120) for row in listed]) for listed in lists]
    assert found["popularity"]["novelty@2"]["value"] == pytest.approx(np.mean(bits), abs=1e-9)


def test_the_same_seed_gives_the_same_figures() -> None:
    queries, candidates, train, test = build_world(2)
    config = EvaluationConfig(ks=(5,), n_resamples=100, most_users=40)
    first, again, other = (evaluate(queries, candidates, train, test, config, seed) for seed in (1, 1, 2))
    assert (first.n_users, first.n_users_eligible) == (40, 120)
    assert (first.metrics, first.differences, first.slices) == (again.metrics, again.differences, again.slices)
    assert first.metrics != other.metrics


def test_items_without_a_training_event_are_never_shown() -> None:
    queries, candidates, train, test = build_world(3)
    unseen = np.bincount(train.item_rows, minlength=80) == 0
    extra = np.concatenate((candidates, 100 * candidates))  # the second half would win every list
    wider = [build_interactions(np.split(part.item_rows, part.offsets[1:-1]), 160) for part in (train, test)]
    found = evaluate(queries, extra, wider[0], wider[1], KS, 0)
    assert found.n_items == 80 - unseen.sum()
    assert found.metrics["model"]["recall@10"]["value"] == 1.0


def test_a_log_that_nobody_can_be_judged_on_is_refused() -> None:
    train = build_interactions([np.array([0]), np.array([1])], 3)
    test = build_interactions([np.array([0]), np.array([2])], 3)  # one repeats, one is unknown
    vectors = np.ones((2, 2), dtype=np.float32), np.ones((3, 2), dtype=np.float32)
    with pytest.raises(InputError, match="no user can be judged"):
        evaluate(*vectors, train, test, KS, 0)
    with pytest.raises(ValueError, match="for 2 users, 3 items"):
        evaluate(vectors[1], vectors[0], train, test, KS, 0)


def test_progress_ends_at_the_total() -> None:
    calls: list[tuple[float, float]] = []
    queries, candidates, train, test = build_world(4)
    evaluate(queries, candidates, train, test, KS, 0, lambda what, done, total, note: calls.append((done, total)))
    assert calls[-1][0] == calls[-1][1]
    assert [done for done, _ in calls] == sorted(done for done, _ in calls)


def test_validation_recall_is_that_of_the_whole_evaluation() -> None:
    queries, candidates, train, test = build_world(5)
    noisy = queries + np.random.default_rng(0).standard_normal(queries.shape).astype(np.float32)
    expected = evaluate(noisy, candidates, train, test, KS, 0).metrics["model"]["recall@10"]["value"]
    known = np.bincount(train.item_rows, minlength=80) > 0
    targets = test.to_bags()
    only_known = Bags(  # a target that nobody has in training would be a miss here, and is dropped there
        np.concatenate(([0], np.cumsum(known[targets.item_rows])))[targets.offsets],
        targets.item_rows[known[targets.item_rows]],
        targets.weights[known[targets.item_rows]],
    )
    found = judge_model(noisy, candidates, train.to_bags(), only_known, (10,), known)
    assert found["recall@10"].mean() == pytest.approx(expected)


def test_queries_without_a_target_are_left_out_and_an_impossible_target_is_a_miss() -> None:
    queries, candidates = np.ones((3, 2), dtype=np.float32), np.ones((4, 2), dtype=np.float32)
    seen = Bags.of_items(np.array([0, 0, 0]))
    targets = Bags(np.array([0, 2, 2, 3]), np.array([1, 3, 2], dtype=np.int32), np.ones(3, dtype=np.float32))
    assert judge_model(queries, candidates, seen, targets, (3,))["recall@3"].tolist() == [1.0, 1.0]
    known = np.array([True, True, True, False])
    assert judge_model(queries, candidates, seen, targets, (3,), known)["recall@3"].tolist() == [0.5, 1.0]
    with pytest.raises(InputError, match="no query has a target"):
        judge_model(queries[:1], candidates, seen.take(np.array([0])), targets.take(np.array([1])), (3,))


def read_lines(path: Path, n_users: int, n_items: int) -> Interactions:
    lines = (line.split() for line in path.read_text().splitlines())
    items_of_user = {int(line[0]): np.array(line[1:], dtype=np.int64) for line in lines if line}
    nothing = np.zeros(0, dtype=np.int64)
    return build_interactions([items_of_user.get(user, nothing) for user in range(n_users)], n_items)


def test_baselines_on_movielens_are_those_measured_elsewhere(real_data: Callable[[str], Path]) -> None:
    """Popularity .116 / .118 and implicit's item-kNN cosine of 100 neighbors .184 / .187: Recall@20 / NDCG@20."""
    train = read_lines(real_data("ml-1m-split/train.txt"), 6022, 3043)
    test = read_lines(real_data("ml-1m-split/test.txt"), 6022, 3043)
    nothing = np.zeros((6022, 2), dtype=np.float32), np.zeros((3043, 2), dtype=np.float32)
    found = evaluate(*nothing, train, test, EvaluationConfig(ks=(20,), n_resamples=100), 0)
    assert found.n_users == 6022
    for model, recall, ndcg in (("popularity", 0.116, 0.118), ("item_knn", 0.184, 0.187)):
        assert found.metrics[model]["recall@20"]["value"] == pytest.approx(recall, abs=5e-4)
        assert found.metrics[model]["ndcg@20"]["value"] == pytest.approx(ndcg, abs=5e-4)
