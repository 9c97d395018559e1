"""A table of a database as the place of an export: filled beside, then put in the place of the old one, in one step.

Readers see the old table or the new one, whole. PostgreSQL takes the lines by COPY, and all of it is one transaction:
a process that is killed leaves nothing. SQLite takes them by batches of rows, each its own transaction, for a long one
would lock readers out; what a killed process left is removed by the next export to the same table.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.csv as pa_csv
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY

from recsys_cl.config import hide_password
from recsys_cl.database import connect
from recsys_cl.errors import InputError
from recsys_cl.files import hash_text
from recsys_cl.serving.sinks import Head, Writer, flatten_block

_INSERT_ROWS = 10_000
_LOCK_TURNS = 60  # each waits a second for those who read, then lets those through who came after it
_DATABASES = ("postgresql", "sqlite")  # those whose tables change names within a transaction, as the tests hold


@dataclass(frozen=True)
class TableSink:
    """A table; schema: the one it is in, None for the database's default."""

    url: str = field(repr=False)
    table: str
    schema: str | None = None

    @property
    def shown(self) -> str:
        """See `Sink`."""
        return f"table {self.table!r} of {hide_password(self.url)}"

    @property
    def remains(self) -> str:
        """See `Sink`."""
        return "what was there before is there still"

    @contextlib.contextmanager
    def open(self, head: Head) -> Iterator[Writer]:
        """See `Sink`. Raises InputError for another kind of database, a table that is no export, and where the database
        refuses; what `connect` raises."""
        with connect(self.url, InputError) as database:
            dialect = database.connection.dialect
            if dialect.name not in _DATABASES:
                raise InputError(f"{database.shown} is {dialect.name}", " or ".join(_DATABASES))
            # What a driver raises itself, too: COPY goes past SQLAlchemy.
            failures = (sa.exc.SQLAlchemyError, dialect.loaded_dbapi.Error)
            try:
                writer = _TableWriter(database.connection, self.schema, self.table, head)
                try:
                    writer.begin()
                    yield writer
                    writer.finish()
                finally:
                    with contextlib.suppress(*failures):  # of a connection that is lost
                        writer.clean_up()
            except failures as error:
                raise InputError(
                    f"{self.shown} cannot be written ({database.explain(error)})",
                    "a database that takes it",
                    self.remains,
                ) from None


class _TableWriter:
    """Fills a table beside the wanted one."""

    def __init__(self, connection: sa.Connection, schema: str | None, wanted: str, head: Head) -> None:
        most = connection.dialect.max_identifier_length
        if not wanted or "\0" in wanted or len(wanted.encode("utf-8", "replace")) > most:
            raise InputError(f"the table is named {wanted!r}", f"a name of 1 to {most} bytes")
        self._connection, self._schema, self._wanted, self._head = connection, schema, wanted, head
        self._copies = connection.dialect.name == "postgresql"
        self._prefix = f"recsys_cl_{hash_text(wanted)[:12]}_"
        columns = [sa.Column(one.name, self._give_type(one.type), nullable=False) for one in head.schema]
        name = self._prefix + secrets.token_hex(4)
        self._new = sa.Table(name, sa.MetaData(), *columns, schema=schema)

    def _give_type(self, kind: pa.DataType) -> Any:
        if pa.types.is_fixed_size_list(kind):
            return ARRAY(sa.REAL()) if self._copies else sa.Text()
        if pa.types.is_floating(kind):
            return sa.REAL()
        return sa.Integer() if pa.types.is_integer(kind) else sa.Text()

    def begin(self) -> None:
        """Make the table beside the wanted one, which must be none or an export, lest somebody's own be lost."""
        found, expected = self._list_columns(), self._head.schema.names
        if found is not None and set(found) != set(expected):
            raise InputError(
                f"table {self._wanted!r} is no such export: it has the columns {', '.join(found)}",
                f"a new name, or a table with the columns {', '.join(expected)}",
            )
        self._connection.rollback()
        self._start_writing()
        for name in sa.inspect(self._connection).get_table_names(self._schema):
            if name.startswith(self._prefix):
                self._drop(name)
        self._new.create(self._connection)

    def count_lines(self, shard: int) -> int | None:
        """See `Writer`."""
        del shard
        return None

    def write(self, shard: int, blocks: Iterable[pa.Table]) -> None:
        """See `Writer`."""
        del shard
        if self._copies:
            self._copy(blocks)
            return
        for block in blocks:
            flat = flatten_block(block)
            for start in range(0, flat.num_rows, _INSERT_ROWS):
                self._connection.execute(self._new.insert(), flat.slice(start, _INSERT_ROWS).to_pylist())
            self._connection.commit()
            self._start_writing()

    def _copy(self, blocks: Iterable[pa.Table]) -> None:
        from psycopg import sql

        names = [name for name in (self._schema, self._new.name) if name]
        statement = sql.SQL("COPY {} FROM STDIN (FORMAT csv)").format(sql.Identifier(*names))
        driver = self._connection.connection.driver_connection
        assert driver is not None
        with driver.cursor() as cursor, cursor.copy(statement) as copy:
            for block in blocks:
                lines = pa.BufferOutputStream()
                pa_csv.write_csv(flatten_block(block, "{}"), lines, pa_csv.WriteOptions(include_header=False))
                copy.write(lines.getvalue())

    def finish(self) -> None:
        """Index the new table by what names a line, then put it in the place of the old one."""
        # Once all lines are there, which is quicker.
        sa.Index(f"ix_{self._new.name}", *(self._new.c[name] for name in self._head.key)).create(self._connection)
        if self._list_columns() is not None:
            if self._copies:
                self._lock_old()
                self._copy_rights()
            self._drop(self._wanted)
        quote = self._connection.dialect.identifier_preparer
        new, name = quote.format_table(self._new), quote.quote_identifier(self._wanted)
        self._connection.exec_driver_sql(f"ALTER TABLE {new} RENAME TO {name}")
        self._connection.commit()

    def clean_up(self) -> None:
        """Take away what was not finished."""
        self._connection.rollback()
        if not self._copies and sa.inspect(self._connection).has_table(self._new.name, self._schema):
            self._new.drop(self._connection)
            self._connection.commit()

    def _list_columns(self) -> list[str] | None:
        """The columns of the table that has the wanted name, None where none has."""
        seen = sa.inspect(self._connection)
        if not seen.has_table(self._wanted, self._schema):
            return None
        return [column["name"] for column in seen.get_columns(self._wanted, self._schema)]

    def _start_writing(self) -> None:
        """Begin a transaction; Python's driver of SQLite would begin one at the first INSERT only."""
        if not self._copies:
            driver = self._connection.connection.driver_connection
            assert driver is not None
            driver.isolation_level = None
            self._connection.exec_driver_sql("BEGIN IMMEDIATE")

    def _drop(self, name: str) -> None:
        sa.Table(name, sa.MetaData(), schema=self._schema).drop(self._connection)

    def _lock_old(self) -> None:
        """Wait for those who read the old table; in turns, so that one who reads for long does not hold up all."""
        old = self._connection.dialect.identifier_preparer.format_table(self._name_old())
        for turn in range(_LOCK_TURNS):
            try:
                with self._connection.begin_nested():
                    self._connection.exec_driver_sql("SET LOCAL lock_timeout = '1s'")
                    self._connection.exec_driver_sql(f"LOCK TABLE {old} IN ACCESS EXCLUSIVE MODE")
                return
            except sa.exc.OperationalError:
                if turn + 1 == _LOCK_TURNS:
                    raise
                time.sleep(1.0)

    def _copy_rights(self) -> None:
        """Who may do what with the old table may do it with the new one."""
        quote = self._connection.dialect.identifier_preparer
        rights = self._connection.execute(
            sa.text(
                "SELECT CASE grantee WHEN 0 THEN NULL ELSE pg_get_userbyid(grantee) END, privilege_type, is_grantable"
                " FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace, aclexplode(relacl)"
                " WHERE relname = :table AND CASE WHEN CAST(:schema AS text) IS NULL"
                " THEN pg_table_is_visible(pg_class.oid) ELSE nspname = :schema END"
            ),
            {"table": self._wanted, "schema": self._schema},
        )
        for grantee, right, grantable in rights.all():
            whom = "PUBLIC" if grantee is None else quote.quote_identifier(grantee)
            more = " WITH GRANT OPTION" if grantable else ""
            new = quote.format_table(self._new)
            self._connection.exec_driver_sql(f"GRANT {right} ON {new} TO {whom}{more}")

    def _name_old(self) -> sa.Table:
        return sa.Table(self._wanted, sa.MetaData(), schema=self._schema, quote=True)
