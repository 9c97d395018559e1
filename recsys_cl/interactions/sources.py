"""What a log is made of: comes in as a path, folder or glob, goes out as files, each with its form and columns.

The form follows the file's name; where the name says nothing, its first bytes. Nothing is written, and everything that
can be wrong before the first event is read is said here.
"""

from __future__ import annotations

import contextlib
import csv
import glob
import io
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq

from recsys_cl.errors import LogError
from recsys_cl.files import expand_home
from recsys_cl.interactions import schema
from recsys_cl.interactions.text import read_start, split_codec

Form = Literal["csv", "parquet", "jsonl", "lines"]
_FORMS: dict[str, Form] = {".parquet": "parquet", ".pq": "parquet"}
_FORMS |= dict.fromkeys((".jsonl", ".ndjson", ".json"), "jsonl")
_FORMS |= dict.fromkeys((".csv", ".tsv", ".inter", ".item", ".user", ".dat"), "csv")
LINES_HEADER = ("user", "item")
_SAMPLE_LINES = 1000
_DATED = re.compile(
    r"(?<!\d)(?P<year>\d{4})(?P<sep>[-_/]?)(?P<month>\d{2})(?P=sep)(?P<day>\d{2})(?!\d)"
    r"(?:(?:T|/hour=|/hr=|/h=)(?P<hour>\d{2})(?!\d))?"
)


@dataclass(frozen=True)
class Layout:
    """How a file is read: its form, the delimiter and quoting of a csv, the lines of its header, its columns."""

    form: Form
    columns: tuple[str, ...]
    delimiter: str = ""
    quoted: bool = True
    header_lines: int = 0


@dataclass(frozen=True)
class SourceFile:
    """One file of a log: its name within the log, where it lies, its size and layout."""

    name: str
    path: Path
    size_bytes: int
    layout: Layout


def list_paths(log: str) -> list[tuple[str, Path]]:
    """Names and paths of the files of a log, in order of name. Raises LogError where there are none.

    In a folder, names that begin with `.` or `_` (such as `_SUCCESS`) and `.crc` files are left out.
    """
    path = expand_home(log)
    try:
        if path.is_file() or path.is_fifo():
            return [(_check_name(path.name), path)]
        if path.is_dir():
            found = [(_check_name(p.relative_to(path).as_posix()), p) for p in path.rglob("*") if p.is_file()]
            kept = sorted(pair for pair in found if not _is_hidden(pair[0]))
            if not kept:
                raise LogError(f"the folder {path} holds no files to read", "CSV, Parquet or JSONL files")
            return kept
    except OSError as error:
        raise LogError(f"{path} cannot be read ({error})") from error
    if any(letter in log for letter in "*?["):
        base = re.split(r"[*?\[]", path.as_posix(), maxsplit=1)[0].rpartition("/")[0] or "."
        files = [Path(p) for p in glob.glob(str(path), recursive=True)]  # noqa: PTH207 - absolute patterns too
        named = [(p.relative_to(base).as_posix() if base != "." else p.as_posix(), p) for p in files if p.is_file()]
        pairs = [(_check_name(name), p) for name, p in named]
        kept = sorted(pair for pair in pairs if not _is_hidden(pair[0]))
        if kept:
            return kept
        raise LogError(f"no file matches {log}", remedy="put the pattern in quotes, and check the folder")
    raise LogError(f"there is no log at {path}", "a file, a folder, a glob or a database URL", "check the path")


def stamp_files(log: str, window: str = "") -> dict[str, tuple[int, int]]:
    """Size, and time of change in nanoseconds, of each file of a log up to a window, by name. Raises LogError."""
    try:
        found = [(name, path.stat()) for name, path in list_paths(log) if is_within(name, window)]
    except OSError as error:
        raise LogError(f"{error.filename} cannot be read ({error.strerror})") from error
    return {name: (info.st_size, info.st_mtime_ns) for name, info in found}


def find_window(name: str) -> str | None:
    """The day, or the hour, that stands in the name of a file, as `2026-11-26` or `2026-11-26T03`; None for none."""
    for found in _DATED.finditer(name):
        year, month, day, hour = found.group("year", "month", "day", "hour")
        with contextlib.suppress(ValueError):
            window = date(int(year), int(month), int(day)).isoformat()
            return f"{window}T{hour}" if hour is not None and int(hour) < 24 else window
    return None


def is_within(name: str, window: str) -> bool:
    """Whether a file belongs to a window or to one before it, or to none at all."""
    return not window or (find_window(name) or "") <= window


def open_file(name: str, path: Path, form: str, delimiter: str, quoted: bool) -> SourceFile:
    """Find the layout of a file from its name and first lines. `form` may be `auto`, `delimiter` empty.

    Raises LogError where the file is empty, not what its name says, or of no known form.
    """
    try:
        size = path.stat().st_size
    except OSError as error:
        raise LogError(f"{path} cannot be read ({error})") from error
    if size == 0:
        raise LogError(f"{path} is empty", "a header and rows")
    known = _FORMS.get(split_codec(path)[0]) if form == "auto" else form
    if known is None and _read_magic(path) == b"PAR1":
        known = "parquet"
    if known == "parquet":
        return SourceFile(name, path, size, Layout("parquet", _read_parquet_columns(path)))
    start = read_start(path)
    lines = [line for line in start.split(b"\n", _SAMPLE_LINES)[:_SAMPLE_LINES] if line.strip()]
    if not lines:
        raise LogError(f"{path} holds only empty lines", "a header and rows")
    if known is None:
        known = _guess_form(lines, delimiter)
    if known == "jsonl":
        return SourceFile(name, path, size, Layout("jsonl", _read_json_columns(path, lines)))
    if known == "lines":
        return SourceFile(name, path, size, Layout("lines", LINES_HEADER))
    delimiter = delimiter or _choose_delimiter(path, lines[0].decode())
    header, n_lines = _read_header(start, delimiter, quoted)
    columns = tuple(schema.name_uniquely(header))
    return SourceFile(name, path, size, Layout("csv", columns, delimiter, quoted, n_lines))


def open_log(log: str, form: str, delimiter: str, quoted: bool, window: str = "") -> tuple[list[SourceFile], list[str]]:
    """Open every file of a log, up to a window where one is given; files without a byte are left out where others have
    some.

    Returns the files and the names of those left out. Raises LogError, also for files of two forms.
    """
    paths = [(name, path) for name, path in list_paths(log) if is_within(name, window)]
    if not paths:
        raise LogError(f"every file of {log} is of a later window than {window}", "one of it, or before it")
    empty = [name for name, path in paths if len(paths) > 1 and path.stat().st_size == 0]
    full = [(name, path) for name, path in paths if name not in empty]
    if not full:
        raise LogError(f"all {len(paths)} files of {log} are empty", "a log with events")
    files = [open_file(name, path, form, delimiter, quoted) for name, path in full]
    for file in files:
        if file.layout.form != files[0].layout.form:
            raise LogError(
                f"{log} mixes forms: {files[0].name} is {files[0].layout.form}, {file.name} is {file.layout.form}",
                "files of one form",
                "name those you mean with a glob, such as 'folder/*.csv'",
            )
    return files, empty


def check_delimiter(file: SourceFile, option: str = "ingest.delimiter") -> None:
    """Raise LogError where another delimiter would split the header into a user and an item, and this one does not."""
    layout = file.layout
    if layout.form != "csv" or schema.has_roles(layout.columns):
        return
    start = read_start(file.path)
    for other in schema.DELIMITERS:
        if other == layout.delimiter:
            continue
        header, _ = _read_header(start, other, layout.quoted)
        alone = len(layout.columns) == 1 and len(header) > 1 and other != " "
        if alone or (schema.has_roles(header) and len(header) > len(layout.columns)):
            raise LogError(
                f"{file.path} does not split at {layout.delimiter!r}: its header is one of "
                f"{len(layout.columns)} column(s), {schema.list_names(layout.columns)}",
                f"columns; the delimiter is likely {other!r}",
                f"set it with: {_write_setting(option, other)}",
            )


def _write_setting(option: str, delimiter: str) -> str:
    if delimiter == "\t":
        return f"--set '{option}=\"\\t\"'"
    return f"--set '{option}=\" \"'" if delimiter == " " else f'--set "{option}={delimiter}"'


def _check_name(name: str) -> str:
    """The name itself; Arrow opens no others, and the report is UTF-8. Raises LogError."""
    try:
        name.encode()
    except UnicodeEncodeError:
        shown = os.fsencode(name).decode("utf-8", "backslashreplace")
        raise LogError(f"the name of the file {shown} is not valid UTF-8", remedy="rename the file") from None
    return name


def _is_hidden(name: str) -> bool:
    return name.endswith(".crc") or any(part.startswith((".", "_")) for part in name.split("/"))


def _read_magic(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(4)
    except OSError as error:
        raise LogError(f"{path} cannot be read ({error})") from error


def _read_parquet_columns(path: Path) -> tuple[str, ...]:
    try:
        with open_parquet(path) as file:
            return tuple(file.schema_arrow.names)
    except (pa.ArrowException, OSError) as error:
        raise LogError(
            f"{path} is not a Parquet file ({str(error).splitlines()[0]})", "a whole Parquet file"
        ) from error


def open_parquet(path: Path) -> pq.ParquetFile:
    """Open a Parquet file, one that was compressed as a whole (.gz, .zst) too: that one is unpacked in memory."""
    _, codec = split_codec(path)
    if codec is None:
        return pq.ParquetFile(str(path), memory_map=False)
    with pa.OSFile(str(path)) as raw, pa.CompressedInputStream(raw, codec) as stream:
        return pq.ParquetFile(pa.BufferReader(stream.read()))


def _read_json_columns(path: Path, lines: Sequence[bytes]) -> tuple[str, ...]:
    columns: dict[str, None] = {}
    for line in lines:
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict):
            columns |= dict.fromkeys(value)
    if not columns:
        raise LogError(f"the first lines of {path} are not JSON", 'one JSON object a line, such as {"user_id": …}')
    return tuple(columns)


def _guess_form(lines: Sequence[bytes], delimiter: str) -> Form:
    """The form of a file whose name does not tell: JSON, a header, or `user item item …` lines."""
    first = lines[0].decode().strip("\r")
    if first.lstrip().startswith("{"):
        return "jsonl"
    if delimiter:
        return "csv"
    if any(schema.has_roles(first.split(other)) for other in schema.DELIMITERS):
        return "csv"
    plain = all(b"\t" not in line and b"," not in line and b";" not in line for line in lines)
    return "lines" if plain and any(b" " in line.strip() for line in lines) else "csv"


def _choose_delimiter(path: Path, header: str) -> str:
    extension = split_codec(path)[0]
    if extension == ".csv":
        return ","
    if extension in _FORMS:
        return "\t"
    return max((",", "\t"), key=header.count)


def _read_header(start: bytes, delimiter: str, quoted: bool) -> tuple[list[str], int]:
    """The names in the first line that is not empty, and the number of lines up to its end."""
    text = io.StringIO(start.decode(), newline="")
    reader = csv.reader(text, delimiter=delimiter, quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE)
    try:
        for names in reader:
            if names:
                return names, reader.line_num
    except csv.Error:
        pass
    return [start.split(b"\n", 1)[0].decode()], 1
