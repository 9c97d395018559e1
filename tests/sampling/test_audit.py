"""The audit of pairs: who holds one, who is heavy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from recsys_cl.config import SamplingConfig
from recsys_cl.ids import IdMap
from recsys_cl.interactions.table import MICROSECONDS_PER_DAY, Interactions
from recsys_cl.sampling.audit import audit_pairs


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


HISTORIES = [[(0, 1), (0, 1)], [(0, 1), (9, 2)], [], [(0, item) for item in range(6)]]


def test_pairs_and_heavy_users_are_counted() -> None:
    found = audit_pairs(build(HISTORIES), SamplingConfig(most_items_per_user=4), 51)
    assert (found.n_users_trained, found.n_users_paired, found.n_users_heavy) == (3, 2, 1)
    assert found.heavy_share == pytest.approx(6 / 9)
    assert [line.split(":")[0] for line in found.describe()] == ["pairs", "heavy users"]
    windowed = audit_pairs(build(HISTORIES), SamplingConfig(most_items_per_user=4, window_days=1.0), 51)
    assert windowed.n_users_paired == 1


def test_nothing_to_tell_is_not_told() -> None:
    assert audit_pairs(build([[(0, 1), (0, 2)]]), SamplingConfig(), 51).describe() == []


def test_a_draw_in_order_is_bounded_by_the_length_of_a_history() -> None:
    found = audit_pairs(build(HISTORIES), SamplingConfig(positives="next"), 5)
    assert (found.n_users_heavy, found.most_items) == (1, 5)


def test_settings_that_this_log_leaves_no_part_to_are_named() -> None:
    untimed = replace(build(HISTORIES), timed=False)
    settings = {"window_days": 2.0, "session_gap_minutes": 5.0, "recency_half_life_days": 3.0, "negatives": "hard"}
    lines = audit_pairs(untimed, SamplingConfig(**settings), 51).describe()
    assert [line.split()[1].strip(",") for line in lines if line.startswith("ignored")] == [
        *("sampling.window_days", "sampling.session_gap_minutes", "sampling.recency_half_life_days"),
        "sampling.negatives",
    ]
    few = SamplingConfig(negatives="hard", n_negatives=4)
    assert audit_pairs(build(HISTORIES), few, 51).ignored == []
