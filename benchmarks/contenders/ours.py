"""recsys_cl with its defaults."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recsys_cl.config import Config, apply_settings
from recsys_cl.evaluation.topk import search_exact
from recsys_cl.interactions.table import Interactions
from recsys_cl.recipe import choose_steps, fit

name = "recsys_cl"


def recommend(train: Interactions, k: int) -> NDArray[np.int64]:
    """Choose on a validation part of train, train on all of it, search exactly."""
    config = apply_settings(Config(), ["split.by=random"])
    fitted = fit(train, config, choose_steps(train, config))
    return search_exact(fitted.queries, fitted.candidates, k, train.to_bags()).rows
