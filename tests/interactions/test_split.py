"""Splits lose nothing and keep order; the audit finds each planted leak, and nothing where there is none."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from recsys_cl.config import SplitConfig
from recsys_cl.errors import ConfigError, InputError, RefusedError
from recsys_cl.ids import IdMap
from recsys_cl.interactions import split as module
from recsys_cl.interactions.split import (
    Split,
    align,
    audit_parts,
    check_audit,
    split_interactions,
    split_validation,
)
from recsys_cl.interactions.table import Interactions

Event = tuple[str, str, int]
SECOND = 1_000_000


def _build(events: list[Event], timed: bool = True, ids: Interactions | None = None) -> Interactions:
    """Interactions of (user, item, time) lines; without times, the position in the log stands for time."""
    lines = [(u, i, t if timed else place) for place, (u, i, t) in enumerate(events)]
    users = ids.users if ids else IdMap.build([u for u, _, _ in lines])
    items = ids.items if ids else IdMap.build([i for _, i, _ in lines])
    rows = [(users.find_row(u), t, place, items.find_row(i)) for place, (u, i, t) in enumerate(lines)]
    rows.sort()  # type: ignore[type-var]
    sizes = np.bincount([u for u, _, _, _ in rows], minlength=len(users))
    return Interactions(
        users,
        items,
        np.concatenate(([0], np.cumsum(sizes))).astype(np.int64),
        np.array([i for _, _, _, i in rows], dtype=np.int32),
        np.array([t for _, t, _, _ in rows], dtype=np.int64),
        np.array([1.0 + place for _, _, place, _ in rows], dtype=np.float32),  # tells the events apart
        timed,
    )


def _list(part: Interactions) -> list[tuple[int, int, int, float]]:
    """(user row, item row, time, weight) of each event, in order."""
    columns = (part.expand_users(), part.item_rows, part.times, part.weights)
    return list(zip(*(column.tolist() for column in columns), strict=True))


LOGS = st.lists(
    st.tuples(st.sampled_from("abcdef"), st.sampled_from("pqrstuvw"), st.integers(0, 15)), min_size=1, max_size=60
)
CONFIGS = st.one_of(
    st.builds(SplitConfig, by=st.just("time"), test_share=st.floats(0.05, 0.95)),
    st.builds(SplitConfig, by=st.just("leave_last"), n_last=st.integers(1, 4)),
    st.builds(SplitConfig, by=st.just("random"), test_share=st.floats(0.05, 0.95)),
)


def _is_subsequence(part: list[object], whole: list[object]) -> bool:
    rest = iter(whole)
    return all(event in rest for event in part)


@given(LOGS, CONFIGS, st.booleans(), st.integers(0, 5), st.booleans())
@settings(deadline=None, max_examples=200)
def test_the_parts_are_disjoint_add_up_keep_their_order_and_come_out_the_same_again(
    events: list[Event], config: SplitConfig, timed: bool, seed: int, validation: bool
) -> None:
    whole = _build(events, timed)

    def _split() -> Split:
        return split_validation(whole, config, seed) if validation else split_interactions(whole, config, seed)

    try:
        split = _split()
    except InputError:  # a part would be empty
        return
    train, test, everything = _list(split.train), _list(split.test), _list(whole)
    assert train
    assert test
    assert not set(train) & set(test)
    assert sorted(train + test) == sorted(everything)
    assert _is_subsequence(train, everything)
    assert _is_subsequence(test, everything)
    assert split.train.users is split.test.users is whole.users
    assert split.train.items is split.test.items is whole.items
    again = _split()
    assert (_list(again.train), _list(again.test), again.audit) == (train, test, split.audit)
    assert split.audit.leaked_share == 0 or config.by == "leave_last"


@given(LOGS, st.floats(0.05, 0.95), st.booleans())
@settings(deadline=None, max_examples=50)
def test_a_cut_in_time_puts_every_event_from_the_cut_on_into_the_test(
    events: list[Event], share: float, timed: bool
) -> None:
    whole = _build(events, timed)
    try:
        split = split_interactions(whole, SplitConfig(by="time", test_share=share), 0)
    except InputError:
        return
    assert split.cut is not None
    assert split.train.times.max() < split.cut <= split.test.times.min()
    assert split.test.n_events >= min(1, round(share * len(events)))
    later = np.sum(whole.times > split.cut)  # one time further on would hold out too little
    assert later < max(1, round(share * len(events))) <= split.test.n_events


@given(LOGS, st.integers(1, 4))
@settings(deadline=None, max_examples=50)
def test_leave_last_holds_out_the_last_events_of_users_with_more(events: list[Event], n_last: int) -> None:
    whole = _build(events)
    try:
        split = split_interactions(whole, SplitConfig(by="leave_last", n_last=n_last), 0)
    except InputError:
        return
    expected = []
    for low, high in pairwise(whole.offsets.tolist()):
        own = list(range(low, high))
        expected += own[-n_last:] if len(own) > n_last else []
    everything = _list(whole)
    assert _list(split.test) == [everything[place] for place in expected]


@given(LOGS, st.floats(0.05, 0.95), st.integers(0, 3))
@settings(deadline=None, max_examples=50)
def test_random_holds_out_whole_pairs_and_leaves_each_user_one(events: list[Event], share: float, seed: int) -> None:
    whole = _build(events)
    try:
        split = split_interactions(whole, SplitConfig(by="random", test_share=share), seed)
    except InputError:
        return
    pairs = [{(u, i) for u, i, _, _ in _list(part)} for part in (whole, split.train, split.test)]
    assert not pairs[1] & pairs[2]
    for user in range(whole.n_users):
        n, n_train, n_test = (sum(u == user for u, _ in own) for own in pairs)
        assert n_train >= 1
        assert n_test in {min(int(share * n) + extra, n - 1) for extra in (0, 1)}


def test_random_holds_out_the_share_it_was_told_also_of_users_with_few_items() -> None:
    events = [(f"u{u:04d}", f"i{i}", u + i) for u in range(2_000) for i in range(u % 7 + 2)]
    whole = _build(events)
    split = split_interactions(whole, SplitConfig(by="random", test_share=0.2), 1)
    sizes, held = np.diff(whole.offsets), np.diff(split.test.offsets)
    for n in range(2, 9):
        assert held[sizes == n].sum() / sizes[sizes == n].sum() == pytest.approx(0.2, abs=0.05)
    other = split_interactions(whole, SplitConfig(by="random", test_share=0.2), 2)
    assert _list(other.test) != _list(split.test)
    drawn = np.bincount(split.test.item_rows, minlength=8) / np.bincount(whole.item_rows, minlength=8)
    assert np.ptp(drawn) < 0.1  # no place in the list is favored


def test_blocks_of_users_do_not_change_a_split_or_its_audit(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    events = [(f"u{rng.integers(50):02d}", f"i{rng.integers(20)}", int(rng.integers(100))) for _ in range(1_000)]
    whole = _build(events)
    shuffled = _build([events[place] for place in rng.permutation(1_000)[:300]], ids=whole)
    audits = []
    for block in (1, 97, 4_000_000):
        monkeypatch.setattr(module, "_BLOCK_EVENTS", block)
        audits.append(audit_parts(whole, shuffled, 50, two_files=True))
        split = split_interactions(whole, SplitConfig(by="random", test_share=0.3), 0)
        assert split.train.n_events + split.test.n_events == 1_000
    assert audits[0] == audits[1] == audits[2]


@given(LOGS, LOGS, st.one_of(st.none(), st.integers(0, 15)), st.booleans())
@settings(deadline=None, max_examples=200)
def test_the_audit_counts_what_a_plain_count_finds(
    first: list[Event], second: list[Event], cut: int | None, timed: bool
) -> None:
    train, test = align(_build(first, timed), _build(second, timed))
    audit = audit_parts(train, test, cut, two_files=True)
    ours, theirs = ([event[:3] for event in _list(part)] for part in (train, test))
    key = slice(0, 3 if timed else 2)
    keys, their_keys = {e[key] for e in ours}, {e[key] for e in theirs}
    assert audit.n_shared == sum(e[key] in keys for e in theirs)
    assert audit.n_leaked == sum(e[key] in their_keys or (cut is not None and e[2] >= cut) for e in ours)
    assert audit.n_after_cut == (None if cut is None else sum(t >= cut for _, _, t in ours))
    shared_pairs = {e[:2] for e in theirs if e[key] in keys}
    assert audit.n_repeats == len(({e[:2] for e in theirs} & {e[:2] for e in ours}) - shared_pairs)
    unseen_items = {i for _, i, _ in theirs} - {i for _, i, _ in ours}
    assert audit.n_test_items_unseen == len(unseen_items)
    assert audit.n_test_events_unseen_items == sum(i in unseen_items for _, i, _ in theirs)
    assert audit.n_test_users_unseen == len({u for u, _, _ in theirs} - {u for u, _, _ in ours})
    assert audit.n_after_first_test == (sum(t >= min(e[2] for e in theirs) for _, _, t in ours) if timed else None)
    assert 0 <= audit.leaked_share <= 1


def _plant(n: int = 1_000) -> tuple[list[Event], list[Event]]:
    """A clean pair of files: training before second n, the test after it, no pair in both."""
    train = [(f"u{place % 40}", f"i{place % 90}", place * SECOND) for place in range(n)]
    test = [(f"u{place % 40}", f"j{place % 90}", (n + place) * SECOND) for place in range(n // 5)]
    return train, [*test, ("u1", "i0", (2 * n) * SECOND)]


def _split_files(train: list[Event], test: list[Event], config: SplitConfig, timed: bool = True) -> Split:
    ours, theirs = align(_build(train, timed), _build(test, timed))
    return split_interactions(ours, config, 0, theirs)


CUT = SplitConfig(by="file", cut="1970-01-01T00:16:40Z")  # second 1,000


def test_a_clean_test_file_passes() -> None:
    split = _split_files(*_plant(), CUT)
    assert split.cut == 1_000 * SECOND
    assert (split.audit.n_leaked, split.audit.n_after_first_test) == (0, 0)
    check_audit(split.audit, CUT)


def test_training_events_after_the_cut_stop_the_run() -> None:
    train, test = _plant()
    train += [("u3", "i5", 1_100 * SECOND), ("u3", "i6", 1_000 * SECOND)]
    audit = _split_files(train, test, CUT).audit
    assert (audit.n_after_cut, audit.n_leaked, audit.n_shared) == (2, 2, 0)
    with pytest.raises(RefusedError, match="2 training events are at or after 1970-01-01T00:16:40Z") as caught:
        check_audit(audit, CUT)
    assert caught.value.exit_code == 1
    check_audit(audit, CUT.model_copy(update={"most_leaked_share": 0.01}))


@pytest.mark.parametrize("timed", [True, False])
def test_the_same_event_in_two_files_stops_the_run(timed: bool) -> None:
    train, test = _plant()
    test = [*test[:-1], train[7], train[8], train[9]]
    config = SplitConfig(by="file")
    audit = _split_files(train, test, config, timed).audit
    assert (audit.n_shared, audit.n_repeats) == (3, 0)
    with pytest.raises(RefusedError, match="3 test events are in training too"):
        check_audit(audit, config)


def test_repeats_at_another_time_and_items_only_in_the_test_are_counted_and_let_pass() -> None:
    audit = _split_files(*_plant(), CUT).audit
    assert (audit.n_test_items_unseen, audit.n_test_events_unseen_items) == (90, 200)
    assert audit.n_repeats == 0  # u1 has not touched i0
    train, test = _plant()
    audit = _split_files([*train, ("u1", "i0", 5)], [*test, ("new", "i0", 3_000 * SECOND)], CUT).audit
    assert (audit.n_repeats, audit.n_test_users_unseen, audit.n_leaked) == (1, 1, 0)
    check_audit(audit, CUT)


def test_training_events_later_than_the_test_are_told_where_no_cut_is_known() -> None:
    train, test = _plant()
    split = _split_files([*train, ("u3", "i5", 1_100 * SECOND)], test, SplitConfig(by="file"))
    assert split.audit.n_after_first_test == 1
    assert split.audit.describe()[-1].startswith("training events not before the first test event: 1 (")
    check_audit(split.audit, SplitConfig(by="file"))


def test_the_audit_can_be_written_and_read_by_people() -> None:
    audit = _split_files(*_plant(), CUT).audit
    assert audit.dump()["leaked_share"] == 0
    lines = audit.describe()
    assert lines[0] == "split: 1,000 training and 201 test events, cut at 1970-01-01T00:16:40Z"
    assert "after the cut 0, same event in both parts 0 (0.0000% of the test)" in lines[1]
    untimed = split_interactions(_build(_plant()[0], timed=False), SplitConfig(), 0).audit
    assert "cut at position 800" in untimed.describe()[0]


def test_alignment_keeps_every_event_and_joins_the_ids() -> None:
    first = _build([("b", "q", 3), ("d", "p", 1), ("b", "p", 5)])
    second = _build([("a", "z", 9), ("d", "p", 8), ("c", "a", 7), ("a", "p", 2)])
    train, test = align(first, second)
    assert train.users is test.users
    assert train.users.to_series().to_list() == list("abcd")
    assert train.items.to_series().to_list() == ["a", "p", "q", "z"]
    for before, after in ((first, train), (second, test)):
        named = [[(p.users.get_id(u), p.items.get_id(i), t, w) for u, i, t, w in _list(p)] for p in (before, after)]
        assert named[0] == named[1]
    same, again = align(train, test)
    assert (_list(same), _list(again)) == (_list(train), _list(test))


def test_without_times_the_test_file_comes_after_training() -> None:
    train, test = align(_build([("a", "p", 0), ("a", "q", 0)], False), _build([("a", "r", 0)], False))
    assert (train.times.tolist(), test.times.tolist()) == ([0, 1], [2])


def test_files_with_and_without_times_do_not_mix() -> None:
    with pytest.raises(InputError, match="the training log has times, the test log has none"):
        align(_build([("a", "p", 0)]), _build([("a", "p", 0)], timed=False))
    with pytest.raises(ValueError, match="align them first"):
        split_interactions(_build([("a", "p", 0)]), SplitConfig(by="file"), 0, _build([("a", "q", 0)]))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (SplitConfig(cut="1990-01-01"), "cut at 1990-01-01T00:00:00Z: 3 events for training and 0 held out"),
        (SplitConfig(cut="1960-01-01"), "split.cut is '1960-01-01'"),
        (SplitConfig(cut="1970-01-01"), "0 events for training and 3 held out"),
        (SplitConfig(cut="soon"), "split.cut is 'soon'"),
        (SplitConfig(by="leave_last", n_last=3), "3 events for training and 0 held out"),
        (SplitConfig(by="file"), "no test events are given"),
    ],
)
def test_a_split_that_leaves_nothing_says_what_to_do(config: SplitConfig, message: str) -> None:
    whole = _build([("a", "p", 5), ("a", "q", 6), ("b", "p", 7)])
    with pytest.raises(InputError, match=message) as caught:
        split_interactions(whole, config, 0)
    assert caught.value.remedy or caught.value.expected


def test_events_of_one_time_cannot_be_cut() -> None:
    with pytest.raises(InputError, match="0 events for training"):
        split_interactions(_build([("a", "p", 5), ("a", "q", 5)]), SplitConfig(), 0)


def test_a_cut_in_time_needs_times() -> None:
    untimed = _build([("a", "p", 0), ("a", "q", 0)], timed=False)
    with pytest.raises(ConfigError, match="the log has no times"):
        split_interactions(untimed, SplitConfig(cut="2020-01-01"), 0)


def test_validation_follows_the_way_of_the_test() -> None:
    rng = np.random.default_rng(1)
    events = [(f"u{rng.integers(30)}", f"i{rng.integers(40)}", int(rng.integers(9_000))) for _ in range(800)]
    whole = _build(events)
    by_time = split_validation(whole, SplitConfig(by="time", cut="2030-01-01"), 0)
    assert by_time.cut is not None
    assert by_time.test.n_events == pytest.approx(80, abs=5)
    assert split_validation(whole, SplitConfig(by="file"), 0).cut == by_time.cut
    last = split_validation(whole, SplitConfig(by="leave_last", n_last=2), 0)
    assert _sizes(last.test).tolist() == [2] * whole.n_users
    untimed = split_validation(_build(events, timed=False), SplitConfig(by="file"), 0)
    assert untimed.cut is None
    assert 40 < untimed.test.n_events < 120
    with pytest.raises(ValueError, match="validation_share is 0"):
        split_validation(whole, SplitConfig(validation_share=0), 0)
    with pytest.raises(InputError, match="validation_share=0"):
        split_validation(_build([("a", "p", 5)]), SplitConfig(), 0)


def _sizes(part: Interactions) -> NDArray[np.int64]:
    return np.diff(part.offsets)
