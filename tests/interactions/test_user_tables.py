"""Tables of every form: a user is found by the decoded field alone, and everybody else's rows stay as they are."""

from __future__ import annotations

import datetime
import json
from pathlib import Path

import polars as pl
import pytest

from recsys_cl.errors import StoreError
from recsys_cl.interactions.user_tables import FORMS, UserTable
from recsys_cl.interactions.validation import write_content

ODD = ['a,"b"\nc', "ünï\\", "  padded ", "'", "null", "5", "-7"]
WHO = ("user_id",)


def write(frame: pl.DataFrame, path: Path) -> UserTable:
    if path.suffix == ".csv":
        frame.write_csv(path)
    elif path.suffix == ".jsonl":
        frame.write_ndjson(path)
    else:
        frame.write_parquet(path, row_group_size=3)
    return UserTable(path, WHO)


def read(path: Path, like: pl.DataFrame) -> pl.DataFrame:
    if path.suffix == ".csv":
        return pl.read_csv(path, schema=like.schema)
    return pl.read_ndjson(path, schema=like.schema) if path.suffix == ".jsonl" else pl.read_parquet(path)


@pytest.mark.parametrize("form", FORMS)
def test_odd_ids_are_found_and_dropped_and_no_others(tmp_path: Path, form: str) -> None:
    users = [*ODD, "55", "a", "b", "x5"] * 3
    frame = pl.DataFrame({"user_id": users, "item_id": ["5"] * len(users), "score": [n / 7 for n in range(len(users))]})
    table = write(frame, tmp_path / f"t{form}")
    assert sorted(table.find(pl.Series([*ODD, "item_id", "c"]))) == sorted(ODD)
    left = table.drop(pl.Series(ODD), tmp_path / f"left{form}")
    kept = frame.filter(~pl.col("user_id").is_in(ODD))
    assert left.n_rows == kept.height
    assert read(tmp_path / f"left{form}", frame).equals(kept)
    assert table.drop(pl.Series(users).unique(), tmp_path / f"none{form}").n_rows == 0
    assert read(tmp_path / f"none{form}", frame).height == 0


@pytest.mark.parametrize("form", FORMS)
def test_what_has_no_users_is_left_as_it_is(tmp_path: Path, form: str) -> None:
    table = write(pl.DataFrame({"item_id": ["5", "6"]}), tmp_path / f"t{form}")
    assert len(table.find(pl.Series(["5"]))) == 0
    assert table.drop(pl.Series(["5"]), tmp_path / f"left{form}").n_rows == 2
    (tmp_path / f"cut{form}").write_bytes(table.path.read_bytes()[:-4] + b"\xff\xff")
    with pytest.raises(StoreError, match=f"cut{form} cannot be read"):
        UserTable(tmp_path / f"cut{form}", WHO).find(pl.Series(["5"]))


def test_ids_of_any_type_are_compared_as_the_log_makes_them(tmp_path: Path) -> None:
    for values, wanted in (([5, 6, None], "5"), ([5.0, 6.5, None], "5"), ([True, False, None], "true")):
        table = write(pl.DataFrame({"user_id": values, "row": [0, 1, 2]}), tmp_path / "t.parquet")
        assert table.find(pl.Series([wanted, "7"])).to_list() == [wanted]
        assert table.drop(pl.Series([wanted]), tmp_path / "left.parquet").n_rows == 2
    named = pl.DataFrame({"user_id": ["a", "b"]}).cast(pl.Categorical)
    assert write(named, tmp_path / "t.parquet").find(pl.Series(["b"])).to_list() == ["b"]


def write_refused(path: Path, contents: list[tuple[str, str]], field: str = "user_id") -> UserTable:
    schema = {"line": pl.Int64, "reason": pl.String, "content": pl.String}
    rows = [(line, *row) for line, row in enumerate(contents)]
    pl.DataFrame(rows, schema=schema, orient="row").write_parquet(path)
    return UserTable(path, (field, "other"), refused=True)


@pytest.mark.parametrize("field", ["user_id", 'us"er', "user.id (1)", "ünï"])
@pytest.mark.parametrize("user", [*ODD, "1e3", "10000000000000000", "2024-01-02"])
def test_a_refused_row_is_known_by_its_field_and_not_by_its_bytes(tmp_path: Path, field: str, user: str) -> None:
    rows = pl.DataFrame({field: [user, user + "x", "x"], "note": ["x", user, f'"{field}":"{user}"']})
    contents = [("bad_time", text) for text in write_content(rows)]
    if user.lstrip("-").isdigit():
        for value in (int(user), float(user)):
            contents.append(("bad_time", write_content(pl.DataFrame({field: [value], "n": [1]}))[0]))
    if user.startswith("2024"):
        contents.append(("bad_time", write_content(pl.DataFrame({field: [datetime.date(2024, 1, 2)]}))[0]))
    contents.append(("invalid_utf8", write_content(pl.DataFrame({field: [user.encode().hex()]}))[0]))
    nobody = write_content(pl.DataFrame({field: [None], "n": [1]}))[0]
    table = write_refused(tmp_path / "r.parquet", [*contents, ("missing_user_id", nobody)], field)
    assert table.find(pl.Series([user, "y"])).to_list() == [user]
    left = table.drop(pl.Series([user]), tmp_path / "left.parquet")
    assert pl.read_parquet(tmp_path / "left.parquet")["content"].to_list() == [
        *(text for _, text in contents[1:3]),
        nobody,
    ]
    assert (left.n_rows, dict(left.reasons)) == (3, {"bad_time": 2, "missing_user_id": 1})


@pytest.mark.parametrize("user", ["u5", *ODD[:2]])
def test_of_a_line_that_could_not_be_split_a_whole_word_counts(tmp_path: Path, user: str) -> None:
    written = [user, user.replace('"', '""'), json.dumps(user)[1:-1]]
    contents = [("columns", f'1,"{form}",i1,extra') for form in written]
    contents += [("bad_json", f'{{"user_id": {json.dumps(user)}, "item'), ("invalid_utf8", f"i3\t{user}\t\\xff")]
    others = [("columns", "1,u55,i1"), ("bad_json", '{"user_id": "xu5", '), ("columns", ""), ("open_quote", '"b')]
    table = write_refused(tmp_path / "r.parquet", contents + others)
    assert table.find(pl.Series([user])).to_list() == [user]
    table.drop(pl.Series([user]), tmp_path / "left.parquet")
    assert pl.read_parquet(tmp_path / "left.parquet")["content"].to_list() == [text for _, text in others]
