"""Validation of single rows: comes in as a batch of any source, goes out as events with exact types, and refused rows.

Here is decided what a row *is*: ids as strings, times in microseconds UTC, weights as positive numbers. Which events
*count* is decided later, by the rules, so that a change of rules need not read the log again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl

from recsys_cl.interactions.batches import REFUSED, Batch
from recsys_cl.interactions.schema import Role
from recsys_cl.interactions.times import choose_unit, parse_times

EVENT_TYPES: Mapping[str, pl.DataType] = {
    "line": pl.Int64(),
    "user": pl.String(),
    "item": pl.String(),
    "time": pl.Int64(),
    "kind": pl.String(),
    "weight": pl.Float64(),
}
_EXACT_FLOAT = 2.0**63
_LARGEST, _SMALLEST = 1e9, float(np.finfo(np.float32).tiny)  # sums of weights stay finite in float32


@dataclass(frozen=True)
class Validated:
    """events: line, user, item and those of time, kind, weight that the source has, as `EVENT_TYPES`.

    refused: line, reason, content. unit: that of numeric times, once a batch has shown it.
    """

    events: pl.DataFrame
    refused: pl.DataFrame
    unit: str


def validate_batch(batch: Batch, columns: Mapping[Role, str], unit: str) -> Validated:
    """Turn the rows of a batch into events; the first thing wrong with a row is its reason.

    columns: the column of each role. unit: `s`, `ms`, `us`, `ns`, or `auto` to decide from this batch.
    """
    if not batch.rows.height:
        return Validated(empty_events(columns), batch.broken, unit)
    parts: dict[str, pl.Series] = {"line": batch.lines}
    parts["user"] = render_ids(batch.rows[columns["user"]])
    parts["item"] = render_ids(batch.rows[columns["item"]])
    wrong = [
        pl.when(pl.col("user").is_null() | (pl.col("user") == "")).then(pl.lit("missing_user_id")),
        pl.when(pl.col("item").is_null() | (pl.col("item") == "")).then(pl.lit("missing_item_id")),
    ]
    if "time" in columns:
        unit = choose_unit(batch.rows[columns["time"]]) if unit == "auto" else unit
        parts["time"], parts["bad_time"], parts["absurd"] = parse_times(batch.rows[columns["time"]], unit)
        wrong.append(pl.when(pl.col("bad_time")).then(pl.lit("bad_time")))
        wrong.append(pl.when(pl.col("absurd")).then(pl.lit("absurd_time")))
    if "kind" in columns:
        parts["kind"] = render_ids(batch.rows[columns["kind"]]).fill_null("")
    if "weight" in columns:
        parts["weight"] = parse_weights(batch.rows[columns["weight"]])
        bad = pl.col("weight").is_null() | pl.col("weight").is_nan() | (pl.col("weight").abs() > _LARGEST)
        wrong.append(pl.when(bad).then(pl.lit("bad_weight")))
        wrong.append(pl.when(pl.col("weight") < _SMALLEST).then(pl.lit("weight_not_positive")))
    frame = pl.DataFrame([series.alias(name) for name, series in parts.items()])
    reasons = frame.select(pl.coalesce(wrong).alias("reason")).to_series()
    good = reasons.is_null()
    events = frame.select(name for name in EVENT_TYPES if name in parts)
    if good.all():
        return Validated(events, batch.broken, unit)
    refused = pl.DataFrame(
        {
            "line": batch.lines.filter(~good),
            "reason": reasons.filter(~good),
            "content": write_content(batch.rows.filter(~good)),
        },
        schema=REFUSED,
    )
    return Validated(events.filter(good), pl.concat([batch.broken, refused]), unit)


def empty_events(columns: Mapping[Role, str]) -> pl.DataFrame:
    """A frame of no events, for a source with these roles."""
    kept = {name: dtype for name, dtype in EVENT_TYPES.items() if name == "line" or name in columns}
    return pl.DataFrame(schema=kept)


def write_content(rows: pl.DataFrame) -> pl.Series:
    """Each row as a JSON object of its columns."""
    return rows.select(pl.struct(pl.all()).struct.json_encode().alias("content")).to_series()


def render_ids(values: pl.Series) -> pl.Series:
    """Ids of any type as strings: text as it is, whole numbers without a point, NaN and null as null."""
    dtype = values.dtype
    if dtype == pl.String:
        return values
    if dtype.is_float():
        wide = values.cast(pl.Float64)
        whole = wide.is_finite() & (wide == wide.floor()) & (wide.abs() < _EXACT_FLOAT)
        digits = wide.set(~whole.fill_null(False), None).cast(pl.Int64).cast(pl.String)
        return digits.zip_with(whole.fill_null(False), values.fill_nan(None).cast(pl.String))
    if isinstance(dtype, pl.List | pl.Array | pl.Struct):
        return write_content(values.to_frame())
    return values.cast(pl.String)


def parse_weights(values: pl.Series) -> pl.Series:
    """Weights as float64; null where there is no number."""
    if values.dtype == pl.String:
        return values.str.strip_chars().cast(pl.Float64, strict=False)
    if values.dtype.is_numeric() or values.dtype in (pl.Boolean, pl.Null):
        return values.cast(pl.Float64, strict=False)
    return pl.Series(values.name, [None], dtype=pl.Float64).new_from_index(0, len(values))
