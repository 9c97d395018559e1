"""Arrow files that nobody vouches for: what our writer writes is mapped, and whatever would lie to Arrow is refused."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from recsys_cl.arrow_guard import map_table
from recsys_cl.errors import StoreError
from recsys_cl.ids import read_arrow, write_arrow

TABLE = pa.table({"id": pa.array(["a", "", "ünï"], pa.large_string()), "n": pa.array([1, 2, 3], pa.int64())})


def write(path: Path, table: pa.Table, **options: object) -> Path:
    with pa.OSFile(str(path), "wb") as sink:
        writer = pa.ipc.new_file(sink, table.schema, options=pa.ipc.IpcWriteOptions(**options))
        writer.write_table(table)
        writer.close()
    return path


@pytest.mark.parametrize("table", [TABLE, TABLE.slice(0, 0), TABLE.select(["id"])])
def test_what_our_writer_writes_comes_back_mapped(tmp_path: Path, table: pa.Table) -> None:
    write_arrow(tmp_path / "a.arrow", table)
    before = pa.total_allocated_bytes()
    found = map_table(tmp_path / "a.arrow")
    assert found.equals(table)
    assert pa.total_allocated_bytes() == before


@pytest.mark.parametrize("codec", ["zstd", "lz4"])
def test_a_compressed_file_is_refused_before_it_is_unpacked(tmp_path: Path, codec: str) -> None:
    table = TABLE.append_column("zeros", pa.array(["\0" * (64 << 20), "", ""], pa.large_string()))
    path = write(tmp_path / "a.arrow", table, compression=codec)
    assert path.stat().st_size < 1 << 20
    del table
    before = pa.total_allocated_bytes()
    with pytest.raises(pa.ArrowInvalid, match="compressed"):
        map_table(path)
    assert pa.total_allocated_bytes() - before < 1 << 20


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (pa.array([[None] * 3, [], []], pa.list_(pa.null())), "list"),
        (pa.array(["a", "b", "a"]).dictionary_encode(), "dictionary"),
        (pa.array([{"x": 1}] * 3), "struct"),
        (pa.array([b"a"] * 3), "binary"),
    ],
)
def test_columns_that_are_neither_texts_nor_numbers_are_refused(tmp_path: Path, column: pa.Array, message: str) -> None:
    with pytest.raises(pa.ArrowInvalid, match=f"columns of odd: {message}"):
        map_table(write(tmp_path / "a.arrow", TABLE.append_column("odd", column)))


def test_more_than_one_batch_is_refused(tmp_path: Path) -> None:
    with pytest.raises(pa.ArrowInvalid, match="2 batches"):
        map_table(write(tmp_path / "a.arrow", pa.concat_tables([TABLE, TABLE])))


def test_offsets_that_lead_out_of_the_file_and_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    write_arrow(tmp_path / "a.arrow", TABLE)
    data = (tmp_path / "a.arrow").read_bytes()
    offsets = np.array([0, 1, 1, 6], dtype="<i8").tobytes()
    assert data.count(offsets) == 1
    for numbers in ([0, 1, 1, 1 << 40], [-(1 << 40), 1, 1, 6], [0, 5, 1, 6], [0, 1 << 62, 1 << 62, 1 << 62]):
        (tmp_path / "a.arrow").write_bytes(data.replace(offsets, np.array(numbers, dtype="<i8").tobytes()))
        with pytest.raises(StoreError, match=r"a\.arrow"):
            read_arrow(tmp_path / "a.arrow", "id")
    (tmp_path / "a.arrow").write_bytes(data.replace("ü".encode(), b"\xff\xff"))
    with pytest.raises(StoreError, match=r"a\.arrow"):
        read_arrow(tmp_path / "a.arrow", "id")


def test_any_changed_byte_gives_a_table_or_one_error(tmp_path: Path) -> None:
    write_arrow(tmp_path / "a.arrow", TABLE)
    data, rng = (tmp_path / "a.arrow").read_bytes(), random.Random(0)
    n_refused = 0
    for place in range(0, len(data), 2):
        changed = bytearray(data)
        changed[place] = rng.choice((0, 1, 0x7F, 0xFF, changed[place] ^ 1 << rng.randrange(8)))
        (tmp_path / "b.arrow").write_bytes(changed)
        try:
            read_arrow(tmp_path / "b.arrow", "id").to_pylist()
        except StoreError:
            n_refused += 1
    assert n_refused > 25
