"""What is known of items and users: comes in as a file of any form, goes out as a frame of strings with an id a line.

Items: `item_id`, `title` and `image_path` where the file has them, then the other columns under their own names. A path
of a picture comes out absolute: one that is relative starts from `images.root`, else from the folder of the file. One
that leads out of that folder, by `..`, a link, or as it stands, is left out and counted: an items file that somebody
else has written shows no other pictures of this machine.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import polars as pl

from recsys_cl.catalog import ID, IMAGE, TITLE
from recsys_cl.config import ImagesConfig, IngestConfig, is_url
from recsys_cl.errors import LogError
from recsys_cl.files import expand_home, hash_file
from recsys_cl.ids import IdMap
from recsys_cl.interactions import schema
from recsys_cl.interactions.readers import read_batches
from recsys_cl.interactions.report import AttributeReport
from recsys_cl.interactions.sources import SourceFile, check_delimiter, open_file
from recsys_cl.interactions.text import split_codec
from recsys_cl.interactions.validation import render_ids

USER_ID = "user_id"


@dataclass(frozen=True)
class Attributes:
    """frame: one line an id, all columns strings, nothing is null. n_lines of the file, of which n_repeated gave an id
    again (the first counts) and n_refused had no id or could not be split. columns: what was recognized as what.
    n_outside: paths of pictures that were left out, for they lead out of their root."""

    frame: pl.DataFrame
    n_lines: int
    n_repeated: int
    n_refused: int
    columns: dict[str, str]
    sha256: str
    n_outside: int = 0


def read_items(config: IngestConfig, images: ImagesConfig, known: Sequence[str]) -> Attributes | None:
    """The items file, or None where none is configured. known: names that the item's column has elsewhere.

    Raises LogError where the file cannot be read or has no column for the id.
    """
    if not config.items:
        return None
    file = _open(config.items, "items", config)
    header = file.layout.columns
    place = schema.find_id(header, "item", [config.item_column, *known], str(file.path))
    free = [other for other in range(len(header)) if other != place]
    title = schema.find_title(header, free)
    image = schema.find_image(header, free, images.column, str(file.path))
    found = {header[place]: ID}
    if title is not None and title != image:
        found[header[title]] = TITLE
    if image is not None:
        found[header[image]] = IMAGE
    attributes = _read(file, found, ID, config.batch_rows)
    if IMAGE not in attributes.frame.columns:
        return attributes
    root = expand_home(images.root) if images.root else file.path.parent
    given = attributes.frame[IMAGE]
    paths = _place_images(given, root.resolve())
    n_outside = paths.null_count() - given.null_count()
    return replace(attributes, frame=attributes.frame.with_columns(paths), n_outside=n_outside)


def read_users(config: IngestConfig, known: Sequence[str]) -> Attributes | None:
    """The users file, or None where none is configured. Raises LogError as `read_items`."""
    if not config.users:
        return None
    file = _open(config.users, "users", config)
    place = schema.find_id(file.layout.columns, "user", [config.user_column, *known], str(file.path))
    return _read(file, {file.layout.columns[place]: USER_ID}, USER_ID, config.batch_rows)


def count_attributes(attributes: Attributes | None, key: str, ids: IdMap) -> AttributeReport | None:
    """What the report tells of an attribute file, beside the ids of the log; None without a file."""
    if attributes is None:
        return None
    return AttributeReport(
        n_lines=attributes.n_lines,
        n_repeated=attributes.n_repeated,
        n_refused=attributes.n_refused,
        n_missing=int((~ids.to_series().is_in(attributes.frame[key].implode())).sum()),
        n_outside=attributes.n_outside,
        columns=attributes.columns,
    )


def _open(name: str, what: Literal["items", "users"], config: IngestConfig) -> SourceFile:
    path = expand_home(name)
    if not path.is_file():
        raise LogError(f"there is no {what} file at {path}", remedy=f"check ingest.{what}")
    text = split_codec(path)[0] in (".txt", "")  # a list of lines tells nothing of an item
    file = open_file(path.name, path, "csv" if text else "auto", "", config.quoted)
    if file.layout.form == "csv" and len(file.layout.columns) == 1 and config.delimiter:
        file = open_file(path.name, path, "csv", config.delimiter, config.quoted)  # the log's, where its own fails
    if len(file.layout.columns) == 1:
        check_delimiter(file)
    return file


def _read(file: SourceFile, found: dict[str, str], key: str, batch_rows: int) -> Attributes:
    names = _name_columns(file.layout.columns, found)
    frames = [pl.DataFrame(schema=dict.fromkeys(names.values(), pl.String))]
    n_lines = n_refused = 0
    for batch in read_batches(file, batch_rows):
        n_lines += batch.rows.height + batch.broken.height
        n_refused += batch.broken.height
        if batch.rows.height:
            columns = [_render(batch.rows[column]).alias(name) for column, name in names.items()]
            frames.append(pl.DataFrame(columns))
    frame = pl.concat(frames)
    frame = frame.with_columns(pl.when(pl.col(name) != "").then(pl.col(name)).alias(name) for name in frame.columns)
    n_missing = frame[key].null_count()
    distinct = frame.filter(pl.col(key).is_not_null()).unique(subset=key, keep="first", maintain_order=True)
    order = [name for name in (key, TITLE, IMAGE) if name in distinct.columns]
    distinct = distinct.select(*order, *(name for name in distinct.columns if name not in order))
    n_repeated = frame.height - n_missing - distinct.height
    chosen = {name: column for column, name in found.items()}
    return Attributes(distinct, n_lines, n_repeated, n_refused + n_missing, chosen, hash_file(file.path))


def _name_columns(header: Sequence[str], found: dict[str, str]) -> dict[str, str]:
    """The name of each column in the frame: what it was found to be, else its own, if need be with a number."""
    own = [schema.strip_type(column) for column in header if column not in found]
    unique = schema.name_uniquely([*found.values(), *own])
    others = iter(unique[len(found) :])
    return {column: found.get(column) or next(others) for column in header}


def _render(values: pl.Series) -> pl.Series:
    if isinstance(values.dtype, pl.List) and not values.dtype.inner.is_nested():
        return values.cast(pl.List(pl.String)).list.join(", ", ignore_nulls=True)
    return render_ids(values)


def _is_link(path: Path) -> bool:
    try:
        return path.is_symlink()
    except OSError:  # too long for a name
        return False


def _place_images(paths: pl.Series, root: Path) -> pl.Series:
    """Absolute paths, null for those that lead out of `root`; a URL, which nothing reads, stays as it is."""
    real = functools.lru_cache(os.path.realpath)  # of folders: many pictures lie in one

    def place(text: str) -> str | None:
        if "\0" in text:
            return None
        path = root / text
        # A link, and a name that is none, has to be followed itself; of all others the folder alone.
        whole = path.name in ("..", "") or _is_link(path)
        found = Path(os.path.realpath(path)) if whole else Path(real(path.parent), path.name)
        return str(path) if found.is_relative_to(root) else None

    texts = [text if text is None or is_url(text) else place(text) for text in paths]
    return pl.Series(paths.name, texts, dtype=pl.String)
