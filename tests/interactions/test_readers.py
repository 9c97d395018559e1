"""Every form gives the same rows; what cannot be read is refused by line, or ends in one clear message."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import uuid
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from subprocess import CompletedProcess

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_cl.errors import LogError
from recsys_cl.interactions.batches import make_refused
from recsys_cl.interactions.delimited import MOST_BLOCK
from recsys_cl.interactions.readers import read_batches
from recsys_cl.interactions.sources import check_delimiter, open_file, open_log
from recsys_cl.interactions.validation import render_ids


def read(
    path: Path, form: str = "auto", delimiter: str = "", quoted: bool = True, batch_rows: int = 1000
) -> tuple[pl.DataFrame, list[int], list[tuple[int, str, str]]]:
    file = open_file(path.name, path, form, delimiter, quoted)
    batches = list(read_batches(file, batch_rows))
    rows = pl.concat([b.rows for b in batches if b.rows.width], how="vertical_relaxed")
    return rows, [n for b in batches for n in b.lines], sorted(row for b in batches for row in b.broken.rows())


def write(folder: Path, name: str, data: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


def test_csv_keeps_every_value_as_it_is(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "log.csv",
        '\ufeffuser_id,item_id,note\r\n007,NA,"a,b"\r\nnull,"x\ny",""\r\n\r\n é,"q""q",12" record\r\n ,None,1.0',
    )
    rows, lines, broken = read(path)
    assert rows.rows() == [
        ("007", "NA", "a,b"),
        ("null", "x\ny", ""),
        (" é", 'q"q', '12" record'),
        (" ", "None", "1.0"),
    ]
    assert lines == [2, 3, 6, 7]
    assert broken == []


def test_lines_that_are_no_rows_are_refused_with_their_text(tmp_path: Path) -> None:
    path = write(tmp_path, "log.csv", b'u,i,t\na,"x\ny",1\nb,2\n\n\xff,y,3\nc,d,4,5\n"\xfe\ne,f,6\n')
    rows, lines, broken = read(path)
    assert rows.rows() == [("a", "x\ny", "1"), ("e", "f", "6")]
    assert lines == [2, 9]
    assert broken == [
        (4, "ragged_row", "b,2"),
        (6, "invalid_utf8", "\\xff,y,3"),
        (7, "ragged_row", "c,d,4,5"),
        (8, "invalid_utf8", '"\\xfe'),
    ]


def test_an_open_quote_costs_one_line(tmp_path: Path) -> None:
    path = write(tmp_path, "log.csv", 'u,i,t\na,b,1\nc,"d,2\n' + "e,f,3\n" * 3 + "i,j,5\nk,l\n")
    rows, lines, broken = read(path)
    assert rows.rows() == [("a", "b", "1"), *[("e", "f", "3")] * 3, ("i", "j", "5")]
    assert lines == [2, 4, 5, 6, 7]
    assert broken == [(3, "open_quote", 'c,"d,2'), (8, "ragged_row", "k,l")]


def test_an_open_quote_before_more_than_a_block_costs_one_line(tmp_path: Path) -> None:
    line = "user_of_some_length,item_of_some_length,1700000000\n"
    n = MOST_BLOCK // len(line) + 1000
    path = write(tmp_path, "log.csv", 'u,i,t\na,b,1\nc,"d,2\n' + line * n)
    file = open_file(path.name, path, "auto", "", True)
    heights, broken, last = 0, [], 0
    for batch in read_batches(file, 500_000):
        heights += batch.rows.height
        broken += batch.broken.rows()
        last = batch.lines[-1] if len(batch.lines) else last
    assert (heights, last) == (n + 1, n + 3)
    assert broken == [(3, "open_quote", 'c,"d,2')]


def test_a_row_longer_than_a_block_is_read(tmp_path: Path) -> None:
    long = "x" * 300_000
    rows, lines, broken = read(write(tmp_path, "log.csv", f"u,i\na,{long}\nb,c\n"), batch_rows=10)
    assert rows.rows() == [("a", long), ("b", "c")]
    assert (lines, broken) == ([2, 3], [])


def test_quotes_are_plain_letters_where_they_do_not_enclose(tmp_path: Path) -> None:
    rows, _, _ = read(write(tmp_path, "log.tsv", 'u\ti\n"a\tb"c"\n'), quoted=False)
    assert rows.rows() == [('"a', 'b"c"')]


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), max_size=8), min_size=3, max_size=3),
        min_size=1,
        max_size=30,
    ),
    st.sampled_from([",", "\t", ";", "|"]),
)
def test_what_the_standard_library_writes_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, rows: list[list[str]], delimiter: str
) -> None:
    rows = [row for row in rows if any(row)]  # a row of nothing is an empty line
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=delimiter, quoting=csv.QUOTE_ALL).writerows([["user_id", "item_id", "c"], *rows])
    path = write(tmp_path_factory.mktemp("x"), "log.csv", text.getvalue())
    file = open_file(path.name, path, "csv", delimiter, True)
    batches = list(read_batches(file, 1))
    assert [list(row) for batch in batches for row in batch.rows.rows()] == rows
    raw = path.read_bytes()
    for batch in batches:
        for line, row in zip(batch.lines, batch.rows.rows(), strict=True):
            first = row[0].replace('"', '""').split("\n")[0]
            assert raw.split(b"\n")[line - 1].decode().startswith(f'"{first}')


LOG = [("u1", "i1", 1), ("u 2", "é", 2), ("003", "NA", 3)] * 50


def as_csv(path: Path) -> None:
    pl.DataFrame(LOG, schema=["user_id", "item_id", "ts"], orient="row").write_csv(path)


def as_jsonl(path: Path) -> None:
    pl.DataFrame(LOG, schema=["user_id", "item_id", "ts"], orient="row").write_ndjson(path)


def as_parquet(path: Path) -> None:
    pl.DataFrame(LOG, schema=["user_id", "item_id", "ts"], orient="row").write_parquet(path, row_group_size=40)


@pytest.mark.parametrize("compression", ["", ".gz", ".zst"])
@pytest.mark.parametrize(("name", "put"), [("a.csv", as_csv), ("a.jsonl", as_jsonl), ("a.parquet", as_parquet)])
def test_each_form_and_compression_gives_the_same_rows(
    tmp_path: Path, name: str, put: Callable[[Path], None], compression: str
) -> None:
    path = tmp_path / name
    put(path)
    if compression:
        codec = {".gz": "gzip", ".zst": "zstd"}[compression]
        with pa.CompressedOutputStream(str(path) + compression, codec) as stream:
            stream.write(path.read_bytes())
        path = Path(str(path) + compression)
    rows, lines, broken = read(path, batch_rows=7)
    assert [(u, i, int(t)) for u, i, t in rows.rows()] == LOG
    start = 2 if name == "a.csv" else 1
    assert lines == list(range(start, start + len(LOG)))
    assert not broken


def test_compressed_members_behind_one_another_are_all_read(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv.gz", gzip.compress(b"user,item\na,b\n", mtime=0) + gzip.compress(b"c,d\n"))
    assert read(path)[0].rows() == [("a", "b"), ("c", "d")]


def test_a_truncated_archive_says_so(tmp_path: Path) -> None:
    whole = gzip.compress(os.urandom(40_000).hex().encode())
    path = write(tmp_path, "a.csv.gz", whole[: len(whole) // 2])
    with pytest.raises(LogError, match=r"a\.csv\.gz"):
        read(path)
    garbage = write(tmp_path, "b.csv.zst", b"not zstd at all" * 100)
    with pytest.raises(LogError, match=r"b\.csv\.zst cannot be read"):
        read(garbage)


def test_user_item_item_lines(tmp_path: Path) -> None:
    path = write(tmp_path, "log.txt", "0 5 7  9\r\n\r\n1\tx\n2 \r\n3 é\n")
    rows, lines, broken = read(path, form="lines")
    assert rows.rows() == [("0", "5"), ("0", "7"), ("0", "9"), ("1", "x"), ("2", ""), ("3", "é")]
    assert (lines, broken) == ([1, 1, 1, 3, 4, 5], [])
    assert open_file("b.txt", write(tmp_path, "b.txt", "1 2 3\n2 4\n"), "auto", "", True).layout.form == "lines"
    assert (
        open_file("c.txt", write(tmp_path, "c.txt", "user_id\titem_id\n1\t2\n"), "auto", "", True).layout.form == "csv"
    )


def test_bad_json_is_refused_by_line(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "log.jsonl",
        b'{"user": 1, "item": "a", "w": 1.5}\n{bad\n\n[1]\n{"user": 12345678901234567890123, "item": 2.0}\n'
        b'{"item": "\\ud800", "user": 1}\n{"user": "x\xff"}\n{"user": true, "item": null, "w": [1]}\n',
    )
    rows, lines, broken = read(path)
    assert rows.rows() == [("1", "a", "1.5"), ("12345678901234567890123", "2", None), ("true", None, "[1]")]
    assert lines == [1, 5, 8]
    assert [(line, reason) for line, reason, _ in broken] == [
        (2, "bad_json"),
        (4, "bad_json"),
        (6, "bad_json"),
        (7, "invalid_utf8"),
    ]


def test_json_blocks_agree_whatever_their_size(tmp_path: Path) -> None:
    lines = [{"user": n, "item": f"i{n}", "ts": n + 0.5} for n in range(3000)]
    path = write(tmp_path, "log.ndjson", "\n".join(map(json.dumps, lines)))
    small, large = read(path, batch_rows=1), read(path, batch_rows=100_000)
    assert small[0].equals(large[0])
    assert small[1] == large[1] == list(range(1, 3001))


def test_ids_of_any_type_come_out_exactly(tmp_path: Path) -> None:
    one = uuid.UUID("12345678-1234-5678-1234-567812345678")
    table = pa.table(
        {
            "int": pa.array([2**62 + 1, -5, None]),
            "uint": pa.array([2**64 - 1, 0, None], pa.uint64()),
            "float": pa.array([1.0, 2.5, float("nan")]),
            "text": pa.array([" ", "007", None]),
            "bytes": pa.array([b"\xc3\xa9", b"x", None]),
            "dictionary": pa.array(["a", "b", None]).dictionary_encode(),
            "decimal": pa.array([Decimal("1"), Decimal("99999999999999999999"), None], pa.decimal128(30, 0)),
            "uuid": pa.array([one.bytes, one.bytes, None], pa.uuid()),
        }
    )
    path = tmp_path / "a.parquet"
    pq.write_table(table, path)
    rows, _, _ = read(path)
    found = {name: render_ids(rows[name]).to_list() for name in rows.columns}
    assert found == {
        "int": ["4611686018427387905", "-5", None],
        "uint": ["18446744073709551615", "0", None],
        "float": ["1", "2.5", None],
        "text": [" ", "007", None],
        "bytes": ["é", "x", None],
        "dictionary": ["a", "b", None],
        "decimal": ["1", "99999999999999999999", None],
        "uuid": [str(one), str(one), None],
    }


def test_bytes_that_are_not_utf8_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"user": pa.array([b"a", b"\xff"]), "item": ["x", "y"]}), path)
    rows, lines, broken = read(path)
    assert rows.rows() == [("a", "x")]
    assert lines == [1]
    assert broken == [(2, "invalid_utf8", '{"user":"ff"}')]


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("empty.csv", b"", "is empty"),
        ("empty.parquet", b"", "is empty"),
        ("blank.csv", b"\n\n\n", "only empty lines"),
        ("noise.parquet", bytes(range(256)) * 16, "not a Parquet file"),
        ("noise.csv", bytes(range(256)) * 16, "not a text file"),
        ("noise.jsonl", b"hello\nworld\n", "not JSON"),
        ("utf16.csv", "user,item\na,b\n".encode("utf-16"), "UTF-16"),
        ("latin.csv", "usér,item\na,b\n".encode("latin-1"), "not UTF-8"),
        ("zipped.csv", gzip.compress(b"user,item\n", mtime=0), "not a text file"),
    ],
)
def test_files_that_are_not_what_they_say(tmp_path: Path, name: str, data: bytes, message: str) -> None:
    with pytest.raises(LogError, match=message) as caught:
        open_file(name, write(tmp_path, name, data), "auto", "", True)
    assert name in str(caught.value)


@pytest.mark.parametrize(
    ("name", "header", "shown"),
    [
        ("a.csv", "user_id;item_id;timestamp", '--set "ingest.delimiter=;"'),
        ("a.csv", "user_id\titem_id", "--set 'ingest.delimiter=\"\\t\"'"),
        ("a.tsv", "user_id,item_id", '--set "ingest.delimiter=,"'),
        ("a.csv", "user_id item_id", "--set 'ingest.delimiter=\" \"'"),
        ("a.csv", "x|y|z", '--set "ingest.delimiter=|"'),
        ("a.csv", "user_id;item_id;note, if any", '--set "ingest.delimiter=;"'),
    ],
)
def test_a_wrong_delimiter_is_guessed_for_the_message(tmp_path: Path, name: str, header: str, shown: str) -> None:
    file = open_file(name, write(tmp_path, name, header + "\n"), "auto", "", True)
    with pytest.raises(LogError) as caught:
        check_delimiter(file)
    assert shown in str(caught.value)


def test_folders_and_globs_give_their_files_in_order(tmp_path: Path) -> None:
    for name in ("b.csv", "a.csv", "sub/c.csv", "_SUCCESS", ".hidden.csv", "a.csv.crc", "_tmp/d.csv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write(tmp_path, name, "user,item\n1,2\n")
    write(tmp_path, "zero.csv", "")
    files, empty = open_log(str(tmp_path), "auto", "", True)
    assert [file.name for file in files] == ["a.csv", "b.csv", "sub/c.csv"]
    assert empty == ["zero.csv"]
    files, _ = open_log(str(tmp_path / "*.csv"), "auto", "", True)
    assert [file.name for file in files] == ["a.csv", "b.csv"]
    files, _ = open_log(str(tmp_path / "**" / "*.csv"), "auto", "", True)
    assert [file.name for file in files] == ["a.csv", "b.csv", "sub/c.csv"]
    as_parquet(tmp_path / "d.parquet")
    with pytest.raises(LogError, match=r"mixes forms: a\.csv is csv, d\.parquet is parquet"):
        open_log(str(tmp_path), "auto", "", True)


def test_a_log_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "bare").mkdir()
    for log, message in (
        (tmp_path / "none.csv", "there is no log"),
        (tmp_path / "bare", "holds no files"),
        (tmp_path / "*.csv", "no file matches"),
    ):
        with pytest.raises(LogError, match=message):
            open_log(str(log), "auto", "", True)


def test_an_unreadable_file_is_named(tmp_path: Path, run_bound: Callable[..., CompletedProcess[str]]) -> None:
    path = write(tmp_path, "a.csv", "user,item\n1,2\n")
    path.chmod(0)
    code = (
        "import sys; from pathlib import Path; from recsys_cl.errors import LogError\n"
        "from recsys_cl.interactions.sources import open_file\n"
        "try: open_file('a.csv', Path(sys.argv[1]), 'auto', '', True)\n"
        "except LogError as error: print(error)"
    )
    done = run_bound("-c", code, path)
    assert done.stdout.startswith(f"{path} cannot be read ("), done.stderr
    assert "Permission denied" in done.stdout


def test_a_frame_of_no_refused_rows_has_its_columns() -> None:
    assert make_refused([]).columns == ["line", "reason", "content"]
