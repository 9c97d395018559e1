"""One contract for every place that an export can go to: files, a folder, a table of SQLite or of a real PostgreSQL."""

from __future__ import annotations

import csv
import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
import sqlalchemy as sa

from recsys_cl.errors import InputError
from recsys_cl.serving.export_jobs import CATEGORY, TEXT, repeat_text
from recsys_cl.serving.sinks import FACTS, SUCCESS, FileSink, FolderSink, Head, Sink
from recsys_cl.serving.tables import TableSink

ODD_IDS = [*"\"',;% \n\r\t\\", "\r\n", "", "NULL", "\\N", "\\.", "{}", "%s", "%%", "  padded ", "ünï", "🎬", "x" * 300]
LINES = pa.schema([("user_id", TEXT), ("score", pa.float32()), ("rank", pa.int32()), ("release", CATEGORY)])
VECTORS = pa.schema([("item_id", TEXT), ("embedding", pa.list_(pa.float32(), 3)), ("release", CATEGORY)])
KINDS = ("parquet", "csv", "jsonl", "folder", "sqlite", "postgresql")
_names = (f"t{n}" for n in itertools.count())


@dataclass(frozen=True)
class Place:
    """A sink, and how to read what is there: a line as a dict of values, None where nothing is."""

    sink: Sink
    read: Callable[[], list[dict[str, Any]] | None]


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    kind: str = request.param
    if kind in ("sqlite", "postgresql"):
        url = f"sqlite:///{tmp_path / 'x.db'}" if kind == "sqlite" else request.getfixturevalue("postgres")
        name = next(_names)
        return Place(TableSink(url, name), lambda: read_table(url, name))
    path = tmp_path / ("shards" if kind == "folder" else f"x.{kind}")
    return Place(FolderSink(path) if kind == "folder" else FileSink(path), lambda: read_files(path))


def read_table(url: str, name: str) -> list[dict[str, Any]] | None:
    engine = sa.create_engine(url, poolclass=sa.pool.NullPool)
    with engine.connect() as connection:
        if not sa.inspect(connection).has_table(name):
            return None
        table = sa.Table(name, sa.MetaData(), autoload_with=connection)
        return [dict(line) for line in connection.execute(sa.select(table)).mappings()]


def read_files(path: Path) -> list[dict[str, Any]] | None:
    if path.suffix == ".csv" and path.exists():
        with path.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))
    if path.suffix == ".jsonl" and path.exists():
        return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
    if path.is_dir():
        return [line for part in sorted(path.glob("*.parquet")) for line in pl.read_parquet(part).to_dicts()]
    return pl.read_parquet(path).to_dicts() if path.exists() else None


def build_lines(ids: list[str], release: str = "r1") -> pa.Table:
    scores = np.array([1e-8, 1 / 3, -3e38, 0.1, 16777216.0], dtype=np.float32)
    columns = [
        pa.array(ids, TEXT),
        pa.array(np.resize(scores, len(ids))),
        pa.array(range(1, len(ids) + 1), pa.int32()),
        repeat_text(release, len(ids)),
    ]
    return pa.Table.from_arrays(columns, schema=LINES)


def put(place: Place, *shards: list[pa.Table], facts: dict[str, Any] | None = None) -> None:
    with place.sink.open(
        Head(shards[0][0].schema, (shards[0][0].schema.names[0],), facts or {"release": "r1"})
    ) as writer:
        for number, blocks in enumerate(shards):
            if writer.count_lines(number) is None:
                writer.write(number, blocks)


def test_lines_come_back_as_they_went_with_ids_of_any_signs(place: Place) -> None:
    whole = build_lines(ODD_IDS)
    put(place, [whole.slice(0, 3), whole.slice(3, 0)], [whole.slice(3)])
    found = place.read()
    assert found is not None
    assert [line["user_id"] for line in found] == ODD_IDS
    assert [int(line["rank"]) for line in found] == list(range(1, len(ODD_IDS) + 1))
    assert np.array([line["score"] for line in found], dtype=np.float32).tolist() == whole["score"].to_pylist()
    assert {line["release"] for line in found} == {"r1"}
    assert list(found[0]) == LINES.names


def test_vectors_come_back_bit_for_bit(place: Place) -> None:
    vectors = np.array([[1e-8, 1 / 3, -1.0], [0.1, 16777216.0, -0.0]], dtype=np.float32)
    columns = [pa.array(["a", "b"], TEXT), pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), 3)]
    put(place, [pa.Table.from_arrays([*columns, repeat_text("r1", 2)], schema=VECTORS)])
    found = place.read()
    assert found is not None
    read = [line["embedding"] for line in found]
    texts = [json.loads(one) if isinstance(one, str) else one for one in read]
    np.testing.assert_array_equal(np.array(texts, dtype=np.float32), vectors)


def test_an_export_without_a_line_is_whole(place: Place) -> None:
    put(place, [build_lines([])])
    assert place.read() == []


def test_an_error_in_the_middle_leaves_what_was_there(place: Place) -> None:
    def fail() -> Iterator[pa.Table]:
        yield build_lines(["new"])
        raise RuntimeError("in the middle")

    before: list[dict[str, Any]] | None = None
    for _ in range(2):  # where nothing was, and where an export was
        with (
            pytest.raises(RuntimeError, match="in the middle"),
            place.sink.open(Head(LINES, ("user_id",), {"release": "r1"})) as writer,
        ):
            writer.write(7, fail())
        assert (place.read() or None) == before
        put(place, [build_lines(["old"])])
        before = place.read()
    assert before is not None
    assert [line["user_id"] for line in before] == ["old"]


def test_a_second_export_replaces_the_first_or_is_refused_and_never_mixes_with_it(place: Place) -> None:
    put(place, [build_lines(["a", "b", "c"])])
    if isinstance(place.sink, FolderSink):
        with pytest.raises(InputError, match=r"another export: release 'r1' instead of 'r2'.*--release r1; or .*rm -r"):
            put(place, [build_lines(["d"], "r2")], facts={"release": "r2"})
    else:
        put(place, [build_lines(["d"], "r2")], facts={"release": "r2"})
    found = place.read()
    assert found is not None
    assert [line["user_id"] for line in found] == (["a", "b", "c"] if isinstance(place.sink, FolderSink) else ["d"])


# --- the folder of shards ---


def test_a_folder_says_what_it_holds_and_when_it_is_whole(tmp_path: Path) -> None:
    sink = FolderSink(tmp_path / "f")
    with sink.open(Head(LINES, ("user_id",), {"release": "r1", "k": 3})) as writer:
        writer.write(0, [build_lines(["a"])])
        assert not (sink.path / SUCCESS).exists()
        assert json.loads((sink.path / FACTS).read_text()) == {"release": "r1", "k": 3}
        assert pl.read_parquet(sink.path / "part-00000.parquet")["user_id"].to_list() == ["a"]
        with pytest.raises(InputError, match="another process exports into"), sink.open(Head(LINES, (), {})):
            pass
    assert sorted(path.name for path in sink.path.iterdir()) == [SUCCESS, FACTS, "part-00000.parquet"]


def test_a_shard_that_was_damaged_is_written_again(tmp_path: Path) -> None:
    place = Place(FolderSink(tmp_path / "f"), lambda: read_files(tmp_path / "f"))
    put(place, [build_lines(["a"])], [build_lines(["b"])])
    (tmp_path / "f" / "part-00001.parquet").write_bytes(b"cut")
    put(place, [build_lines(["not again"])], [build_lines(["b"])])
    assert [line["user_id"] for line in place.read() or []] == ["a", "b"]


def test_a_folder_of_other_things_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("x")
    for path, message in ((tmp_path, "holds other things"), (tmp_path / "mine.txt", "is a file")):
        with pytest.raises(InputError, match=message), FolderSink(path).open(Head(LINES, (), {})):
            pass
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_facts_that_cannot_be_read_are_those_of_another_export(tmp_path: Path) -> None:
    (tmp_path / FACTS).write_text("{")
    with pytest.raises(InputError, match="another export"), FolderSink(tmp_path).open(Head(LINES, (), {"k": 3})):
        pass
