"""Each filter holds on each address that answers with items: a table of all of them by all filters."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import numpy as np
import pytest

from recsys_cl.serving.lookup import open_release

GET = {
    "neighbors": "/items/i5/neighbors",
    "neighbors by picture": "/items/%20%20padded%20/neighbors?by=image",
    "user": "/users/u3/recommendations",
    "search": "/items?query=title",
}
POST = {
    "history": ("/recommend", {"history": ["i5"]}),
    "user in a body": ("/recommend", {"user_id": "u3"}),
    "batch of histories": ("/batch/recommend", {"history": ["i5"]}),
    "batch of neighbors": ("/batch/neighbors", {"item_id": "i5"}),
}
PICTURE = {"picture": "/images/neighbors", "picture by behavior": "/images/neighbors?by=behavior"}
OWN = {"neighbors": "i5", "neighbors by picture": "  padded ", "history": "i5", "batch of histories": "i5"}
OWN |= {"batch of neighbors": "i5"}
ROUTES = [*GET, *POST, *PICTURE]

Ask = Callable[..., tuple[int, Any]]


@pytest.fixture(scope="module")
def ask(start_server: Callable[..., Any], pictured_store: Path) -> Ask:
    """ask(route, k=3, deny=[…], …): status, and items or the problem."""
    server, picture = start_server(pictured_store), (pictured_store.parent / "0.png").read_bytes()

    def ask(route: str, **filters: Any) -> tuple[int, Any]:
        if route in POST:
            path, body = POST[route]
            asked = body | filters
            status, found, _ = server.call(path, [asked] if "batch" in route else asked)
            found = found[0] if status == 200 and "batch" in route else found
            return found.get("status", status), found.get("items", found)
        where = [f"{name}={value}" for name, values in filters.pop("where", {}).items() for value in values]
        filters = {name: str(value).lower() if isinstance(value, bool) else value for name, value in filters.items()}
        path = (GET | PICTURE)[route]
        query = urlencode(filters | ({"where": where} if where else {}), doseq=True)
        path = f"{path}{'&' if '?' in path else '?'}{query}"
        status, found, _ = (
            server.call(path, picture, {"content-type": "image/png"}) if route in PICTURE else server.call(path)
        )
        return status, found.get("items", found)

    return ask


def list_ids(found: tuple[int, Any]) -> list[str]:
    status, items = found
    assert status == 200, items
    assert [item["rank"] for item in items] == list(range(1, len(items) + 1))
    assert [item["score"] for item in items] == sorted((item["score"] for item in items), reverse=True)
    return [item["item_id"] for item in items]


@pytest.mark.parametrize("route", ROUTES)
def test_each_filter_keeps_the_best_of_what_it_lets_through(ask: Ask, route: str) -> None:
    everything = ask(route, k=1000)
    ids = list_ids(everything)
    assert len(ids) > 10
    assert list_ids(ask(route, k=3)) == ids[:3]
    some = [ids[7], "unknown", ids[2], ids[-1]]
    assert list_ids(ask(route, k=1000, allow=some)) == [ids[2], ids[7], ids[-1]]
    assert list_ids(ask(route, k=3, deny=[ids[0], ids[2]])) == [ids[1], ids[3], ids[4]]
    crime = [item["item_id"] for item in everything[1] if item.get("genre") == "crime"]
    assert 0 < len(crime) < 60
    assert list_ids(ask(route, k=1000, where={"genre": ["crime", "none"]})) == crime
    assert (
        list_ids(ask(route, k=4, allow=ids[:30], deny=crime[:1], where={"genre": ["crime"]}))
        == [item_id for item_id in crime[1:] if item_id in ids[:30]][:4]
    )
    assert list_ids(ask(route, where={"genre": ["none"]})) == []
    for bad in ({"where": {"color": ["red"]}}, {"k": 0}, {"k": 1001}):
        status, problem = ask(route, **bad)
        assert (status, problem["status"]) == (422, 422)


@pytest.mark.parametrize("route", ROUTES)
def test_what_was_asked_with_is_left_out_unless_told_otherwise(ask: Ask, route: str, pictured_store: Path) -> None:
    if route in PICTURE or route == "search":  # nobody has seen anything: there is nothing to leave out
        status, problem = ask(route, exclude_seen=True)
        assert (status, "exclude_seen" in problem["detail"]) == (422, True)
        return
    left = set(list_ids(ask(route, k=1000)))
    assert list_ids(ask(route, k=1000, exclude_seen=True)) == list_ids(ask(route, k=1000))
    more = set(list_ids(ask(route, k=1000, exclude_seen=False))) - left
    release = open_release(pictured_store)
    seen = release.get_seen(np.array([release.parts.users.find_row("u3")])).item_rows
    assert more == ({OWN[route]} if route in OWN else set(release.parts.catalog.items.get_ids(seen)))
