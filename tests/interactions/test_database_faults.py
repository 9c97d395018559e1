"""A database that is locked or goes down can be asked again later; a query that is wrong cannot. No secret is told."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

import pytest
import sqlalchemy as sa
from prefect.client.schemas.objects import TaskRun
from prefect.states import Failed

from flows import tasks
from recsys_cl.errors import LogError, UnreachableError
from recsys_cl.interactions.sql import open_query

SECRET = "canary-80d1"
ENDLESS = "select n as user_id, n as item_id from generate_series(1, 3000000) n"


def is_tried_again(error: Exception) -> bool:
    """Whether a stage that fails so is tried again."""
    return tasks.can_pass_later(tasks.run_stage, TaskRun(task_key="x", dynamic_key="0"), Failed(data=error))


def read_all(url: str, query: str) -> None:
    with open_query(url, query) as rows:
        for _ in rows.read_batches(1000):
            pass


def ask(url: str, statement: str, **values: object) -> object:
    """What a connection of its own answers."""
    engine = sa.create_engine(url, poolclass=sa.pool.NullPool)
    with engine.begin() as connection:
        found = connection.execute(sa.text(statement), values)
        return found.scalar() if found.returns_rows else None


def test_a_locked_sqlite_file_is_tried_again_and_a_wrong_query_is_not(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as writer:
        writer.execute("create table events (user_id, item_id)")
        writer.execute("insert into events values ('u1', 'i1')")
        url = f"sqlite:///{path}?timeout=0.1"
        read_all(url, "select * from events")
        writer.execute("begin exclusive")
        with pytest.raises(UnreachableError, match="database is locked") as caught:
            read_all(url, "select * from events")
        assert is_tried_again(caught.value)
        writer.execute("rollback")
        with pytest.raises(LogError, match="no such table") as wrong:
            read_all(url, "select * from absent")
        assert type(wrong.value) is LogError
        assert not is_tried_again(wrong.value)


def test_a_postgres_that_ends_the_connection_amid_the_rows_is_tried_again(
    postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CANARY", SECRET)
    sign = "&" if "?" in postgres else "?"
    url = f"{postgres}{sign}application_name=reader&password=${{CANARY}}"
    with open_query(url, ENDLESS) as rows:
        batches = rows.read_batches(1000)
        next(batches)
        ended = "select pg_terminate_backend(pid) from pg_stat_activity where application_name = :name"
        assert ask(postgres, ended, name="reader") is True
        with pytest.raises(UnreachableError, match="broke off after row") as caught:
            list(batches)
    assert is_tried_again(caught.value)
    assert SECRET not in str(caught.value)


def test_a_postgres_table_that_is_locked_is_tried_again(postgres: str) -> None:
    sign = "&" if "?" in postgres else "?"
    ask(postgres, "create table held (user_id int)")
    engine = sa.create_engine(postgres, poolclass=sa.pool.NullPool)
    with engine.begin() as writer:
        writer.execute(sa.text("lock table held in access exclusive mode"))
        with pytest.raises(UnreachableError, match="lock timeout") as caught:
            read_all(f"{postgres}{sign}options=-c%20lock_timeout%3D100", "select * from held")
    assert is_tried_again(caught.value)


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("select 1 / (2000000 - n) as user_id, n as item_id from generate_series(1, 3000000) n", "division by zero"),
        ("select nothing from nowhere", "does not exist"),
    ],
)
def test_a_postgres_query_that_is_wrong_stays_so_even_amid_the_rows(postgres: str, query: str, words: str) -> None:
    with pytest.raises(LogError, match=words) as caught:
        read_all(postgres, query)
    assert type(caught.value) is LogError
    assert not is_tried_again(caught.value)
