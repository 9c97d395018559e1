"""Exports are remembered by place, wherever the store is moved to; a store that cannot be written forbids none."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from recsys_cl.publishing.exported import EXPORTED, list_exports, record_export


def test_each_place_is_listed_once_as_it_was_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, outside = tmp_path / "store", tmp_path / "out,\n.csv"
    (store / "exports").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert record_export(Path("store"), Path("store/exports/r.parquet"), "one", "recommendations")
    assert record_export(store, store / "exports" / "r.parquet", "two", "recommendations")
    assert record_export(store, outside, "two", "neighbors")
    assert record_export(store, "table 't' of postgresql://me:***@there/db", "two", "embeddings of users")
    shutil.move(store, tmp_path / "moved")
    found = {export.place: export for export in list_exports(tmp_path / "moved")}
    inside = tmp_path / "moved" / "exports" / "r.parquet"
    table = "table 't' of postgresql://me:***@there/db"
    assert set(found) == {str(inside), str(outside), table}
    assert (found[str(inside)].path, found[str(inside)].inside, found[str(inside)].release) == (inside, True, "two")
    assert (found[str(outside)].path, found[str(outside)].inside) == (outside, False)
    assert (found[table].path, found[table].inside) == (None, False)
    assert [found[str(place)].names_users for place in (inside, outside, table)] == [True, False, True]


def test_a_line_that_was_cut_hides_no_other(tmp_path: Path) -> None:
    assert list_exports(tmp_path) == []
    record_export(tmp_path, tmp_path / "a.csv", "one", "recommendations")
    with (tmp_path / EXPORTED).open("a") as file:
        file.write('{"path": "cut\n[]\n{}\n')
    record_export(tmp_path, tmp_path / "b.csv", "one", "recommendations")
    assert [export.path for export in list_exports(tmp_path)] == [tmp_path / "a.csv", tmp_path / "b.csv"]


def test_a_store_that_cannot_be_written_says_so_and_no_more(tmp_path: Path) -> None:
    assert not record_export(tmp_path / "missing", tmp_path / "a.csv", "one", "recommendations")
    (tmp_path / EXPORTED).symlink_to(tmp_path / "elsewhere")  # never followed
    assert not record_export(tmp_path, tmp_path / "a.csv", "one", "recommendations")
    assert not (tmp_path / "elsewhere").exists()
