"""Averaging: the mean of what was, by weights a line of arithmetic gives; the model itself is lent, never lost."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recsys_cl.config import ModelConfig
from recsys_cl.model.towers import TwoTowers
from recsys_cl.training.averaging import EVERY, Average


def build() -> TwoTowers:
    config = ModelConfig(dim=4, query_hidden=3, learn_temperature=True)
    return TwoTowers(2, np.array([1, 2]), config, torch.Generator().manual_seed(0))


def mark(model: TwoTowers, number: float) -> None:
    """Every learned value of the model is this number."""
    for value in model.get_learned().values():
        value.fill_(number)


def read(model: TwoTowers) -> float:
    """The one number that stands everywhere in it."""
    values = torch.cat([value.flatten() for value in model.get_learned().values()])
    assert (values == values[0]).all()
    return float(values[0])


@given(st.lists(st.integers(-50, 50), min_size=1, max_size=30), st.integers(1, 4))
def test_the_nth_look_counts_with_n_to_the_power(values: list[int], power: int) -> None:
    """To an integral power p exactly n (n + 1) … (n + p - 1), the rising power."""
    model = build()
    average = Average(model, float(power))
    for n, value in enumerate(values, start=1):
        mark(model, 999)
        average.note(n * EVERY - 1)
        mark(model, value)
        average.note(n * EVERY)
    ns = np.arange(1, len(values) + 1)
    weights = np.prod([ns + add for add in range(power)], axis=0)
    expected = pytest.approx(float(np.average(values, weights=weights)), abs=1e-3)
    with average.applied():
        assert read(model) == expected
    assert read(model) == values[-1]
    average.settle()
    assert read(model) == expected


@pytest.mark.parametrize(("power", "steps"), [(0.0, 5 * EVERY), (2.0, EVERY - 1)])
def test_without_a_power_or_a_look_the_model_stands_as_it_is(power: float, steps: int) -> None:
    model = build()
    average = Average(model, power)
    for step in range(1, steps + 1):
        mark(model, step)
        average.note(step)
    with average.applied():
        assert read(model) == steps
    average.settle()
    assert read(model) == steps


def test_the_model_comes_back_where_a_validation_fails() -> None:
    model = build()
    average = Average(model, 1.0)
    mark(model, 1)
    average.note(EVERY)
    mark(model, 2)
    found = []

    def fail() -> None:
        with average.applied():
            found.append(read(model))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert found == [1]
    assert read(model) == 2


def test_it_goes_on_from_its_state() -> None:
    model = build()
    average, other = Average(model, 2.0), Average(model, 2.0)
    mark(model, 1)
    average.note(EVERY)
    other.set_state({name: value.clone() for name, value in average.get_tensors().items()}, average.get_figures())
    mark(model, 3)
    for one in (average, other):
        one.note(2 * EVERY)
        with one.applied():
            assert read(model) == 2.5  # weights 1 · 2 and 2 · 3
