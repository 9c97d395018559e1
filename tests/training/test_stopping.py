"""Early stopping: the latest model that chance cannot tell from the best is kept, and what is kept is put back."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from recsys_cl.config import ModelConfig
from recsys_cl.model.towers import TwoTowers
from recsys_cl.training.stopping import EarlyStop

USERS = 50


def build() -> TwoTowers:
    return TwoTowers(2, np.array([1, 2]), ModelConfig(dim=4, history="attention"), torch.Generator().manual_seed(0))


def mark(model: TwoTowers, number: float) -> None:
    """Every learned value of the model is this number."""
    for value in model.get_learned().values():
        value.fill_(number)


@given(st.lists(st.sampled_from([0.1, 0.2, 0.3, 0.4]), min_size=1, max_size=12), st.integers(1, 3))
def test_it_keeps_the_latest_of_the_best_and_ends_after_patience(levels: list[float], patience: int) -> None:
    """With values that are alike for all users chance is nothing: any fall counts."""
    model = build()
    stop = EarlyStop(model, patience)
    best, kept, waited = -1.0, 0, 0
    for step, level in enumerate(levels, start=1):
        mark(model, step)
        stop.note(np.full(USERS, level), step)
        waited = 0 if level >= best else waited + 1
        best, kept = max(best, level), step if level >= best else kept
        assert stop.ended == (waited >= patience)
        if stop.ended:
            break
    assert stop.restore() == kept
    assert all((value == kept).all() for value in model.get_learned().values())


def test_a_fall_within_chance_is_no_fall() -> None:
    stop = EarlyStop(build(), 1)
    best, noise = np.linspace(0, 1, USERS), np.where(np.arange(USERS) % 2, 0.3, -0.3)
    stop.note(best, 1)
    stop.note(best - 0.03 + noise, 2)  # a standard error is 0.3 / 50 ** 0.5 = 0.042
    assert not stop.ended
    stop.note(best - 0.06 + noise, 3)
    assert stop.ended


def test_it_goes_on_from_its_state() -> None:
    model = build()
    stop, other = EarlyStop(model, 2), EarlyStop(model, 2)
    mark(model, 7)
    stop.note(np.full(USERS, 0.5), 3)
    stop.note(np.full(USERS, 0.4), 4)
    other.set_state({name: value.clone() for name, value in stop.get_tensors().items()}, stop.get_figures())
    mark(model, 8)
    other.note(np.full(USERS, 0.4), 5)
    assert other.ended
    assert other.restore() == 3
    assert (model.bag_table.table == 7).all()
    assert other.describe() == ", best recall 0.5000"
