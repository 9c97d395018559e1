"""A profile says what a count over plain rows says, however the log is cut into blocks and sources."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recsys_cl.config import ImagesConfig, IngestConfig
from recsys_cl.ids import IdMap
from recsys_cl.interactions import profile as module
from recsys_cl.interactions.ingest import ingest_log
from recsys_cl.interactions.profile import Former, Profile, profile_interactions

HOUR_S = 3600
START_S = 1_700_000_000
EVENT = st.tuples(
    st.integers(0, 6).map("u{}".format),
    st.integers(0, 9).map("i{}".format),
    st.sampled_from(["view", "like", ""]),
    st.integers(0, 400).map(lambda hour: START_S + HOUR_S * hour),
)


def profile_by_hand(rows: list[tuple[str, str, str, int]], former: tuple[set[str], set[str]]) -> dict[str, Any]:
    """The same figures, by loops over rows."""
    users, items = Counter(row[0] for row in rows), Counter(row[1] for row in rows)
    hours = sorted({row[3] // HOUR_S for row in rows})
    days = Counter(row[3] // (24 * HOUR_S) for row in rows)
    counts = sorted(items.values())
    pairs = [abs(a - b) for a in counts for b in counts]

    def top(percent: int) -> float:
        n = max(1, -(-len(counts) * percent // 100))
        return sum(counts[-n:]) / len(rows)

    return {
        "n_events": len(rows),
        "n_users": len(users),
        "n_items": len(items),
        "kinds": dict(Counter(row[2] for row in rows)),
        "new_users": len(users.keys() - former[0]) / len(users),
        "new_items": len(items.keys() - former[1]) / len(items),
        "gini": sum(pairs) / (2 * len(counts) ** 2 * np.mean(counts)),
        "tops": [top(1), top(5), top(20)],
        "user_quantiles": [min(users.values()), max(users.values()), np.mean(list(users.values()))],
        "gap": max((b - a - 1 for a, b in pairwise(hours)), default=0),
        "hours": [sum(row[3] // HOUR_S % 24 == hour for row in rows) / len(rows) for hour in range(24)],
        "days": [days[day] for day in sorted(days)],
        "silent": max(days) - min(days) + 1 - len(days),
    }


def flatten(profile: Profile) -> dict[str, Any]:
    assert profile.times is not None
    return {
        "n_events": profile.n_events,
        "n_users": profile.n_users,
        "n_items": profile.n_items,
        "kinds": profile.kinds,
        "new_users": profile.new_users,
        "new_items": profile.new_items,
        "gini": profile.popularity["gini"],
        "tops": [profile.popularity[name] for name in ("top_1", "top_5", "top_20")],
        "user_quantiles": [profile.per_user[name] for name in ("least", "most", "mean")],
        "gap": profile.times.longest_gap_hours,
        "hours": profile.times.hours,
        "days": list(profile.times.days.values()),
        "silent": profile.times.n_silent_days,
    }


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    old=st.lists(EVENT, min_size=1, max_size=30, unique=True), new=st.lists(EVENT, min_size=1, max_size=30, unique=True)
)
def test_both_scopes_are_what_counting_rows_gives(
    old: list[Any], new: list[Any], tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_BLOCK_EVENTS", 7)
    folder, former = tmp_path_factory.mktemp("log"), ({"u1", "u2"}, {"i3"})
    (folder / "log").mkdir()
    names = Former(IdMap.build(sorted(former[0])), IdMap.build(sorted(former[1])))
    for day, rows in enumerate((old, new)):
        frame = pl.DataFrame(rows, schema=["user_id", "item_id", "kind", "timestamp"], orient="row")
        frame.write_csv(folder / "log" / f"{day}.csv")
        found = ingest_log(
            IngestConfig(log=str(folder / "log"), most_events_per_day=0),
            ImagesConfig(),
            folder / "raw",
            folder / str(day),
            check_enough=False,
        )
    profiles = found.build_profiles(names)
    expected = {"whole": list(dict.fromkeys([*old, *new])), "arrived": new}
    if [tuple(row) for row in old] == [tuple(row) for row in new]:  # the same bytes: nothing has arrived
        del expected["arrived"]
    assert profiles.keys() == expected.keys()
    for scope, rows in expected.items():
        ours, theirs = flatten(profiles[scope]), profile_by_hand(rows, former)
        assert {name: pytest.approx(value) for name, value in theirs.items()} == ours, scope
    whole = profiles["whole"]
    assert (whole.n_read, whole.refused) == (found.report.n_read, found.report.refused)
    assert Profile.load(whole.dump()) == whole


def test_what_row_rules_refuse_is_told_of_what_arrived(tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    header = "user_id,item_id,kind,timestamp\n"
    texts = [
        "u1,i1,view,1700000000\nu1,i2,view,1700000000\n",
        "u1,i3,odd,1700000001\nu2,i1,view,never\nu2,i2,view,1700000002\n",
    ]
    for day, text in enumerate(texts):
        (tmp_path / "log" / f"{day}.csv").write_text(header + text)
        config = IngestConfig(log=str(tmp_path / "log"), kind_weights={"view": 1.0})
        found = ingest_log(config, ImagesConfig(), tmp_path / "raw", tmp_path / str(day), check_enough=False)
        profiles = found.build_profiles(None)
        assert ("arrived" in profiles) == (day == 1)
    arrived = profiles["arrived"]
    assert (arrived.n_read, arrived.n_events) == (3, 1)
    assert arrived.refused == {"bad_time": 1, "kind_not_counted": 1}
    assert arrived.refused_share == pytest.approx(2 / 3)
    assert (arrived.new_users, arrived.new_items) == (None, None)


def test_a_log_without_times_and_kinds_has_neither_in_its_profile(tmp_path: Path) -> None:
    frame = pl.DataFrame({"user_id": ["a", "a", "b"], "item_id": ["x", "y", "x"]})
    found = ingest_log(IngestConfig(), ImagesConfig(), tmp_path / "raw", tmp_path, frame=frame)
    whole = profile_interactions(found.interactions, {}, {})
    assert found.build_profiles(None) == {"whole": whole}
    assert (whole.times, whole.kinds) == (None, {})
    assert whole.per_item == {"least": 1, "p25": 1, "median": 1, "p75": 2, "p95": 2, "p99": 2, "most": 2, "mean": 1.5}
