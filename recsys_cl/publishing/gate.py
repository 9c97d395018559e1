"""The gate: comes in what was measured of a release, goes out each reason that speaks against making it live."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys_cl.config import PublishingConfig
from recsys_cl.errors import RefusedError
from recsys_cl.evaluation.beside import EVERYONE, Comparison
from recsys_cl.evaluation.health import measure_health
from recsys_cl.publishing.manifest import Drift, GateResult


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
class Beside:
    """The candidate beside the live release. compared: their evaluated fits on the same users, None where no user could
    be judged by both; health: of the live one's tables; items_lost: share of its items that the candidate lacks;
    train_auc: of its evaluated fit, as in `GateFacts`."""

    release: str
    compared: Comparison | None
    health: Mapping[str, Mapping[str, Any]]
    items_lost: float
    drift: Drift
    train_auc: float

    def dump(self) -> dict[str, Any]:
        """As JSON values, for the manifest and the report."""
        compared = None if self.compared is None else self.compared.dump()
        return {"release": self.release, "compared": compared, "items_lost": self.items_lost}


@dataclass(frozen=True)
class GateFacts:
    """What the gate judges. health: of each table of vectors by name, from `measure_vectors`; ann_recall: share of
    the exact top 10 that the index finds; gain: None where no user could be judged; train_auc: of the evaluated and of
    the published fit, each on its own training items; beside: None where no release is live, or `alone` says why."""

    health: Mapping[str, Mapping[str, Any]]
    ann_recall: float
    gain: Gain | None
    train_auc: tuple[float, float] | None = None
    beside: Beside | None = None
    alone: str | None = None


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
    if facts.train_auc is not None:
        evaluated, published = facts.train_auc
        if published < evaluated - config.most_auc_loss:
            reasons.append(
                f"the published fit ranks its users' own items above others in {published:.1%} of cases, the evaluated "
                f"fit in {evaluated:.1%}: at most {config.most_auc_loss:.1%} less; do its rows belong to its ids?"
            )
    if facts.beside is not None and config.compare_live:
        reasons += _check_beside(facts.beside, facts, config)
    return reasons


def enforce_gate(gate: GateResult) -> None:
    """Raise RefusedError with the reasons, unless there are none or someone has given a reason to force it."""
    if gate.reasons and not gate.forced:
        raise RefusedError(
            "the gate refused this release",
            list(gate.reasons),
            remedy="the live release is unchanged, the candidate and its report.html are kept in the run's folder; to "
            "publish it all the same: --force REASON, kept in the manifest",
        )


def _check_beside(beside: Beside, facts: GateFacts, config: PublishingConfig) -> list[str]:
    """What the live release has that the candidate lacks."""
    health = facts.health
    reasons = [] if beside.compared is None else _check_compared(beside.compared, config)
    if facts.train_auc is not None and facts.train_auc[0] < beside.train_auc - config.most_auc_loss:
        reasons.append(
            f"the evaluated fit ranks its users' own items above others in {facts.train_auc[0]:.1%} of cases, that of "
            f"the live release in {beside.train_auc:.1%}: at most {config.most_auc_loss:.1%} less"
        )
    if beside.items_lost > config.most_items_lost:
        reasons.append(
            f"{beside.items_lost:.1%} of the live release's items are gone, at most {config.most_items_lost:.1%}"
        )
    for name in health.keys() & beside.health.keys():
        ours, theirs = health[name], beside.health[name]
        least = config.least_rank_kept * theirs["effective_rank"]
        if ours["dim"] == theirs["dim"] and ours["effective_rank"] < least:
            reasons.append(
                f"{name} have an effective rank of {ours['effective_rank']:.2f}, those of the live release "
                f"{theirs['effective_rank']:.2f}: least {least:.2f}"
            )
        spreads = [found["norm_max"] / max(found["norm_median"], 1e-12) for found in (ours, theirs)]
        if spreads[0] > config.most_norm_growth * spreads[1]:
            reasons.append(
                f"the longest of the {name} is {spreads[0]:.1f} times the median, of the live release "
                f"{spreads[1]:.1f} times: at most {config.most_norm_growth * spreads[1]:.1f}"
            )
    if beside.drift.churn > config.most_churn:
        reasons.append(
            f"{beside.drift.churn:.1%} of the top 10 neighbors changed over {beside.drift.n_items:,} items that both "
            f"have, at most {config.most_churn:.1%}"
        )
    return reasons


def _check_compared(compared: Comparison, config: PublishingConfig) -> list[str]:
    reasons = []
    for change in compared.changes:
        share = config.most_loss if change.part == EVERYONE else config.most_slice_loss
        if change.n_users >= config.least_users and change.high < -share * change.earlier:
            reasons.append(
                f"{change.metric} of {change.part} is {change.candidate:.4f}, of the live release {change.earlier:.4f}:"
                f" the difference lies in [{change.low:.4f}, {change.high:.4f}] over {change.n_users:,} users, at most "
                f"{share:.0%} may be lost"
            )
    if compared.n_users < config.least_users:
        return reasons
    before, after = compared.coverage
    if after < config.least_coverage_kept * before:
        reasons.append(
            f"lists show {after:.1%} of the catalog, those of the live release {before:.1%}: least "
            f"{config.least_coverage_kept * before:.1%}"
        )
    before, after = compared.popularity_share
    if after > before + config.most_popularity_gain:
        reasons.append(
            f"{after:.1%} of what is shown is among the most popular fifth, {before:.1%} of the live release: at most "
            f"{before + config.most_popularity_gain:.1%}"
        )
    return reasons
