"""Items, the map, releases and the state of the service over HTTP: routes, checks and addresses only."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from recsys_cl.publishing.release import list_releases
from recsys_cl.publishing.store import find_release, list_versions
from recsys_cl.serving import answers
from recsys_cl.serving.holder import Live
from recsys_cl.serving.lookup import find_rows
from recsys_cl.serving.metrics import TEXT, write_text
from recsys_cl.serving.plane import color_items
from recsys_cl.serving.problems import ProblemError, say_busy
from recsys_cl.serving.status import describe_readiness, list_gauges
from recsys_cl.serving.web import BINARY, REFUSED, ItemId, need, send, take

_BYTES = "application/octet-stream"
_MOST_ROWS = 1_000  # of the map, described at a time

router = APIRouter(responses=REFUSED)


@router.get("/items")
def get_items(
    request: Request, query: Annotated[str, Query(max_length=200)], k: Annotated[int, Query(ge=1)] = 20
) -> Response:
    """Items whose title or id holds every word of the query, best first."""
    service, live = take(request)
    service.limits.check_k(k)
    return send(answers.find_items(live, query, k))


@router.get("/items/{item_id}")
def get_item(request: Request, item_id: ItemId) -> Response:
    """What the catalog knows of an item."""
    _, live = take(request)
    return send({"release": live.release.version} | answers.describe_item(live, _find_item(live, item_id)))


@router.get("/images/{item_id}", responses={200: {"content": {"image/png": BINARY}}}, response_class=Response)
def get_thumbnail(request: Request, item_id: ItemId, side: Annotated[int, Query(ge=16, le=512)] = 128) -> Response:
    """A small picture of an item, as a PNG that fits into side × side pixels."""
    _, live = take(request)
    picture = live.draw_thumbnail(_find_item(live, item_id), side)
    need(picture is not None, "the item has no picture")
    return Response(picture, media_type="image/png", headers={"cache-control": "private, max-age=3600"})


@router.get("/map", responses={200: {"content": {"application/octet-stream": BINARY}}}, response_class=Response)
def get_map(request: Request) -> Response:
    """The map of all items: x and y of each, within -1…1, as little-endian float32, in the order of their rows."""
    _, live = take(request)
    points = live.points.peek()
    if points is None:
        raise ProblemError(say_busy("the map of this release is still being drawn", 1))
    return Response(points.astype("<f4").tobytes(), headers={"release": live.release.version}, media_type=_BYTES)


@router.get("/map/items")
def get_map_items(
    request: Request,
    start: Annotated[int, Query(ge=0, le=2**62)] = 0,
    count: Annotated[int, Query(ge=1, le=_MOST_ROWS)] = 100,
) -> Response:
    """What the catalog knows of some items, by their rows on the map."""
    _, live = take(request)
    rows = range(start, min(start + count, live.release.n_items))
    items = [answers.describe_item(live, row) for row in rows]
    return send({"release": live.release.version, "n_items": live.release.n_items, "items": items})


@router.get("/map/colors")
def get_map_colors(request: Request, attribute: Annotated[str, Query(max_length=200)]) -> Response:
    """The values of an attribute, and which of them each item has, in the order of the rows; see `color_items`."""
    _, live = take(request)
    return send({"release": live.release.version} | color_items(live.release.parts.catalog, attribute))


@router.get("/release")
def get_release(request: Request) -> Response:
    """The release that answers."""
    _, live = take(request)
    return send(answers.describe_release(live))


@router.get("/releases")
def get_releases(request: Request) -> Response:
    """All releases of the store, oldest first, with what the gate said of each."""
    service, _ = take(request)
    return send({"releases": list_releases(service.holder.store)})


@router.get("/releases/{first}/diff/{second}")
def get_diff(request: Request, first: str, second: str) -> Response:
    """What differs between two releases."""
    service, _ = take(request)
    known = list_versions(service.holder.store)
    for name in (first, second):
        need(name in known, f"there is no release {name[:80]!r}; see /releases")
    store = service.holder.store
    return send(service.diffs.get(find_release(store, first), find_release(store, second)))


@router.get("/health")
async def get_health() -> Response:
    """Whether the service lives; needs no token."""
    return send({"status": "live"})


@router.get("/ready")
async def get_ready(request: Request) -> Response:
    """Whether it answers, with which release, and which one it has refused."""
    service, _ = take(request)
    return send(describe_readiness(service.holder))


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
async def get_metrics(request: Request) -> Response:
    """Figures for Prometheus."""
    service, _ = take(request)
    return Response(write_text(service.figures, list_gauges(service.holder)), headers={"content-type": TEXT})


@router.get("/openapi.json", include_in_schema=False)
async def get_openapi(request: Request) -> Response:
    """All addresses, and what they take and give."""
    return send(request.app.openapi())


def _find_item(live: Live, item_id: str) -> int:
    return int(find_rows(live.release.parts.catalog.items, [item_id], "item", live.release.version)[0])
