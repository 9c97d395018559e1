"""Reading: comes in as an opened file, goes out as batches of rows, each with its line, and the lines that are no rows.

A batch keeps every column under its name in the header: strings for text, its own type for Parquet and JSONL. Memory:
one batch. Line numbers count physical lines from 1, the header included; rows of Parquet count from 1.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from recsys_cl.errors import LogError
from recsys_cl.interactions.batches import REFUSED, Advance, Batch, make_refused, refuse_not_utf8
from recsys_cl.interactions.delimited import read_csv
from recsys_cl.interactions.sources import LINES_HEADER, Layout, SourceFile, open_parquet
from recsys_cl.interactions.text import TextFile, walk_blocks

_BYTES_PER_ROW = 40  # a guess that only sets how much text is read at a time
_LEAST_BLOCK, _MOST_BLOCK = 1 << 16, 16 << 20


def read_batches(file: SourceFile, batch_rows: int, advance: Advance = lambda _: None) -> Iterator[Batch]:
    """Read a file of any form in batches of about `batch_rows` rows; `advance` is told the bytes read so far.

    Raises LogError where the file ends early or cannot be read.
    """
    form = file.layout.form
    if form == "parquet":
        yield from _read_parquet(file, batch_rows, advance)
        return
    block_bytes = min(max(batch_rows * _BYTES_PER_ROW, _LEAST_BLOCK), _MOST_BLOCK)
    if form == "csv":
        yield from read_csv(file, block_bytes, advance)
        return
    text = TextFile(file.path, block_bytes)
    parse = _parse_json if form == "jsonl" else _parse_lines
    try:
        for line, block in walk_blocks(text):
            yield parse(block, line, file.layout, refuse_not_utf8(text.take_broken()))
            advance(text.done)
    finally:
        text.close()


def slice_frame(frame: pl.DataFrame, batch_rows: int) -> Iterator[Batch]:
    """A frame in memory as batches; rows count from 1."""
    for start in range(0, frame.height, batch_rows):
        yield of_rows(frame.slice(start, batch_rows), start + 1)


def of_rows(rows: pl.DataFrame, first_line: int) -> Batch:
    """A batch of consecutive rows of a typed source; ids in bytes that are not UTF-8 are taken out as broken."""
    lines = pl.Series("line", np.arange(first_line, first_line + rows.height, dtype=np.int64))
    binary = [name for name, dtype in rows.schema.items() if dtype == pl.Binary]
    if not binary:
        return Batch(rows, lines, make_refused([]))
    text = rows.with_columns(_decode(rows[name]) for name in binary)
    bad = (
        pl.select(pl.any_horizontal([text[name].is_null() & rows[name].is_not_null() for name in binary]))
        .to_series()
        .rename("bad")
    )
    hexadecimal = rows.filter(bad).select(pl.col(binary).bin.encode("hex"))
    content = hexadecimal.select(pl.struct(pl.all()).struct.json_encode()).to_series()
    broken = pl.DataFrame({"line": lines.filter(bad), "reason": "invalid_utf8", "content": content}, schema=REFUSED)
    return Batch(text.filter(~bad), lines.filter(~bad), broken)


def _decode(values: pl.Series) -> pl.Series:
    """Bytes as text, null where they are not UTF-8."""
    try:
        return values.cast(pl.String)
    except pl.exceptions.PolarsError:  # polars casts all or nothing
        texts = [None if value is None else value.decode("utf-8", "replace") for value in values]
        exact = [
            None if text is None or text.encode() != value else text for text, value in zip(texts, values, strict=True)
        ]
        return pl.Series(values.name, exact, dtype=pl.String)


def _read_parquet(file: SourceFile, batch_rows: int, advance: Advance) -> Iterator[Batch]:
    line = 1
    try:
        with open_parquet(file.path) as parquet:
            n_rows = max(1, parquet.metadata.num_rows)
            for batch in parquet.iter_batches(batch_size=batch_rows):
                named = pa.RecordBatch.from_arrays(_plain_arrays(batch), names=list(file.layout.columns))
                yield of_rows(pl.DataFrame(pl.from_arrow(named)), line)
                line += batch.num_rows
                advance(file.size_bytes * (line - 1) // n_rows)
    except (pa.ArrowException, OSError) as error:
        raise LogError(f"{file.path} cannot be read past row {line - 1} ({error})", "a whole Parquet file") from error


def _plain_arrays(batch: pa.RecordBatch) -> list[pa.Array]:
    """The columns of a batch without extension types; a UUID becomes its usual text."""
    arrays = []
    for column in batch.columns:
        if isinstance(column.type, pa.UuidType):
            codes = pl.Series(pa.array(column.storage, pa.binary())).bin.encode("hex").to_frame("id")
            parts = [pl.col("id").str.slice(start, n) for start, n in ((0, 8), (8, 4), (12, 4), (16, 4), (20, 12))]
            column = codes.select(pl.concat_str(parts, separator="-")).to_series().to_arrow()
        elif isinstance(column.type, pa.BaseExtensionType):
            column = column.storage
        arrays.append(column)
    return arrays


def _parse_lines(block: bytes, line: int, layout: Layout, broken: list[tuple[int, str, str]]) -> Batch:
    """`user item item …`: each item of a line is a row; a user without items is a row with an empty item."""
    del layout
    text = pl.Series("text", block.translate(bytes.maketrans(b"\t\r", b"  ")).split(b"\n"), dtype=pl.Binary)
    frame = pl.DataFrame({"line": np.arange(line, line + len(text), dtype=np.int64), "text": text.cast(pl.String)})
    frame = frame.with_columns(pl.col("text").str.strip_chars(" ")).filter(pl.col("text") != "")
    user, item = LINES_HEADER
    halves = pl.col("text").str.splitn(" ", 2).struct
    frame = frame.select("line", halves[0].alias(user), halves[1].fill_null("").str.strip_chars(" ").alias(item))
    frame = frame.with_columns(pl.col(item).str.split(" ")).explode(item)
    frame = frame.with_columns(n=pl.len().over("line")).filter((pl.col(item) != "") | (pl.col("n") == 1))
    return Batch(frame.select(user, item), frame["line"], make_refused(broken))


def _parse_json(block: bytes, line: int, layout: Layout, broken: list[tuple[int, str, str]]) -> Batch:
    """One object a line. The whole block at once; only where that fails, line by line."""
    raw = block.split(b"\n")
    text = pl.Series("text", raw, dtype=pl.Binary).cast(pl.String).str.strip_chars(" \t\r")
    lines = pl.Series("line", np.arange(line, line + len(raw), dtype=np.int64)).filter(text != "")
    if not len(lines):
        return Batch(pl.DataFrame(), lines, make_refused(broken))
    try:
        rows = pl.read_ndjson(block, infer_schema_length=None)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException):
        rows = pl.DataFrame()
    if rows.height == len(lines) and (text.filter(text != "").str.starts_with("{")).all():
        missing = [pl.lit(None, pl.String).alias(name) for name in layout.columns if name not in rows.columns]
        return Batch(rows.with_columns(missing).select(layout.columns), lines, make_refused(broken))
    objects: list[dict[str, Any]] = []
    good: list[int] = []
    for number, content in zip(lines, text.filter(text != ""), strict=True):
        try:
            value = json.loads(content)
            json.dumps(value, ensure_ascii=False).encode()  # half of a surrogate pair is JSON, but no text
        except (ValueError, RecursionError):
            value = None
        if isinstance(value, dict):
            objects.append(value)
            good.append(number)
        else:
            broken.append((number, "bad_json", content))
    columns = {name: [_write_value(value.get(name)) for value in objects] for name in layout.columns}
    rows = pl.DataFrame(columns, schema=dict.fromkeys(layout.columns, pl.String))
    return Batch(rows, pl.Series("line", good, dtype=pl.Int64), make_refused(broken))


def _write_value(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return json.dumps(value, ensure_ascii=False)
