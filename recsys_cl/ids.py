"""External ids and their rows: comes in any set of strings, goes out a two-way map, memory-mapped from disk.

Rows follow the byte order of the ids' UTF-8 form, so a lookup is a binary search in a file that was only mapped:
no hash table to build, milliseconds to open whatever the number of ids. Memory: the bytes of the ids that are touched.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from recsys_cl.arrow_guard import map_table
from recsys_cl.errors import StoreError
from recsys_cl.files import write_file

COLUMN = "id"
_FEW = 64  # ids


@dataclass(frozen=True)
class IdMap:
    """Distinct ids in byte order; the position of an id is its row."""

    array: pa.LargeStringArray

    @staticmethod
    def build(ids: Iterable[str] | pl.Series) -> IdMap:
        """Sort and deduplicate `ids`. Raises ValueError for a null."""
        series = ids if isinstance(ids, pl.Series) else pl.Series(COLUMN, list(ids), dtype=pl.String)
        if series.null_count():
            raise ValueError("an id is null")
        chunks = series.unique().sort().to_arrow(compat_level=pl.CompatLevel.oldest())
        return IdMap(chunks.cast(pa.large_string()))

    def __len__(self) -> int:
        return len(self.array)

    def find_row(self, wanted: str) -> int | None:
        """The row of one id, or None; a binary search of log2(n) steps."""
        try:
            key = wanted.encode("utf-8")
        except UnicodeEncodeError:
            return None  # lone surrogates: no valid UTF-8, so never an id of ours
        low, high = 0, len(self.array)
        while low < high:
            middle = (low + high) // 2
            found = self.array[middle].as_py().encode("utf-8")
            if found == key:
                return middle
            low, high = (middle + 1, high) if found < key else (low, middle)
        return None

    def find_rows(self, wanted: pl.Series) -> NDArray[np.int64]:
        """Rows of many ids [n], -1 where unknown; one hash join."""
        known = pl.DataFrame({COLUMN: self.to_series(), "row": np.arange(len(self), dtype=np.int64)})
        found = pl.DataFrame({COLUMN: wanted.cast(pl.String)}).join(known, on=COLUMN, how="left", maintain_order="left")
        return found["row"].fill_null(-1).to_numpy()

    def find_texts(self, wanted: Sequence[str] | pl.Series) -> NDArray[np.int64]:
        """As `find_rows`, for texts of any form: a few by a binary search each, instead of a hash table of all ids."""
        if len(wanted) > _FEW:
            with contextlib.suppress(UnicodeEncodeError):  # one that no id can be: then each by itself
                return self.find_rows(pl.Series(wanted, dtype=pl.String))
        found = [self.find_row(one) for one in wanted]
        return np.array([-1 if row is None else row for row in found], dtype=np.int64)

    def get_id(self, row: int) -> str:
        """The id at one row."""
        return str(self.array[row].as_py())

    def get_ids(self, rows: Sequence[int] | NDArray[np.integer]) -> pl.Series:
        """The ids at many rows, as a polars String series."""
        return pl.Series(COLUMN, self.array.take(to_arrow(np.asarray(rows, dtype=np.int64))), dtype=pl.String)

    def to_series(self) -> pl.Series:
        """All ids in row order."""
        return pl.Series(COLUMN, self.array, dtype=pl.String)

    def write(self, path: Path) -> None:
        """Write an Arrow IPC file of one column, whole or not at all."""
        write_arrow(path, pa.table({COLUMN: self.array}))

    @staticmethod
    def read(path: Path) -> IdMap:
        """Map the file written by `write`. Raises StoreError where it is not one."""
        return IdMap.of_column(read_arrow(path, COLUMN).column(COLUMN))

    @staticmethod
    def of_column(column: pa.ChunkedArray) -> IdMap:
        """Take a column that is already sorted and distinct, as `write` left it."""
        return IdMap(column.chunk(0) if column.num_chunks else pa.array([], pa.large_string()))


def to_arrow(values: NDArray[Any]) -> pa.Array:
    """Numbers as an Arrow array; not by `pa.array`, which imports pandas, more than half of a lookup's start."""
    return pl.Series(values).to_arrow()


def write_arrow(path: Path, table: pa.Table) -> None:
    """Write a table as one Arrow IPC file of one batch, whole or not at all."""
    with write_file(path) as temporary, pa.OSFile(str(temporary), "wb") as sink:
        writer = pa.ipc.new_file(sink, table.schema)
        writer.write_table(table.combine_chunks(), max_chunksize=max(1, table.num_rows))
        writer.close()


def read_arrow(path: Path, column: str) -> pa.Table:
    """Map a table written by `write_arrow`; StoreError where it is not one, or lacks `column`, whole and of ids."""
    try:
        table = map_table(path)
        found = table.column(column)
        if found.type != pa.large_string() or found.num_chunks > 1 or found.null_count:
            raise KeyError(f"{column} is {found.type} in {found.num_chunks} parts, {found.null_count} of it null")
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:  # ValueError: names that are no text
        raise StoreError(f"{path} is not an Arrow file with the column {column} ({error})") from error
    return table
