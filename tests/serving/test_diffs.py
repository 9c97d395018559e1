"""Differences between releases over HTTP: compared once, one pair at a time, and a broken release is told as one."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from recsys_cl.publishing.release import publish_release
from recsys_cl.serving import diffs
from recsys_cl.serving.diff import diff_releases
from recsys_cl.serving.diffs import Diffs
from recsys_cl.serving.problems import ProblemError


@pytest.fixture
def folders(small_release: ModuleType, tmp_path: Path) -> list[Path]:
    """The folders of three releases of a store, the last one live."""
    found = []
    for seed in range(3):
        world = small_release.World(n_items=20, seed=seed)
        parts = small_release.make_parts(tmp_path / f"given-{seed}", world)
        found.append(
            tmp_path / "s" / "releases" / publish_release(parts, small_release.make_facts(world), tmp_path / "s")
        )
    return found


def explain(first: Path, second: Path) -> tuple[int, str]:
    with pytest.raises(ProblemError) as caught:
        Diffs().get(first, second)
    return caught.value.problem.status, caught.value.problem.detail


def test_a_pair_that_is_known_is_answered_while_another_is_compared(
    folders: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, (first, second, third) = Diffs(), folders
    known = kept.get(first, second)
    begun, go_on = threading.Event(), threading.Event()
    n_compared = []

    def compare(*releases: Any) -> dict[str, Any]:
        n_compared.append(1)
        begun.set()
        assert go_on.wait(60)
        return diff_releases(*releases)

    monkeypatch.setattr(diffs, "diff_releases", compare)
    found: list[dict[str, Any]] = []
    thread = threading.Thread(target=lambda: found.append(kept.get(second, third)))
    thread.start()
    assert begun.wait(60)
    assert kept.get(first, second) == known
    with pytest.raises(ProblemError) as caught:
        kept.get(third, first)
    assert caught.value.problem.status == 503
    go_on.set()
    thread.join()
    assert found == [kept.get(second, third)]
    assert len(n_compared) == 1
    assert kept.get(third, first)["first"] == third.name  # whoever was told to come again is answered


def test_the_pair_that_nobody_asked_for_longest_is_forgotten(
    folders: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(diffs, "_KEPT", 2)
    compared: list[tuple[str, str]] = []

    def compare(first: Any, second: Any) -> dict[str, Any]:
        compared.append((first.version, second.version))
        return diff_releases(first, second)

    monkeypatch.setattr(diffs, "diff_releases", compare)
    kept, (first, second, third) = Diffs(), folders
    for pair in ((first, second), (second, third), (first, second), (third, first), (first, second)):
        kept.get(*pair)
    assert len(compared) == 3
    kept.get(second, third)
    assert len(compared) == 4


def test_a_broken_release_is_told_by_its_part_and_without_a_path(
    folders: list[Path], start_server: Callable[..., Any]
) -> None:
    first, second, live = folders
    vectors = first / "item_embeddings.npy"
    vectors.write_bytes(vectors.read_bytes()[:-1] + b"?")
    (second / "users.arrow").unlink()
    server = start_server(first.parents[1])
    for folder, part in ((first, "item_embeddings.npy: sha256"), (second, "users.arrow: missing")):
        for pair in ((folder.name, live.name), (live.name, folder.name)):
            status, problem, _ = server.call("/releases/{}/diff/{}".format(*pair))
            assert (status, problem["type"]) == (409, "urn:recsys-cl:problem:broken-release")
            assert part in problem["detail"]
            assert folder.name in problem["detail"]
            assert str(first.parents[2]) not in problem["detail"]
    listed = server.ask("/releases")["releases"]
    assert "users.arrow: missing" in listed[1]["broken"]


def test_a_tower_or_an_index_that_does_not_open_is_a_broken_release(
    small_release: ModuleType, folders: list[Path]
) -> None:
    world, store = small_release.World(n_items=20, seed=9), folders[0].parents[1]
    parts = small_release.make_parts(store.parent / "given", world)
    parts.files["query_tower.onnx"].write_bytes(b"no model")
    bad = store / "releases" / publish_release(parts, small_release.make_facts(world), store)
    status, detail = explain(folders[0], bad)
    assert status == 409
    assert "query_tower.onnx" in detail
    assert str(store) not in detail


def test_a_release_that_was_pruned_meanwhile_is_not_there(folders: list[Path]) -> None:
    status, detail = explain(folders[0], folders[0].with_name("20200101T000000Z-000000000000"))
    assert (status, "20200101T000000Z-000000000000" in detail) == (404, True)
    assert str(folders[0].parent) not in detail
