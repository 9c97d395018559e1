"""Times of every form mean the same moment; what is no time or no sane time is told apart."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_cl.errors import ConfigError
from recsys_cl.interactions.times import choose_unit, format_times, parse_bound, parse_times

MOMENT = 1_700_000_000_123_456
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def read(values: list[object], unit: str = "auto") -> list[object]:
    series = pl.Series("t", values, strict=False)
    times, bad, absurd = parse_times(series, choose_unit(series) if unit == "auto" else unit)
    return ["bad" if b else "absurd" if a else t for t, b, a in zip(times, bad, absurd, strict=True)]


@pytest.mark.parametrize(
    "value",
    [
        MOMENT,
        str(MOMENT),
        MOMENT * 1000 + 789,
        "2023-11-14T22:13:20.123456Z",
        "2023-11-14 22:13:20.123456",
        "2023-11-14T22:13:20.123456789+00:00",
        "2023-11-14T23:43:20.123456+01:30",
        "2023-11-14T20:13:20,123456-0200",
        "2023-11-14 22:13:20.123456 UTC",
        datetime(2023, 11, 14, 22, 13, 20, 123456),
        datetime(2023, 11, 14, 22, 13, 20, 123456, tzinfo=UTC),
        datetime(2023, 11, 15, 3, 13, 20, 123456, tzinfo=timezone(timedelta(hours=5))),
    ],
)
def test_one_moment_however_written(value: object) -> None:
    assert read([value]) == [MOMENT]


def test_units_follow_the_magnitude() -> None:
    assert read([1_700_000_000]) == read([1_700_000_000_000]) == read(["1700000000000000"]) == [1_700_000_000_000_000]
    assert read([1, 2, 3]) == [1_000_000, 2_000_000, 3_000_000]
    assert read([1.5, None]) == [1_500_000, "bad"]
    assert read(["1700000000.25"]) == [1_700_000_000_250_000]
    assert read([1_700_000_000], "ms") == [1_700_000_000_000]
    assert read([date(1970, 1, 2)]) == read(["1970-01-02"]) == [86_400_000_000]


def test_a_few_absurd_numbers_do_not_change_the_unit() -> None:
    assert read([1_700_000_000, 1_700_000_001, 9e18, -5]) == [
        1_700_000_000_000_000,
        1_700_000_001_000_000,
        "absurd",
        "absurd",
    ]


def test_what_is_no_time_and_what_is_no_sane_one() -> None:
    assert (
        read(["never", "", None, "2023-13-01", "2023-02-30", "2023-01-01T25:00", "12/31/2023", "tomorrow"])
        == ["bad"] * 8
    )
    assert read(["NaN", "-1", "1e30", "1969-12-31", "2100-01-01", "inf", "99999999999999999999"]) == ["absurd"] * 7
    assert read(["5", "x", "1970-01-01T00:00:06Z"]) == [5_000_000, "bad", 6_000_000]
    assert read([True]) == ["bad"]


@settings(deadline=None, max_examples=100)
@given(
    st.datetimes(datetime(1971, 1, 1), datetime(2099, 12, 30)),
    st.integers(-14 * 60, 14 * 60),
    st.sampled_from("T "),
)
def test_iso_text_agrees_with_the_standard_library(naive: datetime, minutes: int, between: str) -> None:
    moment = naive.replace(tzinfo=timezone(timedelta(minutes=minutes)))
    expected = (moment - EPOCH) // timedelta(microseconds=1)
    assert read([moment.isoformat(between)]) == [expected]
    assert parse_bound(moment.isoformat(between), "x") == expected
    text = format_times(pl.Series([expected]))[0]
    assert (datetime.fromisoformat(text) - EPOCH) // timedelta(microseconds=1) == expected


def test_a_bound_that_is_no_time_names_its_option() -> None:
    assert parse_bound("", "ingest.since") is None
    with pytest.raises(ConfigError, match=r"ingest\.since is 'soon'"):
        parse_bound("soon", "ingest.since")
