"""A survey: comes in a log, goes out how large it is, from a sample of it where it is long; nothing is kept.

The sample is blocks that are spread evenly over the files, read and judged as an ingest would. How many ids there are
follows from how many lie in one block and in two (Chao and Jost, Ecology 2012, for blocks as sampling units): a log
that is sorted by user gives each user in one block, one that is sorted by time the same users in many, and the estimate
is right for both. A log is read whole where it is short, where it is compressed as a whole, comes from a database, or
where a k-core is wanted, of which a part tells nothing.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from recsys_cl.config import ImagesConfig, IngestConfig, is_url
from recsys_cl.files import measure_folder
from recsys_cl.interactions.ingest import ingest_log
from recsys_cl.interactions.raw import Part, read_ledger
from recsys_cl.interactions.rules import check_row_rules
from recsys_cl.interactions.sources import SourceFile, open_log
from recsys_cl.interactions.table import Interactions
from recsys_cl.interactions.text import split_codec
from recsys_cl.progress import Progress, report_nothing

N_BLOCKS = 64
WHOLE_BYTES = 32 << 20
"""Logs up to this size are read whole."""
_BLOCK_BYTES = 256 << 10
_CORE_WORD = "a k-core cannot be told from a part of the log"


@dataclass(frozen=True)
class Survey:
    """How large a log is. n_read: rows; n_events: those that the rules keep; n_pairs: distinct pairs of user and item.

    share: of the log that was read, 1 where the figures are exact. raw_bytes: of the store's cache of it. ids_bytes: of
    all distinct ids. roles: what the log has columns for. seconds: that an ingest of all takes at the pace of this one.
    sample: the interactions that were read, mapped from the folder of the survey. notes: how it was read, for people.
    """

    n_read: int
    n_events: int
    n_users: int
    n_items: int
    n_pairs: int
    share: float
    raw_bytes: int
    ids_bytes: int
    roles: frozenset[str]
    seconds: float
    sample: Interactions
    notes: list[str]


def survey_log(config: IngestConfig, images: ImagesConfig, work: Path, progress: Progress = report_nothing) -> Survey:
    """Survey `config.log`; work: an empty folder for the sample, which takes up to 16 MiB, or as the parsed
    log where that is read whole. What earlier runs have read plays no part. Raises ConfigError and LogError."""
    config = config.model_copy(update={"items": "", "users": "", "incremental": False})
    log, share, notes = _sample_log(config, work / "sample")
    started = time.perf_counter()
    sampled = config.model_copy(update={"log": log})
    found = ingest_log(sampled, images, work / "raw", work / "run", progress, check_enough=share == 1)
    seconds = time.perf_counter() - started
    report, interactions = found.report, found.interactions
    n_read, n_events = (round(n / share) for n in (report.n_read, report.n_events))
    n_users, n_items = report.n_users, report.n_items
    n_pairs = len(interactions.to_bags().item_rows)
    if share < 1:
        parts = read_ledger(work / "raw")
        ids = _count_blocks(parts, work / "raw", config)
        n_users, n_items, n_pairs = (_extrapolate(counts, len(parts), share) for counts in ids)
    ids_bytes = sum(
        round(float(np.mean(ids.to_series().str.len_bytes().to_numpy())) * n)
        for ids, n in ((interactions.users, n_users), (interactions.items, n_items))
    )
    return Survey(
        n_read=n_read,
        n_events=n_events,
        n_users=min(n_users, n_events),
        n_items=min(n_items, n_events),
        n_pairs=min(n_pairs, n_events),
        share=share,
        raw_bytes=round(measure_folder(work / "raw") / share),
        ids_bytes=ids_bytes,
        roles=frozenset(report.columns),
        seconds=seconds / share,
        sample=interactions,
        notes=notes,
    )


def _sample_log(config: IngestConfig, folder: Path) -> tuple[str, float, list[str]]:
    """What to read: the log itself or blocks of it below `folder`, the share of it that is, and how, for people."""
    if not config.log or is_url(config.log):
        return config.log, 1.0, ["read whole: a query cannot be sampled"] if config.log else []
    files, _ = open_log(config.log, config.format, config.delimiter, config.quoted)
    total = sum(file.size_bytes for file in files)
    if total <= WHOLE_BYTES:
        return config.log, 1.0, []
    if any(split_codec(file.path)[1] is not None for file in files):
        return config.log, 1.0, ["read whole: it is compressed as a whole, and cannot be sampled"]
    if config.core_users > 1 or config.core_items > 1:
        return config.log, 1.0, [f"read whole: {_CORE_WORD}"]
    folder.mkdir(parents=True)
    cut = _cut_parquet if files[0].layout.form == "parquet" else _cut_text
    share = cut(files, total, folder)
    return str(folder), share, [f"{share:.1%} of the log was read, in {N_BLOCKS} blocks; ids are extrapolated"]


def _cut_text(files: Sequence[SourceFile], total: int, folder: Path) -> float:
    """Write blocks of whole lines under the header of their file; the share of the bytes that they are."""
    ends = np.cumsum([file.size_bytes for file in files])
    taken = 0
    for block, place in enumerate(_spread_blocks(total, _BLOCK_BYTES)):
        number = int(np.searchsorted(ends, place, side="right"))
        file = files[number]
        with file.path.open("rb") as source:
            header = b"".join(source.readline() for _ in range(file.layout.header_lines))
            source.seek(max(len(header), int(place - (ends[number] - file.size_bytes)) - 1))
            if source.tell() > len(header):
                source.readline()  # the rest of a line that began before
            rows = source.read(_BLOCK_BYTES) + source.readline()
        taken += len(rows)
        (folder / f"{block:03}{file.path.suffix}").write_bytes(header + rows)
    return taken / (total - len(header) * len(files))


def _spread_blocks(total: int, size: int) -> NDArray[np.int64]:
    """Where blocks of `size` begin that lie in the middle of equal parts of `total`."""
    middles = (np.arange(N_BLOCKS) + 0.5) * total / N_BLOCKS
    return np.maximum(middles - size / 2, 0).astype(np.int64)


def _cut_parquet(files: Sequence[SourceFile], total: int, folder: Path) -> float:
    """The same of Parquet files, from row groups that are spread evenly; the share of the rows."""
    groups: list[tuple[Path, int, int]] = []
    for file in files:
        with pq.ParquetFile(str(file.path)) as source:
            sizes = [source.metadata.row_group(group).num_rows for group in range(source.num_row_groups)]
        groups += [(file.path, group, size) for group, size in enumerate(sizes)]
    n_rows = sum(size for *_, size in groups)
    ends = np.cumsum([size for *_, size in groups])
    block_rows = max(1, n_rows * _BLOCK_BYTES // total)
    taken, held, table = 0, -1, pa.table({})
    for block, place in enumerate(_spread_blocks(n_rows, block_rows)):
        number = int(np.searchsorted(ends, place, side="right"))
        path, group, size = groups[number]
        if held != number:
            with pq.ParquetFile(str(path)) as source:
                held, table = number, source.read_row_group(group)
        rows = table.slice(int(place - (ends[number] - size)), block_rows)
        taken += rows.num_rows
        pq.write_table(rows, folder / f"{block:03}.parquet")
    return taken / n_rows


def _count_blocks(parts: Sequence[Part], raw: Path, config: IngestConfig) -> list[NDArray[np.int64]]:
    """In how many blocks each user, each item and each pair lies: three arrays.

    The id that a block opens with may have begun before it, in a log that is sorted by it; its first rows do not count.
    """
    reasons = check_row_rules(config).find_reasons()
    blocks = [part.scan(raw).filter(reasons.is_null()) for part in parts if part.n_events]
    counted = []
    for opening, key in (("user", ["user"]), ("item", ["item"]), ("user", ["user", "item"])):
        begun = (pl.col(opening) != pl.col(opening).first()).cast(pl.Int8).cum_max() == 1
        ids = [block.filter(begun).select(key).unique() for block in blocks]
        counted.append(pl.concat(ids).group_by(key).len().collect()["len"].to_numpy().astype(np.int64))
    return counted


def _extrapolate(n_blocks: NDArray[np.int64], total: int, share: float) -> int:
    """Distinct ids of a whole of which `total` blocks are `share`; n_blocks [n]: in how many blocks each id lies.

    Once and twice seen ids tell how many were not seen at all, and how fast more blocks would bring them.
    """
    n, once, twice = len(n_blocks), int(np.sum(n_blocks == 1)), int(np.sum(n_blocks == 2))
    unseen = (total - 1) / total * (once * once / (2 * twice) if twice else once * (once - 1) / 2)
    if not unseen:
        return n
    more = total * (1 / share - 1)
    found = unseen * (1 - (1 - once / (total * unseen + once)) ** more)
    return n + round(float(found))
