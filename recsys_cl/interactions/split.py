"""Splitting interactions into training and test, and the audit of what leaks between them.

Comes in validated interactions and a `SplitConfig`; goes out two `Interactions` over the same users and items, with an
`Audit` that is computed from the two parts alone, so that it judges a given test file as it judges our own split.

Memory: some 25 bytes an event, and the audit's and the draw's tables for one block of users at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from recsys_cl.config import SplitConfig
from recsys_cl.errors import ConfigError, InputError, RefusedError
from recsys_cl.ids import IdMap
from recsys_cl.interactions.table import Interactions
from recsys_cl.interactions.times import format_times, parse_bound

_BLOCK_EVENTS = 4_000_000


@dataclass(frozen=True)
class Audit:
    """What was found in the two parts. Counts are of events unless named otherwise.

    cut: microseconds since 1970 UTC or, for a log without times, a position; None where the split is not one in time.
    n_after_cut: training events at or after the cut, None without a cut. n_after_first_test: training events at or
    after the earliest test event, of two files with times; no leak by itself, for each user may have an own cut.
    n_shared: test events with the same user, item and time in training; where the two parts are two files without
    times, with the same user and item. n_leaked: training events that are after the cut or shared.
    n_repeats: pairs of user and item in the test that training has at another time. n_test_items_unseen,
    n_test_users_unseen: items and users that only the test has; n_test_events_unseen_items: the events of those items.
    """

    cut: int | None
    timed: bool
    n_train: int
    n_test: int
    n_after_cut: int | None
    n_after_first_test: int | None
    n_shared: int
    n_leaked: int
    n_repeats: int
    n_test_items_unseen: int
    n_test_events_unseen_items: int
    n_test_users_unseen: int

    @property
    def leaked_share(self) -> float:
        """Training events that give test events away, as a share of the test events, at most 1."""
        return min(1.0, self.n_leaked / max(1, self.n_test))

    def dump(self) -> dict[str, Any]:
        """The audit as JSON values."""
        return asdict(self) | {"leaked_share": self.leaked_share}

    def describe(self) -> list[str]:
        """The audit in lines for people."""
        cut = "" if self.cut is None else f", cut at {show_time(self.cut, self.timed)}"
        after_cut = "no cut in time" if self.n_after_cut is None else f"after the cut {self.n_after_cut:,}"
        lines = [
            f"split: {self.n_train:,} training and {self.n_test:,} test events{cut}",
            f"leaks: {after_cut}, same event in both parts {self.n_shared:,} ({self.leaked_share:.4%} of the test)",
            f"no leak: {self.n_repeats:,} test pairs seen in training at another time; only in the test "
            f"{self.n_test_items_unseen:,} items ({self.n_test_events_unseen_items:,} events), "
            f"{self.n_test_users_unseen:,} users",
        ]
        if self.cut is None and self.n_after_first_test:
            lines.append(
                f"training events not before the first test event: {self.n_after_first_test:,} (leaks, if the files "
                "are meant to be cut in time: give the time in split.cut)"
            )
        return lines


@dataclass(frozen=True)
class Split:
    """Two parts over the same users and items, their audit, and the cut (as in `Audit`) where there is one."""

    train: Interactions
    test: Interactions
    audit: Audit
    cut: int | None


def split_interactions(
    interactions: Interactions, config: SplitConfig, seed: int, test: Interactions | None = None
) -> Split:
    """Hold out the test as `config.by` says; `seed` serves `random` alone, `test` is the given one of `file`.

    Order within users is kept. Raises InputError where a part would be empty, ConfigError where the cut cannot be used.
    """
    if config.by == "file":
        if test is None:
            raise InputError("no test events are given", "a log of them", "set split.test, or another split.by")
        return _join_parts(interactions, test, _parse_cut(config.cut, interactions.timed), two_files=True)
    if config.by == "time":
        cut = _parse_cut(config.cut, interactions.timed)
        cut = _find_cut(interactions, config.test_share) if cut is None else cut
        return _split_at(interactions, cut, "set split.cut or split.test_share, or another split.by")
    held = _hold_out(interactions, config, config.test_share, seed)
    return _split_by(interactions, held, None, "set split.by to time, or give a log with more events a user")


def split_validation(train: Interactions, config: SplitConfig, seed: int) -> Split:
    """Hold out `config.validation_share` of the training part in the way of the test, to stop training by it.

    A test file does not tell its way: a timed log is then cut in time, another one split at random. `leave_last` holds
    out `n_last` events a user, whatever the share. Raises InputError where a part would be empty; ValueError where the
    share is 0.
    """
    if config.validation_share <= 0:
        raise ValueError("validation_share is 0: there is no validation to split off")
    remedy = "set split.validation_share=0 to train without validation"
    if config.by == "time" or (config.by == "file" and train.timed):
        return _split_at(train, _find_cut(train, config.validation_share), remedy)
    return _split_by(train, _hold_out(train, config, config.validation_share, seed), None, remedy)


def check_audit(audit: Audit, config: SplitConfig) -> None:
    """Raise RefusedError where a larger share than `config.most_leaked_share` leaks."""
    if audit.leaked_share <= config.most_leaked_share:
        return
    reasons = [
        f"{audit.leaked_share:.2%} of {audit.n_test:,} test events leak, allowed are {config.most_leaked_share:.2%}"
    ]
    if audit.n_after_cut and audit.cut is not None:
        reasons.append(f"{audit.n_after_cut:,} training events are at or after {show_time(audit.cut, audit.timed)}")
    if audit.n_shared:
        reasons.append(f"{audit.n_shared:,} test events are in training too")
    raise RefusedError("audit of the split", reasons, "mend the files, or raise split.most_leaked_share")


def audit_parts(train: Interactions, test: Interactions, cut: int | None, *, two_files: bool) -> Audit:
    """Count what leaks between two parts over the same users and items.

    `two_files` says that the parts were read apart: without times their positions then do not compare, and an event in
    both cannot be told from a repeat, so each pair of user and item in both counts as shared.
    """
    by_pair = two_files and not train.timed
    n_shared = n_leaked = n_repeats = 0
    pair, event = ["user", "item"], ["user", "item"] if by_pair else ["user", "item", "time"]
    for low, high in _block_users(train, test):
        ours, theirs = _frame(train, low, high), _frame(test, low, high)
        shared = theirs.join(ours, on=event, how="semi")
        n_shared += shared.height
        repeated = theirs.select(pair).unique().join(ours, on=pair, how="semi").join(shared, on=pair, how="anti")
        n_repeats += repeated.height
        leaked = ours.join(theirs, on=event, how="semi").height
        if cut is not None:
            late = ours.filter(pl.col("time") >= cut)
            leaked += late.height - late.join(theirs, on=event, how="semi").height
        n_leaked += leaked
    unseen = np.bincount(test.item_rows, minlength=test.n_items) * (
        np.bincount(train.item_rows, minlength=train.n_items) == 0
    )
    first = test.times.min() if two_files and train.timed and test.n_events else None
    return Audit(
        cut=cut,
        timed=train.timed,
        n_train=train.n_events,
        n_test=test.n_events,
        n_after_cut=None if cut is None else int(np.sum(train.times >= cut)),
        n_after_first_test=None if first is None else int(np.sum(train.times >= first)),
        n_shared=n_shared,
        n_leaked=n_leaked,
        n_repeats=n_repeats,
        n_test_items_unseen=int(np.sum(unseen > 0)),
        n_test_events_unseen_items=int(unseen.sum()),
        n_test_users_unseen=int(np.sum((np.diff(test.offsets) > 0) & (np.diff(train.offsets) == 0))),
    )


def align(train: Interactions, test: Interactions) -> tuple[Interactions, Interactions]:
    """Bring two logs, read apart, onto the same users and items: the union of theirs, in byte order.

    Without times, the positions of the test follow those of training. Raises InputError where only one log has times.
    """
    if train.timed != test.timed:
        which = ("training", "test") if train.timed else ("test", "training")
        raise InputError(
            f"the {which[0]} log has times, the {which[1]} log has none",
            "both with times or both without",
            "name the time column of both logs",
        )
    users, items = _merge_ids(train.users, test.users), _merge_ids(train.items, test.items)
    later = 0 if train.timed or not train.n_events else int(train.times.max()) + 1
    return _move(train, users, items, 0), _move(test, users, items, later)


def show_time(time: int, timed: bool) -> str:
    """A time of the log for people: ISO 8601 in UTC, or a position."""
    return str(format_times(pl.Series([time]))[0]) if timed else f"position {time:,}"


def _split_at(interactions: Interactions, cut: int, remedy: str) -> Split:
    return _split_by(interactions, interactions.times >= cut, cut, remedy)


def _split_by(interactions: Interactions, held: NDArray[np.bool_], cut: int | None, remedy: str) -> Split:
    """Split by a mask of the held-out events [n_events]. Raises InputError where a part would be empty."""
    n_held, n = int(held.sum()), interactions.n_events
    if n_held in (0, n):
        where = "" if cut is None else f"the cut at {show_time(cut, interactions.timed)}: "
        found = f"{where}{n - n_held:,} events for training and {n_held:,} held out"
        raise InputError(found, "some of each", remedy)
    return _join_parts(interactions.select(~held), interactions.select(held), cut, two_files=False)


def _join_parts(train: Interactions, test: Interactions, cut: int | None, *, two_files: bool) -> Split:
    if not (train.users.array.equals(test.users.array) and train.items.array.equals(test.items.array)):
        raise ValueError("the two parts have other users or items; align them first")
    for name, part in (("training", train), ("test", test)):
        if not part.n_events:
            raise InputError(f"no {name} events", "at least one", "check the files and the rules of [ingest]")
    return Split(train, test, audit_parts(train, test, cut, two_files=two_files), cut)


def _parse_cut(text: str, timed: bool) -> int | None:
    if text and not timed:
        raise ConfigError(f"split.cut is {text!r}, but the log has no times", "no cut", "set split.test_share instead")
    return parse_bound(text, "split.cut")


def _find_cut(interactions: Interactions, share: float) -> int:
    """The time from which `share` of the events lie; events at that very time are all held out."""
    n = interactions.n_events
    if not n:
        raise InputError("there are no events to split", "at least two")
    place = n - max(1, round(n * share))
    return int(np.partition(interactions.times, place)[place])


def _hold_out(interactions: Interactions, config: SplitConfig, share: float, seed: int) -> NDArray[np.bool_]:
    """The held-out events [n_events] of `leave_last` and `random` (`file` too: its validation is drawn)."""
    if config.by == "leave_last":
        sizes = np.diff(interactions.offsets)
        left = np.repeat(interactions.offsets[1:], sizes) - np.arange(interactions.n_events)  # 1: a user's last event
        return (left <= config.n_last) & np.repeat(sizes > config.n_last, sizes)
    rng = np.random.default_rng([seed, 0x5B117])
    blocks = [_draw_pairs(interactions, low, high, share, rng) for low, high in _block_users(interactions)]
    return np.concatenate(blocks) if blocks else np.zeros(0, dtype=bool)


def _draw_pairs(
    interactions: Interactions, low: int, high: int, share: float, rng: np.random.Generator
) -> NDArray[np.bool_]:
    """Draw `share` of the distinct items of each user in low:high, at most all but one; a mask of their events.

    The fraction of an item is drawn too, so that users with few items are held out in proportion.
    """
    start, end = interactions.offsets[low], interactions.offsets[high]
    users = np.repeat(np.arange(high - low), np.diff(interactions.offsets[low : high + 1]))
    keys = users * interactions.n_items + interactions.item_rows[start:end]
    pairs, pair_of_event = np.unique(keys, return_inverse=True)
    owners = pairs // interactions.n_items
    n_pairs = np.bincount(owners, minlength=high - low)
    n_drawn = np.minimum(np.floor(share * n_pairs + rng.random(high - low)), n_pairs - 1)
    shuffled = np.lexsort((rng.random(len(pairs)), owners))
    rank = np.empty(len(pairs), dtype=np.int64)
    rank[shuffled] = np.arange(len(pairs)) - np.repeat(np.cumsum(n_pairs) - n_pairs, n_pairs)
    drawn: NDArray[np.bool_] = (rank < n_drawn[owners])[pair_of_event]
    return drawn


def _block_users(*parts: Interactions) -> Iterator[tuple[int, int]]:
    """Ranges of user rows with some `_BLOCK_EVENTS` events in all parts together; covers every user."""
    offsets = np.sum([part.offsets for part in parts], axis=0)
    bounds = np.searchsorted(offsets, np.arange(0, offsets[-1] + 1, _BLOCK_EVENTS), side="right") - 1
    bounds = np.unique(np.concatenate((bounds[:1] * 0, bounds, [len(offsets) - 1])))
    yield from zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True)


def _frame(part: Interactions, low: int, high: int) -> pl.DataFrame:
    start, end = part.offsets[low], part.offsets[high]
    users = np.repeat(np.arange(low, high, dtype=np.int32), np.diff(part.offsets[low : high + 1]))
    return pl.DataFrame({"user": users, "item": part.item_rows[start:end], "time": part.times[start:end]})


def _merge_ids(first: IdMap, second: IdMap) -> IdMap:
    if first.array.equals(second.array):
        return first
    return IdMap.build(pl.concat([first.to_series(), second.to_series()]))


def _move(part: Interactions, users: IdMap, items: IdMap, later: int) -> Interactions:
    """The same events over other ids, which hold all of its own; `later` is added to the times."""
    sizes = np.zeros(len(users), dtype=np.int64)
    sizes[users.find_rows(part.users.to_series())] = np.diff(part.offsets)
    # Both id lists are in byte order, so users keep their order, and their events can stay where they are.
    offsets = np.concatenate(([0], np.cumsum(sizes)))
    item_rows = items.find_rows(part.items.to_series()).astype(np.int32)[part.item_rows]
    return Interactions(users, items, offsets, item_rows, part.times + later, part.weights, part.timed)
