"""Screening: a ladder is climbed to its best rung, and what is kept is never tried."""

from __future__ import annotations

import numpy as np
import pytest

from recsys_cl.screening import _climb
from recsys_cl.trials import Figures


@pytest.mark.parametrize("n_rungs", [2, 3, 4, 5, 8])
def test_where_values_rise_and_fall_once_the_best_rung_is_found(n_rungs: int) -> None:
    ladder = [float(rung) for rung in range(n_rungs)]
    for best in ladder:
        measured: list[float] = []

        def measure(value: float, best: float = best, measured: list[float] = measured) -> Figures:
            measured.append(value)
            found = 0.5 - abs(value - best) / 20
            return Figures(found, found, np.full(3, found))

        chosen, said = _climb(ladder, measure)
        assert chosen == best
        assert said.count(":") == len(set(measured)), "each rung that was measured is told, once"
        assert set(measured) >= {best, (n_rungs - 1) // 2}
