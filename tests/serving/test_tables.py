"""Exports to tables: readers see the old or the new one whole, names are only names, and nobody's own table is lost."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pytest
import sqlalchemy as sa

from recsys_cl.errors import ConfigError, InputError, UnreachableError
from recsys_cl.serving import tables
from recsys_cl.serving.export import export
from recsys_cl.serving.export_jobs import Request
from recsys_cl.serving.lookup import Release
from recsys_cl.serving.sinks import Head
from recsys_cl.serving.tables import TableSink

SCHEMA = pa.schema([("user_id", pa.large_string()), ("release", pa.large_string())])
HOSTILE = ('a"; DROP TABLE victim; --', "50%", "%s", ":name", "select", "Größe 'x'", "a.b", "tab\tle", "UPPER")


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'x.db'}" if request.param == "sqlite" else request.getfixturevalue("postgres")


@contextmanager
def talk(url: str) -> Iterator[sa.Connection]:
    engine = sa.create_engine(url, poolclass=sa.pool.NullPool)
    with engine.begin() as connection:
        yield connection
    engine.dispose()


def put(sink: TableSink, release: str, n: int = 3) -> None:
    lines = pa.Table.from_arrays([pa.array([f"u{i}" for i in range(n)], SCHEMA.types[0]), [release] * n], schema=SCHEMA)
    with sink.open(Head(SCHEMA, ("user_id",), {})) as writer:
        writer.write(0, [lines])


def list_ours(url: str) -> list[str]:
    with talk(url) as connection:
        return [name for name in sa.inspect(connection).get_table_names() if name.startswith("recsys_cl_")]


def test_an_export_of_a_release_fills_the_table(release: Release, url: str) -> None:
    for _ in range(2):
        done = export(release, Request("recommendations", 5), TableSink(url, "recs"), block_rows=7, shard_rows=16)
    with talk(url) as connection:
        lines = connection.execute(sa.text("SELECT user_id, item_id, rank, release, model FROM recs")).all()
        indexes = sa.inspect(connection).get_indexes("recs")
    assert len(lines) == done.n_lines
    assert {line[3:] for line in lines} == {(release.version, release.manifest.config_fingerprint)}
    for user in ("u1", "u7"):
        found = [item for asking, item, *_ in sorted(lines, key=lambda line: line[2]) if asking == user]
        assert found == [answer["item_id"] for answer in release.answer_user(user, 5)]
    assert [index["column_names"] for index in indexes] == [["user_id", "rank"]]
    assert list_ours(url) == []


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_is_a_name_whatever_signs_it_has(name: str, url: str) -> None:
    with talk(url) as connection:
        connection.exec_driver_sql("CREATE TABLE IF NOT EXISTS victim (a int)")
    put(TableSink(url, name), "r1")
    put(TableSink(url, name), "r2", 4)
    with talk(url) as connection:
        seen = sa.inspect(connection)
        assert seen.has_table(name)
        assert seen.has_table("victim")
        table = sa.Table(name, sa.MetaData(), autoload_with=connection)
        assert connection.execute(sa.select(table.c.release)).scalars().all() == ["r2"] * 4


@pytest.mark.parametrize("name", ["", "x" * 10_000, "a\0b"])
def test_a_name_that_no_table_can_have_is_refused(name: str, url: str) -> None:
    with pytest.raises(InputError, match="the table is named"):
        put(TableSink(url, name), "r1")


def test_a_table_that_is_no_export_is_not_replaced(url: str) -> None:
    with talk(url) as connection:
        connection.exec_driver_sql("DROP TABLE IF EXISTS users")
        connection.exec_driver_sql("CREATE TABLE users (user_id text, password text)")
    with pytest.raises(InputError, match="no such export: it has the columns user_id, password"):
        put(TableSink(url, "users"), "r1")
    assert list_ours(url) == []


def test_a_view_on_the_old_table_stands_in_the_way_and_is_told(postgres: str) -> None:
    put(TableSink(postgres, "viewed"), "r1")
    with talk(postgres) as connection:
        connection.exec_driver_sql("CREATE VIEW seen AS SELECT user_id FROM viewed")
    with pytest.raises(InputError, match="seen"):
        put(TableSink(postgres, "viewed"), "r2")
    with talk(postgres) as connection:
        assert connection.exec_driver_sql("SELECT DISTINCT release FROM viewed").scalars().all() == ["r1"]
        connection.exec_driver_sql("DROP VIEW seen")
    assert list_ours(postgres) == []
    put(TableSink(postgres, "viewed"), "r2")


def test_one_who_reads_all_the_time_sees_the_old_table_or_the_new_one_whole(postgres: str) -> None:
    sink, sizes = TableSink(postgres, "busy"), {"r0": 1000, "r1": 2000, "r2": 3000}
    put(sink, "r0", sizes["r0"])
    stop, seen, wrong = threading.Event(), set(), []

    def read() -> None:
        engine = sa.create_engine(postgres, poolclass=sa.pool.NullPool, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            while not stop.is_set():
                try:
                    found = connection.exec_driver_sql("SELECT release, count(*) FROM busy GROUP BY release").all()
                    seen.add(found[0][0])
                    if [tuple(one) for one in found] != [(found[0][0], sizes[found[0][0]])]:
                        wrong.append(found)
                except Exception as error:
                    wrong.append(error)
                    return

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for release in ("r1", "r2", "r1", "r2"):
        put(sink, release, sizes[release])
    stop.set()
    for reader in readers:
        reader.join()
    assert wrong == []
    assert len(seen) > 1


def test_a_reader_who_never_ends_holds_up_the_export_and_nobody_else(
    postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "_LOCK_TURNS", 1)
    sink = TableSink(postgres, "held")
    put(sink, "r1")
    with talk(postgres) as slow:
        slow.exec_driver_sql("SELECT * FROM held").all()  # its transaction stays open
        with pytest.raises(InputError, match="lock timeout"):
            put(sink, "r2")
        with talk(postgres) as other:
            assert other.exec_driver_sql("SELECT DISTINCT release FROM held").scalars().all() == ["r1"]
    put(sink, "r2")


def test_who_may_read_the_old_table_may_read_the_new_one(postgres: str) -> None:
    sink = TableSink(postgres, "granted", "other%s")
    with talk(postgres) as connection:
        connection.exec_driver_sql('CREATE SCHEMA "other%%s"')
        connection.exec_driver_sql('CREATE ROLE "web ""app"')
    put(sink, "r1")
    with talk(postgres) as connection:
        connection.exec_driver_sql('GRANT SELECT ON "other%%s".granted TO "web ""app" WITH GRANT OPTION')
        connection.exec_driver_sql('GRANT SELECT ON "other%%s".granted TO PUBLIC')
    put(sink, "r2")
    with talk(postgres) as connection:
        rights = connection.exec_driver_sql(
            "SELECT grantee, privilege_type, is_grantable FROM information_schema.role_table_grants"
            " WHERE table_name = 'granted' AND grantee IN ('PUBLIC', 'web \"app') ORDER BY 1"
        ).all()
    assert [tuple(right) for right in rights] == [("PUBLIC", "SELECT", "NO"), ('web "app', "SELECT", "YES")]


def test_a_process_that_is_killed_leaves_the_old_table_and_the_next_export_takes_its_remains(
    store: Path, release: Release, url: str
) -> None:
    code = (
        "import os, signal, sys; from recsys_cl.serving.export import export\n"
        "from recsys_cl.serving.export_jobs import Request; from recsys_cl.serving.tables import TableSink\n"
        "from recsys_cl.serving.lookup import open_release\n"
        "def kill(what, done, total, note):\n"
        "    if done >= 20: os.kill(os.getpid(), signal.SIGKILL)\n"
        "sink = TableSink(sys.argv[2], 'killed')\n"
        "export(open_release(sys.argv[1]), Request('recommendations', 9), sink, kill, shard_rows=10)"
    )
    first = export(release, Request("recommendations", 3), TableSink(url, "killed"))
    done = subprocess.run([sys.executable, "-c", code, str(store), url], capture_output=True, text=True, timeout=60)
    assert done.returncode == -signal.SIGKILL, done.stderr
    with talk(url) as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM killed").scalar() == first.n_lines
    second = export(release, Request("recommendations", 4), TableSink(url, "killed"))
    with talk(url) as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM killed").scalar() == second.n_lines
    assert list_ours(url) == []


def test_no_message_shows_a_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "hunter2")
    cases: list[tuple[str, type[Exception], str]] = [
        ("postgresql://me:${SECRET}@127.0.0.1:1/x", UnreachableError, "cannot connect"),
        ("postgresql://me:hunter2@127.0.0.1:1/x", UnreachableError, "cannot connect"),
        ("postgresql://me:${UNSET}@127.0.0.1:1/x", ConfigError, "UNSET"),
        ("oracle9://me:hunter2@x/y", InputError, "no driver"),
        ("sqlite:////no/such/folder/x.db", InputError, "cannot connect"),
    ]
    for url, kind, message in cases:
        sink = TableSink(url, "t")
        with pytest.raises(kind, match=message) as caught:
            put(sink, "r1")
        assert "hunter2" not in str(caught.value) + repr(sink) + sink.shown


def test_an_id_that_the_database_cannot_hold_is_told_and_the_old_table_stays(postgres: str) -> None:
    sink = TableSink(postgres, "nul")
    put(sink, "r1")
    with pytest.raises(InputError, match=r"table 'nul' of .* cannot be written"):
        put(sink, "a\0b")
    with talk(postgres) as connection:
        assert connection.exec_driver_sql("SELECT DISTINCT release FROM nul").scalars().all() == ["r1"]
