"""A row becomes an event exactly, or is refused for the first thing that is wrong with it."""

from __future__ import annotations

import json

import polars as pl
import pytest

from recsys_cl.interactions.batches import Batch, make_refused
from recsys_cl.interactions.schema import Role
from recsys_cl.interactions.validation import parse_weights, render_ids, validate_batch

COLUMNS: dict[Role, str] = {"user": "u", "item": "i", "time": "t", "kind": "k", "weight": "w"}
GOOD = {"u": "user", "i": "item", "t": "1700000000", "k": "view", "w": "2.5"}


def batch_of(rows: list[dict[str, object]]) -> Batch:
    frame = pl.DataFrame(rows, schema=dict.fromkeys(GOOD, pl.String))
    return Batch(frame, pl.Series("line", range(2, 2 + len(rows)), dtype=pl.Int64), make_refused([]))


@pytest.mark.parametrize(
    "name", ["NA", "null", "None", "nan", " ", "007", "ключ", "🙂", "x" * 100_000, "a,b", "a\nb", "\0"]
)
def test_ids_that_look_like_nothing_are_ids(name: str) -> None:
    valid = validate_batch(batch_of([GOOD | {"u": name, "i": name}]), COLUMNS, "auto")
    assert valid.events.rows() == [(2, name, name, 1_700_000_000_000_000, "view", 2.5)]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"u": ""}, "missing_user_id"),
        ({"u": None, "i": ""}, "missing_user_id"),
        ({"i": "", "t": "never"}, "missing_item_id"),
        ({"i": None}, "missing_item_id"),
        ({"t": "never", "w": "x"}, "bad_time"),
        ({"t": ""}, "bad_time"),
        ({"t": "-1"}, "absurd_time"),
        ({"t": "9999999999999"}, "absurd_time"),
        ({"w": "x"}, "bad_weight"),
        ({"w": ""}, "bad_weight"),
        ({"w": "NaN"}, "bad_weight"),
        ({"w": "inf"}, "bad_weight"),
        ({"w": "-inf"}, "bad_weight"),
        ({"w": "1e300"}, "bad_weight"),
        ({"w": "0"}, "weight_not_positive"),
        ({"w": "-3"}, "weight_not_positive"),
        ({"w": "1e-300"}, "weight_not_positive"),
    ],
)
def test_the_first_thing_wrong_is_the_reason(change: dict[str, object], reason: str) -> None:
    valid = validate_batch(batch_of([GOOD, GOOD | change, GOOD]), COLUMNS, "s")
    assert valid.events["line"].to_list() == [2, 4]
    [(line, found, content)] = valid.refused.rows()
    assert (line, found) == (3, reason)
    assert json.loads(content) == GOOD | change


def test_a_missing_kind_is_the_empty_kind() -> None:
    assert validate_batch(batch_of([GOOD | {"k": None}]), COLUMNS, "s").events["kind"].to_list() == [""]


def test_only_the_roles_that_there_are() -> None:
    events = validate_batch(batch_of([GOOD]), {"user": "u", "item": "i"}, "auto").events
    assert events.rows() == [(2, "user", "item")]
    empty = Batch(pl.DataFrame(), pl.Series("line", [], dtype=pl.Int64), make_refused([(2, "ragged_row", "x")]))
    valid = validate_batch(empty, {"user": "u", "item": "i"}, "auto")
    assert valid.events.schema == events.schema
    assert valid.refused.height == 1


def test_the_unit_is_decided_once() -> None:
    first = validate_batch(batch_of([GOOD | {"t": "1700000000000"}]), COLUMNS, "auto")
    assert first.unit == "ms"
    second = validate_batch(batch_of([GOOD | {"t": "1"}]), COLUMNS, first.unit)
    assert second.events["time"].to_list() == [1000]
    assert validate_batch(batch_of([GOOD | {"t": "2024-01-01"}]), COLUMNS, "auto").unit == "auto"


def test_ids_and_weights_of_every_type() -> None:
    assert render_ids(pl.Series([1.0, -2.0, 0.5, None, float("nan"), 1e300])).to_list() == [
        "1",
        "-2",
        "0.5",
        None,
        None,
        "1e+300",
    ]
    assert render_ids(pl.Series([True, None])).to_list() == ["true", None]
    assert render_ids(pl.Series([["a", "b"]])).to_list() == ['{"":["a","b"]}']
    assert parse_weights(pl.Series([" 1.5 ", "x"])).to_list() == [1.5, None]
    assert parse_weights(pl.Series([1, 2])).to_list() == [1.0, 2.0]
    assert parse_weights(pl.Series([[1]])).to_list() == [None]
