"""Items, the map, releases and the state of the service: what a request brings is checked, and looked up."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from recsys_cl.errors import PictureError
from recsys_cl.publishing.live import list_releases
from recsys_cl.publishing.store import find_releases, list_versions
from recsys_cl.serving import replies
from recsys_cl.serving.answers import Ask, Reply, describe_item, describe_release, find_items
from recsys_cl.serving.bodies import SearchQuery
from recsys_cl.serving.holder import Live
from recsys_cl.serving.lookup import find_rows
from recsys_cl.serving.metrics import TEXT, write_text
from recsys_cl.serving.plane import color_items
from recsys_cl.serving.problems import Problem, ProblemError, hide_place
from recsys_cl.serving.status import describe_readiness, list_gauges
from recsys_cl.serving.web import BYTES, PNG, Asked, Content, ItemId, Route, need

_MOST_ROWS = 1_000  # of the map, described at a time
_Text = Annotated[str, Field(max_length=200)]


def get_items(asked: Asked, query: SearchQuery) -> Reply:
    """Items whose title or id holds every word of the query, best first."""
    asked.service.limits.check_k(query.k)
    return find_items(asked.live, query.query, Ask(query.k, query.filters))


def get_item(asked: Asked, item_id: ItemId) -> Reply:
    """What the catalog knows of an item."""
    return {"release": asked.live.release.version} | describe_item(asked.live, _find_item(asked.live, item_id))


def get_thumbnail(asked: Asked, item_id: ItemId, side: Annotated[int, Field(ge=16, le=512)] = 128) -> Content:
    """A small picture of an item, as a PNG that fits into side × side pixels, from the file that the catalog names."""
    row = _find_item(asked.live, item_id)
    try:
        picture = asked.live.draw_thumbnail(row, side)
    except PictureError as error:  # its text has the path
        detail = "the picture of the item cannot be read where the items file said that it is"
        raise ProblemError(Problem(404, "picture", detail, more={"reason": error.reason})) from None
    need(picture is not None, "the item has no picture")
    return Content(picture or b"", {"cache-control": "private, max-age=3600"})


def get_map(asked: Asked) -> Content:
    """The map of all items: x and y of each, within -1…1, as little-endian float32, in the order of their rows.

    It is drawn when it is first asked for, and then before a new release goes live.
    """
    points = asked.live.points.get()
    return Content(points.astype("<f4").tobytes(), {"release": asked.live.release.version})


def get_map_items(
    asked: Asked,
    start: Annotated[int, Field(ge=0, le=2**62)] = 0,
    count: Annotated[int, Field(ge=1, le=_MOST_ROWS)] = 100,
) -> Reply:
    """What the catalog knows of some items, by their rows on the map."""
    release = asked.live.release
    items = [describe_item(asked.live, row) for row in range(start, min(start + count, release.n_items))]
    return {"release": release.version, "n_items": release.n_items, "items": items}


def get_map_colors(asked: Asked, attribute: _Text) -> Reply:
    """The values of an attribute, and which of them each item has, in the order of the rows; see `color_items`."""
    release = asked.live.release
    return {"release": release.version} | color_items(release.parts.catalog, attribute)


def get_release(asked: Asked) -> Reply:
    """The release that answers, and the limits of what may be asked."""
    return describe_release(asked.live, asked.service.limits)


def get_releases(asked: Asked) -> Reply:
    """All releases of the store, oldest first, with what the gate said of each."""
    store = asked.service.holder.store
    releases = list_releases(store)
    for known in releases:
        if "broken" in known:
            known["broken"] = hide_place(known["broken"], store)
    return {"releases": releases}


def get_diff(asked: Asked, first: str, second: str) -> Reply:
    """What differs between two releases."""
    store = asked.service.holder.store
    known = list_versions(store)
    for name in (first, second):
        need(name in known, f"there is no release {name[:80]!r}; see /releases")
    releases = find_releases(store)
    return asked.service.diffs.get(releases / first, releases / second)


def get_health(_: Asked) -> dict[str, Any]:
    """Whether the service lives; needs no token."""
    return {"status": "live"}


def get_ready(asked: Asked) -> dict[str, Any]:
    """Whether it answers, with which release, and which one it has refused."""
    return describe_readiness(asked.service.holder)


def get_metrics(asked: Asked) -> Content:
    """Figures for Prometheus."""
    return Content(write_text(asked.service.figures, list_gauges(asked.service.holder)).encode())


ROUTES = (
    Route("GET", "/items", get_items, replies.FoundItems, (422,)),
    Route("GET", "/items/{item_id}", get_item, replies.Item, (404, 422)),
    Route("GET", "/images/{item_id}", get_thumbnail, None, (404, 422), kind=PNG),
    Route("GET", "/map", get_map, kind=BYTES),
    Route("GET", "/map/items", get_map_items, replies.MapItems, (422,)),
    Route("GET", "/map/colors", get_map_colors, replies.MapColors, (422,)),
    Route("GET", "/release", get_release, replies.ReleaseTold),
    Route("GET", "/releases", get_releases, replies.Releases),
    Route("GET", "/releases/{first}/diff/{second}", get_diff, replies.Diff, (404, 409, 422)),
    Route("GET", "/health", get_health, replies.Health, quick=True),
    Route("GET", "/ready", get_ready, replies.Ready, quick=True),
    Route("GET", "/metrics", get_metrics, kind=TEXT, quick=True),
)


def _find_item(live: Live, item_id: str) -> int:
    return int(find_rows(live.release.parts.catalog.items, [item_id], "item", live.release.version)[0])
