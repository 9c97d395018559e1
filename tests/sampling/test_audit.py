"""The audit of pairs: who holds one, who is heavy."""

from __future__ import annotations

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
    found = audit_pairs(build(HISTORIES), SamplingConfig(most_items_per_user=4))
    assert (found.n_users_trained, found.n_users_paired, found.n_users_heavy) == (3, 2, 1)
    assert found.heavy_share == pytest.approx(6 / 9)
    assert [line.split(":")[0] for line in found.describe()] == ["pairs", "heavy users"]
    windowed = audit_pairs(build(HISTORIES), SamplingConfig(most_items_per_user=4, window_days=1.0))
    assert windowed.n_users_paired == 1


def test_nothing_to_tell_is_not_told() -> None:
    assert audit_pairs(build([[(0, 1), (0, 2)]]), SamplingConfig()).describe() == []
