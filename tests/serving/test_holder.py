"""The live release of a service is exchanged while it answers: nobody fails, nobody gets a mixture."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from recsys_cl.publishing.live import move_current
from recsys_cl.publishing.release import publish_release
from recsys_cl.publishing.seal import is_open
from recsys_cl.publishing.store import read_current
from recsys_cl.serving import holder as holder_module
from recsys_cl.serving.holder import Holder, Lazy
from recsys_cl.serving.lookup import Release, open_release


@pytest.fixture
def publish(small_release: ModuleType, tmp_path: Path) -> Callable[[int], str]:
    """publish(seed): a release of other vectors, live in the store `s`; gives its name."""

    def publish(seed: int) -> str:
        world = small_release.World(seed=seed)
        parts = small_release.make_parts(tmp_path / f"given-{seed}", world)
        return publish_release(parts, small_release.make_facts(world), tmp_path / "s")

    return publish


def wait_until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_under_load_every_answer_is_whole_and_of_one_release(
    publish: Callable[[int], str], tmp_path: Path, start_server: Callable[..., Any]
) -> None:
    store = tmp_path / "s"
    first = publish(0)
    server = start_server(store, "--quiet")
    expected: dict[str, list[Any]] = {}
    answered: list[tuple[str, list[Any]]] = []
    failed: list[Any] = []
    ended = threading.Event()

    def answer(release: Release) -> list[Any]:
        return [release.answer_user("u3", 5), release.answer_history(["i5"], 5)]

    def ask() -> None:
        while not ended.is_set():
            status, found, _ = server.call("/batch/recommend", [{"user_id": "u3", "k": 5}, {"history": ["i5"], "k": 5}])
            names = {one["release"] for one in found} if status == 200 else set()
            if len(names) == 1:
                answered.append((names.pop(), [one["items"] for one in found]))
            else:
                failed.append((status, found))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    versions = [first]
    for seed in (1, 2, 3, 4):
        versions.append(publish(seed))
        wait_until(lambda: server.ask("/ready")["release"] == versions[-1])
        least = len(answered) + 8
        while len(answered) < least and not failed:
            time.sleep(0.02)
    ended.set()
    for thread in threads:
        thread.join()
    assert failed == []
    expected = {name: answer(open_release(store / "releases" / name)) for name in versions}
    assert len({str(found) for found in expected.values()}) == len(versions)
    assert {name for name, _ in answered} == set(versions)
    assert all(found == expected[name] for name, found in answered)


def test_what_has_to_be_made_first_fails_no_request_around_an_exchange(
    publish: Callable[[int], str], tmp_path: Path, start_server: Callable[..., Any]
) -> None:
    store = tmp_path / "s"
    publish(0)
    server = start_server(store, "--quiet")
    ended, answered, failed = threading.Event(), dict[str, set[str]](), list[Any]()
    paths = ("/map", "/items?query=title", "/items/i5/neighbors?why=true", "/map/colors?attribute=genre")

    def ask(path: str) -> None:
        while not ended.is_set():
            status, found, headers = server.call(path)
            if status == 200:
                answered.setdefault(path, set()).add(headers.get("release") or found["release"])
            else:
                failed.append((path, status, found))

    threads = [threading.Thread(target=ask, args=(path,)) for path in paths]
    for thread in threads:
        thread.start()
    versions = []
    for seed in (1, 2, 3):
        versions.append(publish(seed))
        wait_until(lambda: failed or all(versions[-1] in answered.get(path, ()) for path in paths))
    ended.set()
    for thread in threads:
        thread.join()
    assert failed == []


def test_what_was_asked_of_the_release_before_is_made_before_the_exchange_and_nothing_else(
    publish: Callable[[int], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = publish(0)
    holder = Holder(tmp_path / "s")
    holder.live.titles.get()
    holder.live.points.get()
    made: list[tuple[str, str]] = []
    for name in ("Titles", "project_items"):
        make = getattr(holder_module, name)

        def note(*given: Any, name: str = name, make: Any = make) -> Any:
            made.append((name, holder.live.release.version))
            return make(*given)

        monkeypatch.setattr(holder_module, name, note)
    publish(1)
    holder.look()
    assert sorted(made) == [("Titles", old), ("project_items", old)]
    assert holder.live.release.version != old
    assert not holder.live.touches.asked
    holder.live.touches.get()
    publish(2)
    holder.look()
    assert [lazy.asked for lazy in (holder.live.titles, holder.live.points, holder.live.touches)] == [True] * 3


def test_current_is_looked_at_as_often_as_told_and_one_look_makes_a_release_live(
    publish: Callable[[int], str], tmp_path: Path
) -> None:
    """What is live a second after `CURRENT` has moved: one wait of a fifth, and what it takes to open the release."""
    publish(0)
    holder, waited = Holder(tmp_path / "s"), list[float | None]()

    class Once(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            waited.append(timeout)
            return len(waited) > 1

    holder._ending = Once()
    new = publish(1)
    holder.start()
    wait_until(lambda: len(waited) == 2)
    assert waited == [0.2, 0.2]
    assert (holder.live.release.version, holder.n_reloads) == (new, 1)
    docs = " ".join((Path(__file__).parents[2] / "docs" / "serving.md").read_text().split())
    assert "`CURRENT` is looked at five times a second" in docs


def test_a_broken_release_is_refused_and_the_old_one_answers_on(
    publish: Callable[[int], str], tmp_path: Path, start_server: Callable[..., Any]
) -> None:
    store = tmp_path / "s"
    good = publish(0)
    server = start_server(store)
    expected = server.ask("/items/i5/neighbors")
    kept = tmp_path / "kept"
    shutil.copytree(store / "releases" / good, kept)
    bad = publish(1)
    wait_until(lambda: server.ask("/ready")["release"] == bad)
    move_current(store / "releases", good)
    wait_until(lambda: server.ask("/ready")["release"] == good)
    path = store / "releases" / bad / "item_embeddings.npy"
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    move_current(store / "releases", bad)
    wait_until(lambda: server.ask("/ready")["refused"] is not None)
    found = server.ask("/ready")
    assert (found["release"], found["refused"]["release"], found["ready"]) == (good, bad, True)
    assert "item_embeddings.npy" in found["refused"]["reason"]
    assert str(tmp_path) not in str(found)
    assert "recsys_release_refused 1" in server.call("/metrics")[1].decode()
    assert server.ask("/items/i5/neighbors") == expected
    (store / "releases" / "CURRENT").write_text("nonsense")
    wait_until(lambda: server.ask("/ready")["refused"]["release"] is None)
    assert server.ask("/ready")["refused"]["reason"].startswith("releases/CURRENT holds 'nonsense'")
    assert server.ask("/items/i5/neighbors") == expected
    move_current(store / "releases", good)
    wait_until(lambda: server.ask("/ready")["refused"] is None)
    assert "recsys_reload_failures_total 2" in server.call("/metrics")[1].decode()


def test_a_release_that_cannot_be_opened_to_begin_with_is_an_error(
    publish: Callable[[int], str], small_release: ModuleType, tmp_path: Path, recsys: Callable[..., Any]
) -> None:
    world = small_release.World()
    parts = small_release.make_parts(tmp_path / "given", world)
    parts.files["query_tower.onnx"].write_bytes(b"no model")
    publish_release(parts, small_release.make_facts(world), tmp_path / "s")
    done = recsys("serve", "--store", tmp_path / "s", "--port", "0")
    assert (done.returncode, done.stdout) == (2, "")
    assert "query_tower.onnx" in done.stderr


def test_a_release_that_is_replaced_is_let_go_of(publish: Callable[[int], str], tmp_path: Path) -> None:
    store = tmp_path / "s"
    old = publish(0)
    holder = Holder(store)
    holder.live.draw_thumbnail(0, 16)
    holder.live.points.get()
    assert is_open(store / "releases" / old)
    new = publish(1)
    holder.look()
    assert holder.live.release.version == new == read_current(store)
    assert not is_open(store / "releases" / old)  # at once, without a collection of garbage
    assert holder.n_reloads == 1


def test_a_broken_release_is_not_read_again_at_every_look(
    publish: Callable[[int], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "s"
    publish(0)
    holder = Holder(store)
    bad = store / "releases" / publish(1) / "users.arrow"
    whole = bad.read_bytes()
    bad.write_bytes(whole[:-1] + b"?")
    holder.look()
    bad.write_bytes(whole)
    holder.look()
    assert holder.refused is not None
    monkeypatch.setattr("recsys_cl.serving.holder.RETRY_SECONDS", 0.0)
    holder.look()  # mended in its place
    assert (holder.refused, holder.n_refusals, holder.n_reloads) == (None, 1, 1)


def test_what_is_made_once_is_made_once_however_many_ask() -> None:
    made = []
    lazy = Lazy(lambda: made.append(1) or len(made))
    assert not lazy.asked
    threads = [threading.Thread(target=lazy.get) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (made, lazy.get(), lazy.asked) == ([1], 1, True)
