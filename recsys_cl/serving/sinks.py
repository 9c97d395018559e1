"""Where exports go: comes in blocks of lines, shard by shard; goes out a file or a folder, whole or not at all.

A sink is opened with what is exported (`Head`) and gives a writer. Left without an error, all of it is there under its
final name; left by one, what was there before is there still, and of a folder its finished shards, from which the same
export goes on. Memory: one block. The sink that fills a table of a database is in `tables.py`.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Any, Protocol

import polars as pl
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from recsys_cl.errors import InputError
from recsys_cl.files import read_json, remove_leftovers, write_file, write_json, write_text

FACTS, SUCCESS = "_release.json", "_SUCCESS"
"""In a folder of shards: what is exported, and, once every shard is there, an empty file that says so."""


@dataclass(frozen=True)
class Head:
    """What is exported. schema: of every block. key: its columns that name a line. facts: all that decides what the
    lines are, as JSON values: two exports with equal facts have equal shards."""

    schema: pa.Schema
    key: tuple[str, ...]
    facts: dict[str, Any]


class Writer(Protocol):
    """An open sink."""

    def count_lines(self, shard: int) -> int | None:
        """The lines of a shard that is there already, None for one that is still to be written."""

    def write(self, shard: int, blocks: Iterable[pa.Table]) -> None:
        """Write one shard; shards come in their order, those that are there left out."""


class Sink(Protocol):
    """A place for an export."""

    @property
    def shown(self) -> str:
        """What messages call it."""

    @property
    def remains(self) -> str:
        """What is there after an export that failed."""

    def open(self, head: Head) -> AbstractContextManager[Writer]:
        """A writer; see the module. Raises InputError where an export cannot go there, OSError where a disk refuses."""


_WriteBlock = Callable[[pa.Table], object]


@contextlib.contextmanager
def _open_parquet(path: Path, schema: pa.Schema) -> Iterator[_WriteBlock]:
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        yield writer.write_table


@contextlib.contextmanager
def _open_csv(path: Path, schema: pa.Schema) -> Iterator[_WriteBlock]:
    with pa.OSFile(str(path), "wb") as file, pa_csv.CSVWriter(file, flatten_schema(schema)) as writer:
        yield lambda block: writer.write_table(flatten_block(block))


@contextlib.contextmanager
def _open_jsonl(path: Path, schema: pa.Schema) -> Iterator[_WriteBlock]:
    del schema  # each line names its values
    with path.open("wb") as file:
        yield lambda block: pl.DataFrame(pl.from_arrow(block)).write_ndjson(file)


FORMATS = {".parquet": _open_parquet, ".pq": _open_parquet, ".csv": _open_csv, ".jsonl": _open_jsonl}


def flatten_schema(schema: pa.Schema) -> pa.Schema:
    """The schema with lists as text, for forms that know no lists."""
    fields = [pa.field(field.name, pa.large_string()) if _is_list(field.type) else field for field in schema]
    return pa.schema(fields)


def flatten_block(block: pa.Table, brackets: str = "[]") -> pa.Table:
    """The block with each list as one text, such as `[0.5,-1.0]`, by the shortest digits that give the same float."""
    for place, field in enumerate(block.schema):
        if _is_list(field.type):
            texts = pl.Series(field.name, block.column(place)).cast(pl.List(pl.Float32)).cast(pl.List(pl.String))
            joined = brackets[0] + texts.list.join(",") + brackets[1]
            column = joined.to_arrow(compat_level=pl.CompatLevel.oldest()).cast(pa.large_string())
            block = block.set_column(place, pa.field(field.name, pa.large_string()), column)
    return block


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_fixed_size_list(kind))


@dataclass(frozen=True)
class FileSink:
    """One file, Parquet, CSV or JSONL by the ending of its name; a shard follows the other."""

    path: Path

    @property
    def shown(self) -> str:
        """See `Sink`."""
        return str(self.path)

    @property
    def remains(self) -> str:
        """See `Sink`."""
        return "what was there before is there still"

    def _check(self) -> None:
        if self.path.suffix not in FORMATS:
            raise InputError(
                f"the output is {self.path}",
                f"a file whose name ends in {', '.join(FORMATS)}, or a name without an ending for a folder of shards",
            )
        if self.path.is_dir():
            raise InputError(f"{self.path} is a folder", "the name of a file")
        _check_parent(self.path)

    @contextlib.contextmanager
    def open(self, head: Head) -> Iterator[Writer]:
        """See `Sink`."""
        self._check()
        with write_file(self.path) as temporary, FORMATS[self.path.suffix](temporary, head.schema) as write:
            yield _Stream(write)


class _Stream:
    """Writes shards one behind the other; nothing of an earlier process is there."""

    def __init__(self, write: _WriteBlock) -> None:
        self._write = write

    def count_lines(self, shard: int) -> int | None:
        """See `Writer`."""
        del shard
        return None

    def write(self, shard: int, blocks: Iterable[pa.Table]) -> None:
        """See `Writer`."""
        del shard
        for block in blocks:
            self._write(block)


@dataclass(frozen=True)
class FolderSink:
    """A folder of Parquet files, one a shard, each there whole under its final name or not at all.

    The same export, started again, goes on; another one is refused, so that no folder mixes two.
    """

    path: Path

    @property
    def shown(self) -> str:
        """See `Sink`."""
        return str(self.path)

    @property
    def remains(self) -> str:
        """See `Sink`."""
        return "finished shards stay, and the same export goes on from them"

    def _check(self) -> None:
        if self.path.exists() and not self.path.is_dir():
            raise InputError(f"{self.path} is a file", "the name of a folder, or of a file that ends in .parquet")
        _check_parent(self.path)
        if self.path.is_dir() and not (self.path / FACTS).exists() and any(self.path.glob("[!.]*")):
            raise InputError(
                f"the folder {self.path} holds other things", "a new or an empty folder, or a begun export"
            )

    @contextlib.contextmanager
    def open(self, head: Head) -> Iterator[Writer]:
        """See `Sink`. Raises InputError where another export is there, or another process is writing this one."""
        self._check()
        self.path.mkdir(exist_ok=True)
        with _lock(self.path):
            remove_leftovers(self.path)
            self._begin(head.facts)
            yield _Shards(self.path, head.schema)
            write_text(self.path / SUCCESS, "")

    def _begin(self, facts: dict[str, Any]) -> None:
        if not (self.path / FACTS).exists():
            write_json(self.path / FACTS, facts)
            return
        try:
            found = read_json(self.path / FACTS)
        except ValueError:
            found = {}
        other = [name for name in sorted({*facts, *found}) if found.get(name) != facts.get(name)]
        if other:
            differences = ", ".join(f"{name} {found.get(name)!r} instead of {facts.get(name)!r}" for name in other)
            remedy = f"name another folder, or delete it: rm -r {quote(str(self.path))}"
            if {"release"} <= set(other) <= {"release", "model"}:
                remedy = f"go on with it: --release {found.get('release')}; or {remedy}"
            raise InputError(f"the folder {self.path} holds another export: {differences}", "the same one", remedy)


class _Shards:
    def __init__(self, folder: Path, schema: pa.Schema) -> None:
        self._folder, self._schema = folder, schema

    def count_lines(self, shard: int) -> int | None:
        """See `Writer`."""
        try:
            return int(pq.read_metadata(self._name(shard)).num_rows)
        except (FileNotFoundError, pa.ArrowInvalid):  # what somebody has damaged is written again
            return None

    def write(self, shard: int, blocks: Iterable[pa.Table]) -> None:
        """See `Writer`."""
        with write_file(self._name(shard)) as temporary, _open_parquet(temporary, self._schema) as write:
            for block in blocks:
                write(block)

    def _name(self, shard: int) -> Path:
        return self._folder / f"part-{shard:05d}.parquet"


@contextlib.contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """Hold a folder; the system lets go of it when the process ends, however it does."""
    handle = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        with contextlib.suppress(OSError):  # a file system without locks
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise InputError(f"another process exports into {folder}", "one at a time", "wait for it") from None
        yield
    finally:
        os.close(handle)


def _check_parent(path: Path) -> None:
    parent = path.parent
    if not parent.is_dir():
        raise InputError(f"there is no folder {parent}", "an existing folder", f"make it with: mkdir -p {parent}")
    if not os.access(path if path.is_dir() else parent, os.W_OK | os.X_OK):
        raise InputError(f"the folder {parent} cannot be written", "a folder this user may write")
