"""Slices of an evaluation: comes in as the judged users and their targets, goes out figures of one part of them each.

A slice of users keeps all targets of some users; a slice of items keeps some targets of the users who have one of them.
The lists are the same: the full catalog is ranked, and a list does not know which slice it is judged by.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from recsys_cl.bags import Bags
from recsys_cl.config import EvaluationConfig
from recsys_cl.evaluation.figures import COMPARED, Figures, build_figures
from recsys_cl.evaluation.metrics import find_popular, judge
from recsys_cl.evaluation.targets import Judged, select_items
from recsys_cl.interactions.table import Interactions

HISTORY_BOUNDS = (1, 5, 20, 100)  # the least training items of each bucket of users
NEW_SHARE = 0.1  # of the training events: an item is new where its first one is among the last of them


class SliceFigures(TypedDict):
    """n_users with n_targets held-out items; metrics, differences as in `Evaluation`, recall and ndcg alone, the
    differences at the greatest k alone. Both are empty where n_users is 0."""

    n_users: int
    n_targets: int
    metrics: Figures
    differences: Figures


@dataclass(frozen=True)
class Slice:
    """users [m]: places among the judged users; targets: a bag for each of them, with at least one item."""

    users: NDArray[np.int64]
    targets: Bags

    def __post_init__(self) -> None:
        if len(self.users) != len(self.targets) or (len(self.users) and self.targets.sizes.min() == 0):
            raise ValueError(f"{len(self.users)} users, {np.count_nonzero(self.targets.sizes)} of them with targets")


def find_slices(judged: Judged, train: Interactions) -> dict[str, Slice]:
    """The slices by name; `train` are the events that `judged` was chosen by.

    light_users, heavy_users: the third of the judged users with the fewest and with the most training items; who ties
    with the last of a third belongs to it, and where so many tie that the thirds would meet, to the light users.
    history_1_4 … history_100_up: users by the number of their training items. head_items: the most popular fifth in
    training; tail_items: the others. new_items, of a timed log: first touched in the last tenth of the training events;
    events at the very time where that begins belong to it.
    """
    users = _find_users(judged.seen.sizes)
    popular = find_popular(np.bincount(judged.histories.item_rows, minlength=len(judged.items)))
    items = {"head_items": popular, "tail_items": ~popular}
    if train.timed:
        items["new_items"] = _find_new_items(train)[judged.items]
    slices = {
        name: Slice(np.flatnonzero(mask), judged.targets.take(np.flatnonzero(mask))) for name, mask in users.items()
    }
    return slices | {name: _restrict_items(judged.targets, mask) for name, mask in items.items()}


def judge_slices(
    slices: Mapping[str, Slice],
    lists: Mapping[str, NDArray[np.int64]],
    config: EvaluationConfig,
    rng: np.random.Generator,
) -> dict[str, SliceFigures]:
    """Recall and ndcg of each model in each slice, with intervals over the users of the slice.

    lists: model -> rows [n_users, K] of the judged users, best first. Recall is hits over a user's targets in the
    slice, wherever else the user has targets.
    """
    found: dict[str, SliceFigures] = {}
    compared = [f"{metric}@{max(config.ks)}" for metric in COMPARED]
    for name, part in slices.items():
        metrics: Figures = {}
        differences: Figures = {}
        if len(part.users):
            judged = {model: judge(rows[part.users], part.targets, config.ks) for model, rows in lists.items()}
            kept = [f"{metric}@{k}" for metric in COMPARED for k in config.ks]
            per_user = {model: {metric: values[metric] for metric in kept} for model, values in judged.items()}
            metrics, differences = build_figures(per_user, compared, config, rng)
        n_targets = len(part.targets.item_rows)
        found[name] = SliceFigures(
            n_users=len(part.users), n_targets=n_targets, metrics=metrics, differences=differences
        )
    return found


def _find_users(sizes: NDArray[np.int64]) -> dict[str, NDArray[np.bool_]]:
    """A mask of the judged users for each slice of them; sizes [n_users]: their training items, n_users >= 1."""
    ordered, third = np.sort(sizes), -(-len(sizes) // 3)
    most_light, least_heavy = ordered[third - 1], ordered[-third]
    masks = {"light_users": sizes <= most_light, "heavy_users": (sizes >= least_heavy) & (sizes > most_light)}
    for least, following in zip(HISTORY_BOUNDS, (*HISTORY_BOUNDS[1:], None), strict=True):
        if following is None:
            masks[f"history_{least}_up"] = sizes >= least
        else:
            masks[f"history_{least}_{following - 1}"] = (sizes >= least) & (sizes < following)
    return masks


def _find_new_items(train: Interactions) -> NDArray[np.bool_]:
    """Whether the first event of each item [n_items] lies in the last tenth of the events by time."""
    first = np.full(train.n_items, np.iinfo(np.int64).max)
    np.minimum.at(first, train.item_rows, train.times)
    place = train.n_events - max(1, round(NEW_SHARE * train.n_events))
    fresh: NDArray[np.bool_] = first >= np.partition(train.times, place)[place]
    return fresh


def _restrict_items(targets: Bags, mask: NDArray[np.bool_]) -> Slice:
    """The targets where mask [n_items] holds, and the users who have one."""
    kept = select_items(targets, mask[targets.item_rows])
    users = np.flatnonzero(kept.sizes > 0)
    return Slice(users, kept.take(users))
