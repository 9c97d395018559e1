"""Catalog: the items that can be retrieved, with what is known of them; item_id <-> row.

Comes in as the items of the log joined with an attribute file; goes out as one memory-mapped Arrow file.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from recsys_cl.errors import InputError
from recsys_cl.ids import IdMap, read_arrow, to_arrow, write_arrow

ID = "item_id"
TITLE = "title"
IMAGE = "image_path"
RESERVED = (ID, TITLE, IMAGE)
_MOST_NAMED = 20  # attributes


@dataclass(frozen=True)
class Catalog:
    """items: item_id of each row. columns: a table with a line for each row, all columns strings or null:
    `title`, `image_path` and attributes, each only where the items file has it; item_id is not among them."""

    items: IdMap
    columns: pa.Table

    def __post_init__(self) -> None:
        if self.columns.num_columns and self.columns.num_rows != len(self.items):
            raise ValueError(f"{self.columns.num_rows} lines for {len(self.items)} items")

    def __len__(self) -> int:
        return len(self.items)

    @staticmethod
    def build(items: IdMap, attributes: pl.DataFrame | None = None) -> Catalog:
        """Join items with attributes (a frame with item_id and string columns); the first line of an id counts."""
        return Catalog(items, pa.table({}) if attributes is None else join_attributes(items, attributes, ID))

    @property
    def attributes(self) -> list[str]:
        """Names of the columns besides title and image path."""
        return [name for name in self.columns.column_names if name not in RESERVED]

    def get_attribute(self, name: str) -> pl.Series:
        """The values of an attribute, by row. Raises InputError for one that there is not, naming those there are."""
        known = self.attributes
        if name not in known:
            there = ", ".join(repr(one) for one in known[:_MOST_NAMED]) or "none"
            raise InputError(f"items have no attribute {name[:80]!r}", f"one that they have: {there}")
        return pl.Series(name, self.columns.column(name), dtype=pl.String)

    def describe(self, row: int) -> dict[str, Any]:
        """What is known of one item: `{"item_id": …, "title": …, …}`; what is null is left out."""
        known = {name: self.columns.column(name)[row].as_py() for name in self.columns.column_names}
        return {ID: self.items.get_id(row)} | {name: value for name, value in known.items() if value is not None}

    def get_titles(self, rows: NDArray[np.integer]) -> pl.Series | None:
        """Titles at many rows, or None where the catalog has no titles."""
        if TITLE not in self.columns.column_names:
            return None
        taken = self.columns.column(TITLE).take(to_arrow(np.asarray(rows, dtype=np.int64)))
        return pl.Series(TITLE, taken.combine_chunks(), dtype=pl.String)

    def to_frame(self) -> pl.DataFrame:
        """The whole catalog as a frame, item_id first."""
        frame = pl.DataFrame({ID: self.items.to_series()})
        if not self.columns.num_columns:
            return frame
        return frame.hstack(pl.DataFrame(pl.from_arrow(self.columns)))

    def write(self, path: Path) -> None:
        """Write one Arrow IPC file, whole or not at all."""
        table = pa.table({ID: self.items.array, **{c: self.columns.column(c) for c in self.columns.column_names}})
        write_arrow(path, table)

    @staticmethod
    def read(path: Path) -> Catalog:
        """Map the file written by `write`. Raises StoreError where it is not one."""
        table = read_arrow(path, ID)
        return Catalog(IdMap.of_column(table.column(ID)), table.drop_columns([ID]))


def join_attributes(ids: IdMap, attributes: pl.DataFrame, id_column: str) -> pa.Table:
    """A line for each id, in row order, of the other columns as strings; the first line of an id counts."""
    known = attributes.unique(subset=id_column, keep="first", maintain_order=True)
    joined = pl.DataFrame({id_column: ids.to_series()}).join(known, on=id_column, how="left", maintain_order="left")
    columns = joined.drop(id_column).select(pl.all().cast(pl.String))
    return columns.to_arrow(compat_level=pl.CompatLevel.oldest())
