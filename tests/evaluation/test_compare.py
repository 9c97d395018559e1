from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from recsys_cl.bags import Bags
from recsys_cl.errors import InputError
from recsys_cl.evaluation.compare import Comparison, build_user_table, compare_users, hash_targets


def build_table(users: list[str], **figures: Any) -> pl.DataFrame:
    """Users with the same two targets each, unless told."""
    keys = {"user_id": users, "n_targets": [2] * len(users), "targets_hash": [7] * len(users)}
    return pl.DataFrame(keys | figures, schema_overrides={"n_targets": pl.Int64, "targets_hash": pl.UInt64})


def compare(first: pl.DataFrame, second: pl.DataFrame, confidence: float = 0.95, seed: int = 0) -> Comparison:
    return compare_users(first, second, 500, confidence, np.random.default_rng(seed))


def draw_table(rng: np.random.Generator, n_users: int = 200) -> pl.DataFrame:
    users = [f"u{user:05d}" for user in range(n_users)]
    return build_table(users, **{"recall@5": rng.random(n_users), "ndcg@5": rng.random(n_users)})


def build_bags(sets: list[list[int]]) -> Bags:
    rows = np.array([row for items in sets for row in items], dtype=np.int32)
    return Bags(np.concatenate(([0], np.cumsum([len(s) for s in sets]))), rows, np.ones(len(rows), dtype=np.float32))


def test_a_model_does_not_differ_from_itself_at_all() -> None:
    table = draw_table(np.random.default_rng(0))
    found = compare(table, table.sample(fraction=1.0, shuffle=True, seed=1))
    assert (found.n_users, found.n_first, found.n_second, found.n_other_targets) == (200, 0, 0, 0)
    for figures in found.metrics.values():
        assert figures["difference"] == {"value": 0.0, "low": 0.0, "high": 0.0}
        assert figures["first"] == figures["second"]


def test_a_planted_difference_is_found_even_where_the_two_spread_far_more() -> None:
    rng = np.random.default_rng(1)
    first = draw_table(rng, 2000)
    noise = pl.Series(0.02 + 0.05 * rng.standard_normal(2000))
    found = compare(first.with_columns(pl.col("recall@5") + noise), first)
    recall: Any = found.metrics["recall@5"]
    assert recall["difference"]["value"] == pytest.approx(0.02, abs=0.005)
    assert 0.01 < recall["difference"]["low"] < recall["difference"]["high"] < 0.03
    assert recall["first"] - recall["second"] == pytest.approx(recall["difference"]["value"])
    assert found.metrics["ndcg@5"]["difference"]["high"] == 0.0


def test_the_order_of_lines_plays_no_part() -> None:
    rng = np.random.default_rng(4)
    first, second = draw_table(rng), draw_table(rng)
    shuffled = (table.sample(fraction=1.0, shuffle=True, seed=5) for table in (first, second))
    assert compare(first, second) == compare(*shuffled)


def test_the_other_way_round_the_difference_has_the_other_sign() -> None:
    rng = np.random.default_rng(2)
    first, second = draw_table(rng), draw_table(rng)
    one, other = compare(first, second), compare(second, first)
    for metric, figures in one.metrics.items():
        ours: Any = figures["difference"]
        theirs: Any = other.metrics[metric]["difference"]
        assert [ours[end] for end in ("value", "low", "high")] == pytest.approx(
            [-theirs[end] for end in ("value", "high", "low")]
        )
        assert (figures["first"], figures["second"]) == (
            other.metrics[metric]["second"],
            other.metrics[metric]["first"],
        )


def test_intervals_hold_the_true_difference_as_often_as_they_say() -> None:
    rng = np.random.default_rng(3)
    users, metrics = [f"{user:03d}" for user in range(150)], [f"recall@{k}" for k in range(1, 301)]
    ease = rng.random((150, 300))  # 300 experiments: some users are easier to serve, for both models
    first = ease + rng.exponential(0.2, (150, 300))  # better by 0.1
    second = ease + rng.exponential(0.1, (150, 300))
    tables = [build_table(users, **dict(zip(metrics, v.T, strict=True))) for v in (first, second)]
    found = compare(*tables, confidence=0.9)
    held = [f["difference"]["low"] <= 0.1 <= f["difference"]["high"] for f in found.metrics.values()]  # type: ignore[operator]
    assert np.mean(held) == pytest.approx(0.9, abs=0.05)
    assert found.confidence == 0.9


def test_only_users_whom_both_judged_on_the_same_targets_count() -> None:
    first = build_table(["a", "b", "c", "d"], **{"recall@5": [0.1, 0.2, 0.3, 1.0]})
    second = build_table(["e", "d", "c", "b", "f"], **{"recall@5": [0.9, 0.9, 0.1, 0.1, 0.9]})
    second = second.with_columns(targets_hash=pl.Series([7, 8, 7, 7, 7], dtype=pl.UInt64))
    found = compare(first, second)
    assert (found.n_users, found.n_first, found.n_second, found.n_other_targets) == (2, 1, 2, 1)
    assert found.metrics["recall@5"]["first"] == pytest.approx(0.25)
    assert found.metrics["recall@5"]["second"] == pytest.approx(0.1)
    assert found.metrics["recall@5"]["difference"]["value"] == pytest.approx(0.15)
    other_size = second.with_columns(n_targets=pl.Series([2, 2, 3, 2, 2]))
    assert compare(first, other_size).n_users == 1


def test_metrics_that_only_one_has_are_left_out() -> None:
    first = build_table(["a"], **{"recall@5": [0.5], "recall@10": [0.5], "mrr@5": [0.5]})
    second = build_table(["a"], **{"mrr@5": [0.5], "recall@20": [0.5], "recall@5": [0.5]})
    assert list(compare(first, second).metrics) == ["recall@5", "mrr@5"]
    with pytest.raises(InputError, match="no metric in common"):
        compare(first.select(pl.exclude("recall@5", "mrr@5")), second)


def test_models_without_common_users_are_refused_with_what_they_have() -> None:
    first, second = (build_table(users, **{"recall@5": [0.5] * len(users)}) for users in (["a", "b"], ["b", "c", "d"]))
    with pytest.raises(InputError, match="of 2 and 1, none was judged by both"):
        compare(first, second.filter(user_id="c"))
    with pytest.raises(InputError, match="of 2 and 3, 1 were judged by both, on other items"):
        compare(first, second.with_columns(targets_hash=pl.lit(9, dtype=pl.UInt64)))
    with pytest.raises(InputError, match="expected user_id, n_targets, targets_hash too"):
        compare(first, second.drop("targets_hash"))


@settings(deadline=None, max_examples=80)
@given(
    sets=st.lists(st.sets(st.integers(0, 9), min_size=1), min_size=1, max_size=8),
    order=st.permutations(range(10)),
    data=st.data(),
)
def test_the_hash_tells_sets_of_item_ids_apart_and_nothing_else(
    sets: list[set[int]], order: list[int], data: st.DataObject
) -> None:
    """Two logs: the rows of the second are others, and its bags in another order."""
    ids = [f"item {row}" for row in range(10)]
    ours = hash_targets(build_bags([sorted(items) for items in sets]), pl.Series(ids))
    shuffled = [data.draw(st.permutations([order.index(row) for row in sorted(items)])) for items in sets]
    theirs = hash_targets(build_bags(shuffled), pl.Series([ids[row] for row in order]))
    np.testing.assert_array_equal(ours, theirs)
    assert len(set(ours.tolist())) == len({frozenset(items) for items in sets})


def test_the_hash_is_the_same_in_every_process() -> None:
    code = (
        "import numpy as np, polars as pl; from recsys_cl.bags import Bags\n"
        "from recsys_cl.evaluation.compare import hash_targets\n"
        "bags = Bags.of_items(np.array([0, 1]))\n"
        "print(hash_targets(bags, pl.Series(['a', 'ü'])).tolist())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert json.loads(done.stdout) == hash_targets(Bags.of_items(np.array([0, 1])), pl.Series(["a", "ü"])).tolist()
    # as `printf a | b2sum -l 64` has it, the lowest byte first
    assert json.loads(done.stdout)[0] == int.from_bytes(bytes.fromhex("40f89e395b66422f"), "little")


def test_a_table_holds_a_line_a_user_with_the_metrics_that_are_compared() -> None:
    values: NDArray[np.float64] = np.array([0.25, 0.75])
    names = ("recall@5", "ndcg@5", "mrr@5", "hit_rate@5", "diversity@5", "recall@20")
    targets = build_bags([[0, 2], [1]])
    table = build_user_table(pl.Series(["u1", "u2"]), pl.Series(["a", "b", "c"]), targets, dict.fromkeys(names, values))
    assert table.columns == ["user_id", "n_targets", "targets_hash", "recall@5", "recall@20", "ndcg@5", "mrr@5"]
    assert table.schema["targets_hash"] == pl.UInt64
    assert table["n_targets"].to_list() == [2, 1]
    assert table["recall@20"].to_list() == [0.25, 0.75]
    found = compare(table, table).dump()
    assert json.loads(json.dumps(found, allow_nan=False)) == found
