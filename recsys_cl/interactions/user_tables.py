"""Tables that name users: comes in a file and ids, goes out which of them it names, or the file without their rows.

A field is decoded, and compared with the ids as validation makes them of any type; bytes are not searched. The text of
a line that could not be split is the exception: it has no fields, so an id counts wherever it stands between
separators. Memory: the ids, and one row group, batch or block of lines.
"""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from recsys_cl.errors import StoreError
from recsys_cl.interactions.validation import render_ids, write_content

_BLOCK_BYTES = 8 << 20
_LINE = "line"  # the one column that a file of JSON lines is read as
_SEPARATORS = r"\s,;:|\"'{}\[\]"

_Write = Callable[[pa.Table], object]


@dataclass(frozen=True)
class UserTable:
    """A file of rows: Parquet, CSV or JSONL; Arrow to be looked at alone. fields: columns that name a user, of which it
    may lack some; refused: its rows were refused, and `content` is a JSON object with these columns, or the text of a
    line."""

    path: Path
    fields: tuple[str, ...]
    refused: bool = False

    def find(self, ids: pl.Series) -> pl.Series:
        """Which of these ids [n], distinct texts, the table names. Raises StoreError where it cannot be read."""
        found = [pl.Series("id", [], dtype=pl.String)]
        with _explain(self.path):
            for batch in _READERS[self.path.suffix](self.path):
                found += [users.filter(users.is_in(ids.implode())).unique() for users in self._decode(batch, ids)]
        return pl.concat(found).unique()

    def drop(self, ids: pl.Series, target: Path) -> Dropped:
        """Write the table without the rows of these users to `target`, in its form. Raises StoreError, OSError."""
        left = Dropped()
        with _explain(self.path), _WRITERS[self.path.suffix](self.path, target) as write:
            for batch in _READERS[self.path.suffix](self.path):
                named = [users.is_in(ids.implode()).fill_null(False) for users in self._decode(batch, ids)]
                stays = ~pl.select(pl.any_horizontal(named)).to_series() if named else None
                kept = batch if stays is None else batch.filter(stays.to_arrow())
                write(kept)
                left.n_rows += kept.num_rows
                if self.refused:
                    left.reasons.update(kept.column("reason").to_pylist())
        return left

    def _decode(self, batch: pa.Table, ids: pl.Series) -> list[pl.Series]:
        """Whom each row names, in one way or another: [n] texts or null, or several of them."""
        if self.refused:
            rows = pl.DataFrame(pl.from_arrow(batch.select(["reason", "content"])))
            return [*_decode_objects(rows["content"], self.fields, ids), *_decode_texts(rows, ids)]
        if self.path.suffix == ".jsonl":
            lines = _take(batch, _LINE)
            return [lines.str.json_path_match(f"$.{name}").alias("id") for name in self.fields]
        return [render_ids(_take(batch, name)).alias("id") for name in self.fields if name in batch.column_names]


@dataclass
class Dropped:
    """What is left in a table: n_rows; of refused rows, how many by reason."""

    n_rows: int = 0
    reasons: Counter[str] = field(default_factory=Counter)


def _decode_objects(content: pl.Series, fields: tuple[str, ...], ids: pl.Series) -> list[pl.Series]:
    """The user of each JSON object, by the value of each field: in quotes, a number, or hexadecimal where it was no
    UTF-8; null where there is no such field."""
    forms: dict[str, str] = {}
    for one in ids:
        forms |= {_to_json(one.encode().hex()): one, _to_json(one): one}
        if one != "null":  # which without quotes is nobody
            forms[one] = one
        if one.lstrip("-").isdigit() and abs(int(one)) < 2**63:
            forms[_to_json(float(one))] = one
    found = []
    for name in fields:
        value = rf'{pl.escape_regex(_to_json(name))}:("(?:[^"\\]|\\.)*"|[^,}}]*)'
        texts = content.str.extract(value, 1)
        found.append(texts.replace_strict(list(forms), list(forms.values()), default=None).alias("id"))
    return found


def _decode_texts(rows: pl.DataFrame, ids: pl.Series) -> list[pl.Series]:
    """The users that stand in lines which could not be split: a series for whole words, one for each id that may be
    written in several ways or holds a separator itself: as it is, and as CSV and JSON write it."""
    unsplit = ~rows["content"].str.starts_with("{") | rows["reason"].is_in(["bad_json", "invalid_utf8"])
    texts = pl.DataFrame({"text": rows["content"], "unsplit": unsplit})
    odd = ids.str.contains(rf"[{_SEPARATORS}\\]|[^ -~]")
    words = pl.col("text").str.extract_all(f"[^{_SEPARATORS}]+")
    plain = ids.filter(~odd).to_list()
    hit = words.list.eval(pl.element().filter(pl.element().is_in(plain))).list.first()
    found = [texts.select(pl.when("unsplit").then(hit).alias("id")).to_series()]
    for one in ids.filter(odd):
        written = [one, one.replace('"', '""'), json.dumps(one, ensure_ascii=False)[1:-1], json.dumps(one)[1:-1]]
        hit = pl.col("text").str.contains_any(written)
        found.append(texts.select(pl.when(pl.col("unsplit") & hit).then(pl.lit(one)).alias("id")).to_series())
    return found


def _to_json(value: str | float) -> str:
    """A value as refused rows hold it."""
    return str(write_content(pl.DataFrame({"": [value]}))[0])[len('{"":') : -1]


def _take(batch: pa.Table, name: str) -> pl.Series:
    values = batch.column(name)
    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    return pl.Series("id", values)


def _read_parquet(path: Path) -> Iterator[pa.Table]:
    with pq.ParquetFile(str(path)) as file:
        for group in range(file.num_row_groups):
            yield file.read_row_group(group)


@contextlib.contextmanager
def _write_parquet(path: Path, target: Path) -> Iterator[_Write]:
    with pq.ParquetWriter(str(target), pq.read_schema(str(path)), compression="zstd") as writer:
        yield lambda kept: writer.write_table(kept) if kept.num_rows else None


def _read_csv(path: Path) -> Iterator[pa.Table]:
    """Every column as text."""
    if not path.stat().st_size:
        return
    parse = pa_csv.ParseOptions(newlines_in_values=True)
    read = pa_csv.ReadOptions(block_size=_BLOCK_BYTES)
    with pa_csv.open_csv(str(path), read_options=read, parse_options=parse) as file:
        types = dict.fromkeys(file.schema.names, pa.large_string())
    convert = pa_csv.ConvertOptions(column_types=types)
    with pa_csv.open_csv(str(path), read_options=read, parse_options=parse, convert_options=convert) as file:
        yield pa.Table.from_batches([], file.schema)  # for the header, where there is no row
        for batch in file:
            yield pa.Table.from_batches([batch])


@contextlib.contextmanager
def _write_csv(path: Path, target: Path) -> Iterator[_Write]:
    del path
    with target.open("wb") as file:
        yield lambda kept: file.write(_write_text(kept, header=not file.tell()).encode())


def _write_text(kept: pa.Table, header: bool) -> str:
    return pl.DataFrame(pl.from_arrow(kept)).write_csv(include_header=header)


def _read_lines(path: Path) -> Iterator[pa.Table]:
    """JSON lines, as they stand."""
    with path.open("rb") as file:
        rest = b""
        while block := file.read(_BLOCK_BYTES):
            *lines, rest = (rest + block).split(b"\n")
            yield pa.table({_LINE: pa.array(lines, pa.binary()).cast(pa.large_string())})
        if rest:
            yield pa.table({_LINE: pa.array([rest], pa.binary()).cast(pa.large_string())})


@contextlib.contextmanager
def _write_lines(path: Path, target: Path) -> Iterator[_Write]:
    del path
    with target.open("wb") as file:
        yield lambda kept: file.writelines(f"{line}\n".encode() for line in kept.column(_LINE).to_pylist())


def _read_arrow(path: Path) -> Iterator[pa.Table]:
    yield pa.ipc.open_file(pa.memory_map(str(path))).read_all()


_READERS: dict[str, Callable[[Path], Iterator[pa.Table]]] = {
    ".parquet": _read_parquet,
    ".pq": _read_parquet,
    ".csv": _read_csv,
    ".jsonl": _read_lines,
    ".arrow": _read_arrow,
}
_WRITERS: dict[str, Callable[[Path, Path], AbstractContextManager[_Write]]] = {
    ".parquet": _write_parquet,
    ".pq": _write_parquet,
    ".csv": _write_csv,
    ".jsonl": _write_lines,
}
FORMS = tuple(_WRITERS)
"""Endings of the files that can be rewritten; of Arrow files it can be told whom they name."""


@contextlib.contextmanager
def _explain(path: Path) -> Iterator[None]:
    """Errors of reading name the file."""
    try:
        yield
    except (pa.ArrowException, pl.exceptions.PolarsError) as error:
        found = f"{path} cannot be read ({' '.join(str(error).split())})"
        raise StoreError(found, "a whole file, to see whom it names", "restore or delete it") from error
