"""`recsys-cl export`: a thin door to `serving/export.py`."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from recsys_cl.door import print_answer, read_id_file
from recsys_cl.errors import ConfigError, InputError
from recsys_cl.options import FilterOptions, Json, Store

if TYPE_CHECKING:
    from recsys_cl.serving.export_jobs import Request
    from recsys_cl.serving.lookup import Release
    from recsys_cl.serving.sinks import Sink

_DEFAULT_K = 20


@Parameter(name="*")
@dataclass(frozen=True)
class Place:
    """Where an export goes."""

    out: Annotated[
        Path | None,
        Parameter(
            help="File to write: .parquet, .csv or .jsonl; a name without an ending is a folder of Parquet shards."
        ),
    ] = None
    to: Annotated[
        str | None, Parameter(help="Database instead of a file: postgresql://… or sqlite:///FILE; ${NAME} is read.")
    ] = None
    table: Annotated[str | None, Parameter(help="Its table; an export that is there is replaced in one step.")] = None
    schema: Annotated[str | None, Parameter(help="The schema of the table (default: the database's own).")] = None

    def build(self) -> Sink:
        """As a sink. Raises ConfigError where it is not clear."""
        from recsys_cl.serving.sinks import FileSink, FolderSink

        if self.out is not None and self.to is None and self.table is None:
            if self.schema is not None:
                raise ConfigError("--schema is of a table", "--to URL --table NAME")
            return FileSink(self.out) if self.out.suffix else FolderSink(self.out)
        if self.out is None and self.to is not None and self.table is not None:
            from recsys_cl.serving.tables import TableSink

            return TableSink(self.to, self.table, self.schema)
        raise ConfigError("where to export to is not clear", "either --out PATH, or --to URL --table NAME")


@Parameter(name="*")
@dataclass(frozen=True)
class Source:
    """What is exported."""

    store: Store = Path("data")
    release: Annotated[
        str | None, Parameter(help="A release, to go on with what was begun of it (default: the live one).")
    ] = None

    def open(self) -> Release:
        """The release. Raises StoreError and SealError where it cannot be read."""
        from recsys_cl.publishing.store import find_release
        from recsys_cl.serving.lookup import open_release

        return open_release(self.store if self.release is None else find_release(self.store, self.release))


@Parameter(name="*")
@dataclass(frozen=True)
class Wanted:
    """What an export holds."""

    k: Annotated[int | None, Parameter(name=["-k", "--k"], help=f"How many for each (default: {_DEFAULT_K}).")] = None
    ids: Annotated[
        Path | None, Parameter(help="File with one user_id or item_id a line: only for these, in this order.")
    ] = None
    skip_unknown: Annotated[bool, Parameter(help="Leave out ids that the release lacks.", negative="")] = False
    by: Annotated[Literal["behavior", "image"], Parameter(help="What makes neighbors: see `similar`.")] = "behavior"
    of: Annotated[
        Literal["items", "users", "queries"],
        Parameter(help="Embeddings of items, of users, or of items as they ask for their neighbors (queries)."),
    ] = "items"
    include_seen: Annotated[bool, Parameter(help="Items of the history may be recommended.", negative="")] = False
    approximate: Annotated[
        bool, Parameter(help="Ask the index instead of searching exactly; what it missed is told.", negative="")
    ] = False

    def build(self, what: Literal["recommendations", "neighbors", "embeddings"], filters: FilterOptions) -> Request:
        """As a request. Raises ConfigError for what does not go together, InputError for a file without ids."""
        import polars as pl

        from recsys_cl.serving.export_jobs import Request

        if what == "embeddings" and self.k is not None:
            raise ConfigError("embeddings are one for each", "no -k")
        ids = None
        if self.ids is not None:
            of = "user_id" if what == "recommendations" or self.of == "users" else "item_id"
            ids = pl.Series(read_id_file(self.ids, "the list of ids", of), dtype=pl.String)
            if not len(ids):
                raise InputError(f"the list of ids in {self.ids} is empty", f"one {of} a line")
        return Request(
            what,
            _DEFAULT_K if self.k is None else self.k,
            self.by,
            self.of,
            ids,
            skip_unknown=self.skip_unknown,
            filters=filters.build(),
            include_seen=self.include_seen,
            approximate=self.approximate,
        )


_LIVE, _NOWHERE, _ALL, _NO_FILTERS = Source(), Place(), Wanted(), FilterOptions()


def export(
    what: Literal["recommendations", "neighbors", "embeddings"],
    *,
    source: Source = _LIVE,
    place: Place = _NOWHERE,
    wanted: Wanted = _ALL,
    filters: FilterOptions = _NO_FILTERS,
    as_json: Json = False,
) -> None:
    """Write recommendations for users, or neighbors or embeddings of items, to files or to a table of a database.

    Example: `recsys-cl export recommendations --store data --out recommendations.parquet`

    For all, or for those in a file. A folder of shards goes on where a killed process stopped; a file or a table is
    there whole, or the old one is.
    """
    from recsys_cl.progress import show_progress
    from recsys_cl.publishing.exported import record_export
    from recsys_cl.release_summary import describe_export
    from recsys_cl.serving.export import export as run_export

    sink, request = place.build(), wanted.build(what, filters)
    release = source.open()
    if not record_export(source.store, place.out or sink.shown, release.version, request.kind):
        print(f"recsys-cl: {source.store} cannot be written, so `forget` will not know of this export", file=sys.stderr)
    with show_progress() as progress:
        done = run_export(release, request, sink, progress)
    print_answer(as_json, done.dump(), describe_export(done))
