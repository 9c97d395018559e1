"""Ids come out as they went in, in the order of their bytes, and what is not an id is never taken for one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from recsys_cl.errors import StoreError
from recsys_cl.ids import IdMap, read_arrow, write_arrow

ODD = ["", " ", "  padded ", "007", "7", "a\nb", "a\x00", "a\x00b", "a", "A", "é", "e\u0301", "\uffff", "🙂", "\u202e"]
ODD += ["null", "NaN", "-1", "x" * 100_000, "\ufeff1", "\r", "a,b", '"']
TEXT = st.characters(exclude_categories=["Cs"])
IDS = st.lists(st.text(TEXT, max_size=12), max_size=40)
ON_DISK = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


@given(ids=IDS, others=st.lists(st.text(TEXT, max_size=12), max_size=10))
@example(ids=ODD, others=["b", "x" * 99_999])
@example(ids=[], others=["a", ""])
@ON_DISK
def test_ids_and_rows_are_one_to_one_in_memory_and_on_disk(tmp_path: Path, ids: list[str], others: list[str]) -> None:
    expected = sorted(set(ids), key=lambda text: text.encode())
    built = IdMap.build(ids)
    built.write(tmp_path / "ids.arrow")
    for found in (built, IdMap.read(tmp_path / "ids.arrow"), IdMap.build(pl.Series(ids, dtype=pl.String))):
        assert len(found) == len(expected)
        assert found.to_series().to_list() == expected
        assert [found.get_id(row) for row in range(len(found))] == expected
        assert [found.find_row(text) for text in expected] == list(range(len(expected)))
        backwards = np.arange(len(expected))[::-1]
        assert found.get_ids(backwards).to_list() == expected[::-1]
        wanted = [*others, *expected, *others, *expected]
        rows = [expected.index(text) if text in expected else -1 for text in wanted]
        assert found.find_rows(pl.Series("any name", wanted, dtype=pl.String)).tolist() == rows
        for text in others:
            assert found.find_row(text) == (expected.index(text) if text in expected else None)


@given(st.text(), IDS)
def test_no_text_whatever_breaks_a_search(wanted: str, ids: list[str]) -> None:
    row = IdMap.build(ids).find_row(wanted)
    assert (row is not None) == (wanted in ids)


def test_lone_surrogates_are_unknown() -> None:
    """What Python makes of a command line that is not UTF-8."""
    assert IdMap.build(["a", "\ufffd", "?"]).find_row("\udcff") is None
    assert IdMap.build(["a"]).find_row("a\ud800") is None


def test_a_missing_value_is_neither_an_id_nor_found() -> None:
    with pytest.raises(ValueError, match="null"):
        IdMap.build(pl.Series(["a", None]))
    assert IdMap.build(["null", ""]).find_rows(pl.Series([None, "null"])).tolist() == [-1, 1]


def test_numbers_are_found_as_they_are_written() -> None:
    assert IdMap.build(["007", "7", "10"]).find_rows(pl.Series([7, 10, 8])).tolist() == [2, 1, -1]


def test_a_search_takes_as_many_looks_as_the_number_has_digits_in_binary(tmp_path: Path) -> None:
    class Counted:
        def __init__(self, array: pa.LargeStringArray) -> None:
            self.array, self.n_looks = array, 0

        def __len__(self) -> int:
            return len(self.array)

        def __getitem__(self, row: int) -> pa.Scalar:
            self.n_looks += 1
            return self.array[row]

    known = IdMap.build(f"{n:06}" for n in range(65_536))
    for row in (0, 1, 40_000, 65_535):
        counted = Counted(known.array)
        assert IdMap(counted).find_row(f"{row:06}") == row  # type: ignore[arg-type]
        assert counted.n_looks <= 17


def test_ids_from_disk_are_mapped_not_read(tmp_path: Path) -> None:
    IdMap.build(f"{n:0100}" for n in range(100_000)).write(tmp_path / "ids.arrow")
    before = pa.total_allocated_bytes()
    found = IdMap.read(tmp_path / "ids.arrow")
    assert found.find_row(f"{77:0100}") == 77
    assert pa.total_allocated_bytes() - before < 1_000_000


def break_ids(path: Path, how: str) -> None:
    whole = path.read_bytes()
    if how == "missing":
        path.unlink()
    elif how == "a folder":
        path.unlink()
        path.mkdir()
    elif how == "another column":
        write_arrow(path, pa.table({"other": pa.array(["a"], pa.large_string())}))
    elif how == "numbers":
        write_arrow(path, pa.table({"id": pa.array([1, 2])}))
    elif how == "nulls":
        write_arrow(path, pa.table({"id": pa.array(["a", None], pa.large_string())}))
    elif how == "two batches":
        table = pa.table({"id": pa.array(["a", "b"], pa.large_string())})
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table, max_chunksize=1)
    else:
        path.write_bytes({"empty": b"", "text": b"a\nb\n", "cut": whole[: len(whole) // 2], "tail": whole[200:]}[how])


@pytest.mark.parametrize(
    "how",
    ["missing", "a folder", "empty", "text", "cut", "tail", "another column", "numbers", "nulls", "two batches"],
)
def test_a_file_that_is_no_list_of_ids_is_refused_by_name(tmp_path: Path, how: str) -> None:
    path = tmp_path / "ids.arrow"
    IdMap.build(["a", "b"]).write(path)
    break_ids(path, how)
    with pytest.raises(StoreError, match=r"ids\.arrow is not an Arrow file with the column id"):
        IdMap.read(path)


@pytest.mark.parametrize("n_rows", [0, 1, 70_000])
def test_a_table_is_one_batch_however_long(tmp_path: Path, n_rows: int) -> None:
    table = pa.table({"id": pa.array(map(str, range(n_rows)), pa.large_string()), "n": pa.array(range(n_rows))})
    write_arrow(tmp_path / "t.arrow", pa.concat_tables([table.slice(0, n_rows // 2), table.slice(n_rows // 2)]))
    found = read_arrow(tmp_path / "t.arrow", "id")
    assert found.equals(table)
    assert found.column("id").num_chunks <= 1
