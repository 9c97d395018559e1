"""A batch: rows of a source with the line of each, and the lines that are no rows; what every reader gives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import polars as pl

REFUSED = {"line": pl.Int64, "reason": pl.String, "content": pl.String}
Advance = Callable[[int], None]
"""Told the bytes of a source that have been read so far."""


@dataclass(frozen=True)
class Batch:
    """rows: a frame with a column for each of the header. lines [n_rows] int64: where each row lies.

    broken: lines that could not be split into columns, as (line, reason, content).
    """

    rows: pl.DataFrame
    lines: pl.Series
    broken: pl.DataFrame

    def __post_init__(self) -> None:
        if len(self.lines) != self.rows.height:
            raise ValueError(f"{len(self.lines)} lines for {self.rows.height} rows")


def make_refused(rows: Sequence[tuple[int, str, str]]) -> pl.DataFrame:
    """A frame of refused lines from (line, reason, content)."""
    return pl.DataFrame(rows, schema=REFUSED, orient="row")


def refuse_not_utf8(broken: Sequence[tuple[int, str]]) -> list[tuple[int, str, str]]:
    """Lines that are not UTF-8, as (line, text), with their reason."""
    return [(line, "invalid_utf8", content) for line, content in broken]
