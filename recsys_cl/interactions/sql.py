"""A log in a database: comes in as a SQLAlchemy URL and a query, goes out as batches of rows, streamed.

`${NAME}` in the URL is read from the environment, so that no password need be written down; no message shows one.
Memory: one batch, where the driver can stream (a server-side cursor is asked for).
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import unquote_plus

import polars as pl
import sqlalchemy as sa

from recsys_cl.config import hide_password
from recsys_cl.errors import ConfigError, LogError, UnreachableError
from recsys_cl.interactions.batches import Batch
from recsys_cl.interactions.readers import of_rows

_DRIVERS = "postgresql+psycopg://, mysql+pymysql://, sqlite:///FILE, or another that SQLAlchemy knows"


class Query:
    """The rows of a query that is running; `columns` are known, rows are read by `read_batches`."""

    def __init__(self, url: str, result: sa.CursorResult[Any]) -> None:
        self.url = url
        self.columns = tuple(map(str, result.keys()))
        self._result = result

    def read_batches(self, batch_rows: int) -> Iterator[Batch]:
        """The rows as batches of `batch_rows`; rows count from 1. Raises LogError where the connection breaks."""
        line = 1
        try:
            for rows in self._result.partitions(batch_rows):
                values = zip(*rows, strict=True)
                series = [build_series(name, list(column)) for name, column in zip(self.columns, values, strict=True)]
                yield of_rows(pl.DataFrame(series), line)
                line += len(rows)
        except sa.exc.SQLAlchemyError as error:
            found = f"the database {hide_password(self.url)} broke off after row {line - 1} ({_explain(error, [])})"
            raise LogError(found, remedy="run again") from None


@contextlib.contextmanager
def open_query(url: str, query: str) -> Iterator[Query]:
    """Connect, run the query, and close again on leaving. Raises ConfigError for a URL without a query or with an unset
    variable; UnreachableError for a database that does
    not answer; LogError for an unknown driver and a query that fails."""
    shown = hide_password(url)
    if not query.strip():
        raise ConfigError(f"no query for the database {shown}", remedy="set one with: --set ingest.query='SELECT …'")
    if ":***@" in url or "=***" in url:
        raise ConfigError(
            f"the password of {shown} is not kept with a run",
            "a URL with ${NAME}, read from the environment",
            "put the password into a variable, and start a new run",
        )
    full = expand_variables(url)
    engine = _make_engine(full, shown)
    secrets = _find_secrets(full)
    try:
        try:
            connection = engine.connect()
        except (sa.exc.SQLAlchemyError, OSError) as error:
            kind = UnreachableError if engine.url.host else LogError  # a file that is missing stays so
            raise kind(
                f"cannot connect to {shown} ({_explain(error, secrets)})", remedy="check host, port, name and password"
            ) from None
        with connection:
            try:
                # without parameters a `%` of the query is its own, as in LIKE 'a%'
                streaming = connection.execution_options(stream_results=True, no_parameters=True)
                result = streaming.exec_driver_sql(query)
            except sa.exc.SQLAlchemyError as error:
                raise LogError(
                    f"the query on {shown} failed ({_explain(error, secrets)})", "a query that runs"
                ) from None
            if not result.returns_rows:
                raise LogError(f"the query on {shown} returns no rows", "a SELECT")
            yield Query(shown, result)
    finally:
        engine.dispose()


def expand_variables(url: str) -> str:
    """The URL with each `${NAME}` replaced from the environment. Raises ConfigError where a variable is not set."""

    def replace(match: re.Match[str]) -> str:
        name = match.group(1)
        if name not in os.environ:
            raise ConfigError(f"the log's URL names ${{{name}}}, which is not set", remedy=f"set it: export {name}=…")
        return os.environ[name]

    return re.sub(r"\$\{(\w+)\}", replace, url)


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


def _make_engine(full: str, shown: str) -> sa.Engine:
    try:
        return sa.create_engine(full, poolclass=sa.pool.NullPool)
    except sa.exc.NoSuchModuleError:
        raise LogError(f"no driver for {shown}", f"one of: {_DRIVERS}") from None
    except ModuleNotFoundError as error:
        raise LogError(
            f"{shown} needs the package {error.name!r}, which is not installed",
            _DRIVERS,
            "install it, or name another driver in the URL",
        ) from None
    except (sa.exc.ArgumentError, ValueError):
        raise LogError(f"{shown} is not a database URL", f"one of: {_DRIVERS}") from None


def _find_secrets(full: str) -> list[str]:
    """What `hide_password` takes out of a URL, as it is and decoded: a driver may repeat it; its message must not."""
    parts = [re.escape(part) for part in hide_password(full).split("***")]
    found = re.fullmatch("(.*?)".join(parts), full, flags=re.DOTALL)
    return [text for secret in (found.groups() if found else ()) if secret for text in (secret, unquote_plus(secret))]


def _explain(error: BaseException, secrets: Sequence[str]) -> str:
    cause = getattr(error, "orig", None) or error
    text = " ".join(str(cause).split())
    for secret in secrets:
        text = text.replace(secret, "***")
    return text[:300]
