"""Times of any form as microseconds since 1970 UTC: numbers by unit, ISO 8601 text with or without a zone, timestamps.

A time without a zone is UTC.
"""

from __future__ import annotations

import polars as pl

from recsys_cl.errors import ConfigError

LATEST = 4_102_444_800_000_000  # 2100-01-01, in microseconds
_FACTORS = {"s": 1_000_000.0, "ms": 1_000.0, "us": 1.0, "ns": 0.001}
# The middle number of a sample, as seconds: beyond the year 5000 it can only be a finer unit.
_BOUNDS = ((1e11, "s"), (1e14, "ms"), (1e17, "us"))
_SAMPLE = 1000
_ISO = (
    r"^\s*(\d{4})-(\d{2})-(\d{2})(?:[Tt ]+(\d{2}):(\d{2})(?::(\d{2})(?:[.,](\d+))?)?)?"
    r"\s*(?:([Zz]|UTC|GMT)|([+-])(\d{2}):?(\d{2})?)?\s*$"
)


def choose_unit(values: pl.Series) -> str:
    """The unit of numeric times, by the magnitude of the first thousand; `auto` where none is a number."""
    numbers = _parse_numbers(values.drop_nulls().head(_SAMPLE)) if _may_be_numeric(values) else None
    if numbers is None:
        return "auto"
    middle = numbers.filter(numbers.is_finite() & (numbers >= 0)).median()
    if not isinstance(middle, float):
        return "auto"
    return next((unit for bound, unit in _BOUNDS if middle < bound), "ns")


def parse_times(values: pl.Series, unit: str) -> tuple[pl.Series, pl.Series, pl.Series]:
    """Times [n] int64 in microseconds (null where wrong), which are no times [n], which are absurd ones [n].

    unit: of numbers; `auto` only where no number has been seen. Absurd is before 1970, from 2100 on, and NaN.
    """
    if isinstance(values.dtype, pl.Datetime) or values.dtype == pl.Date:
        times = values.cast(pl.Datetime("us")).to_physical()
        return _judge(times.cast(pl.Float64), times)
    if values.dtype == pl.String:
        return _parse_text(values, unit)
    if not _may_be_numeric(values):
        nothing = pl.Series([None], dtype=pl.Int64).new_from_index(0, len(values))
        return _judge(nothing.cast(pl.Float64), nothing)
    return _scale(values, unit)


def parse_bound(text: str, option: str) -> int | None:
    """A time in the configuration, ISO 8601, as microseconds UTC; None where it is empty. Raises ConfigError."""
    if not text:
        return None
    value = _judge_text(pl.Series([text]))[0][0]
    if value is None:
        raise ConfigError(f"{option} is {text!r}", "an ISO 8601 time, such as 2024-01-31 or 2024-01-31T12:00:00Z")
    return int(value)


def format_times(times: pl.Series) -> pl.Series:
    """Microseconds as ISO 8601 text in UTC: whole seconds where they are whole."""
    stamps = pl.col("t").cast(pl.Datetime("us"))
    text = pl.when(pl.col("t") % 1_000_000 == 0).then(stamps.dt.strftime("%Y-%m-%dT%H:%M:%SZ"))
    return times.to_frame("t").select(text.otherwise(stamps.dt.strftime("%Y-%m-%dT%H:%M:%S%.6fZ"))).to_series()


def _may_be_numeric(values: pl.Series) -> bool:
    return values.dtype.is_numeric() or values.dtype == pl.String


def _parse_numbers(values: pl.Series) -> pl.Series:
    text = values.str.strip_chars() if values.dtype == pl.String else values
    return text.cast(pl.Float64, strict=False)


def _scale(values: pl.Series, unit: str) -> tuple[pl.Series, pl.Series, pl.Series]:
    """Numbers in a unit; whole numbers without a detour over floats, which are exact only up to 2**53."""
    factor = _FACTORS["s" if unit == "auto" else unit]
    rough = values.cast(pl.Float64) * factor
    sane = rough.is_finite() & (rough >= 0) & (rough < LATEST)
    if values.dtype.is_integer():
        safe = values.set(~sane.fill_null(False), None).cast(pl.Int64)
        return _judge(rough, safe * int(factor) if factor >= 1 else safe // int(1 / factor))
    return _judge(rough, rough.set(~sane.fill_null(False), None).round().cast(pl.Int64))


def _judge(rough: pl.Series, times: pl.Series) -> tuple[pl.Series, pl.Series, pl.Series]:
    bad = rough.is_null()
    absurd = ((rough < 0) | (rough >= LATEST) | rough.is_nan()).fill_null(False)
    return times.set(bad | absurd, None), bad, absurd


def _parse_text(values: pl.Series, unit: str) -> tuple[pl.Series, pl.Series, pl.Series]:
    """Text is a whole number, any number, or ISO 8601: each tried only on what those before have left."""
    stripped = values.str.strip_chars()
    whole = stripped.cast(pl.Int64, strict=False)
    if whole.null_count() == stripped.null_count():
        return _scale(whole, unit)
    numbers = stripped.cast(pl.Float64, strict=False)
    from_number, _, absurd_number = _scale(numbers, unit)
    from_whole, _, _ = _scale(whole, unit)
    exact = from_whole.zip_with(from_whole.is_not_null(), from_number)
    left = numbers.is_null() & stripped.is_not_null()
    if not left.any():
        return exact, numbers.is_null(), absurd_number
    from_text, _, absurd_text = _judge_text(stripped.set(~left, None))
    times = exact.zip_with(~left, from_text)
    absurd = absurd_number | absurd_text
    return times, times.is_null() & ~absurd, absurd


def _judge_text(text: pl.Series) -> tuple[pl.Series, pl.Series, pl.Series]:
    """ISO 8601 text. A leap second counts as the second after it; digits behind the microseconds are dropped."""
    names = ["year", "month", "day", "hour", "minute", "second", "fraction", "utc", "sign", "zone_h", "zone_m"]
    parts = text.to_frame("t").select(pl.col("t").str.extract_groups(_ISO).struct.rename_fields(names)).unnest("t")
    number = {name: pl.col(name).cast(pl.Int64, strict=False).fill_null(0) for name in names if name != "utc"}
    valid = (
        pl.col("year").is_not_null()
        & number["month"].is_between(1, 12)
        & number["day"].is_between(1, 31)
        & (number["hour"] < 24)
        & (number["minute"] < 60)
        & (number["second"] <= 60)
        & (number["zone_h"] < 24)
        & (number["zone_m"] < 60)
    )
    date = pl.concat_str("year", "month", "day", separator="-").str.to_date("%Y-%m-%d", strict=False)
    seconds = (number["hour"] * 60 + number["minute"]) * 60 + number["second"]
    zone = (number["zone_h"] * 60 + number["zone_m"]) * 60 * pl.when(pl.col("sign") == "-").then(-1).otherwise(1)
    fraction = pl.col("fraction").str.slice(0, 6).str.pad_end(6, "0").cast(pl.Int64, strict=False).fill_null(0)
    total = (date.cast(pl.Int64) * 86_400 + seconds - zone) * 1_000_000 + fraction
    times = parts.select(pl.when(valid).then(total)).to_series()
    return _judge(times.cast(pl.Float64), times)
