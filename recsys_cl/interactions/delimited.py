"""Delimited text: comes in as an opened csv file, goes out as batches of strings with the physical line of each row.

pyarrow splits the values, quotes and line breaks within them included; what it would stumble over is handled here:
lines that are not UTF-8, rows with too many or too few values, and quotes that are opened and never closed.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.csv as pa_csv
from numpy.typing import NDArray

from recsys_cl.errors import LogError
from recsys_cl.interactions.batches import Advance, Batch, make_refused, refuse_not_utf8
from recsys_cl.interactions.sources import Layout, SourceFile
from recsys_cl.interactions.text import BlockStream, TextFile

_LEAST_BLOCK = 1 << 16
_BLOCK = 2 << 20  # pyarrow reads up to 32 blocks ahead, whatever it is asked for
MOST_BLOCK = 16 << 20  # of one record; with a longer one its quote counts as never closed


def read_csv(file: SourceFile, block_bytes: int, advance: Advance) -> Iterator[Batch]:
    """Stream through pyarrow; where a quote is opened and never closed, refuse its line and start again behind it."""
    block_bytes = min(block_bytes, _BLOCK)
    line, size = file.layout.header_lines + 1, block_bytes
    while True:
        text = TextFile(file.path, size)
        try:
            text.skip_lines(line - 1)
            for batch, next_line in _stream_csv(text, file.layout, line, size):
                yield batch
                line = next_line
                advance(text.done)
            return
        except pa.ArrowInvalid as error:
            if "straddling" not in str(error):
                raise LogError(f"{file.path} cannot be read past line {line - 1} ({error})") from error
        finally:
            text.close()
        if size < MOST_BLOCK:  # a record longer than a block, or an open quote: a larger block tells
            size = MOST_BLOCK
            continue
        yield _refuse_line(file.path, line)
        line, size = line + 1, block_bytes


def _refuse_line(path: Path, line: int) -> Batch:
    text = TextFile(path, _LEAST_BLOCK)
    try:
        text.skip_lines(line - 1)
        content = text.read_block().split(b"\n", 1)[0].decode()
    finally:
        text.close()
    return Batch(pl.DataFrame(), pl.Series("line", [], pl.Int64), make_refused([(line, "open_quote", content)]))


def _stream_csv(text: TextFile, layout: Layout, line: int, size: int) -> Iterator[tuple[Batch, int]]:
    """Batches of the rest of a text that stands at the start of `line`, each with the line behind it."""
    ragged: dict[int, str] = {}
    reader = _open_csv(pa.PythonFile(BlockStream(text), mode="r"), layout, size, ragged)
    row = 1
    for arrow in reader or ():
        rows = pl.DataFrame(pl.from_arrow(arrow)).rename(dict(zip(_internal(layout), layout.columns, strict=True)))
        numbers, row = _number_rows(rows.height, row, ragged)
        taken = {number: ragged.pop(number) for number in sorted(ragged) if number < row}
        batch, line = _place_rows(rows, numbers, taken, (layout, line, row - len(numbers) - len(taken)))
        yield _join_broken(batch, refuse_not_utf8(text.take_broken())), line
    if ragged or text.broken:
        batch, line = _place_rows(pl.DataFrame(), np.zeros(0, np.int64), ragged, (layout, line, row))
        yield _join_broken(batch, refuse_not_utf8(text.take_broken())), line


def _open_csv(source: Any, layout: Layout, size: int, ragged: dict[int, str]) -> Any:
    def keep(row: Any) -> str:
        ragged[row.number] = row.text
        return "skip"

    names = _internal(layout)
    try:
        return pa_csv.open_csv(
            source,
            # one thread, so that pyarrow numbers the rows that it refuses
            read_options=pa_csv.ReadOptions(use_threads=False, block_size=size, column_names=names),
            parse_options=pa_csv.ParseOptions(
                delimiter=layout.delimiter,
                quote_char='"' if layout.quoted else False,
                newlines_in_values=layout.quoted,
                ignore_empty_lines=False,
                invalid_row_handler=keep,
            ),
            convert_options=pa_csv.ConvertOptions(
                check_utf8=False, column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False
            ),
        )
    except pa.ArrowInvalid as error:
        if "Empty CSV file" in str(error):
            return None
        raise


def _internal(layout: Layout) -> list[str]:
    return [f"c{place}" for place in range(len(layout.columns))]


def _number_rows(n: int, row: int, ragged: dict[int, str]) -> tuple[NDArray[np.int64], int]:
    """The numbers of the next `n` good rows, counted from `row` around the ragged ones; and the number behind them."""
    bad = np.array(sorted(number for number in ragged if number >= row), dtype=np.int64)
    end = row + n
    while (wider := row + n + int(np.searchsorted(bad, end))) != end:
        end = wider
    numbers = np.arange(row, end, dtype=np.int64)
    return (numbers[~np.isin(numbers, bad)] if len(bad) else numbers), end


def _place_rows(
    rows: pl.DataFrame, numbers: NDArray[np.int64], ragged: dict[int, str], place: tuple[Layout, int, int]
) -> tuple[Batch, int]:
    """Give rows their physical lines, leave out empty lines, and refuse ragged rows; `place` is the layout, the line of
    the first row, and that row's number."""
    layout, line, first = place
    inner = np.zeros(len(numbers) + len(ragged), dtype=np.int64)  # line breaks within the values of each row
    if rows.height and rows.select(pl.any_horizontal(pl.all().str.contains("\n", literal=True).any())).item():
        breaks = rows.select(pl.sum_horizontal(pl.all().str.count_matches("\n", literal=True))).to_series()
        inner[numbers - first] = breaks.to_numpy()
    for number, content in ragged.items():
        inner[number - first] = content.count("\n")
    starts = line + np.arange(len(inner)) + np.cumsum(inner) - inner
    behind = line + len(inner) + int(inner.sum())
    parts = [(rows, pl.Series("line", starts[numbers - first], dtype=pl.Int64))]
    broken: list[tuple[int, str, str]] = []
    for number, content in ragged.items():
        extra, refused = _split_ragged(content, int(starts[number - first]), layout)
        parts += extra
        broken += refused
    rows, lines = parts[0]
    if len(parts) > 1:
        rows = pl.concat([part for part, _ in parts if part.width], how="vertical")
        lines = pl.concat([part for _, part in parts])
        order = lines.arg_sort()
        rows, lines = rows[order], lines.gather(order)
    if rows.height:
        filled = rows.select(pl.any_horizontal(pl.all() != "")).to_series()
        rows, lines = (rows, lines) if filled.all() else (rows.filter(filled), lines.filter(filled))
    return Batch(rows, lines, make_refused(broken)), behind


def _split_ragged(
    content: str, line: int, layout: Layout
) -> tuple[list[tuple[pl.DataFrame, pl.Series]], list[tuple[int, str, str]]]:
    """Refuse one record with too many or too few values. Where its second line would make a row of its own, the record
    is a line with an open quote that has swallowed others: refuse that line alone and read the others again."""
    first, _, rest = content.partition("\n")
    second = rest.split("\n", 1)[0]
    if second.count(layout.delimiter) != len(layout.columns) - 1:
        return [], [(line, "ragged_row", content.rstrip("\r"))]
    broken = [(line, "open_quote", first.rstrip("\r"))]
    ragged: dict[int, str] = {}
    data = rest.encode()
    reader = _open_csv(pa.BufferReader(data), layout, len(data) + 1, ragged)
    table = reader.read_all()
    rows = pl.DataFrame(pl.from_arrow(table)).rename(dict(zip(_internal(layout), layout.columns, strict=True)))
    numbers, _ = _number_rows(rows.height, 1, ragged)
    batch, _ = _place_rows(rows, numbers, ragged, (layout, line + 1, 1))
    return [(batch.rows, batch.lines)], broken + batch.broken.rows()


def _join_broken(batch: Batch, broken: list[tuple[int, str, str]]) -> Batch:
    return Batch(batch.rows, batch.lines, pl.concat([batch.broken, make_refused(broken)])) if broken else batch
