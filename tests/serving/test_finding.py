"""Finding items: every word counts, whatever its case, and what fits best comes first."""

from __future__ import annotations

import numpy as np
import polars as pl

from recsys_cl.catalog import Catalog
from recsys_cl.ids import IdMap
from recsys_cl.serving.finding import Titles

TITLES = {
    "a1": "The Star of Wars",
    "b2": "Star Wars",
    "c3": "Star Wars (1977)",
    "d4": "Old Star Wars Stories",
    "e5": "Ünïcode Café",
    "f6": None,
    "star": "Nothing alike",
    "g7": "a.b[c](d)*",
}


def find(query: str, most: int = 10) -> list[str]:
    ids = IdMap.build(list(TITLES))
    frame = pl.DataFrame({"item_id": list(TITLES), "title": list(TITLES.values())})
    rows, _ = Titles(Catalog.build(ids, frame)).find(query, most)
    return ids.get_ids(rows).to_list()


def test_the_same_comes_before_the_beginning_and_that_before_the_middle() -> None:
    assert find("star wars") == ["b2", "c3", "d4", "a1"]
    assert find("STAR") == ["star", "b2", "c3", "a1", "d4"]
    assert find("wars star") == ["a1", "b2", "c3", "d4"]
    assert find("star wars", 2) == ["b2", "c3"]


def test_the_score_says_how_well_a_title_fits_and_only_those_allowed_are_found() -> None:
    ids = IdMap.build(list(TITLES))
    frame = pl.DataFrame({"item_id": list(TITLES), "title": list(TITLES.values())})
    titles = Titles(Catalog.build(ids, frame))
    assert titles.find("star wars", 10)[1].tolist() == [1, 0.75, 0.5, 0.25]
    allowed = np.array([item_id != "b2" for item_id in TITLES])
    rows, scores = titles.find("star wars", 2, allowed)
    assert (ids.get_ids(rows).to_list(), scores.tolist()) == (["c3", "d4"], [0.75, 0.5])


def test_words_are_texts_and_not_patterns() -> None:
    assert find(".*") == []
    assert find("b[c](d)*") == ["g7"]
    assert find("ünïcode CAFÉ") == ["e5"]


def test_items_without_a_title_are_found_by_their_id() -> None:
    assert find("F6") == ["f6"]
    ids = IdMap.build(["x1", "x2", "y1"])
    assert Titles(Catalog.build(ids)).find("x", 9)[0].tolist() == [0, 1]


def test_nothing_finds_nothing() -> None:
    assert find("") == find("  ") == find("star peace") == []
