"""The gate: comes in what was measured of a release, goes out each reason that speaks against making it live."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys_cl.config import PublishingConfig
from recsys_cl.errors import RefusedError
from recsys_cl.evaluation.health import measure_health


@dataclass(frozen=True)
class Gain:
    """The model beside popularity on the same test users. metric: such as `ndcg@20`; model, popularity: their means;
    low, high: the bootstrap interval of the mean paired difference, model minus popularity; n_users: judged users."""

    metric: str
    model: float
    popularity: float
    low: float
    high: float
    n_users: int


@dataclass(frozen=True)
class GateFacts:
    """What the gate judges. health: of each table of vectors by name, from `measure_vectors`; ann_recall: share of
    the exact top 10 that the index finds; gain: None where no user could be judged."""

    health: Mapping[str, Mapping[str, Any]]
    ann_recall: float
    gain: Gain | None


def measure_vectors(vectors: NDArray[np.float32], popularity_dim: int | None) -> dict[str, Any]:
    """Health of vectors [n, dim] for the gate, without the popularity coordinate, which is alike for all and would hide
    a collapse or look like one."""
    return measure_health(vectors if popularity_dim is None else np.delete(vectors, popularity_dim, axis=1))


def check_finite(tables: Mapping[str, NDArray[np.float32]]) -> None:
    """Raise RefusedError where vectors [n, dim] hold NaN or infinity; no reason forces those, for none can be found."""
    broken = {name: int((~np.isfinite(vectors).all(axis=1)).sum()) for name, vectors in tables.items()}
    reasons = [f"{n} of {len(tables[name])} {name} hold NaN or infinity, 0 may" for name, n in broken.items() if n]
    if reasons:
        raise RefusedError("the gate refused this release", reasons, "the live release is unchanged; train again")


def check_gate(facts: GateFacts, config: PublishingConfig) -> list[str]:
    """Each reason against the release, with what was measured and what is asked; an empty list lets it pass."""
    reasons = []
    for name, health in facts.health.items():
        # A handful of vectors, or of floats, cannot have a high rank.
        least = min(config.least_effective_rank, min(health["n"], health["dim"]) / 2)
        if health["effective_rank"] < least:
            reasons.append(f"{name} have collapsed: effective rank {health['effective_rank']:.2f}, least {least:.2f}")
    if not facts.ann_recall >= config.least_ann_recall:
        reasons.append(
            f"the index finds {facts.ann_recall:.4f} of the exact top 10, least {config.least_ann_recall:.4f}"
        )
    gain = facts.gain
    if config.require_gain and gain is not None and gain.n_users >= config.least_users and gain.high < 0:
        reasons.append(
            f"{gain.metric} of the model is {gain.model:.4f}, of popularity {gain.popularity:.4f}: the difference lies"
            f" in [{gain.low:.4f}, {gain.high:.4f}] over {gain.n_users} users, and may not lie below 0"
        )
    return reasons


def enforce_gate(reasons: list[str], forced: str | None) -> None:
    """Raise RefusedError with the reasons, unless there are none or someone has given a reason to force it."""
    if reasons and not forced:
        raise RefusedError(
            "the gate refused this release",
            reasons,
            remedy="the live release is unchanged; to publish it all the same: --force REASON, kept in the manifest",
        )
