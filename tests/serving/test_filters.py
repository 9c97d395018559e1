"""Filters: only what is allowed is answered, the best of it, and k answers wherever k exist."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_cl.bags import Bags
from recsys_cl.catalog import Catalog
from recsys_cl.config import IndexConfig
from recsys_cl.errors import InputError
from recsys_cl.evaluation.topk import search_exact
from recsys_cl.ids import IdMap
from recsys_cl.index.build import build_index
from recsys_cl.serving import search
from recsys_cl.serving.filters import ANY, Filters, find_allowed, parse_where
from recsys_cl.serving.lookup import Release
from recsys_cl.serving.search import search_unseen

IDS = ["a", "b", "c", "d", "ünï", "-e"]
COLOURS = ["red", "blue", None, "red", "", "blue"]
STOCK = ["yes", "no", "yes", None, "yes", "no"]


def make_catalog() -> Catalog:
    lines = pl.DataFrame({"item_id": IDS, "title": ["t"] * 6, "color": COLOURS, "stock": STOCK})
    return Catalog.build(IdMap.build(IDS), lines)


ids = st.lists(st.sampled_from([*IDS, "unknown", "\ud800"]), max_size=80).map(tuple)
values = st.lists(st.sampled_from(["red", "blue", "", "yes", "no", "none has it"]), max_size=3).map(tuple)


@settings(deadline=None)
@given(allow=st.none() | ids, deny=ids, where=st.dictionaries(st.sampled_from(["color", "stock"]), values))
def test_what_is_allowed_is_what_each_rule_lets_through(
    allow: tuple[str, ...] | None, deny: tuple[str, ...], where: dict[str, tuple[str, ...]]
) -> None:
    catalog, columns = make_catalog(), {"color": COLOURS, "stock": STOCK}

    def is_allowed(item_id: str) -> bool:
        line = IDS.index(item_id)
        fits = all(columns[name][line] in wanted for name, wanted in where.items())
        return (allow is None or item_id in allow) and item_id not in deny and fits

    found = find_allowed(catalog, Filters(allow, deny, where))
    if found is None:
        assert (allow, deny, where) == (None, (), {})
    else:
        assert found.tolist() == [is_allowed(item_id) for item_id in catalog.items.to_series()]


def test_items_of_another_list_are_judged_by_the_catalog() -> None:
    others = IdMap.build(["a", "new", "c"])
    found = find_allowed(make_catalog(), Filters(where={"stock": ("yes",)}), others)
    assert dict(zip(others.to_series(), found, strict=True)) == {"a": True, "c": True, "new": False}
    found = find_allowed(make_catalog(), Filters(deny=("a",)), others)
    assert dict(zip(others.to_series(), found, strict=True)) == {"a": False, "c": True, "new": True}


def test_an_unknown_attribute_is_refused_with_those_there_are() -> None:
    for name in ("colour", "title", "item_id"):
        with pytest.raises(InputError, match=r"'color', 'stock'"):
            find_allowed(make_catalog(), Filters(where={name: ("red",)}))


def test_conditions_are_read_up_to_the_first_sign() -> None:
    assert parse_where(["a=b=c", "x=", "a=d"]) == {"a": ("b=c", "d"), "x": ("",)}
    for bad in ("a", "=a", ""):
        with pytest.raises(InputError, match="name=value"):
            parse_where([bad])


@settings(deadline=None, max_examples=80)
@given(
    n_items=st.integers(1, 80),
    share_seen=st.sampled_from([0.0, 0.3, 0.9]),
    share_allowed=st.sampled_from([0.0, 0.1, 0.5, 0.95, 1.0]),
    k=st.integers(1, 90),
    most_fetched=st.sampled_from([0, 20, 1024]),
    seed=st.integers(0, 10**6),
)
def test_filtered_answers_are_the_best_of_those_allowed(
    n_items: int, share_seen: float, share_allowed: float, k: int, most_fetched: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    vectors, queries = (rng.integers(-3, 4, size=(n, 3)).astype(np.float32) for n in (n_items, 5))
    mask = rng.random((5, n_items)) < share_seen
    allowed = rng.random(n_items) < share_allowed
    offsets = np.concatenate(([0], np.cumsum(mask.sum(axis=1)))).astype(np.int64)
    seen_rows = np.nonzero(mask)[1].astype(np.int32)
    seen = Bags(offsets, seen_rows, np.ones(len(seen_rows), dtype=np.float32))
    index, _ = build_index(vectors, IndexConfig(kind="flat"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search, "_MOST_FETCHED", most_fetched)  # how many are asked of the index changes no answer
        found = search_unseen(index, vectors, queries, k, seen, allowed)
    for line in range(5):
        scores = vectors @ queries[line]
        left = np.flatnonzero(allowed & ~mask[line])
        best = np.sort(scores[left])[::-1][:k]
        rows = found.rows[line][found.rows[line] >= 0]
        np.testing.assert_array_equal(found.scores[line][: len(best)], best)
        assert set(rows.tolist()) <= set(left.tolist())
        assert len(set(rows.tolist())) == len(rows) == len(best)


@pytest.mark.parametrize("share", [0.001, 0.05, 0.6])
def test_an_approximate_index_leaves_nobody_short_of_those_allowed(share: float) -> None:
    """Those allowed are the worst for the queries, so that the index meets none of them among its best."""
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(10_000, 8)).astype(np.float32)
    queries = np.abs(rng.normal(size=(3, 8))).astype(np.float32)
    index, _ = build_index(vectors, IndexConfig(kind="hnsw", ef_construction=40))
    total = vectors.sum(axis=1)
    allowed = total <= np.quantile(total, share)
    seen = Bags.of_items(np.flatnonzero(allowed)[:3])
    found = search_unseen(index, vectors, queries, 20, seen, allowed)
    n_left = min(20, int(allowed.sum()) - 1)
    assert (found.rows >= 0).sum(axis=1).tolist() == [n_left] * 3
    assert allowed[found.rows[found.rows >= 0]].all()
    if share < 0.1:  # beyond what an index is asked for: exact
        exact = search_exact(queries, vectors, 20, seen, allowed=allowed)
        np.testing.assert_array_equal(found.rows, exact.rows)


@pytest.mark.parametrize("filters", [ANY, Filters(where={"genre": ("crime",)}), Filters(deny=("i1", "i2"))])
def test_each_way_to_ask_is_filtered_alike(release: Release, filters: Filters) -> None:
    def keep(answers: list[dict[str, Any]]) -> list[str]:
        kept = [a for a in answers if a["item_id"] not in filters.deny]
        kept = [a for a in kept if not filters.where or a.get("genre") == "crime"]
        return [a["item_id"] for a in kept][:4]

    n, user = release.n_items, release.parts.users.get_id(3)
    assert list_ids(release.answer_similar("i5", 4, filters=filters)) == keep(release.answer_similar("i5", n))
    assert list_ids(release.answer_user(user, 4, filters=filters)) == keep(release.answer_user(user, n))
    assert list_ids(release.answer_history(["i5"], 4, filters=filters)) == keep(release.answer_history(["i5"], n))
    near = release.neighbors(["i5"], 4, filters)
    assert near["neighbor_id"].to_list() == keep(release.answer_similar("i5", n))  # type: ignore[union-attr]
    given = release.recommend(users=[user], k=4, filters=filters)
    assert given["item_id"].to_list() == keep(release.answer_user(user, n))  # type: ignore[union-attr]
    given = release.recommend(history=["i5"], k=4, filters=filters)
    assert given["item_id"].to_list() == keep(release.answer_history(["i5"], n))  # type: ignore[union-attr]


def test_a_filter_that_lets_nothing_through_gives_no_answer(release: Release) -> None:
    for filters in (Filters(allow=()), Filters(allow=("unknown",)), Filters(where={"genre": ()})):
        assert release.answer_similar("i5", 4, filters=filters) == []


def test_the_command_line_filters(store: Path, recsys: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    done = recsys(
        "similar", "i5", "--store", store, "--where", "genre=crime", "--deny", "i6", "--deny", "-x", "--json", "-k", "9"
    )
    answers = json.loads(done.stdout)
    assert len(answers) == 9
    assert {a["genre"] for a in answers} == {"crime"}
    done = recsys("recommend", "--history", "i5", "--store", store, "--allow", "i6", "--allow", "i7", "--json")
    assert sorted(list_ids(json.loads(done.stdout))) == ["i6", "i7"]
    for bad, message in (("colour=red", "'genre'"), ("genre", "name=value")):
        done = recsys("similar", "i5", "--store", store, "--where", bad)
        assert (done.returncode, done.stdout) == (2, "")
        assert message in done.stderr


def list_ids(answers: list[dict[str, Any]]) -> list[str]:
    return [answer["item_id"] for answer in answers]
