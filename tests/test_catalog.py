"""The catalog tells of each item what the first line of the attributes said, and nothing of what they did not say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recsys_cl.catalog import Catalog, join_attributes
from recsys_cl.errors import StoreError
from recsys_cl.ids import IdMap

ATTRIBUTES = pl.DataFrame(
    {
        "item_id": ["b", "unknown", "a", "b", None],
        "title": ["B", "U", None, "second B", "nobody"],
        "image_path": ["/b.png", None, None, None, None],
        "genre": [None, "crime", "drama", "war", "none"],
        "year": [1999, 2000, 2001, 2002, 2003],
    }
)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)


@pytest.fixture
def catalog() -> Catalog:
    return Catalog.build(IdMap.build(["c", "b", "a"]), ATTRIBUTES)


def test_items_are_described_by_their_first_line_without_what_is_missing(catalog: Catalog) -> None:
    assert [catalog.describe(row) for row in range(3)] == [
        {"item_id": "a", "genre": "drama", "year": "2001"},
        {"item_id": "b", "title": "B", "image_path": "/b.png", "year": "1999"},
        {"item_id": "c"},
    ]
    assert catalog.attributes == ["genre", "year"]
    assert len(catalog) == 3


def test_titles_come_in_the_order_of_the_rows_asked_for(catalog: Catalog) -> None:
    titles = catalog.get_titles(np.array([1, 0, 1, 2]))
    assert titles is not None
    assert titles.to_list() == ["B", None, "B", None]
    assert catalog.get_titles(np.array([], dtype=np.int64)).to_list() == []  # type: ignore[union-attr]


def test_a_catalog_without_attributes_knows_ids_only(tmp_path: Path) -> None:
    bare = Catalog.build(IdMap.build(["a", "b"]))
    bare.write(tmp_path / "c.arrow")
    for found in (bare, Catalog.read(tmp_path / "c.arrow")):
        assert found.describe(1) == {"item_id": "b"}
        assert found.get_titles(np.array([0])) is None
        assert found.attributes == []
        assert found.to_frame().to_dict(as_series=False) == {"item_id": ["a", "b"]}


def test_attributes_of_an_id_column_alone_add_nothing() -> None:
    found = Catalog.build(IdMap.build(["a", "b"]), pl.DataFrame({"item_id": ["a"]}))
    assert found.describe(0) == {"item_id": "a"}


@given(
    ids=st.lists(TEXT, max_size=15),
    lines=st.lists(st.tuples(TEXT, st.none() | TEXT, st.none() | TEXT), max_size=15),
)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_a_join_keeps_the_rows_and_a_file_keeps_the_join(
    tmp_path: Path, ids: list[str], lines: list[tuple[str, str | None, str | None]]
) -> None:
    frame = pl.DataFrame(lines, schema=dict.fromkeys(("item_id", "title", "brand"), pl.String), orient="row")
    first: dict[str, tuple[str | None, str | None]] = {}
    for item, title, brand in lines:
        first.setdefault(item, (title, brand))
    built = Catalog.build(IdMap.build(ids), frame)
    built.write(tmp_path / "c.arrow")
    for found in (built, Catalog.read(tmp_path / "c.arrow")):
        rows = sorted(set(ids), key=lambda text: text.encode())
        expected = [(item, *first.get(item, (None, None))) for item in rows]
        assert found.to_frame().rows() == expected
        for row, (item, title, brand) in enumerate(expected):
            known = {"item_id": item, "title": title, "brand": brand}
            assert found.describe(row) == {name: value for name, value in known.items() if value is not None}


def test_users_are_joined_in_the_same_way() -> None:
    ages = pl.DataFrame({"user_id": ["v", "u", "v"], "age": [30, 40, 50]})
    assert join_attributes(IdMap.build(["u", "v", "w"]), ages, "user_id").to_pydict() == {"age": ["40", "30", None]}


def test_columns_of_another_length_are_refused() -> None:
    with pytest.raises(ValueError, match="1 lines for 2 items"):
        Catalog(IdMap.build(["a", "b"]), pa.table({"title": ["A"]}))


def test_a_file_that_is_no_catalog_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "c.arrow").write_text("item_id\na\n")
    with pytest.raises(StoreError, match=r"c\.arrow is not an Arrow file with the column item_id"):
        Catalog.read(tmp_path / "c.arrow")
    IdMap.build(["a"]).write(tmp_path / "ids.arrow")
    with pytest.raises(StoreError, match="the column item_id"):
        Catalog.read(tmp_path / "ids.arrow")
