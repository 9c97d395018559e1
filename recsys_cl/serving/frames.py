"""Frames at the public surface: comes in a text, a list, polars or pandas; goes out the same kind of frame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import polars as pl

from recsys_cl.errors import InputError

if TYPE_CHECKING:  # pandas takes a second to import; who passes it has it already
    import pandas as pd

Ids: TypeAlias = "str | Sequence[str] | pl.Series | pl.DataFrame | pd.Series | pd.DataFrame"
Frame: TypeAlias = "pl.DataFrame | pd.DataFrame"


def is_pandas(value: object) -> bool:
    """Whether a value is pandas', without importing pandas."""
    return type(value).__module__.partition(".")[0] == "pandas"


def read_ids(value: Ids, column: str) -> pl.Series:
    """The ids of a value: a text is one id, a frame gives its column `column`. Raises InputError for anything else."""
    if isinstance(value, str):
        value = [value]
    frame = read_frame(value, column)
    if frame is not None:
        return _check_ids(frame.get_column(column), column)
    if is_pandas(value) or isinstance(value, pl.Series):
        series = value if isinstance(value, pl.Series) else pl.Series(column, list(value), strict=False)
        return _check_ids(series.alias(column), column)
    if not isinstance(value, Sequence) or not all(isinstance(part, str) for part in value):
        raise InputError(f"{column} is {_describe(value)}", "a text, a list of texts, or a polars or pandas frame")
    try:
        return pl.Series(column, list(value), dtype=pl.String)
    except UnicodeEncodeError as error:
        raise InputError(f"{column} holds {error.object!r}", "texts of valid Unicode") from None


def read_frame(value: object, column: str) -> pl.DataFrame | None:
    """A polars or pandas frame as polars, or None for anything else. Raises InputError where it lacks `column`."""
    frame = value
    if is_pandas(value) and hasattr(value, "columns"):
        frame = pl.DataFrame({str(name): value[name].tolist() for name in value.columns}, strict=False)  # type: ignore[index]
    if not isinstance(frame, pl.DataFrame):
        return None
    if column not in frame.columns:
        raise InputError(f"the frame has the columns {frame.columns}", f"a column {column!r}")
    return frame


def give_frame(frame: pl.DataFrame, like: object) -> Frame:
    """The frame as polars, or as pandas where `like` is pandas'."""
    if not is_pandas(like):
        return frame
    import pandas as pd

    columns: dict[str, Any] = {
        series.name: series.to_list() if series.dtype == pl.String else series.to_numpy() for series in frame
    }
    return pd.DataFrame(columns)


def _check_ids(series: pl.Series, column: str) -> pl.Series:
    # 50 and 50.0 and "050" would silently become other ids, or none: an id is a text, as the log has it.
    if series.dtype == pl.Null and not len(series):
        return series.cast(pl.String)
    if series.dtype != pl.String:
        raise InputError(f"{column} holds {series.dtype}", "texts: ids are strings, as the log has them")
    if series.null_count():
        raise InputError(f"{column} holds {series.null_count()} nulls", "an id on every line")
    return series


def _describe(value: object) -> str:
    text = repr(value)
    return f"{type(value).__name__} {text[:60]}"
