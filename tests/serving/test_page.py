"""The web page in a real browser, over a real service: what somebody sees, clicks and types there."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import numpy as np
import polars as pl
import pytest
from PIL import Image

from recsys_cl.catalog import Catalog
from recsys_cl.publishing.manifest import GateResult
from recsys_cl.publishing.parts import ReleaseParts
from recsys_cl.publishing.release import publish_release

HOSTILE = "<img src=x onerror=\"window.hacked=1\"><script>window.hacked=2</script>&amp; “six” 'x'"
ODD = ["007", "  padded ", "a,b", "../up", "ünï", "x" * 300]
SETTLED = "!document.querySelector('main').hasAttribute('aria-busy')"
VIEWS = ["", "item/i0", "search/Title", "session", "map", "releases"]
PIXELS = """
    const canvas = document.querySelector(".map canvas");
    const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d", {willReadFrequently: true});
    copy.drawImage(canvas, 0, 0);
    const data = new Uint32Array(copy.getImageData(0, 0, canvas.width, canvas.height).data.buffer);
    const counts = new Map();
    for (const one of data) counts.set(one, (counts.get(one) ?? 0) + 1);
    const paper = Array.from(counts).sort((a, b) => b[1] - a[1])[0][0];
    let sum = 0;
    data.forEach((one, n) => { sum = (sum + (n % 9973) * (one % 65521)) % 2147483647; });
    return {drawn: data.length - counts.get(paper), colors: counts.size, sum, paper: paper & 255};
"""
TEXTS = """
    const numbers = (color) => color.match(/[0-9.]+/g).map(Number);
    const isClear = (color) => numbers(color)[3] === 0;
    const shown = new Map();
    for (const one of document.querySelectorAll("body *")) {
      const text = Array.from(one.childNodes).filter((child) => child.nodeType === 3).map((child) => child.data.trim());
      if (!text.join("") || !one.checkVisibility() || one.closest(".unseen, script, noscript")) continue;
      let under = one;
      while (under.parentElement && isClear(getComputedStyle(under).backgroundColor)) under = under.parentElement;
      const [front, back] = [getComputedStyle(one).color, getComputedStyle(under).backgroundColor];
      const colors = { front: numbers(front).slice(0, 3), back: numbers(back).slice(0, 3) };
      shown.set(front + back, { text: text.join(""), ...colors });
    }
    return Array.from(shown.values());
"""
ROLES = {"link", "button", "searchbox", "combobox", "DisclosureTriangle", "application", "group"}
RING = "const ring = document.querySelector('.ring').getBoundingClientRect(); return [ring.x + 11, ring.y + 11]"
BESIDE = {
    "compared": {
        "n_users": 40,
        "changes": [
            {"part": "everyone", "metric": "ndcg@10", "earlier": 0.3, "candidate": 0.2}
            | {"low": -0.15, "high": -0.05, "n_users": 40}
        ],
        "coverage": [0.5, 0.6],
        "popularity_share": [0.4, 0.3],
    },
    "items_lost": 0.0,
}


def name_items(parts: ReleaseParts) -> ReleaseParts:
    """The same with titles that differ, a hostile one among them, and one attribute that is hostile, too."""
    frame = parts.catalog.to_frame()
    titles = [HOSTILE if one == "i5" else f"Title of {one}" for one in frame["item_id"]]
    kinds = [HOSTILE if n == 3 else ("crime", "drama", "comedy")[n % 3] for n in range(len(frame))]
    return replace(
        parts,
        catalog=Catalog.build(
            parts.catalog.items, frame.with_columns(pl.Series("title", titles), pl.Series("genre", kinds))
        ),
    )


@pytest.fixture(scope="module")
def page_store(small_release: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with two releases that have pictures; the second was forced past the gate."""
    folder = tmp_path_factory.mktemp("page")
    first = publish(small_release, folder, 0, metrics={"ndcg@10": 0.3})
    reasons = ("ndcg@10 fell from 0.3000 to 0.2000", "it <b>collapsed</b>")
    gate = GateResult(reasons=reasons, forced="a drill", beside=BESIDE | {"release": first})
    publish(small_release, folder, 1, gate=gate, metrics={"ndcg@10": 0.2, "recall@10": 0.1})
    return folder / "s"


def publish(small_release: Any, folder: Path, seed: int, **facts: Any) -> str:
    world, own = small_release.World(seed=seed), folder / str(seed)
    parts = small_release.make_parts(own / "given", world)
    parts, images = small_release.add_pictures(own, parts, seed)
    return publish_release(
        name_items(parts), replace(small_release.make_facts(world), images=images, **facts), folder / "s"
    )


@pytest.fixture(scope="module")
def page_server(start_server: Callable[..., Any], page_store: Path) -> Any:
    return start_server(page_store)


@pytest.fixture
def visit(browser: Any, page_server: Any) -> Iterator[Callable[..., None]]:
    """visit("item/i0", …): a new visitor opens a view. In the end nothing was complained of, nothing asked for
    elsewhere, and nothing that came from the catalog has run."""
    browser.listen()
    browser.asked.clear()
    browser.complaints.clear()
    fresh = [True]

    def open_view(view: str = "", width: int = 1280, height: int = 900, **screen: Any) -> None:
        browser.set_screen(width, height, **screen)
        if fresh:
            browser.open(page_server.url + "/#/releases")
            browser.ask("sessionStorage.clear()")
            fresh.clear()
        browser.open("about:blank")
        browser.open(f"{page_server.url}/#/{view}")
        browser.wait(f"document.querySelector('h1') && {SETTLED}")

    yield open_view
    browser.listen()
    assert browser.complaints == []
    outside = [one for one in browser.asked if not one.startswith((page_server.url, "data:", "about:", "chrome"))]
    assert outside == []
    assert browser.ask("return window.hacked === undefined && !document.querySelector('main [onerror], main script')")


def pick(browser: Any, *ids: str) -> None:
    """Items that are already in the session of a tab."""
    stored = [{"item_id": one, "title": f"Title of {one}"} for one in ids]
    browser.ask("sessionStorage.setItem('recsys_cl session', JSON.stringify(arguments[0]))", stored)


def ids_of(browser: Any, selector: str) -> list[str]:
    found: list[str] = browser.ask(
        "return Array.from(document.querySelectorAll(arguments[0]), (one) => one.dataset.id)", selector
    )
    return found


# --- items ---


def test_an_item_is_found_and_its_neighbors_are_those_of_the_service(
    browser: Any, visit: Callable[..., None], page_server: Any
) -> None:
    visit()
    browser.click("#query")
    browser.press("title of i1")
    browser.wait("document.querySelectorAll('[role=option]').length === 8")
    browser.click("[role=option]")
    browser.wait("document.querySelectorAll('.side .row[data-id]').length === 24")
    assert browser.text("h1") == "Title of i1"
    for place, by in enumerate(("behavior", "image"), 1):
        expected = page_server.ask(f"/items/i1/neighbors?k=12&by={by}&why=true")["items"]
        side = f".side:nth-child({place})"
        assert ids_of(browser, f"{side} .row") == [one["item_id"] for one in expected]
        shown = [float(text.split()[-1]) for text in browser.texts(f"{side} .score")]
        assert shown == pytest.approx([one["score"] for one in expected], rel=0.02, abs=0.006)
    touched = [text.split()[0] for text in browser.texts(".side:first-child .note > :first-child")]
    expected = page_server.ask("/items/i1/neighbors?k=12&why=true")["items"]
    assert touched == [str(one["why"]["n_users"] or "nobody") for one in expected]
    assert {"crime", "drama", "comedy"} & set(" ".join(browser.texts(".row .values")).split())


def test_one_walks_from_neighbor_to_neighbor_and_back_to_where_one_was(
    browser: Any, visit: Callable[..., None]
) -> None:
    visit("item/007")
    browser.ask("scrollTo(0, 400)")
    browser.wait("history.state?.y === 400")
    browser.click(".side:first-child .row:nth-child(7) a.title")
    browser.wait(f"document.querySelector('h1').innerText !== 'Title of 007' && {SETTLED} && scrollY === 0")
    browser.ask("history.back()")
    browser.wait(f"document.querySelector('h1').innerText === 'Title of 007' && {SETTLED} && scrollY === 400")


@pytest.mark.parametrize("item_id", ODD)
def test_items_with_any_id_can_be_opened(browser: Any, visit: Callable[..., None], item_id: str) -> None:
    visit(f"item/{quote(item_id, safe='')}")
    assert browser.ask("return document.querySelector('.item .id').textContent") == item_id
    assert len(ids_of(browser, ".side:first-child .row")) == 12


def test_titles_and_values_are_shown_as_the_texts_that_they_are(browser: Any, visit: Callable[..., None]) -> None:
    """That nothing of them runs is seen by `visit`."""
    visit("item/i5")
    assert browser.ask("return document.querySelector('h1').textContent") == HOSTILE
    browser.click(".item .add")
    for view in ("session", "search/img", "", "map?q=onerror"):
        visit(view)
        pick(browser, "i5")
    visit("map?q=onerror")
    browser.wait("document.querySelector('.legend').textContent.includes('onerror')")
    assert browser.text(".found") == "1 item highlighted"
    browser.press("/")
    browser.press("img src")
    browser.wait("document.querySelector('[role=option] .title')")
    assert browser.ask("return document.querySelector('[role=option] .title').textContent") == HOSTILE


def test_neighbors_can_be_kept_to_those_that_share_an_attribute(
    browser: Any, visit: Callable[..., None], page_server: Any
) -> None:
    visit("item/007")
    browser.click("[id=same-genre]")
    browser.wait(f"{SETTLED} && document.querySelector('.chip[aria-pressed=true]')")
    genre = page_server.ask("/items/007")["genre"]
    kept = page_server.ask(f"/items/007/neighbors?k=12&where=genre={genre}")["items"]
    assert ids_of(browser, ".side:first-child .row") == [one["item_id"] for one in kept]
    assert browser.ask("return document.activeElement.id") == "same-genre", "the keyboard stays where it was"


def test_an_item_without_a_picture_says_so_and_one_with_nothing_but_a_picture_has_neighbors(
    browser: Any, visit: Callable[..., None], page_server: Any
) -> None:
    bare = next(one for one in ("i0", "i1", "i2") if "image" not in page_server.ask(f"/items/{one}"))
    visit(f"item/{bare}")
    assert "no picture" in browser.text(".side:last-child")
    visit("item/new")
    assert browser.text("h1") == "new"
    assert len(ids_of(browser, ".side:last-child .row")) == 12
    forget(browser, "/items/new")


# --- the session ---


def test_recommendations_follow_the_session_and_name_what_brought_them(
    browser: Any, visit: Callable[..., None], page_server: Any
) -> None:
    visit("item/i1")
    browser.click(".item .add")
    browser.click(".side:first-child .row:nth-child(2) .add")
    picked = ["i1", ids_of(browser, ".side:first-child .row")[1]]
    browser.wait("document.querySelectorAll('.dock-next li[data-id]').length === 5")
    browser.click(".dock .button")
    for _ in range(2):
        expected = page_server.ask("/recommend", {"history": picked, "k": 12, "why": True})["items"]
        wanted = [one["item_id"] for one in expected]
        browser.wait(
            "JSON.stringify(Array.from(document.querySelectorAll('.next .row'), (one) => one.dataset.id)) === "
            "JSON.stringify(arguments[0])",
            wanted,
        )
        assert ids_of(browser, ".pick") == picked
        assert browser.text("#count") == str(len(picked))
        said = browser.texts(".next .row:first-child .why a")
        assert said == [f"Title of {one['item_id']}" for one in expected[0]["why"] if one["share"] >= 0.005][:3]
        browser.click(".next .row:nth-child(3) .add")
        picked.append(wanted[2])
    browser.wait("document.querySelectorAll('.pick').length === 4 && document.querySelector('.move')")
    browser.click(".pick:first-child .drop")
    browser.wait("document.querySelectorAll('.pick').length === 3")
    browser.click(".picked .plain")
    browser.wait("document.querySelectorAll('.next .tile').length > 0")
    assert "Nothing is picked" in browser.text(".picked")


def test_a_session_outlives_a_reload_and_items_that_the_release_lacks_leave_it(
    browser: Any, visit: Callable[..., None]
) -> None:
    visit()
    pick(browser, "i3", "gone", "i4")
    visit("session")
    browser.wait("document.querySelectorAll('.next .row').length === 12")
    assert ids_of(browser, ".pick") == ["i3", "i4"]
    forget(browser, "/recommend", "/items/gone")


def test_rows_slide_unless_less_motion_is_asked_for(browser: Any, visit: Callable[..., None]) -> None:
    for still in (False, True):
        visit("session", still=still)
        pick(browser, "i3")
        visit("session", still=still)
        browser.ask(
            "window.moves = 0; const move = Element.prototype.animate;"
            "Element.prototype.animate = function (...all) { window.moves += 1; return move.apply(this, all); }"
        )
        browser.click(".next .row:nth-child(2) .add")
        browser.wait("document.querySelectorAll('.pick').length === 2 && document.querySelector('.move')")
        assert (browser.ask("return window.moves") == 0) == still


# --- the map ---


def test_the_map_draws_all_items_in_colors_and_highlights_what_is_found(
    browser: Any, visit: Callable[..., None], page_server: Any
) -> None:
    visit("map")
    plain = browser.ask(PIXELS)
    assert plain["drawn"] > 60 * 20, "each item is a disc"
    legend = browser.texts(".legend .n")
    assert sum(map(int, legend)) == page_server.ask("/release")["n_items"] == 60
    browser.click("#mark")
    browser.press("title of i1")
    browser.wait("document.querySelector('.found').textContent !== ''")
    found = len(page_server.ask("/items?query=title+of+i1&k=1000")["items"])
    assert browser.text(".found") == f"{found} items highlighted"
    assert browser.ask(PIXELS)["sum"] != plain["sum"]
    browser.ask(
        "const field = document.querySelector('#mark'); field.value = ''; field.dispatchEvent(new Event('input'))"
    )
    browser.wait("document.querySelector('.found').textContent === ''")
    browser.wait(f"(() => {{{PIXELS}}})().sum === arguments[0]", plain["sum"])
    browser.click(".legend button")
    browser.wait(f"(() => {{{PIXELS}}})().sum !== arguments[0]", plain["sum"])


def test_the_map_is_moved_and_zoomed_by_wheel_keys_mouse_and_fingers(browser: Any, visit: Callable[..., None]) -> None:
    visit("map")
    whole = browser.ask(PIXELS)["sum"]
    changed = f"(() => {{{PIXELS}}})().sum !== arguments[0]"
    drag = ((700, 500), (790, 540))
    for move in (
        lambda: browser.scroll(700, 500, -300),
        lambda: browser.point(*drag, press=True),
        lambda: browser.touch(*([place] for place in drag)),
        lambda: browser.press("Left"),
        lambda: browser.press("+"),
        lambda: browser.click(".tools button"),
    ):
        browser.ask("document.querySelector('.map canvas').focus()")
        move()
        browser.wait(changed, whole)
        browser.click(".tools button:last-child")
        browser.wait(f"!({changed})", whole)


def test_pinching_zooms_about_the_fingers(open_browser: Callable[[], Any], page_server: Any) -> None:
    with open_browser() as browser:  # of its own: after two fingers Chromium feels none on the pages that follow
        browser.set_screen(1280, 900)
        browser.open(page_server.url + "/#/map?item=i7")
        browser.wait("document.querySelector('.card.open .title')?.innerText === 'Title of i7'")
        before = browser.ask(PIXELS)["drawn"]
        browser.touch([(600, 480), (680, 480)], [(480, 480), (800, 480)])
        browser.wait(f"(() => {{{PIXELS}}})().drawn !== arguments[0]", before)
        assert browser.ask(RING) == pytest.approx([640, 480], abs=4)


def test_a_point_shows_its_item_when_pointed_at_and_opens_it_when_clicked(
    browser: Any, visit: Callable[..., None]
) -> None:
    visit("map?item=i7")  # in the middle
    assert browser.text(".card .title") == "Title of i7"
    browser.click(".tools button:last-child")
    x, y = browser.ask(RING)
    visit("map")
    browser.point((round(x), round(y)))
    browser.wait("document.querySelector('.card .title')?.innerText === 'Title of i7'")
    assert not browser.ask("return document.querySelector('.card a')"), "nothing to click in what follows the mouse"
    browser.touch([(round(x), round(y))])
    browser.wait("document.querySelector('.card.open a')")
    browser.point((round(x), round(y)), press=True)
    browser.wait("location.hash === '#/item/i7'")


def test_a_million_points_are_all_drawn_and_a_draft_is_drawn_of_some(browser: Any, visit: Callable[..., None]) -> None:
    visit("map")
    full, draft = browser.ask("""
        return import("/page/plot.js").then(({ View, paint }) => {
          const points = new Float32Array(2_000_000);
          for (let n = 0; n < 1_000_000; n += 1) points.set([n % 1000, Math.floor(n / 1000)], 2 * n);
          const canvas = document.createElement("canvas");
          canvas.width = canvas.height = 1200;
          const view = new View(points);
          view.fit(1200, 1200);
          const looks = new Uint8Array(1_000_000);
          const draw = (draft) => {
            const [black, white] = [[0, 0, 0], [255, 255, 255]];
            const look = { points, looks, standing: null, colors: [black], paper: white, ink: black, ratio: 1 };
            paint(canvas, view, { ...look, draft });
            const copy = new OffscreenCanvas(1200, 1200).getContext("2d", { willReadFrequently: true });
            copy.drawImage(canvas, 0, 0);
            const { data } = copy.getImageData(0, 0, 1200, 1200);
            let drawn = 0;
            for (let n = 0; n < data.length; n += 4) drawn += data[n] < 128;
            return drawn;
          };
          return [draw(false), draw(true)];
        })""")
    assert full >= 1_000_000, "the grid is covered"
    assert 0 < draft < full


def test_the_point_that_is_found_is_the_nearest_of_all_that_count(browser: Any, visit: Callable[..., None]) -> None:
    visit("map")
    wrong = browser.ask("""
        return Promise.all([import("/page/plot.js"), import("/page/nearest.js")]).then(([{ View }, { Grid }]) => {
          const wrong = [];
          for (const n of [1, 7, 5000]) {
            const points = Float32Array.from({ length: 2 * n }, () => (Math.random() < 0.1 ? 0 : Math.random() ** 3));
            const view = new View(points);
            view.fit(1000, 600);
            const grid = new Grid(points, view.bounds);
            for (let trial = 0; trial < 300; trial += 1) {
              if (trial % 50 === 49) view.zoomBy(3, 1000 * Math.random(), 600 * Math.random());
              const [px, py] = [1200 * Math.random() - 100, 800 * Math.random() - 100];
              const most = 1 + 400 * Math.random() ** 4;
              const shown = trial % 2 ? Uint8Array.from(points, (_, at) => at % 3) : null;
              let [best, nearest] = [most * most, -1];
              for (let row = 0; row < n; row += 1) {
                const [x, y] = view.locate(points[2 * row], points[2 * row + 1]);
                const far = (x - px) ** 2 + (y - py) ** 2;
                if (far < best && (shown === null || shown[row])) [best, nearest] = [far, row];
              }
              const found = grid.find(view, px, py, most, shown);
              if (found !== nearest) wrong.push([n, trial, found, nearest]);
            }
          }
          return wrong;
        })""")
    assert wrong == []


def test_a_map_of_a_million_items_is_moved_over_pointed_at_and_highlighted(
    browser: Any, start_server: Callable[..., Any], small_release: Any, tmp_path: Path
) -> None:
    world = small_release.World(n_items=1_000_000, n_seen=20)
    publish_release(
        small_release.make_parts(tmp_path / "given", world), small_release.make_facts(world), tmp_path / "s"
    )
    server = start_server(tmp_path / "s")
    browser.set_screen(1280, 900)
    browser.open(server.url + "/#/map?item=i777777")
    browser.wait("document.querySelector('.card.open .title')?.innerText === 'Title of i777777'")
    browser.click(".tools button:last-child")
    changed = f"(() => {{{PIXELS}}})().sum !== arguments[0]"
    browser.wait(f"(() => {{{PIXELS}}})().colors > 2")
    for move in (
        lambda: browser.scroll(700, 500, -300),
        lambda: browser.point((700, 500), (790, 540), press=True),
        lambda: browser.press("Left"),
    ):
        browser.ask("document.querySelector('.map canvas').focus()")
        before = browser.ask(PIXELS)["sum"]
        move()
        browser.wait(changed, before)
    x, y = map(round, browser.ask(RING))
    browser.ask("performance.clearResourceTimings()")
    browser.point(*((x - 300 + 10 * step, y - 60 + 2 * step) for step in range(31)))
    browser.wait("!document.querySelector('.card').hidden")
    told = browser.ask("return performance.getEntriesByType('resource').length")
    assert 0 < told < 10, "what the pointer passes over is not asked for"
    before = browser.ask(PIXELS)["sum"]
    browser.click("#mark")
    browser.press("title of i77777")
    browser.wait("document.querySelector('.found').textContent === '11 items highlighted'")
    browser.wait(changed, before)
    server.stop()


# --- releases ---


def test_releases_are_shown_with_their_metrics_and_what_the_gate_said(
    browser: Any, visit: Callable[..., None], page_server: Any
) -> None:
    visit("releases")
    known = page_server.ask("/releases")["releases"]
    assert [text.split()[0] for text in browser.texts(".release .id")] == [one["release"] for one in reversed(known)]
    newest = browser.text(".release:first-child")
    for text in ("Live", "Forced past the gate", "ndcg@10", "0.200", "−0.100", "it <b>collapsed</b>"):
        assert text in newest, text
    assert "Gate passed" in browser.text(".release:last-child")
    browser.click(".release:first-child a.title")
    browser.wait("document.querySelector('.figures')")
    assert browser.texts(".reasons li") == ["ndcg@10 fell from 0.3000 to 0.2000", "it <b>collapsed</b>"]
    assert "a drill" in browser.text(".gate")
    row = browser.text(".gate tbody tr").split("\t")
    assert [cell.strip() for cell in row] == [
        "everyone",
        "ndcg@10",
        "0.300",
        "0.200",
        "−0.100",
        "−0.150 to −0.050",
        "40",
    ]
    first, second = (one["release"] for one in known)
    diff = page_server.ask(f"/releases/{first}/diff/{second}")
    shown = browser.text(".figures")
    assert "60 → 60" in shown
    assert f"{round(100 * diff['churn'])}%" in shown
    assert ids_in(browser, "ul.ids a") == [one["item_id"] for one in diff["moved"] if one["changed"] > 0]
    browser.click(".gate h3 a")
    browser.wait(f"{SETTLED} && document.querySelector('.id').innerText === arguments[0]", first)
    assert "Nothing spoke against" in browser.text(".gate")


# --- everyone ---


def test_it_can_be_used_by_keyboard_alone_and_the_focus_is_always_seen(
    browser: Any, visit: Callable[..., None]
) -> None:
    visit()
    browser.press("/", "title of i2")
    browser.wait("document.querySelectorAll('[role=option]').length > 1")
    browser.press("Down")
    name = browser.text("[aria-selected=true] .title")
    assert browser.ask("return document.querySelector('#query').getAttribute('aria-activedescendant')") == "offer-0"
    browser.press("Enter")
    browser.wait(f"document.querySelector('h1').innerText === arguments[0] && {SETTLED}", name)
    assert browser.ask("return document.activeElement.tagName") == "H1", "a view that opens takes the focus"
    assert "neighbors by behavior" in browser.ask("return document.querySelector('#said').textContent")
    seen = []
    for _ in range(12):
        browser.press("Tab")
        seen.append(
            browser.ask("""
            const one = document.activeElement;
            const style = getComputedStyle(one);
            return [one.className || one.id || one.tagName, style.outlineStyle, parseFloat(style.outlineWidth)]""")
        )
    assert seen[0][0] == "add wide"
    assert all(style == "solid" and width >= 2 for _, style, width in seen), seen
    browser.ask("document.querySelector('.row .add').focus()")
    browser.press("Enter")
    browser.wait("document.querySelector('#count').innerText === '1'")
    browser.ask("document.querySelector('nav a').focus()")
    browser.press("Enter")
    browser.wait("document.querySelector('.map canvas')")
    browser.ask("document.querySelector('.map canvas').focus()")
    browser.press("0", "+")
    browser.wait("document.querySelector('.card.open .title')")
    name = browser.text(".card .title")
    browser.press("Enter")
    browser.wait("document.querySelector('h1').innerText === arguments[0]", name)


@pytest.mark.parametrize("view", [*VIEWS, "release"])
def test_every_view_fits_a_phone_and_has_its_landmarks(
    browser: Any, visit: Callable[..., None], page_server: Any, view: str
) -> None:
    if view == "release":
        view = f"releases/{page_server.ask('/release')['release']}"
    visit(view, 360, 740)
    pick(browser, "i5", "x" * 300)
    visit(view, 360, 740)
    assert browser.ask("return document.documentElement.scrollWidth") <= 360
    assert browser.ask("return document.querySelectorAll('h1').length") == 1
    assert browser.ask(
        "return ['main', 'header.top', 'nav', 'footer', 'search'].every((one) => document.querySelector(one))"
    )
    assert browser.ask("""
        const ids = Array.from(document.querySelectorAll("[id]"), (one) => one.id);
        return ids.length === new Set(ids).size""")


@pytest.mark.parametrize("view", [*VIEWS, "release"])
def test_all_that_can_be_used_is_reached_by_the_keyboard_and_has_a_name(
    browser: Any, visit: Callable[..., None], page_server: Any, view: str
) -> None:
    """Names are those that the browser computes for a screen reader."""
    if view == "release":
        view = f"releases/{page_server.ask('/release')['release']}"
    visit(view)
    pick(browser, "i5", "i6")
    visit(view)
    if view == "map":
        browser.ask("document.querySelector('.map canvas').focus()")
        browser.press("0", "+")
        browser.wait("document.querySelector('.card.open a')")
        browser.ask("document.activeElement.blur()")
    n = browser.ask("""
        const kinds = "a[href], button, input, select, summary, [tabindex='0']";
        const found = Array.from(document.querySelectorAll(kinds)).filter((one) => one.checkVisibility());
        found.forEach((one) => { one.dataset.used = ""; });
        window.reached = new Set();
        addEventListener("focusin", ({ target }) => window.reached.add(target));
        return found.length;""")
    browser.press(*["Tab"] * (n + 5))
    unreached = """
        return Array.from(document.querySelectorAll("[data-used]"))
          .filter((one) => !window.reached.has(one)).map((one) => one.outerHTML)"""
    assert browser.ask(unreached) == []
    names = browser.names("[data-used]")
    assert len(names) == n > 6
    assert [one for one in names if not one[1].strip()] == []
    assert {role for role, _ in names} <= ROLES, "a role that says what can be done"


@pytest.mark.parametrize("view", [*VIEWS, "release"])
@pytest.mark.parametrize("dark", [False, True])
def test_it_is_light_or_dark_as_the_screen_prefers_and_every_text_is_legible(
    browser: Any, visit: Callable[..., None], page_server: Any, tmp_path: Path, view: str, dark: bool
) -> None:
    if view == "release":
        view = f"releases/{page_server.ask('/release')['release']}"
    visit(view, dark=dark, still=True)
    pick(browser, "i5", "i6")
    visit(view, dark=dark, still=True)
    browser.save_picture(tmp_path / "page.png")
    with Image.open(tmp_path / "page.png") as picture:
        median = np.median(np.asarray(picture.convert("L")))
    assert median < 40 if dark else median > 240
    if view == "map":
        assert (browser.ask(PIXELS)["paper"] < 60) == dark
    shown = browser.ask(TEXTS)
    assert len(shown) > 3
    assert [one for one in shown if measure_contrast(one["front"], one["back"]) < 4.5] == []


@pytest.mark.parametrize("dark", [False, True])
def test_colors_that_only_some_states_show_are_legible_too(
    browser: Any, visit: Callable[..., None], dark: bool
) -> None:
    visit(dark=dark)
    pairs = [("ink", "tint"), ("accent", "tint"), ("soft", "raise"), ("bad", "paper"), ("on-accent", "accent")]
    for front, back in pairs:
        colors = [
            browser.ask("return import('/page/colors.js').then((one) => one.readColor(arguments[0]))", f"--{name}")
            for name in (front, back)
        ]
        assert measure_contrast(*colors) >= 4.5, (front, back)


# --- trouble ---


@pytest.mark.parametrize(
    ("view", "words", "missed"),
    [
        ("item/i", ["Not found", "No item 'i'"], ["/items/i", "/items/i/neighbors"]),
        ("search/zzz", ["No item was found", "fewer"], []),
        ("releases/2020", ["There is no such release"], []),
        ("%E0%A4%A/nonsense", ["What goes with what"], []),
    ],
)
def test_what_is_not_there_is_said_with_what_to_do(
    browser: Any, visit: Callable[..., None], view: str, words: list[str], missed: list[str]
) -> None:
    visit(view)
    shown = browser.text("main")
    assert all(one in shown for one in words), shown
    forget(browser, *missed)


def test_a_service_with_a_token_is_asked_with_it_and_one_that_is_gone_or_renewed_is_noticed(
    browser: Any, start_server: Callable[..., Any], small_release: Any, tmp_path: Path
) -> None:
    publish(small_release, tmp_path, 0)
    (tmp_path / "token").write_text("open sesame\n".replace(" ", "-"))
    (tmp_path / "token").chmod(0o600)
    server = start_server(tmp_path / "s", "--token-file", str(tmp_path / "token"))
    browser.set_screen(1280, 900)
    browser.open(server.url + "/#/item/i1")
    for token in ("wrong", "open-sesame"):
        browser.wait("document.querySelector('#token:placeholder-shown, #token')")
        browser.ask("document.querySelector('#token').value = ''")
        browser.click("#token")
        browser.press(token, "Enter")
        browser.wait(SETTLED)
    browser.wait("document.querySelectorAll('.side .row[data-id]').length === 24")
    browser.wait("document.querySelector('.item .pic img')?.src.startsWith('blob:')")
    browser.wait("document.querySelector('.item .pic img').naturalWidth > 0")
    renewed = publish(small_release, tmp_path, 1)
    while server.call("/release", headers={"authorization": "Bearer open-sesame"})[1]["release"] != renewed:
        pass
    browser.ask("location.hash = '#/releases'")
    browser.wait("document.querySelectorAll('.release').length === 2")
    browser.ask("location.hash = '#/item/i0'")
    browser.wait("document.querySelector('#release').innerText.includes(arguments[0])", renewed)
    browser.wait("document.querySelector('h1').innerText === 'Title of i0'")
    server.stop()
    browser.ask("location.hash = '#/item/i9'")
    browser.wait("document.querySelector('h1').innerText === 'Out of reach'")
    assert "recsys-cl serve" in browser.text("main")
    assert browser.texts("main button") == ["Try again"]


def test_a_release_without_pictures_has_one_list_and_no_room_for_them(browser: Any, server: Any) -> None:
    browser.set_screen(1280, 900)
    browser.open(server.url + "/#/item/i1")
    browser.wait("document.querySelectorAll('.side .row[data-id]').length === 12")
    assert browser.texts(".side h2") == ["By behavior"]
    assert not any(browser.ask("return Array.from(document.querySelectorAll('.pic'), (one) => one.offsetWidth)"))


# --- other services ---


def test_no_more_is_asked_for_than_the_service_gives(
    browser: Any,
    page_store: Path,
    start_server: Callable[..., Any],
    open_front: Callable[..., contextlib.AbstractContextManager[Any]],
) -> None:
    server = start_server(page_store, "--most-k", "30", "--most-history", "3")
    limits = {"limits": {"most_k": 30, "most_history": 3}, "n_pictures": 21}
    browser.set_screen(1280, 900)
    with open_front(server.url, {"/release": lambda known: limits | known}) as front:
        browser.open(front.url + "/#/search/Title")
        browser.wait("document.querySelectorAll('.tile[data-id]').length === 30")
        assert "The first 30 items" in browser.text(".lead")
        browser.ask("location.hash = '#/item/i1'")
        browser.wait("document.querySelectorAll('.side .row[data-id]').length === 24")
        browser.click("#more")
        browser.wait("document.querySelectorAll('.side:first-child .row[data-id]').length === 24")
        assert len(ids_of(browser, ".side:last-child .row")) == 20, "all other pictures"
        browser.click("#more")
        browser.wait("document.querySelectorAll('.side:first-child .row[data-id]').length === 30")
        assert not browser.ask("return document.querySelector('#more')")
        browser.ask("location.hash = '#/map?q=title'")
        browser.wait("document.querySelector('.found')?.textContent === 'The first 30 items highlighted'")
        pick(browser, "i3", "i4", "i5", "i6")
        browser.ask("location.hash = '#/session'")
        browser.ask("location.reload()")
        browser.wait("document.querySelectorAll('.next .row[data-id]').length === 12")
        assert "newest 3" in browser.text(".next header")
        assert "i3" not in ids_of(browser, ".next .row"), "what is picked is not recommended, asked with or not"
    browser.open("about:blank")


def test_what_a_service_refuses_that_does_not_say_its_limits_is_told_where_it_was_asked_for(
    browser: Any,
    page_store: Path,
    start_server: Callable[..., Any],
    open_front: Callable[..., contextlib.AbstractContextManager[Any]],
) -> None:
    server = start_server(page_store, "--most-k", "15")

    def say_less(known: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in known.items() if name not in ("limits", "n_pictures")}

    browser.set_screen(1280, 900)
    with open_front(server.url, {"/release": say_less}) as front:
        browser.open(front.url + "/#/map?q=title")
        browser.wait("document.querySelector('.found')?.textContent.includes('at most 15')")
        assert browser.ask(PIXELS)["drawn"] > 0, "the map is there all the same"
        browser.ask("location.hash = '#/item/i1?k=24'")
        browser.wait("document.querySelectorAll('.side .state').length === 2")
        assert all("No answer" in text and "at most" in text for text in browser.texts(".side .state"))
    browser.open("about:blank")


def test_an_item_with_an_attribute_named_release_is_no_new_release(
    browser: Any, page_server: Any, open_front: Callable[..., contextlib.AbstractContextManager[Any]]
) -> None:
    browser.set_screen(1280, 900)
    with open_front(page_server.url, {"/items/i1": lambda item: item | {"release": "1995"}}) as front:
        browser.open(front.url + "/#/item/i1")
        browser.wait("document.querySelectorAll('.side .row[data-id]').length === 24")
        browser.wait(SETTLED)
        assert front.asked.count("GET /release") == 2, "at first, and to be sure"
        assert front.asked.count("GET /items/i1") == 1
    browser.open("about:blank")


def test_releases_that_change_again_and_again_do_not_keep_the_page_from_being_read(
    browser: Any, page_server: Any, open_front: Callable[..., contextlib.AbstractContextManager[Any]]
) -> None:
    """As behind a gateway to two services that have not come to the same release."""
    browser.set_screen(1280, 900)
    other = "20200101T000000Z-000000000000"
    with open_front(page_server.url, {"/items/i1/neighbors": lambda answer: answer | {"release": other}}) as front:
        browser.open(front.url + "/#/item/i1")
        browser.wait("document.querySelectorAll('.side .row[data-id]').length === 24")
        browser.wait(SETTLED)
        assert front.asked.count("GET /release") <= 2
    browser.open("about:blank")


# --- what the tests share ---


def ids_in(browser: Any, selector: str) -> list[str]:
    """The ids that links lead to."""
    found: list[str] = browser.ask(
        "return Array.from(document.querySelectorAll(arguments[0]), (one) => one.hash.split('/')[2])", selector
    )
    return [unquote(one) for one in found]


def forget(browser: Any, *paths: str) -> None:
    """Browsers complain of each answer that is a refusal: leave out those of addresses that end so."""
    browser.listen()
    told = [re.escape(path) + r"(\?\S*)? - Failed to load resource" for path in paths]
    browser.complaints[:] = [one for one in browser.complaints if not any(re.search(text, one) for text in told)]


def measure_contrast(one: list[int], other: list[int]) -> float:
    """Contrast of two colors as WCAG 2 defines it, 1 to 21."""
    shares = np.array([one, other]) / 255
    linear = np.where(shares <= 0.04045, shares / 12.92, ((shares + 0.055) / 1.055) ** 2.4)
    dark, light = sorted(linear @ [0.2126, 0.7152, 0.0722])
    return float((light + 0.05) / (dark + 0.05))
