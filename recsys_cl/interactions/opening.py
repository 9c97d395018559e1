"""Opening: comes in where a log lies, goes out its columns, and its parts as they are read into the raw cache."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl

from recsys_cl.config import IngestConfig, is_url
from recsys_cl.errors import ConfigError
from recsys_cl.interactions.batches import Batch
from recsys_cl.interactions.raw import Part, parse_file, parse_stream
from recsys_cl.interactions.readers import slice_frame
from recsys_cl.interactions.schema import Role, recognize_columns
from recsys_cl.interactions.sources import SourceFile, check_delimiter, open_log, stamp_files
from recsys_cl.interactions.sql import open_query
from recsys_cl.interactions.times import format_times, parse_bound
from recsys_cl.progress import Progress

_FRAME_NAME = "frame"


@dataclass(frozen=True)
class Source:
    """A log that could be opened: the columns of each of its parts, and the function that parses them into `raw`,
    which gives the parts in order and the names of those that were not yet there. `notes` are for the report. files:
    size and time of change (nanoseconds) of each, as they were before the first was opened; none of a database."""

    columns: Sequence[dict[Role, str]]
    parse: Callable[[Path], tuple[list[Part], frozenset[str]]]
    notes: list[str]
    files: Mapping[str, tuple[int, int]] = field(default_factory=dict)


def bound_times(config: IngestConfig) -> IngestConfig:
    """Of a database, a window ends where its day, or its hour, ends; the sooner bound counts."""
    if not config.window or not is_url(config.log):
        return config
    begin = datetime.fromisoformat(config.window).replace(tzinfo=UTC)
    end = begin + (timedelta(hours=1) if "T" in config.window else timedelta(days=1))
    micros = int(end.timestamp()) * 1_000_000
    given = parse_bound(config.until, "ingest.until")
    micros = micros if given is None else min(micros, given)
    return config.model_copy(update={"until": str(format_times(pl.Series([micros]))[0])})


@contextlib.contextmanager
def open_source(config: IngestConfig, frame: pl.DataFrame | None, progress: Progress) -> Iterator[Source]:
    """A frame, a database or files. Raises ConfigError and LogError where there is nothing to read."""
    if frame is not None:
        columns = recognize_columns(frame.columns, config, "the frame")
        batches = slice_frame(frame, config.batch_rows)
        yield Source([columns], lambda raw: _parse_stream(_FRAME_NAME, batches, columns, config, raw), [])
    elif not config.log:
        raise ConfigError("no log is given", "a file, a folder, a glob or a database URL", "name it with: --log PATH")
    elif is_url(config.log):
        with open_query(config.log, config.query) as query:
            named = recognize_columns(query.columns, config, f"the query on {query.url}")
            rows = _tell_rows(query.read_batches(config.batch_rows), progress)
            yield Source([named], lambda raw: _parse_stream(query.url, rows, named, config, raw), [])
    else:
        stamps = stamp_files(config.log, config.window)  # first: what changes from now on is not what was stamped
        files, empty = open_log(config.log, config.format, config.delimiter, config.quoted, config.window)
        for file in files:
            if not (config.user_column and config.item_column):
                check_delimiter(file)
        chosen = [recognize_columns(file.layout.columns, config, str(file.path)) for file in files]
        notes = [f"{len(empty)} files without a byte were left out: {list_some(empty)}"] if empty else []
        yield Source(chosen, lambda raw: _parse_files(files, chosen, config, raw, progress), notes, stamps)


def _parse_files(
    files: Sequence[SourceFile], columns: Sequence[dict[Role, str]], config: IngestConfig, raw: Path, progress: Progress
) -> tuple[list[Part], frozenset[str]]:
    total = sum(file.size_bytes for file in files)
    before, parts, fresh = 0, [], set()
    for file, chosen in zip(files, columns, strict=True):

        def tell(done: int, name: str = file.name, start: int = before) -> None:
            progress("reading", start + done, total, name)

        part, is_fresh = parse_file(file, chosen, (config.time_unit, config.batch_rows), raw, tell)
        parts.append(part)
        if is_fresh:
            fresh.add(part.name)
        tell(file.size_bytes)
        before += file.size_bytes
    return parts, frozenset(fresh)


def _parse_stream(
    name: str, batches: Iterator[Batch], columns: dict[Role, str], config: IngestConfig, raw: Path
) -> tuple[list[Part], frozenset[str]]:
    return [parse_stream(name, batches, columns, config.time_unit, raw)], frozenset({name})


def _tell_rows(batches: Iterator[Batch], progress: Progress) -> Iterator[Batch]:
    n_rows = 0
    for batch in batches:
        yield batch
        n_rows += batch.rows.height
        progress("reading", n_rows, 0, "rows of the query")


def list_some(names: Sequence[str]) -> str:
    """The first five names, and how many more there are."""
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
