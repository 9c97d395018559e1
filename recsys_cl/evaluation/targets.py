"""Who is judged, and on what: comes in as the two parts of a log, goes out as bags of seen items and of targets.

A target is an item of the user in test that somebody has in training and the user has not: no model here could find
another, for items without a training event are no candidates and the user's training items are left out of lists.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys_cl.bags import Bags
from recsys_cl.errors import InputError
from recsys_cl.interactions.table import Interactions


@dataclass(frozen=True)
class Judged:
    """Who is judged, and on what, with items renumbered 0 … n_items - 1 over the candidates alone.

    users [n_users]: user rows; items [n_items]: catalog rows; histories: training items of all users;
    seen, targets: a bag for each judged user.
    """

    users: NDArray[np.int64]
    items: NDArray[np.int64]
    histories: Bags
    seen: Bags
    targets: Bags
    n_users_eligible: int
    dropped: dict[str, int]


@dataclass(frozen=True)
class _Marked:
    """history, wanted: bags of all users in train and test; for each item of wanted, whether it can be a target."""

    history: Bags
    wanted: Bags
    in_catalog: NDArray[np.bool_]
    repeated: NDArray[np.bool_]


def find_targets(train: Interactions, test: Interactions) -> Bags:
    """The targets of every user, as one bag each, many of them empty; of users without training events too."""
    marked = _mark_items(train, test)
    return select_items(marked.wanted, marked.in_catalog & ~marked.repeated)


def check_judged(train: Interactions, test: Interactions) -> None:
    """Raise InputError where no user has both a training event and a target."""
    choose_judged(train, test, 1, np.random.default_rng(0))


def choose_judged(train: Interactions, test: Interactions, most_users: int, rng: np.random.Generator) -> Judged:
    """Users with a training event and a target, at most most_users of them, drawn evenly; what is dropped is counted.

    dropped: users_without_training and users_without_targets, of those with test events; of users with training
    events, the distinct test items that are targets_not_in_catalog or targets_seen_in_training.
    Raises InputError where nobody is left.
    """
    marked = _mark_items(train, test)
    history, wanted = marked.history, marked.wanted
    owners = np.repeat(np.arange(len(wanted)), wanted.sizes)
    active = history.sizes > 0
    findable = marked.in_catalog & ~marked.repeated
    has_target = np.bincount(owners[findable], minlength=len(wanted)) > 0
    eligible = np.flatnonzero(active & has_target)
    if len(eligible) == 0:
        raise InputError(
            "no user can be judged",
            "users with a training event and a test event on another item that somebody has in training",
            "hold out less (split.test_share), or give a longer log",
        )
    users = eligible if len(eligible) <= most_users else np.sort(rng.choice(eligible, most_users, replace=False))
    known = np.bincount(history.item_rows, minlength=train.n_items) > 0
    histories = keep_items(history, known)
    tested = wanted.sizes > 0
    return Judged(
        users=users,
        items=np.flatnonzero(known),
        histories=histories,
        seen=histories.take(users),
        targets=keep_items(select_items(wanted, findable).take(users), known),
        n_users_eligible=len(eligible),
        dropped={
            "users_without_training": int(np.count_nonzero(tested & ~active)),
            "users_without_targets": int(np.count_nonzero(tested & active & ~has_target)),
            "targets_not_in_catalog": int(np.count_nonzero(active[owners] & ~marked.in_catalog)),
            "targets_seen_in_training": int(np.count_nonzero(marked.repeated)),
        },
    )


def keep_items(bags: Bags, known: NDArray[np.bool_]) -> Bags:
    """The items where known [n_items] holds, renumbered 0, 1, … in the same order; a bag may become empty."""
    kept = select_items(bags, known[bags.item_rows])
    new_rows = (np.cumsum(known) - 1).astype(np.int32)
    return Bags(kept.offsets, new_rows[kept.item_rows], kept.weights)


def select_items(bags: Bags, mask: NDArray[np.bool_]) -> Bags:
    """The items of bags where mask [n] holds, one value an item of a bag; a bag may become empty."""
    kept = np.concatenate(([0], np.cumsum(mask, dtype=np.int64)))
    return Bags(kept[bags.offsets], bags.item_rows[mask], bags.weights[mask])


def _mark_items(train: Interactions, test: Interactions) -> _Marked:
    if (train.n_users, train.n_items) != (test.n_users, test.n_items):
        raise ValueError(f"train {train.n_users, train.n_items} and test {test.n_users, test.n_items} differ in rows")
    history, wanted = train.to_bags(), test.to_bags()
    known = np.bincount(history.item_rows, minlength=train.n_items) > 0
    pairs, known_pairs = wanted.number_pairs(train.n_items), history.number_pairs(train.n_items)
    repeated = np.isin(pairs, known_pairs, assume_unique=True)  # a bag holds an item once
    return _Marked(history, wanted, known[wanted.item_rows], repeated)
