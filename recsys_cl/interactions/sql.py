"""A log in a database: comes in as a SQLAlchemy URL and a query, goes out as batches of rows, streamed.

Memory: one batch, where the driver can stream (a server-side cursor is asked for).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import polars as pl
import sqlalchemy as sa

from recsys_cl.config import hide_password
from recsys_cl.database import Database, can_pass, connect
from recsys_cl.errors import ConfigError, LogError, UnreachableError
from recsys_cl.interactions.batches import Batch
from recsys_cl.interactions.readers import of_rows


class Query:
    """The rows of a query that is running; `columns` are known, rows are read by `read_batches`."""

    def __init__(self, database: Database, result: sa.CursorResult[Any]) -> None:
        self.url = database.shown
        self._database = database
        self.columns = tuple(map(str, result.keys()))
        self._result = result

    def read_batches(self, batch_rows: int) -> Iterator[Batch]:
        """The rows as batches of `batch_rows`; rows count from 1. Raises UnreachableError where the database breaks
        off, LogError where it cannot go on with the query."""
        line = 1
        try:
            for rows in self._result.partitions(batch_rows):
                values = zip(*rows, strict=True)
                series = [build_series(name, list(column)) for name, column in zip(self.columns, values, strict=True)]
                yield of_rows(pl.DataFrame(series), line)
                line += len(rows)
        except sa.exc.SQLAlchemyError as error:
            found = f"the database {self.url} broke off after row {line - 1} ({self._database.explain(error)})"
            if can_pass(error):
                raise UnreachableError(found, remedy="run again") from None
            raise LogError(found, "a query that runs") from None


@contextlib.contextmanager
def open_query(url: str, query: str) -> Iterator[Query]:
    """Connect, run the query, and close again on leaving. Raises ConfigError for a URL without a query, LogError for a
    query that fails, UnreachableError where that may pass (a lock, a server that goes down), and what `connect` raises.
    """
    shown = hide_password(url)
    if not query.strip():
        raise ConfigError(f"no query for the database {shown}", remedy="set one with: --set ingest.query='SELECT …'")
    if ":***@" in url or "=***" in url:
        raise ConfigError(
            f"the password of {shown} is not kept with a run",
            "a URL with ${NAME}, read from the environment",
            "put the password into a variable, and start a new run",
        )
    with connect(url, LogError) as database:
        try:
            # without parameters a `%` of the query is its own, as in LIKE 'a%'
            streaming = database.connection.execution_options(stream_results=True, no_parameters=True)
            result = streaming.exec_driver_sql(query)
        except sa.exc.SQLAlchemyError as error:
            found = f"the query on {shown} failed ({database.explain(error)})"
            if can_pass(error):
                raise UnreachableError(found, remedy="run again later") from None
            raise LogError(found, "a query that runs") from None
        if not result.returns_rows:
            raise LogError(f"the query on {shown} returns no rows", "a SELECT")
        yield Query(database, result)


def build_series(name: str, values: Sequence[Any]) -> pl.Series:
    """A column from Python values: with the type that they share, else as strings."""
    present = {type(value) for value in values if value is not None}
    if (len(present) <= 1 and present <= {int, float, str, bool, bytes}) or present == {int, float}:
        with contextlib.suppress(OverflowError, TypeError, pl.exceptions.PolarsError):
            return pl.Series(name, values, strict=len(present) <= 1)
    dates = all(hasattr(kind, "isoformat") for kind in present)
    texts = [None if value is None else value.isoformat() if dates else _write(value) for value in values]
    return pl.Series(name, texts, dtype=pl.String)


def _write(value: Any) -> str:
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value).decode("utf-8", "backslashreplace")
    return str(value)
