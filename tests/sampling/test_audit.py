"""The audit of pairs: who holds one, who is heavy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from recsys_cl.config import Config, LossConfig, ModelConfig, SamplingConfig
from recsys_cl.ids import IdMap
from recsys_cl.interactions.table import MICROSECONDS_PER_DAY, Interactions
from recsys_cl.sampling.audit import PairAudit, audit_pairs


def build(histories: list[list[tuple[int, int]]]) -> Interactions:
    flat = [event for history in histories for event in history]
    return Interactions(
        IdMap.build([f"u{row}" for row in range(len(histories))]),
        IdMap.build([f"i{row}" for row in range(10)]),
        np.cumsum([0, *map(len, histories)]),
        np.array([item for _, item in flat], dtype=np.int32),
        np.array([day * MICROSECONDS_PER_DAY for day, _ in flat]),
        np.ones(len(flat), dtype=np.float32),
        True,
    )


def audit(histories: list[list[tuple[int, int]]], **settings: object) -> PairAudit:
    return audit_pairs(build(histories), Config(sampling=SamplingConfig(**settings)))


HISTORIES = [[(0, 1), (0, 1)], [(0, 1), (9, 2)], [], [(0, item) for item in range(6)]]


def test_pairs_and_heavy_users_are_counted() -> None:
    found = audit(HISTORIES, most_items_per_user=4)
    assert (found.n_users_trained, found.n_users_paired, found.n_users_heavy) == (3, 2, 1)
    assert found.heavy_share == pytest.approx(6 / 9)
    assert [line.split(":")[0] for line in found.describe()] == ["pairs", "heavy users"]
    windowed = audit(HISTORIES, most_items_per_user=4, window_days=1.0)
    assert (windowed.n_users_paired, windowed.n_users_heavy) == (1, 1)
    spread = [[(5 * item, item) for item in range(6)]]
    assert audit(spread, most_items_per_user=4, window_days=12.0).n_users_heavy == 0, "never more than three at once"


def test_nothing_to_tell_is_not_told() -> None:
    assert audit([[(0, 1), (0, 2)]]).describe() == []


def test_a_draw_in_order_is_bounded_by_the_length_of_a_history() -> None:
    config = Config(sampling=SamplingConfig(positives="next"), model=ModelConfig(history_length=4))
    found = audit_pairs(build(HISTORIES), config)
    assert (found.n_users_heavy, found.most_items) == (1, 5)


def test_settings_that_this_log_leaves_no_part_to_are_named() -> None:
    untimed = replace(build(HISTORIES), timed=False)
    settings = {"window_days": 2.0, "session_gap_minutes": 5.0, "recency_half_life_days": 3.0, "negatives": "hard"}
    lines = audit_pairs(untimed, Config(sampling=SamplingConfig(**settings))).describe()
    assert [line.split()[1].strip(",") for line in lines if line.startswith("ignored")] == [
        *("sampling.window_days", "sampling.session_gap_minutes", "sampling.recency_half_life_days"),
        "sampling.negatives",
    ]
    assert audit(HISTORIES, negatives="hard", n_negatives=4).ignored == []
    for settings in ({"negatives": "in_batch"}, {"negatives": "uniform", "n_negatives": 4}, {}):
        (line,) = audit(HISTORIES, popularity_power=0.5, **settings).ignored
        assert line.startswith("sampling.popularity_power")
    assert audit(HISTORIES, popularity_power=0.5, n_negatives=4).ignored == []
    config = Config(sampling=SamplingConfig(positives="next"), loss=LossConfig(kind="bilateral_softmax"))
    (line,) = audit_pairs(build(HISTORIES), config).ignored
    assert line.startswith("loss.positive_temperature")
