"""The raw cache: each source parsed once into a folder of the store, and the ledger of those that make up the log.

`raw/<key>/` holds events.parquet, refused.parquet and summary.json; the key follows from the bytes of the source and
from how they are understood, so that it never goes stale. `raw/sources.json` lists what has been read so far, in order.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq

from recsys_cl.errors import StoreError
from recsys_cl.files import TEMPORARY, dump_json, hash_file, hash_text, read_json, write_folder, write_json
from recsys_cl.interactions.batches import REFUSED, Advance, Batch
from recsys_cl.interactions.readers import read_batches
from recsys_cl.interactions.schema import Role
from recsys_cl.interactions.sources import SourceFile
from recsys_cl.interactions.validation import empty_events, validate_batch

EVENTS, REFUSED_ROWS, SUMMARY, LEDGER = "events.parquet", "refused.parquet", "summary.json", "sources.json"
_FORMAT = 1  # of the ledger
_KEY = re.compile(r"[0-9a-f]{32}")
_READING = 2  # how rows are understood; a change of it reads every source again


@dataclass(frozen=True)
class Part:
    """One parsed source: its name, size and sha256; the key of its folder; its columns by role; what was counted.

    n_rows == n_events + sum(refused.values()). For a database or a frame, size is 0 and sha256 that of the events.
    erased: where users were erased from it, a hash of what is left; else empty.
    """

    name: str
    size_bytes: int
    sha256: str
    key: str
    columns: dict[Role, str]
    n_rows: int
    refused: dict[str, int] = field(default_factory=dict)
    erased: str = ""

    @property
    def content(self) -> str:
        """What tells these rows from others: the key alone says what was read."""
        return f"{self.key} {self.erased}".rstrip()

    @property
    def n_events(self) -> int:
        """Rows that are events, whether or not the rules count them."""
        return self.n_rows - sum(self.refused.values())

    def scan(self, raw: Path) -> pl.LazyFrame:
        """The events, lazily."""
        return pl.scan_parquet(raw / self.key / EVENTS, glob=False)


def parse_file(
    file: SourceFile, columns: Mapping[Role, str], how: tuple[str, int], raw: Path, tell: Advance
) -> tuple[Part, bool]:
    """Parse a file into the cache, or find it there: the part, and whether it was parsed now.

    how: (time_unit, batch_rows). Raises LogError.
    """
    sha256 = hash_file(file.path)
    layout = file.layout
    choice = [_READING, sha256, layout.form, layout.delimiter, layout.quoted, how[0], dict(columns)]
    key = hash_text(dump_json(choice))[:32]
    part = Part(file.name, file.size_bytes, sha256, key, dict(columns), 0)
    former = found = _find_summary(raw / key)
    if found is None:
        with write_folder(raw / key) as folder:
            found = _parse(read_batches(file, how[1], tell), columns, how[0], folder)
    return _count(part, found), former is None


def is_cached(part: Part, raw: Path) -> bool:
    """Whether the folder of a part is in the cache."""
    return _find_summary(raw / part.key) is not None


def parse_stream(name: str, batches: Iterator[Batch], columns: Mapping[Role, str], unit: str, raw: Path) -> Part:
    """Parse what is no file, a database or a frame; it is read each time, for its rows may have changed."""
    raw.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=TEMPORARY, dir=raw))
    try:
        found = _parse(batches, columns, unit, temporary)
        sha256 = hash_text("".join(_hash_rows(temporary / name) for name in (EVENTS, REFUSED_ROWS)))
        key = hash_text(dump_json([_READING, "stream", sha256, dict(columns)]))[:32]
        with write_folder(raw / key) as folder:
            for path in temporary.iterdir():
                path.rename(folder / path.name)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return Part(name, 0, sha256, key, dict(columns), found["n_rows"], found["refused"])


def read_ledger(raw: Path) -> list[Part]:
    """The parts that earlier runs have kept, in order; none where there is no ledger. Raises StoreError."""
    path = raw / LEDGER
    if not path.exists():
        return []
    try:
        values = read_json(path)
        if values["format"] != _FORMAT:
            raise ValueError(f"format {values['format']}")
        return [_count(part, _find_summary(raw / part.key)) for part in (Part(**p) for p in values["sources"])]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise StoreError(
            f"{path} does not list what was read ({error})", f"format {_FORMAT}", "remove it, and read the whole log"
        ) from error


def merge_parts(former: Sequence[Part], current: Sequence[Part], raw: Path) -> list[Part]:
    """Everything kept so far: former parts in their places, those of the same name replaced, new ones behind.

    Raises StoreError where a former part has gone from the cache.
    """
    fresh = {part.name: part for part in current}
    merged = [fresh.pop(part.name, part) for part in former]
    for part in merged:
        if not is_cached(part, raw):
            raise StoreError(
                f"{raw} no longer holds the rows of {part.name}, which an earlier run has read",
                f"the folder {part.key}",
                "give the whole log, with: --set ingest.incremental=false",
            )
    return merged + list(fresh.values())


def write_ledger(raw: Path, parts: Sequence[Part]) -> None:
    """Make these parts what has been read so far, then delete the folders that only the former ledger named."""
    former = read_ledger(raw)
    write_json(raw / LEDGER, {"format": _FORMAT, "sources": [asdict(part) for part in parts]})
    for key in {part.key for part in former} - {part.key for part in parts}:
        shutil.rmtree(raw / key, ignore_errors=True)


def list_unused(raw: Path, least_age_hours: float) -> list[Path]:
    """Folders of the cache that no ledger names, and that were not made just now by a run that has yet to name them.

    Raises StoreError where the ledger cannot be read.
    """
    if not raw.is_dir():
        return []
    known, newest = {part.key for part in read_ledger(raw)}, time.time() - 3600 * least_age_hours
    return sorted(
        path
        for path in raw.iterdir()
        if path.is_dir() and _KEY.fullmatch(path.name) and path.name not in known and path.stat().st_mtime < newest
    )


def make_parquet_writer(
    path: Path, types: Mapping[str, Any]
) -> tuple[pq.ParquetWriter, Callable[[pl.DataFrame], None]]:
    """A Parquet file of these polars types, and the function that adds a frame to it as a row group."""
    schema = pl.DataFrame(schema=dict(types)).to_arrow(compat_level=pl.CompatLevel.oldest()).schema
    writer = pq.ParquetWriter(str(path), schema, compression="zstd", compression_level=1)

    def add(frame: pl.DataFrame) -> None:
        if frame.height:
            writer.write_table(frame.to_arrow(compat_level=pl.CompatLevel.oldest()).cast(schema))

    return writer, add


def _parse(batches: Iterator[Batch], columns: Mapping[Role, str], unit: str, folder: Path) -> dict[str, Any]:
    """Write events, refused rows and their counts; give the counts."""
    events, add_events = make_parquet_writer(folder / EVENTS, empty_events(columns).schema)
    refused, add_refused = make_parquet_writer(folder / REFUSED_ROWS, REFUSED)
    counts: Counter[str] = Counter()
    n_events = 0
    with events, refused:
        for batch in batches:
            valid = validate_batch(batch, columns, unit)
            unit = valid.unit
            add_events(valid.events)
            add_refused(valid.refused)
            n_events += valid.events.height
            counts.update(dict(valid.refused["reason"].value_counts().iter_rows()))
    summary = {"n_rows": n_events + counts.total(), "refused": dict(counts)}
    write_json(folder / SUMMARY, summary)
    return summary


def walk_parquet(path: Path, batch_rows: int) -> Iterator[pl.DataFrame]:
    """The rows of a Parquet file of the cache, in order, in batches."""
    with pq.ParquetFile(str(path)) as file:
        for batch in file.iter_batches(batch_size=batch_rows):
            yield pl.DataFrame(pl.from_arrow(batch))


def _hash_rows(path: Path) -> str:
    """The sha256 of rows as text: the same however they were batched."""
    digest = hashlib.sha256()
    for frame in walk_parquet(path, 100_000):
        digest.update(frame.write_csv(include_header=False).encode())
    return digest.hexdigest()


def read_summary(folder: Path) -> dict[str, Any]:
    """What was counted in a folder of the cache. Raises StoreError where it is not whole."""
    found = _find_summary(folder)
    if found is None:
        raise StoreError(f"{folder} is not whole", f"{EVENTS}, {REFUSED_ROWS}, {SUMMARY}", "delete that folder")
    return found


def _count(part: Part, summary: dict[str, Any] | None) -> Part:
    """The part with the counts of its folder: rows may have been erased there since the ledger was written."""
    if summary is None:
        return part
    return replace(part, n_rows=summary["n_rows"], refused=summary["refused"], erased=summary.get("erased", ""))


def _find_summary(folder: Path) -> dict[str, Any] | None:
    try:
        summary: dict[str, Any] = read_json(folder / SUMMARY)
        whole = all((folder / name).stat().st_size for name in (EVENTS, REFUSED_ROWS))
    except (OSError, ValueError):
        return None
    return summary if whole else None
