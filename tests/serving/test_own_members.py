"""An answer's own members are the model's, whatever columns the items file has; such a column still filters."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import polars as pl
import pytest

from recsys_cl.catalog import Catalog
from recsys_cl.publishing.release import publish_release
from recsys_cl.serving.export import export
from recsys_cl.serving.export_jobs import Request
from recsys_cl.serving.image_lookup import answer_file, answer_item, describe_agreement
from recsys_cl.serving.lookup import open_release
from recsys_cl.serving.sinks import FileSink

TAKEN = ("score", "rank", "release", "row", "image", "why", "space")
FALSE = "of the items file"


@pytest.fixture(scope="module")
def taken_store(small_release: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with pictures, whose items file has a column for each name that answers use."""
    folder, world = tmp_path_factory.mktemp("taken"), small_release.World()
    parts = small_release.make_parts(folder / "given", world)
    columns = parts.catalog.to_frame().with_columns(pl.lit(FALSE).alias(name) for name in TAKEN)
    parts = replace(parts, catalog=Catalog.build(parts.catalog.items, columns))
    parts, images = small_release.add_pictures(folder, parts)
    publish_release(parts, replace(small_release.make_facts(world), images=images), folder / "s")
    return folder / "s"


@pytest.fixture(scope="module")
def taken(start_server: Callable[..., Any], taken_store: Path) -> Any:
    """A service over it."""
    return start_server(taken_store)


def list_asked(picture: bytes) -> list[tuple[str, Any, dict[str, str]]]:
    kind = {"content-type": "image/png"}
    return [
        ("/items/i5/neighbors?k=60", None, {}),
        ("/items/%20%20padded%20/neighbors?by=image", None, {}),
        ("/items/new/neighbors", None, {}),
        ("/users/u3/recommendations", None, {}),
        ("/recommend", {"history": ["i5"]}, {}),
        ("/images/neighbors?by=image", picture, kind),
        ("/images/neighbors?by=behavior", picture, kind),
        ("/items?query=title", None, {}),
        ("/items/i5", None, {}),
        ("/map/items", None, {}),
    ]


def test_no_answer_of_the_service_has_a_column_in_the_place_of_its_own(taken: Any, taken_store: Path) -> None:
    picture = (taken_store.parent / "0.png").read_bytes()
    for path, body, kind in list_asked(picture):
        status, found, _ = taken.call(path, body, kind)
        assert status == 200, found
        assert FALSE not in json.dumps(found), path
        items = found.get("items", [found])
        assert items
        assert all(item["title"] for item in items if item["item_id"] != "new")
    version = open_release(taken_store).version
    assert taken.ask("/items/i5")["release"] == version
    plain = taken.ask("/items/i5/neighbors?k=60")["items"]
    assert [item["rank"] for item in plain] == list(range(1, 60))
    assert [item["score"] for item in plain] == sorted((item["score"] for item in plain), reverse=True)


def test_such_a_column_is_named_and_filters_and_colors_all_the_same(taken: Any) -> None:
    assert set(TAKEN) < set(taken.ask("/release")["attributes"])
    assert len(taken.ask(f"/items/i5/neighbors?where=score={FALSE.replace(' ', '+')}")["items"]) == 10
    assert taken.ask("/items/i5/neighbors?where=score=0.5")["items"] == []
    assert taken.ask("/map/colors?attribute=rank")["categories"] == [FALSE]


def test_the_library_and_the_command_line_keep_them_too(
    taken_store: Path, recsys: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    release = open_release(taken_store)
    answers = [
        *release.answer_user("u3"),
        *release.answer_history(["i5"]),
        *answer_item(release, "i5"),
        *answer_item(release, "new", by="image"),
        *answer_file(release, taken_store.parent / "0.png"),
    ]
    assert FALSE not in json.dumps([answers, describe_agreement(release, "  padded ")])
    assert all(isinstance(answer["score"], float) for answer in answers)
    done = recsys("similar", "i5", "--store", taken_store, "--json")
    assert FALSE not in done.stdout
    assert json.loads(done.stdout) == answer_item(release, "i5")


def test_exports_hold_the_score_of_the_model(taken_store: Path, tmp_path: Path) -> None:
    release = open_release(taken_store)
    export(release, Request("recommendations"), FileSink(tmp_path / "r.jsonl"))
    lines = [json.loads(line) for line in (tmp_path / "r.jsonl").read_text().splitlines()]
    assert {line["release"] for line in lines} == {release.version}
    assert all(isinstance(line["score"], float) and isinstance(line["rank"], int) for line in lines)
