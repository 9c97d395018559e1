"""Lookups as functions: every way to ask gives the best by hand and keeps the limits, and a batch is its parts."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image

from recsys_cl.errors import InputError, SealError
from recsys_cl.publishing.release import publish_release
from recsys_cl.serving import about, routes
from recsys_cl.serving.bodies import NeighborsBody, NeighborsQuery, PictureQuery, RecommendBody, UserQuery
from recsys_cl.serving.diffs import Diffs
from recsys_cl.serving.holder import Holder, Live
from recsys_cl.serving.image_lookup import answer_file
from recsys_cl.serving.limits import Limits
from recsys_cl.serving.lookup import open_release
from recsys_cl.serving.metrics import RequestFigures
from recsys_cl.serving.problems import ProblemError, explain_error
from recsys_cl.serving.replies import Answers
from recsys_cl.serving.web import Asked, Service

Item = dict[str, Any]
LIMITS = Limits(most_k=7, most_history=4, most_batch=3)
# As query parameters, as a body, and which items they let through.
FILTERS: list[tuple[dict[str, Any], dict[str, Any], Callable[[Item], bool]]] = [
    ({}, {}, lambda item: True),
    ({"deny": ["i3", "i9"]}, {"deny": ["i3", "i9"]}, lambda item: item["item_id"] not in ("i3", "i9")),
    ({"allow": ["i3", "i9"]}, {"allow": ["i3", "i9"]}, lambda item: item["item_id"] in ("i3", "i9")),
    ({"where": ["genre=crime"]}, {"where": {"genre": "crime"}}, lambda item: item.get("genre") == "crime"),
]


@pytest.fixture(scope="module")
def asked(store: Path) -> Asked:
    """What requests are answered with, from the small release."""
    holder = Holder(store)
    return Asked(Service(holder, LIMITS, RequestFigures(), Diffs()), holder.live)


@pytest.fixture(scope="module")
def pictured(asked: Asked, pictured_store: Path) -> Asked:
    """The same from a release with pictures."""
    return replace(asked, live=Live(open_release(pictured_store)))


def rank(asked: Asked, query: np.ndarray, keep: Callable[[Item], bool], left_out: list[str]) -> list[str]:
    """The seven best of all items."""
    parts = asked.live.release.parts
    order = np.argsort(-(parts.item_vectors.astype(np.float64) @ query.astype(np.float64)), kind="stable")
    items = [parts.catalog.describe(int(row)) for row in order]
    return [item["item_id"] for item in items if keep(item) and item["item_id"] not in left_out][:7]


def encode(asked: Asked, history: list[str], weights: list[float] | None, popularity: float) -> np.ndarray:
    parts = asked.live.release.parts
    vectors = parts.bag_vectors[parts.catalog.items.find_texts(history)]
    taste = np.average(vectors, axis=0, weights=weights)
    return np.append(taste / np.linalg.norm(taste), popularity)


def list_ids(reply: dict[str, Any], why: bool = False) -> list[str]:
    assert {"why" in answer for answer in reply["items"]} <= {why}
    return [answer.item_id for answer in Answers.model_validate(reply).items]


@pytest.mark.parametrize(("query", "body", "keep"), FILTERS)
@pytest.mark.parametrize("exclude_seen", [True, False])
def test_users_items_and_histories_are_answered_alike_by_every_way(
    asked: Asked, query: dict[str, Any], body: dict[str, Any], keep: Callable[[Item], bool], exclude_seen: bool
) -> None:
    parts, why = asked.live.release.parts, not exclude_seen
    rest: dict[str, Any] = {"k": 7, "exclude_seen": exclude_seen, "why": why}
    seen = parts.catalog.items.get_ids(asked.live.release.get_seen(np.array([3])).item_rows).to_list()
    user = parts.users.get_id(3)
    found = routes.get_recommendations(asked, user, UserQuery(**rest, **query))
    assert list_ids(found, why) == rank(asked, parts.user_vectors[3], keep, seen if exclude_seen else [])
    assert found["release"] == asked.live.release.version
    given = RecommendBody(user_id=user, **rest, **body)
    assert [routes.post_recommend(asked, given), *routes.post_batch_recommend(asked, [given] * 2)] == [found] * 3
    found = routes.get_neighbors(asked, "i9", NeighborsQuery(**rest, **query))
    assert list_ids(found, why) == rank(asked, encode(asked, ["i9"], None, 0), keep, ["i9"] if exclude_seen else [])
    assert routes.post_batch_neighbors(asked, [NeighborsBody(item_id="i9", **rest, **body)]) == [found]
    history = ["i9", "i5"]
    for weights in (None, [5.0, 1.0], [1.0, 5.0]):
        given = RecommendBody(history=history, weights=weights, **rest, **body)
        found, query_vector = routes.post_recommend(asked, given), encode(asked, history, weights, 1)
        assert list_ids(found, why) == rank(asked, query_vector, keep, history if exclude_seen else [])
        assert routes.post_batch_recommend(asked, [given]) == [found]


def draw() -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, size=(20, 20), dtype=np.uint8)).save(out, "PNG")
    return out.getvalue()


def test_no_way_gives_more_than_the_limits(pictured: Asked) -> None:
    ways: list[Callable[[int], Any]] = [
        lambda k: routes.get_neighbors(pictured, "i5", NeighborsQuery(k=k)),
        lambda k: routes.get_recommendations(pictured, "u3", UserQuery(k=k)),
        lambda k: routes.post_recommend(pictured, RecommendBody(user_id="u3", k=k)),
        lambda k: routes.post_recommend(pictured, RecommendBody(history=["i5"] * 4, k=k)),
        lambda k: routes.post_picture(pictured, PictureQuery(k=k), draw()),
    ]
    for way in ways:
        assert len(way(7)["items"]) == 7
        with pytest.raises(InputError, match=r"k is 8.*at most 7"):
            way(8)
    with pytest.raises(InputError, match="the history has 5 items"):
        routes.post_recommend(pictured, RecommendBody(history=["i5"] * 5, k=7))
    ways = [
        lambda n: routes.post_batch_recommend(pictured, [RecommendBody(user_id="u3", k=7)] * n),
        lambda n: routes.post_batch_neighbors(pictured, [NeighborsBody(item_id="i5", k=7)] * n),
    ]
    for way in ways:
        assert [len(way(n)) for n in (1, 3)] == [1, 3]
        for n in (0, 4):
            with pytest.raises(InputError, match=f"the batch has {n} requests"):
                way(n)


def test_what_a_batch_cannot_answer_is_a_problem_in_its_place(asked: Asked) -> None:
    wrong = RecommendBody(history=["nothing"], k=3), RecommendBody(user_id="u3", k=8)
    right = RecommendBody(user_id="u3", k=3)
    found = routes.post_batch_recommend(asked, [wrong[0], right, wrong[1]])
    assert found[1] == routes.post_recommend(asked, right)
    for body, problem in zip(wrong, found[::2], strict=True):
        with pytest.raises(InputError) as caught:
            routes.post_recommend(asked, body)
        assert problem == explain_error(caught.value).dump()
    things = [NeighborsBody(item_id="i5", k=3, by="image"), NeighborsBody(item_id="i5", k=3)]
    missing, answered = routes.post_batch_neighbors(asked, things)
    assert (missing["status"], missing["type"]) == (404, "urn:recsys-cl:problem:not-found")
    assert answered == routes.get_neighbors(asked, "i5", NeighborsQuery(k=3))


def test_what_is_wrong_here_fails_the_whole_batch(asked: Asked, small_release: ModuleType, tmp_path: Path) -> None:
    world = small_release.World()
    parts = small_release.make_parts(tmp_path / "given", world)
    parts.files["query_tower.onnx"].write_bytes(b"no model")
    publish_release(parts, small_release.make_facts(world), tmp_path / "s")
    broken = replace(asked, live=Live(open_release(tmp_path / "s")))
    known = RecommendBody(user_id="u3", k=3)
    assert len(routes.post_batch_recommend(broken, [known])[0]["items"]) == 3, "a known user needs no tower"
    with pytest.raises(SealError):
        routes.post_batch_recommend(broken, [known, RecommendBody(history=["i5"], k=3)])
    with pytest.raises(SealError):
        routes.post_batch_neighbors(broken, [NeighborsBody(item_id="i5", k=3)])


def test_pictures_are_asked_by_where_there_are_some(asked: Asked, pictured: Asked, tmp_path: Path) -> None:
    (tmp_path / "p.png").write_bytes(draw())
    for by in ("image", "behavior"):
        found = routes.post_picture(pictured, PictureQuery(k=5, by=by, where=["genre=crime"]), draw())
        alike = answer_file(pictured.live.release, tmp_path / "p.png", 20, by)
        assert list_ids(found) == [one["item_id"] for one in alike if one.get("genre") == "crime"][:5]
    images = pictured.live.release.parts.images
    assert images is not None
    order = images.items.get_ids(np.argsort(-(images.vectors @ images.queries[5]), kind="stable")).to_list()
    item_id = images.items.get_id(5)
    for excluded, expected in ((True, [one for one in order if one != item_id]), (False, order)):
        query = NeighborsQuery(k=5, by="image", exclude_seen=excluded)
        assert list_ids(routes.get_neighbors(pictured, item_id, query)) == expected[:5]
    with pytest.raises(ProblemError) as caught:
        routes.post_picture(asked, PictureQuery(), draw())
    assert caught.value.problem.status == 404


def test_no_address_is_taken_twice() -> None:
    taken = [(route.method, route.address) for route in (*routes.ROUTES, *about.ROUTES)]
    assert len(set(taken)) == len(taken)
