"""Exports: comes in an open release, goes out one Parquet file with the best items of every user, or of every item.

Exact, and blocked: memory is that of a block of queries and the item vectors, whatever the number of users.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from recsys_cl.bags import Bags
from recsys_cl.catalog import ID
from recsys_cl.errors import InputError
from recsys_cl.evaluation.topk import Neighbors, search_exact
from recsys_cl.files import write_file
from recsys_cl.ids import IdMap, to_arrow
from recsys_cl.progress import Progress, report_nothing
from recsys_cl.publishing.parts import USER_ID
from recsys_cl.serving.lookup import NEIGHBOR_ID, Release

BLOCK_ROWS = 16_384
"""Users or items answered at a time."""

_SUFFIXES = (".parquet", ".pq")


def export_recommendations(
    release: Release, out: Path, k: int, progress: Progress = report_nothing, block_rows: int = BLOCK_ROWS
) -> int:
    """Write the k best unseen items of every user: user_id, item_id, score, rank (from 1), release; gives the lines.

    Lines follow the rows of the users, then the rank; a user who has seen nearly all has fewer. Raises InputError for
    a bad k and where `out` cannot be written; then no file appears, and one that was there stays.
    """
    parts = release.parts

    def take(rows: NDArray[np.int64]) -> tuple[NDArray[np.float32], Bags]:
        return parts.user_vectors[rows], release.get_seen(rows)

    asked = (USER_ID, parts.users, ID)
    return _export(release, out, k, (asked, take, "export recommendations"), progress, block_rows)


def export_neighbors(
    release: Release, out: Path, k: int, progress: Progress = report_nothing, block_rows: int = BLOCK_ROWS
) -> int:
    """Write the k nearest items of every item: item_id, neighbor_id, score, rank (from 1), release; gives the lines.

    Otherwise as `export_recommendations`.
    """

    def take(rows: NDArray[np.int64]) -> tuple[NDArray[np.float32], Bags]:
        return release.encode_items(rows), Bags.of_items(rows)

    asked = (ID, release.parts.catalog.items, NEIGHBOR_ID)
    return _export(release, out, k, (asked, take, "export neighbors"), progress, block_rows)


_Asked = tuple[str, IdMap, str]  # column of who asks, their ids, column of what is answered
_Take = Callable[[NDArray[np.int64]], tuple[NDArray[np.float32], Bags]]  # rows -> queries, what each leaves out


def _export(
    release: Release, out: Path, k: int, job: tuple[_Asked, _Take, str], progress: Progress, block_rows: int
) -> int:
    (asking, ids, answered), take, what = job
    release.check_k(k)
    check_out(out)
    n_lines = 0
    text = pa.large_string()
    schema = pa.schema(
        [
            (asking, text),
            (answered, text),
            ("score", pa.float32()),
            ("rank", pa.int32()),
            ("release", pa.dictionary(pa.int32(), pa.string())),
        ]
    )
    try:
        with write_file(out) as temporary, pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
            for start in range(0, len(ids), block_rows):
                progress(what, start, len(ids), f"{start:,} of {len(ids):,}")
                rows = np.arange(start, min(start + block_rows, len(ids)))
                queries, seen = take(rows)
                found = search_exact(queries, release.parts.item_vectors, k, seen)
                block = _build_block(release, ids, rows, found, schema)
                writer.write_table(block)
                n_lines += block.num_rows
    except OSError as error:
        raise InputError(
            f"{out} cannot be written ({error.strerror or error})",
            "a folder with room for it",
            "nothing was left there",
        ) from error
    progress(what, len(ids), len(ids), f"{n_lines:,} lines")
    return n_lines


def check_out(out: Path) -> None:
    """Raise InputError unless a Parquet file can be put at `out`; makes nothing."""
    if out.suffix not in _SUFFIXES:
        raise InputError(f"the output is {out}", f"a file whose name ends in {' or '.join(_SUFFIXES)}")
    if out.is_dir():
        raise InputError(f"{out} is a folder", "the name of a file")
    if not out.parent.is_dir():
        raise InputError(
            f"there is no folder {out.parent}", "an existing folder", f"make it with: mkdir -p {out.parent}"
        )
    if not os.access(out.parent, os.W_OK | os.X_OK):
        raise InputError(f"the folder {out.parent} cannot be written", "a folder this user may write")


def _build_block(
    release: Release, ids: IdMap, rows: NDArray[np.int64], found: Neighbors, schema: pa.Schema
) -> pa.Table:
    lines, places = np.nonzero(found.rows >= 0)
    items = release.parts.catalog.items
    version = pa.DictionaryArray.from_arrays(
        to_arrow(np.zeros(len(lines), dtype=np.int32)), pl.Series([release.version]).to_arrow().cast(pa.string())
    )
    columns = [
        ids.array.take(to_arrow(rows[lines])),
        items.array.take(to_arrow(found.rows[lines, places])),
        to_arrow(found.scores[lines, places]),
        to_arrow((places + 1).astype(np.int32)),
        version,
    ]
    return pa.Table.from_arrays(columns, schema=schema)
