"""The variants of the contrastive core that are compared, and the measurement of one."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

from recsys_cl.benchmark import read_events
from recsys_cl.config import Config, apply_settings
from recsys_cl.index.mine import mine_items
from recsys_cl.interactions.split import split_interactions
from recsys_cl.interactions.table import Interactions
from recsys_cl.progress import report_nothing
from recsys_cl.recipe import choose_steps
from recsys_cl.training.loop import Hooks
from recsys_cl.training.trainer import train

DATA = {
    "ml-1m-split": ("train.txt", "random"),
    "ml-100k": ("ml-100k.inter", "time"),
    "amazon-beauty": ("Beauty.txt", "leave_last"),
}
"""Folder -> (log, split.by)."""
SAMPLED = "sampling.n_negatives=512"
AXES: dict[str, dict[str, list[str]]] = {
    "loss": {
        "softmax": [],
        "softmax, learned temperature": ["model.learn_temperature=true"],
        "bilateral softmax": ["loss.kind=bilateral_softmax"],
        "BPR": ["loss.kind=bpr"],
        "cosine contrastive": ["loss.kind=cosine_contrastive"],
    },
    "negatives": {
        "whole catalog": [],
        "popularity": [SAMPLED],
        "uniform": [SAMPLED, "sampling.negatives=uniform"],
        "in batch": ["sampling.negatives=in_batch"],
        "mixed": [SAMPLED, "sampling.negatives=mixed"],
        "hard": [SAMPLED, "sampling.negatives=hard"],
    },
    "tower": {
        "mean": [],
        "mean, tied": ["model.tied=true"],
        "mean, no user embedding": ["model.user_weight=0.0"],
        "mean, dot": ["model.score=dot"],
        "mean, Euclidean": ["model.score=euclidean"],
        "attention": ["model.history=attention"],
        "GRU": ["model.history=gru"],
        "GRU, next item": ["model.history=gru", "sampling.positives=next"],
        "transformer": ["model.history=transformer"],
        "transformer, next item": ["model.history=transformer", "sampling.positives=next"],
    },
}
DEFAULT = tuple(next(iter(kinds)) for kinds in AXES.values())
Variant = tuple[str, ...]
_PACE_STEPS = 20


def configure(data: str, variant: Variant) -> Config:
    """The configuration of a variant, all but the length of its training."""
    settings = [s for kinds, kind in zip(AXES.values(), variant, strict=True) for s in kinds[kind]]
    common = [f"split.by={DATA[data][1]}", "training.n_threads=1", "training.least_steps=0"]
    return apply_settings(Config(), [*common, *settings])


def measure(root: Path, data: str, variant: Variant, seconds: float) -> dict[str, Any]:
    """Train one variant for so many seconds on one thread, and judge the epoch that its validation chose."""
    (name, by), config = DATA[data], configure(data, variant)
    log = read_events(root / data / name, config, report_nothing)
    part = log if by == "random" else split_interactions(log, config.split, config.training.seed).train
    pace, steps_an_epoch = _measure_pace(part, config)
    epochs = max(1, int(seconds / pace / steps_an_epoch))
    # To the end of its plan, whatever validation says on the way: else a step size that has not yet fallen is judged.
    plan = [f"training.epochs={epochs}", f"training.validate_every={max(1, epochs // 20)}", "training.patience=1000"]
    history = choose_steps(part, apply_settings(config, plan)).history
    best = max((entry for entry in history if "recall" in entry), key=lambda entry: entry["recall"])
    last = history[-1]
    return {
        "data": data,
        "variant": variant,
        "fingerprint": config.fingerprint,
        "budget_seconds": seconds,
        "recall": best["recall"],
        "error": best["recall_error"],
        "seconds": round(last["seconds"], 1),
        "epochs": epochs,
        "best_epoch": best["epoch"],
        "positives_per_second": round(last["n_positives"] / last["seconds"]),
    }


def _measure_pace(part: Interactions, config: Config) -> tuple[float, int]:
    """Seconds of a step, mining included, and steps of an epoch."""
    n_users = int(np.count_nonzero(part.to_bags().sizes >= 2))
    steps_an_epoch = -(-n_users // config.training.batch_users)
    mined = config.sampling.negatives == "hard"
    n_steps = config.sampling.mine_every * steps_an_epoch if mined else min(_PACE_STEPS, 2 * steps_an_epoch)
    times: list[float] = []

    def tell(*told: object) -> None:
        del told
        times.append(time.perf_counter())

    train(part, config, n_steps=1, hooks=Hooks(mine=mine_items))  # what is paid once
    started = time.perf_counter()
    train(part, config, n_steps=n_steps, hooks=Hooks(mine=mine_items, progress=tell))
    first = started if mined else times[0]
    return (times[-1] - first) / max(1, len(times) - (not mined)), steps_an_epoch
