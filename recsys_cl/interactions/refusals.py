"""The rows that were refused: comes in as frames of line, reason and content, goes out as one Parquet file, streamed.

Columns: file, line, reason, content. The content is the text of a line that could not be split, else a JSON object.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from recsys_cl.files import write_file
from recsys_cl.interactions.batches import REFUSED
from recsys_cl.interactions.raw import Part, make_parquet_writer
from recsys_cl.interactions.times import format_times
from recsys_cl.interactions.validation import write_content

COLUMNS = {"file": pl.String, **REFUSED}


@dataclass
class Refusals:
    """An open file of refused rows; `counts` by reason."""

    _write: Callable[[pl.DataFrame], None]
    counts: Counter[str] = field(default_factory=Counter)

    def add(self, file: str, refused: pl.DataFrame) -> None:
        """Add rows of one file: line, reason, content."""
        self._write(refused.select(pl.lit(file).alias("file"), *REFUSED))
        self.counts.update(dict(refused["reason"].value_counts().iter_rows()))

    def add_events(self, part: Part, events: pl.DataFrame) -> None:
        """Add events of one source that a rule refuses: line, reason, user, item and what else there is of them; the
        content names them as the source does, times as ISO 8601."""
        if not events.height:
            return
        fields = [events[role].alias(column) for role, column in part.columns.items() if role != "time"]
        if "time" in part.columns:
            fields.insert(2, format_times(events["time"]).alias(part.columns["time"]))
        content = write_content(pl.DataFrame(fields)).alias("content")
        self.add(part.name, events.select("line", "reason").with_columns(content))


@contextlib.contextmanager
def open_refusals(path: Path) -> Iterator[Refusals]:
    """A file of refused rows, which appears at `path` on leaving without an error."""
    with write_file(path) as temporary:
        writer, add = make_parquet_writer(temporary, COLUMNS)
        with writer:
            yield Refusals(add)


def count_refused(path: Path) -> dict[str, int]:
    """How many rows a file of refused rows holds, by reason."""
    found = pl.scan_parquet(path).group_by("reason").len().sort("reason").collect()
    return dict(found.iter_rows())
