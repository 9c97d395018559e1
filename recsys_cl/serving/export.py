"""Exports: comes in an open release, goes out one Parquet file with the best items of every user, or of every item.

Exact, and blocked: memory is that of a block of queries and the item vectors, whatever the number of users.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
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
from recsys_cl.serving.image_lookup import By, get_images
from recsys_cl.serving.lookup import NEIGHBOR_ID, Release, empty_bags
from recsys_cl.serving.spaces import BEHAVIOR, BY_IMAGE, IMAGE

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

    job = _Job(parts.users, take, parts.item_vectors, parts.catalog.items)
    return _export(release, out, k, ((USER_ID, ID, "export recommendations"), [job]), progress, block_rows)


def export_neighbors(
    release: Release,
    out: Path,
    k: int,
    progress: Progress = report_nothing,
    block_rows: int = BLOCK_ROWS,
    by: By = "behavior",
) -> int:
    """Write the k nearest items of every item: item_id, neighbor_id, score, rank (from 1), space, release; gives the
    lines.

    space: which one answered, `behavior`; `behavior_by_image` for items that have a picture and no event, which come
    last; or, by `image`, `image` for all that have a picture. Otherwise as `export_recommendations`.
    """
    if by == "image":
        images, _ = get_images(release)
        take = _ask_with(images.queries, Bags.of_items)
        jobs = [_Job(images.items, take, images.vectors, images.items, space=IMAGE)]
    else:
        items, vectors = release.parts.catalog.items, release.parts.item_vectors
        jobs = [
            _Job(items, lambda rows: (release.encode_items(rows), Bags.of_items(rows)), vectors, items, space=BEHAVIOR)
        ]
        images_or_none = release.parts.images
        if images_or_none is not None and np.any(images_or_none.places):
            new = np.flatnonzero(items.find_rows(images_or_none.items.to_series()) < 0)
            take = _ask_with(images_or_none.places, lambda rows: empty_bags(len(rows)))
            jobs.append(_Job(images_or_none.items, take, vectors, items, new, BY_IMAGE))
    return _export(release, out, k, ((ID, NEIGHBOR_ID, "export neighbors"), jobs), progress, block_rows)


_Take = Callable[[NDArray[np.int64]], tuple[NDArray[np.float32], Bags]]  # rows -> queries, what each leaves out


@dataclass(frozen=True)
class _Job:
    """Who asks, with what, among which vectors of which items; rows: of those who ask, None for all."""

    ids: IdMap
    take: _Take
    vectors: NDArray[np.float32]
    items: IdMap
    rows: NDArray[np.int64] | None = None
    space: str | None = None

    @property
    def asking(self) -> NDArray[np.int64]:
        """The rows of those who ask."""
        return np.arange(len(self.ids)) if self.rows is None else self.rows


def _ask_with(queries: NDArray[np.float32], leave_out: Callable[[NDArray[np.int64]], Bags]) -> _Take:
    return lambda rows: (queries[rows], leave_out(rows))


def _export(
    release: Release,
    out: Path,
    k: int,
    work: tuple[tuple[str, str, str], list[_Job]],
    progress: Progress,
    block_rows: int,
) -> int:
    """work: the columns of who asks and of what is answered, what this is called, and the jobs."""
    (asking, answered, what), jobs = work
    _check_k(release, k, jobs[0])
    check_out(out)
    n_lines, done, total = 0, 0, sum(len(job.asking) for job in jobs)
    text, category = pa.large_string(), pa.dictionary(pa.int32(), pa.string())
    fields = [(asking, text), (answered, text), ("score", pa.float32()), ("rank", pa.int32())]
    fields += [("space", category)] * (jobs[0].space is not None) + [("release", category)]
    schema = pa.schema(fields)
    try:
        with write_file(out) as temporary, pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
            for job in jobs:
                for start in range(0, len(job.asking), block_rows):
                    progress(what, done, total, f"{done:,} of {total:,}")
                    rows = job.asking[start : start + block_rows]
                    queries, seen = job.take(rows)
                    block = _build_block(release, job, rows, search_exact(queries, job.vectors, k, seen), schema)
                    writer.write_table(block)
                    n_lines, done = n_lines + block.num_rows, done + len(rows)
    except OSError as error:
        raise InputError(
            f"{out} cannot be written ({error.strerror or error})",
            "a folder with room for it",
            "nothing was left there",
        ) from error
    progress(what, total, total, f"{n_lines:,} lines")
    return n_lines


def _check_k(release: Release, k: int, job: _Job) -> None:
    if job.space != IMAGE:
        release.check_k(k)
    elif not 1 <= k <= len(job.items):
        raise InputError(f"k is {k}", f"1 to {len(job.items)}, the number of pictures in release {release.version}")


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


def _build_block(release: Release, job: _Job, rows: NDArray[np.int64], found: Neighbors, schema: pa.Schema) -> pa.Table:
    lines, places = np.nonzero(found.rows >= 0)
    columns = [
        job.ids.array.take(to_arrow(rows[lines])),
        job.items.array.take(to_arrow(found.rows[lines, places])),
        to_arrow(found.scores[lines, places]),
        to_arrow((places + 1).astype(np.int32)),
        *(_repeat(name, len(lines)) for name in (job.space, release.version) if name is not None),
    ]
    return pa.Table.from_arrays(columns, schema=schema)


def _repeat(name: str, n: int) -> pa.DictionaryArray:
    codes = to_arrow(np.zeros(n, dtype=np.int32))
    return pa.DictionaryArray.from_arrays(codes, pl.Series([name]).to_arrow().cast(pa.string()))
