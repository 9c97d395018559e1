"""The audit of pairs: comes in the training events, goes out who is heard in training, and how the bound on heavy users
bears on it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from recsys_cl.config import Config
from recsys_cl.interactions.table import Interactions
from recsys_cl.sampling.pairs import build_pair_source


@dataclass(frozen=True)
class PairAudit:
    """n_users_paired: users that hold a pair within a window, of n_users_trained with an event. n_users_heavy: those
    with more distinct items, within a window, than a batch draws, most_items; they hold heavy_share of the distinct
    items of all users. ignored: the settings that do nothing with this log, each with its reason."""

    n_users_trained: int
    n_users_paired: int
    n_users_heavy: int
    heavy_share: float
    most_items: int
    ignored: list[str]

    def dump(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)

    def describe(self) -> list[str]:
        """In lines for people."""
        lines = []
        if self.n_users_paired < self.n_users_trained:
            lines.append(
                f"pairs: {self.n_users_paired:,} of {self.n_users_trained:,} users hold one; the others are judged, "
                "and served, by their bag alone"
            )
        if self.n_users_heavy:
            lines.append(
                f"heavy users: {self.n_users_heavy:,} with more than {self.most_items:,} items at once hold "
                f"{self.heavy_share:.1%} of all items; a batch draws at most {self.most_items:,} of each, evenly"
            )
        return lines + [f"ignored: {line}" for line in self.ignored]


def audit_pairs(train: Interactions, config: Config) -> PairAudit:
    """Count who is heard in training."""
    source = build_pair_source(train, config.sampling, config.model.history_length + 1)
    sizes, most = source.histories.sizes, source.config.most_items_per_user
    drawn = sizes  # the most items that one draw may be from
    if source.windows is not None:
        drawn = np.zeros_like(sizes)
        np.maximum.at(drawn, train.expand_users(), source.windows.n_distinct)
    heavy = drawn > most
    return PairAudit(
        n_users_trained=int(np.count_nonzero(sizes)),
        n_users_paired=len(source.user_rows),
        n_users_heavy=int(np.count_nonzero(heavy)),
        heavy_share=float(sizes[heavy].sum() / max(1, sizes.sum())),
        most_items=most,
        ignored=_list_ignored(train, config),
    )


def _list_ignored(train: Interactions, config: Config) -> list[str]:
    found, sampling, standard = [], config.sampling, Config()
    if not train.timed:
        timed = ("window_days", "session_gap_minutes", "recency_half_life_days")
        found += [f"sampling.{name}, for the log has no times" for name in timed if getattr(sampling, name)]
    n_drawable = int(np.count_nonzero(np.bincount(train.item_rows, minlength=train.n_items)))
    whole = sampling.negatives != "in_batch" and n_drawable <= sampling.n_negatives
    if whole and sampling.negatives != standard.sampling.negatives:
        found.append(
            f"sampling.negatives {sampling.negatives}, for {sampling.n_negatives:,} negatives would be drawn of "
            f"{n_drawable:,} items: the catalog is taken whole"
        )
    if sampling.popularity_power != standard.sampling.popularity_power:
        if sampling.negatives in ("in_batch", "uniform"):
            found.append(f"sampling.popularity_power, for negatives are {sampling.negatives}")
        elif whole:
            found.append("sampling.popularity_power, for the catalog is taken whole")
    if config.loss.kind == "bilateral_softmax" and sampling.positives == "next":
        found.append("loss.positive_temperature, for with sampling.positives next a query has one positive")
    return found
