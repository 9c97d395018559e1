"""Two runs compared: comes in their ids, goes out the paired difference of their models, user by user."""

from __future__ import annotations

from pathlib import Path
from shlex import quote

import numpy as np
import polars as pl

from recsys_cl.errors import StoreError
from recsys_cl.evaluation.compare import Comparison, compare_users
from recsys_cl.runs import Run, open_run

PER_USER = "per_user.parquet"
"""What `evaluate` keeps of each user, in the folder of a run."""


def compare_runs(store: Path, first: str, second: str) -> Comparison:
    """Compare the models of two runs of a store, over the users that both judged on the same held-out items.

    Resamples, confidence and seed are those of the first run. Raises StoreError for a run that is not there or not
    evaluated, InputError where the two cannot be compared.
    """
    runs = [open_run(store, run_id) for run_id in (first, second)]
    ours, theirs = (_read_users(run) for run in runs)
    config, seed = runs[0].config.evaluation, runs[0].config.training.seed
    return compare_users(ours, theirs, config.n_resamples, config.confidence, np.random.default_rng(seed))


def _read_users(run: Run) -> pl.DataFrame:
    """The figures of each user that `evaluate` has judged."""
    path = run.folder / PER_USER
    again = f"recsys-cl evaluate --store {quote(str(run.store))} --run {run.run_id}"
    if not run.is_done("evaluate"):
        raise StoreError(f"run {run.run_id} has not been evaluated", remedy=f"first: {again}")
    try:
        return pl.read_parquet(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise StoreError(
            f"{path} cannot be read ({error})", "what evaluate writes", f"evaluate again: {again}"
        ) from error
