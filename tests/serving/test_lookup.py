"""Lookup: answers are the exact best unseen items, the same for every kind of input, and bad input is told so."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import polars as pl
import pytest

from recsys_cl.errors import InputError, SealError, StoreError, UnknownIdError
from recsys_cl.publishing.release import publish_release
from recsys_cl.publishing.store import read_current
from recsys_cl.serving.lookup import Release, open_release


def rank_by_hand(release: Release, query: np.ndarray, k: int, left_out: set[int]) -> list[int]:
    scores = release.parts.item_vectors.astype(np.float64) @ query.astype(np.float64)
    order = [row for row in np.argsort(-scores, kind="stable").tolist() if row not in left_out]
    return order[:k]


def encode_by_hand(release: Release, rows: list[int], weights: list[float], popularity: float = 1.0) -> np.ndarray:
    taste = np.average(release.parts.bag_vectors[rows].astype(np.float64), axis=0, weights=weights)
    return np.append(taste / np.linalg.norm(taste), popularity)


def get_seen(release: Release, user: int) -> set[int]:
    offsets = release.parts.seen.offsets
    return set(release.parts.seen.item_rows[offsets[user] : offsets[user + 1]].tolist())


def to_rows(release: Release, ids: list[str]) -> list[int]:
    return [release.parts.catalog.items.find_row(one) for one in ids]  # type: ignore[misc]


def test_neighbors_are_the_nearest_by_likeness_without_the_item(release: Release) -> None:
    for row in range(release.n_items):
        item_id = release.parts.catalog.items.get_id(row)
        answers = release.answer_similar(item_id, 5)
        query = encode_by_hand(release, [row], [1.0], popularity=0.0)
        assert to_rows(release, [a["item_id"] for a in answers]) == rank_by_hand(release, query, 5, {row})


def test_a_user_gets_the_best_unseen_items(release: Release) -> None:
    for user in range(1, len(release.parts.users)):
        answers = release.answer_user(release.parts.users.get_id(user), 5)
        query = release.parts.user_vectors[user]
        expected = rank_by_hand(release, query, 5, get_seen(release, user))
        assert to_rows(release, [a["item_id"] for a in answers]) == expected
        assert [a["score"] for a in answers] == sorted((a["score"] for a in answers), reverse=True)


def test_seen_items_are_included_when_asked(release: Release) -> None:
    answers = release.answer_user(release.parts.users.get_id(0), 5, include_seen=True)
    expected = rank_by_hand(release, release.parts.user_vectors[0], 5, set())
    assert to_rows(release, [a["item_id"] for a in answers]) == expected


def test_as_many_answers_as_exist(release: Release) -> None:
    """The first user has seen everything, the second nothing."""
    users = [release.parts.users.get_id(row) for row in range(3)]
    n_seen = len(get_seen(release, 2))
    n_answers = [len(release.answer_user(user, release.n_items)) for user in users]
    assert n_answers == [0, release.n_items, release.n_items - n_seen]
    assert len(release.answer_similar("i1", release.n_items)) == release.n_items - 1


def test_a_history_is_encoded_and_left_out(release: Release) -> None:
    history = ["i1", "i5", "i7"]
    rows = to_rows(release, history)
    query = encode_by_hand(release, rows, [1.0] * 3)
    found = to_rows(release, [a["item_id"] for a in release.answer_history(history, 8)])
    assert found == rank_by_hand(release, query, 8, set(rows))
    found = to_rows(release, [a["item_id"] for a in release.answer_history(history, 8, include_seen=True)])
    assert found == rank_by_hand(release, query, 8, set())


def test_an_item_twice_in_a_history_counts_twice(release: Release) -> None:
    rows = to_rows(release, ["i1", "i5"])
    found = to_rows(release, [a["item_id"] for a in release.answer_history(["i1", "i5", "i1"], 8)])
    assert found == rank_by_hand(release, encode_by_hand(release, rows, [2.0, 1.0]), 8, set(rows))


def test_an_answer_tells_what_the_catalog_knows(release: Release) -> None:
    answers = release.answer_similar("i1", 10)
    assert [list(a)[:4] for a in answers] == [["item_id", "score", "rank", "title"]] * 10
    assert [a["rank"] for a in answers] == list(range(1, 11))
    assert all(a["title"] == f"Title of {a['item_id']}" for a in answers)
    assert {a.get("genre") for a in release.answer_similar("i1", 59)} == {"crime", None}
    json.dumps(answers, allow_nan=False)


@pytest.mark.parametrize(
    "give",
    [
        lambda ids: ids,
        tuple,
        lambda ids: pl.Series("any", ids),
        lambda ids: pl.DataFrame({"item_id": ids, "other": range(len(ids))}),
        lambda ids: pd.Series(ids, index=[7] * len(ids)),
        lambda ids: pd.DataFrame({"other": range(len(ids)), "item_id": ids}),
    ],
)
def test_each_form_of_input_gives_the_same_frame(release: Release, give: object) -> None:
    ids = ["i1", "007", "../up", "i1"]
    given = give(ids)  # type: ignore[operator]
    frame = release.neighbors(given, k=3)
    assert isinstance(frame, pd.DataFrame if type(given).__module__.startswith("pandas") else pl.DataFrame)
    assert list(frame.columns) == ["item_id", "neighbor_id", "score", "rank", "title"]
    assert list(frame["item_id"]) == [one for one in ids for _ in range(3)]
    assert list(frame["rank"]) == [1, 2, 3] * 4
    expected = [a["item_id"] for one in ids for a in release.answer_similar(one, 3)]
    assert list(frame["neighbor_id"]) == expected
    assert list(frame["title"]) == [f"Title of {one}" for one in expected]


def test_one_text_is_one_id(release: Release) -> None:
    assert release.neighbors("a,b", k=2)["item_id"].to_list() == ["a,b", "a,b"]  # type: ignore[union-attr]


def test_recommend_for_users_agrees_with_one_at_a_time(release: Release) -> None:
    users = [release.parts.users.get_id(row) for row in range(len(release.parts.users))]
    frame = release.recommend(users=pl.DataFrame({"user_id": users}), k=6)
    assert frame.columns == ["user_id", "item_id", "score", "rank", "title"]
    for user in users:
        lines = frame.filter(pl.col("user_id") == user)  # type: ignore[union-attr]
        assert lines["item_id"].to_list() == [a["item_id"] for a in release.answer_user(user, 6)]


def test_recommend_for_histories_of_many(release: Release) -> None:
    lines = {"user_id": ["b", "a", "b", "a"], "item_id": ["i1", "i2", "i3", "i2"], "weight": [1.0, 1.0, 3.0, 1.0]}
    frame = release.recommend(history=pd.DataFrame(lines), k=4)
    assert isinstance(frame, pd.DataFrame)
    assert list(frame.columns) == ["user_id", "item_id", "score", "rank", "title"]
    assert list(frame["user_id"]) == ["b"] * 4 + ["a"] * 4
    rows = to_rows(release, ["i1", "i3"])
    expected = rank_by_hand(release, encode_by_hand(release, rows, [1.0, 3.0]), 4, set(rows))
    assert to_rows(release, list(frame["item_id"])[:4]) == expected
    assert list(frame["item_id"])[4:] == [a["item_id"] for a in release.answer_history(["i2"], 4)]


def test_recommend_for_one_history_has_no_user(release: Release) -> None:
    frame = release.recommend(history=["i1", "i2"], k=4)
    assert frame.columns == ["item_id", "score", "rank", "title"]
    assert frame["item_id"].to_list() == [a["item_id"] for a in release.answer_history(["i1", "i2"], 4)]  # type: ignore[union-attr]


def test_no_ids_give_an_empty_frame(release: Release) -> None:
    assert release.neighbors([], k=3).shape == (0, 5)
    assert release.recommend(users=[], k=3).shape == (0, 5)


@pytest.mark.parametrize("k", [0, -1, True, 2.0, "3", None])
def test_k_out_of_bounds_is_refused_with_the_bound(release: Release, k: object) -> None:
    for ask in (
        lambda: release.answer_similar("i1", k),  # type: ignore[arg-type]
        lambda: release.answer_user("u1", k),  # type: ignore[arg-type]
        lambda: release.answer_history(["i1"], k),  # type: ignore[arg-type]
        lambda: release.neighbors("i1", k),  # type: ignore[arg-type]
        lambda: release.recommend(users="u1", k=k),  # type: ignore[arg-type]
    ):
        with pytest.raises(InputError, match="a whole number from 1"):
            ask()


@pytest.mark.parametrize("k", [61, 10**12])
def test_more_than_exist_are_as_many_as_exist(release: Release, k: int) -> None:
    n_items = release.n_items
    assert release.answer_similar("i1", k) == release.answer_similar("i1", n_items)
    assert release.answer_user("u2", k) == release.answer_user("u2", n_items)
    assert release.answer_history(["i1"], k) == release.answer_history(["i1"], n_items)
    assert len(release.neighbors("i1", k)) == n_items - 1
    assert len(release.recommend(users="u1", k=k)) == n_items


@pytest.mark.parametrize(
    ("unknown", "meant"),
    [("case", "Case"), ("padded", ""), ("I1", "i1"), (" i1 ", "i1"), ("7", "007"), ("00007", "007"), ("i1x", "i1")],
)
def test_an_unknown_id_is_answered_with_what_was_meant(release: Release, unknown: str, meant: str) -> None:
    with pytest.raises(UnknownIdError) as caught:
        release.answer_similar(unknown)
    assert (caught.value.kind, caught.value.unknown_id, caught.value.release) == ("item", unknown, release.version)
    assert not meant or f"did you mean {meant!r}" in str(caught.value)


@pytest.mark.parametrize("unknown", ["", "\0", "\ud800", "n" * 100_000, "😀", "../../etc/passwd"])
def test_strange_unknown_ids_are_only_unknown(release: Release, unknown: str) -> None:
    for ask in (release.answer_similar, release.answer_user):
        with pytest.raises(UnknownIdError):
            ask(unknown)


def test_every_unknown_item_of_a_history_is_named(release: Release) -> None:
    with pytest.raises(UnknownIdError, match=r"'no1'.*'no2'") as caught:
        release.answer_history(["i1", "no1", "i2", "no2"])
    assert "i1'" not in str(caught.value).replace("did you mean 'i1'", "")
    with pytest.raises(UnknownIdError, match="and 190 more"):
        release.recommend(history=[f"no{n}" for n in range(200)])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "neither"),
        ({"users": "u1", "history": ["i1"]}, "both"),
        ({"history": []}, "history is empty"),
        ({"users": 7}, "user_id is int 7"),
        ({"users": "\ud800"}, "valid Unicode"),
        ({"users": [7]}, "user_id is list"),
        ({"users": pl.Series([7])}, "holds Int64"),
        ({"users": pl.Series(["u1", None])}, "1 nulls"),
        ({"users": pd.Series([7])}, "holds Int64"),
        ({"users": pl.DataFrame({"user": ["u1"]})}, "'user_id'"),
        ({"history": pl.DataFrame({"item_id": ["i1"], "weight": [0.0]})}, "weight"),
        ({"history": pl.DataFrame({"item_id": ["i1"], "weight": [None]})}, "weight"),
    ],
)
def test_input_of_another_form_is_refused(release: Release, arguments: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        release.recommend(**arguments)  # type: ignore[arg-type]


def test_a_release_is_opened_by_store_or_by_its_folder(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    version = read_current(store)
    folder = store / "releases" / version
    assert {open_release(path).version for path in (store, str(store), folder, str(folder))} == {version}
    monkeypatch.chdir(folder)
    assert open_release(".").version == version
    with pytest.raises(StoreError, match="there is no release"):
        open_release(store / "releases" / "20200101T000000Z-000000000000")


def test_opening_changes_nothing(store: Path) -> None:
    def describe() -> list[tuple[str, int]]:
        return sorted((str(path), path.stat().st_mtime_ns) for path in store.rglob("*"))

    before = describe()
    open_release(store).answer_similar("i1")
    assert describe() == before


def test_a_release_with_a_tower_of_another_shape_is_refused(small_release: ModuleType, tmp_path: Path) -> None:
    world = small_release.World()
    parts = small_release.make_parts(tmp_path / "given", world)
    parts.files["query_tower.onnx"].write_bytes(b"no model")
    publish_release(parts, small_release.make_facts(world), tmp_path / "s")
    release = open_release(tmp_path / "s")
    assert len(release.answer_user("u1")) == 10  # a known user needs no tower
    with pytest.raises(SealError, match=r"query_tower\.onnx"):
        release.answer_similar("i1")


def test_threads_get_the_answers_of_one(release: Release, store: Path) -> None:
    fresh = open_release(store)
    expected = {f"i{n}": release.answer_similar(f"i{n}") for n in range(20)}
    found: dict[str, object] = {}
    threads = [
        threading.Thread(target=lambda item=item: found.update({item: fresh.answer_similar(item)})) for item in expected
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == expected


def test_lookup_imports_no_torch_no_prefect_and_no_pandas(store: Path) -> None:
    code = (
        "import sys; from recsys_cl.serving.lookup import open_release; r = open_release(sys.argv[1]);"
        "r.answer_similar('i1'); r.answer_user('u1'); r.recommend(history=['i1']);"
        "print([m for m in ('torch', 'prefect', 'pandas', 'scipy', 'sklearn', 'onnx') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(store)], capture_output=True, text=True, env={**os.environ})
    assert done.stdout.strip() == "[]", done.stdout + done.stderr
