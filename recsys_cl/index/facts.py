"""What is known of an index: comes in when one is built, goes into a manifest, and is read without FAISS."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["flat", "ivf", "hnsw", "ivfpq"]


@dataclass(frozen=True)
class Trial:
    """One setting that was tried. ann_recall: @10, the lowest over those who ask. n_compared: vectors compared with a
    query, on average: the cost by which settings are chosen, for it is the same whenever it is counted. microseconds: a
    query took when it was tried, among many, for information. mib: of the index in memory. reached: whether it finds
    the wanted share, by more than chance."""

    kind: Kind
    parameters: dict[str, int]
    ann_recall: float
    n_compared: float
    microseconds: float = field(compare=False)
    mib: float
    reached: bool
    chosen: bool = False


@dataclass(frozen=True)
class HeldOut:
    """recall@k against held-out interactions of n_users: by exact search, and by an index built in the same way."""

    k: int
    n_users: int
    exact: float
    index: float


@dataclass(frozen=True)
class IndexFacts:
    """What a manifest says of an index. parameters: those of its kind, as built (`ef_search`, `n_lists`, …).
    trade_off: the settings it was chosen from; held_out: what it costs, where it is approximate and that was measured.
    """

    kind: Kind
    n_items: int
    dim: int
    parameters: dict[str, int]
    trade_off: tuple[Trial, ...] = ()
    held_out: HeldOut | None = None
