"""The audit of pairs: comes in the training events, goes out who is heard in training, and how the bound on heavy users
bears on it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from recsys_cl.config import SamplingConfig
from recsys_cl.interactions.table import Interactions
from recsys_cl.sampling.pairs import build_pair_source


@dataclass(frozen=True)
class PairAudit:
    """n_users_paired: users that hold a pair within a window, of n_users_trained with an event. n_users_heavy: those
    with more distinct items than a batch draws, most_items; they hold heavy_share of all of these items. ignored: the
    settings that do nothing with this log, each with its reason."""

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
                f"heavy users: {self.n_users_heavy:,} with more than {self.most_items:,} items hold "
                f"{self.heavy_share:.1%} of them; a batch draws {self.most_items:,} of each, evenly"
            )
        return lines + [f"ignored: {line}" for line in self.ignored]


def audit_pairs(train: Interactions, config: SamplingConfig, longest: int) -> PairAudit:
    """Count who is heard in training; longest as in `build_pair_source`."""
    source = build_pair_source(train, config, longest)
    sizes, most = source.histories.sizes, source.config.most_items_per_user
    heavy = sizes > most
    return PairAudit(
        n_users_trained=int(np.count_nonzero(sizes)),
        n_users_paired=len(source.user_rows),
        n_users_heavy=int(np.count_nonzero(heavy)),
        heavy_share=float(sizes[heavy].sum() / max(1, sizes.sum())),
        most_items=most,
        ignored=_list_ignored(train, config),
    )


def _list_ignored(train: Interactions, config: SamplingConfig) -> list[str]:
    found = []
    if not train.timed:
        timed = ("window_days", "session_gap_minutes", "recency_half_life_days")
        found += [f"sampling.{name}, for the log has no times" for name in timed if getattr(config, name)]
    n_drawable = int(np.count_nonzero(np.bincount(train.item_rows, minlength=train.n_items)))
    if config.negatives not in (SamplingConfig().negatives, "in_batch") and n_drawable <= config.n_negatives:
        found.append(
            f"sampling.negatives {config.negatives}, for {config.n_negatives:,} negatives would be drawn of "
            f"{n_drawable:,} items: the catalog is taken whole"
        )
    return found
