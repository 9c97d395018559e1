"""The service: its answers are those of lookup, its refusals say what to do, whatever is asked of it."""

from __future__ import annotations

import asyncio
import base64
import io
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families

from recsys_cl.errors import ConfigError, LogError, RecsysError, StoreError, UnreachableError
from recsys_cl.publishing.release import publish_release
from recsys_cl.serving.app import create_app, list_page
from recsys_cl.serving.diffs import Diffs
from recsys_cl.serving.filters import Filters
from recsys_cl.serving.holder import Holder
from recsys_cl.serving.image_lookup import answer_file, answer_item
from recsys_cl.serving.limits import Limits
from recsys_cl.serving.lookup import Release, open_release
from recsys_cl.serving.metrics import RequestFigures
from recsys_cl.serving.problems import explain_error
from recsys_cl.serving.server import Address, listen, serve
from recsys_cl.serving.web import Service

Encode = Callable[..., str]
ODD = ["007", "  padded ", "a,b", "../up", "ünï", "Case", "x" * 300, "i5"]


def strip(answers: list[dict[str, Any]], *names: str) -> list[dict[str, Any]]:
    return [{name: value for name, value in answer.items() if name not in names} for answer in answers]


# --- answers ---


@pytest.mark.parametrize("item_id", ODD)
def test_neighbors_are_those_of_lookup_for_any_id(server: Any, release: Release, encode: Encode, item_id: str) -> None:
    found = server.ask(encode("items", item_id, "neighbors") + "?k=7")
    assert found == {"release": release.version, "items": answer_item(release, item_id, 7)}
    assert server.ask(encode("items", item_id))["title"] == f"Title of {item_id}"


def test_recommendations_are_those_of_lookup(server: Any, release: Release) -> None:
    assert server.ask("/users/u3/recommendations?k=4")["items"] == release.answer_user("u3", 4)
    found = server.ask("/users/u3/recommendations?k=4&exclude_seen=false")["items"]
    assert found == release.answer_user("u3", 4, include_seen=True)
    assert server.ask("/recommend", {"user_id": "u3", "k": 4})["items"] == release.answer_user("u3", 4)


def test_a_history_is_answered_with_its_weights(server: Any, release: Release) -> None:
    assert server.ask("/recommend", {"history": ["i1", "i5"]})["items"] == release.answer_history(["i1", "i5"])
    found = server.ask("/recommend", {"history": ["i1", "i5"], "weights": [2, 1], "k": 5})["items"]
    assert found == release.answer_history(["i1", "i5", "i1"], 5)
    found = server.ask("/recommend", {"history": ["i1"], "exclude_seen": False, "k": 60})["items"]
    assert "i1" in [answer["item_id"] for answer in found]
    assert len(found) == 60


def test_filters_are_the_same_in_a_query_and_in_a_body(server: Any, release: Release) -> None:
    filters = Filters(None, ("i1", "a,b"), {"genre": ("crime", "none")})
    query = "k=8&deny=i1&deny=a%2Cb&where=genre%3Dcrime&where=genre=none"
    body = {"k": 8, "deny": ["i1", "a,b"], "where": {"genre": ["crime", "none"]}}
    assert server.ask(f"/users/u3/recommendations?{query}")["items"] == release.answer_user("u3", 8, filters=filters)
    found = server.ask("/recommend", {"history": ["i5"], **body})["items"]
    assert found == release.answer_history(["i5"], 8, filters=filters)
    found = server.ask(f"/items/i5/neighbors?{query}")
    assert found["items"] == answer_item(release, "i5", 8, filters=filters)
    assert server.ask("/batch/neighbors", [{"item_id": "i5", **body}]) == [found]
    only = server.ask("/recommend", {"history": ["i5"], "allow": ["i6", "i7"], "where": {"genre": "crime"}})["items"]
    assert [a["item_id"] for a in only] == [
        a["item_id"] for a in release.answer_history(["i5"], 60) if a["item_id"] in ("i6", "i7") and "genre" in a
    ]


def test_a_batch_answers_each_as_alone_and_tells_which_it_cannot(server: Any, release: Release) -> None:
    bodies = [{"history": ["i5"]}, {"history": ["nothing"]}, {"user_id": "u3", "k": 3}, {"user_id": "u3", "k": 1001}]
    found = server.ask("/batch/recommend", bodies)
    assert found[0] == server.ask("/recommend", bodies[0])
    assert [one.get("status") for one in found] == [None, 404, None, 422]
    assert found[2]["items"] == release.answer_user("u3", 3)


def test_why_names_what_was_asked_with(server: Any) -> None:
    history = ["i1", "i5", "i7"]
    found = server.ask("/recommend", {"history": history, "why": True, "k": 3})["items"]
    assert all({cause["item_id"] for cause in answer["why"]} <= set(history) for answer in found)
    assert all(sum(cause["share"] for cause in answer["why"]) == pytest.approx(1, abs=1e-5) for answer in found)
    found = server.ask("/items/i5/neighbors?why=true&k=3")["items"]
    assert all(answer["why"]["n_users"] >= 0 for answer in found)
    assert len(server.ask("/users/u3/recommendations?why=true&k=3")["items"][0]["why"]) == 5


def test_items_are_found_by_their_title(server: Any, encode: Encode) -> None:
    found = server.ask("/items?query=title%20OF%20i5&k=3")["items"]
    assert [item["item_id"] for item in found] == ["i5", "i50", "i51"]
    assert [(item["rank"], item["score"]) for item in found] == [(1, 1.0), (2, 0.75), (3, 0.75)]
    row = found[0]["row"]
    assert server.ask(f"/map/items?start={row}&count=1")["items"] == strip(found[:1], "score", "rank")
    assert server.ask("/items?query=%20")["items"] == []


def test_the_map_has_a_point_and_a_color_for_each_item(server: Any, release: Release) -> None:
    status, content, headers = server.call("/map")
    assert (status, headers["release"]) == (200, release.version)
    points = np.frombuffer(content, dtype="<f4").reshape(-1, 2)
    assert len(points) == release.n_items
    assert np.abs(points).max() == pytest.approx(1)
    colors = server.ask("/map/colors?attribute=genre")
    assert colors["categories"] == ["crime"]
    codes = np.frombuffer(base64.b64decode(colors["codes"]), dtype=np.uint8)
    genres = [release.parts.catalog.describe(row).get("genre") for row in range(release.n_items)]
    assert codes.tolist() == [0 if genre is None else 1 for genre in genres]
    assert len(server.ask("/map/items?start=50&count=100")["items"]) == 10


def test_it_tells_what_it_answers_from(server: Any, release: Release) -> None:
    found = server.ask("/release")
    assert (found["release"], found["n_items"], found["attributes"]) == (release.version, 60, ["genre"])
    assert server.ask("/ready") | {"age_seconds": 0} == {
        "ready": True,
        "release": release.version,
        "age_seconds": 0,
        "refused": None,
    }
    assert server.ask("/health") == {"status": "live"}
    (listed,) = server.ask("/releases")["releases"]
    assert (listed["release"], listed["live"], listed["gate"]["passed"]) == (release.version, True, True)
    assert server.ask(f"/releases/{release.version}/diff/{release.version}")["churn"] == 0


def test_metrics_are_what_prometheus_reads(server: Any, release: Release) -> None:
    for _ in range(3):
        server.ask("/items/i5/neighbors")
    status, content, headers = server.call("/metrics")
    assert (status, headers["content-type"].partition(";")[0]) == (200, "text/plain")
    families = {family.name: family for family in text_string_to_metric_families(content.decode())}
    (info,) = families["recsys_release_info"].samples
    assert info.labels == {"release": release.version}
    assert families["recsys_release_age_seconds"].samples[0].value > 0
    route = {"method": "GET", "route": "/items/{item_id}/neighbors", "status": "200"}
    (n,) = (one.value for one in families["recsys_requests"].samples if one.labels == route)
    assert n >= 3
    samples = [one for one in families["recsys_request_seconds"].samples if one.labels["route"] == route["route"]]
    counts = [one.value for one in samples if one.name.endswith("_bucket")]
    assert counts == sorted(counts)
    assert {one.value for one in samples if one.name.endswith("_count")} == {counts[-1]}


def test_more_answers_than_exist_are_as_many_as_exist(server: Any, release: Release) -> None:
    n_items = release.n_items
    assert len(server.ask("/items/i5/neighbors?k=1000")["items"]) == n_items - 1
    assert server.ask("/items/i5/neighbors?k=1000") == server.ask(f"/items/i5/neighbors?k={n_items}")
    assert len(server.ask("/users/u1/recommendations?k=1000")["items"]) == n_items
    assert len(server.ask("/recommend", {"history": ["i5"], "k": 1000})["items"]) == n_items - 1
    assert len(server.ask("/batch/neighbors", [{"item_id": "i5", "k": 1000}])[0]["items"]) == n_items - 1
    assert len(server.ask("/items?query=title&k=1000")["items"]) == n_items


def test_a_client_is_told_the_limits_that_it_can_keep_to(server: Any, pictured: Any) -> None:
    expected = {"most_k": 1000, "most_history": 1000, "most_batch": 100, "most_body_bytes": 1_000_000}
    assert server.ask("/release")["limits"] == expected | {"most_pixels": 16_000_000}
    assert pictured.ask("/release")["limits"] == expected | {"most_pixels": 10_000}
    assert [one.ask("/release")["n_pictures"] for one in (server, pictured)] == [0, 21]


# --- pictures ---


@pytest.fixture(scope="module")
def pictured(start_server: Callable[..., Any], pictured_store: Path) -> Any:
    """A service over a release with pictures."""
    return start_server(pictured_store, "--most-pixels", "10000")


def draw(side: int, seed: int = 0) -> bytes:
    out = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, size=(side, side), dtype=np.uint8)
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def test_a_picture_that_is_sent_is_answered_as_its_file(pictured: Any, pictured_store: Path, tmp_path: Path) -> None:
    picture = draw(40)
    (tmp_path / "p.png").write_bytes(picture)
    status, found, _ = pictured.call("/images/neighbors?k=5", picture, {"content-type": "image/png"})
    assert status == 200, found
    expected = answer_file(open_release(pictured_store), tmp_path / "p.png", 5)
    assert strip(found["items"], "image") == strip(expected, "image_path")
    form = b'--x\r\ncontent-disposition: form-data; name="file"; filename="p"\r\n\r\n' + picture + b"\r\n--x--\r\n"
    kind = {"content-type": "multipart/form-data; boundary=x"}
    assert pictured.call("/images/neighbors?k=5", form, kind)[1] == found
    placed = pictured.call("/images/neighbors?k=5&by=behavior", form, kind)[1]["items"]
    assert {answer["space"] for answer in placed} == {"behavior_by_image"}
    filtered = pictured.call("/images/neighbors?k=20&where=genre=crime", form, kind)[1]["items"]
    assert {answer["genre"] for answer in filtered} == {"crime"}


def test_items_are_neighbors_by_their_pictures_and_shown(pictured: Any, pictured_store: Path, encode: Encode) -> None:
    release = open_release(pictured_store)
    item_id = release.parts.catalog.items.get_id(0)
    found = pictured.ask(encode("items", item_id, "neighbors") + "?by=image&k=5&deny=new")["items"]
    expected = answer_item(release, item_id, 5, "image", filters=Filters(deny=("new",)))
    assert strip(found, "image") == strip(expected, "image_path")
    assert str(pictured_store.parent) not in str(found)  # where a picture lies is nobody's business
    status, content, headers = pictured.call(found[0]["image"] + "?side=32")
    assert (status, headers["content-type"]) == (200, "image/png")
    assert max(Image.open(io.BytesIO(content)).size) <= 32
    assert {a["space"] for a in pictured.ask("/items/new/neighbors?why=true")["items"]} == {"behavior_by_image"}
    without = release.parts.catalog.items.get_id(1)
    assert pictured.call(encode("images", without))[0] == 404
    assert pictured.call(encode("items", without, "neighbors") + "?by=image")[0] == 422


def test_fewer_pictures_than_wanted_are_all_there_are(pictured: Any) -> None:
    kind = {"content-type": "image/png"}
    assert len(pictured.call("/images/neighbors?k=1000", draw(40), kind)[1]["items"]) == 21
    assert len(pictured.ask("/items/new/neighbors?by=image&k=1000")["items"]) == 20


def test_a_picture_whose_file_has_gone_is_not_found_and_its_path_not_told(
    small_release: ModuleType, tmp_path: Path, start_server: Callable[..., Any], encode: Encode
) -> None:
    world = small_release.World()
    parts, images = small_release.add_pictures(tmp_path, small_release.make_parts(tmp_path / "given", world))
    publish_release(parts, replace(small_release.make_facts(world), images=images), tmp_path / "s")
    (tmp_path / "0.png").unlink()
    (tmp_path / "1.png").write_bytes(b"no picture")
    server, items = start_server(tmp_path / "s"), parts.catalog.items
    for row, reason in ((0, "missing"), (3, "not_a_picture")):
        status, problem, _ = server.call(encode("images", items.get_id(row)))
        assert (status, problem["reason"]) == (404, reason)
        assert str(tmp_path) not in str(problem)
    assert server.call(encode("images", items.get_id(6)))[0] == 200


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"no picture", "image/png", 422),
        (b"", "image/png", 422),
        (draw(101), "image/png", 413),
        (draw(40)[:200], "image/png", 422),
        (draw(40), "text/plain", 415),
        (b"--x--\r\n", "multipart/form-data; boundary=x", 422),
        (b"nothing like it", "multipart/form-data; boundary=x", 400),
        (b"nothing like it", "multipart/form-data", 400),
    ],
)
def test_what_is_no_picture_is_refused(pictured: Any, body: bytes, kind: str, status: int) -> None:
    found, problem, _ = pictured.call("/images/neighbors", body, {"content-type": kind}, "POST")
    assert (found, problem["status"]) == (status, status)


def test_without_pictures_there_is_nothing_to_ask_by_picture(server: Any) -> None:
    for path, body in (("/images/neighbors", draw(8)), ("/items/i5/neighbors?by=image", None), ("/images/i5", None)):
        status, problem, _ = server.call(path, body, {"content-type": "image/png"})
        assert (status, problem["status"]) == (404, 404)


# --- refusals ---

FINE = {"history": ["i5"]}
BAD: list[tuple[str, Any, int]] = [
    ("/items/nothing/neighbors", None, 404),
    ("/items/..%2F..%2Fetc%2Fpasswd/neighbors", None, 404),
    ("/items/%00/neighbors", None, 404),
    ("/items/%FF%ED%A0%80/neighbors", None, 404),
    (f"/items/{'n' * 20_000}/neighbors", None, 404),
    ("/users/nobody/recommendations", None, 404),
    ("/releases/no/diff/..%2F..", None, 404),
    ("/nothing/here", None, 404),
    ("/items/", None, 404),
    ("/items/i5/neighbors?k=0", None, 422),
    ("/items/i5/neighbors?k=-1", None, 422),
    ("/items/i5/neighbors?k=1001", None, 422),
    ("/items?query=title&k=1001", None, 422),
    ("/items?query=title&k=0", None, 422),
    ("/items?query=title&where=color=red", None, 422),
    (f"/items?query={'x' * 201}", None, 422),
    ("/items/i5/neighbors?k=100000000", None, 422),
    ("/items/i5/neighbors?k=1e3", None, 422),
    (f"/items/i5/neighbors?k={'9' * 5000}", None, 422),
    ("/items/i5/neighbors?limit=5", None, 422),
    ("/items/i5/neighbors?by=smell", None, 422),
    ("/items/i5/neighbors?where=genre", None, 422),
    ("/items/i5/neighbors?where=color=red", None, 422),
    ("/items", None, 422),
    ("/map/colors?attribute=title", None, 422),
    ("/map/items?start=-1", None, 422),
    ("/recommend", {}, 422),
    ("/recommend", {"history": []}, 422),
    ("/recommend", {"history": ["i5"] * 1001}, 422),
    ("/recommend", {"history": [5]}, 422),
    ("/recommend", {"history": "i5"}, 422),
    ("/recommend", {"history": ["nothing", "i5"]}, 404),
    ("/recommend", {**FINE, "user_id": "u3"}, 422),
    ("/recommend", {**FINE, "k": "5"}, 422),
    ("/recommend", {**FINE, "k": True}, 422),
    ("/recommend", {**FINE, "weights": [0]}, 422),
    ("/recommend", {**FINE, "weights": [1, 2]}, 422),
    ("/recommend", {**FINE, "weights": [1e300]}, 422),
    ("/recommend", {**FINE, "nonsense": 1}, 422),
    ("/recommend", {**FINE, "allow": ["x"] * 10_001}, 422),
    ("/recommend", {**FINE, "where": {"color": "red"}}, 422),
    ("/recommend", {"history": ["\ud800"]}, 422),
    ("/recommend", b'{"history": ["i5"], "weights": [NaN]}', 422),
    ("/recommend", b'{"history": ["i5"], "k": ' + b"9" * 6000 + b"}", 400),
    ("/recommend", b"[" * 200_000, 400),
    ("/recommend", b'{"history": ', 422),
    ("/recommend", b"\xff\xfe", 422),
    ("/recommend", b'{"history": ["\xff"]}', 400),
    ("/recommend", b"", 422),
    ("/recommend", {"history": ["i5"] * 400_000}, 413),
    ("/batch/recommend", [], 422),
    ("/batch/recommend", [FINE] * 101, 422),
    ("/batch/recommend", FINE, 422),
    ("/batch/neighbors", [{"item_id": None}], 422),
]


@pytest.mark.parametrize(("path", "body", "status"), BAD, ids=[f"{n}{path[:30]}" for n, (path, _, _) in enumerate(BAD)])
def test_what_cannot_be_answered_is_refused_with_what_to_do(server: Any, path: str, body: Any, status: int) -> None:
    kind = {"content-type": "application/json"}
    found, problem, headers = server.call(path, body, kind, "GET" if body is None else "POST")
    assert (found, headers["content-type"]) == (status, "application/problem+json"), problem
    assert problem["status"] == status
    assert problem["type"].startswith("urn:recsys-cl:problem:")
    assert problem["title"]
    assert 10 < len(problem["detail"]) <= 2000
    assert "traceback" not in str(problem).lower()


def test_another_method_is_told_which_it_may_be(server: Any) -> None:
    status, problem, headers = server.call("/recommend", method="DELETE")
    assert (status, problem["status"], headers["allow"]) == (405, 405, "POST")


def test_a_fault_of_the_store_is_ours_and_logged_by_its_place(
    store: Path, tmp_path: Path, start_server: Callable[..., Any]
) -> None:
    shutil.copytree(store, tmp_path / "s")
    server = start_server(tmp_path / "s")
    (tmp_path / "s").rename(tmp_path / "away")
    status, problem, headers = server.call("/releases")
    assert (status, headers["content-type"]) == (500, "application/problem+json")
    assert problem["type"] == "urn:recsys-cl:problem:fault"
    assert server.call("/items/i5/neighbors")[0] == 200
    assert server.stop() == 0
    said = "".join(server.said)
    assert '"fault": "StoreError at store.py:' in said
    assert str(tmp_path) not in str(problem) + said


@pytest.mark.parametrize("kind", [ConfigError, LogError, StoreError, UnreachableError])
def test_what_nobody_asked_wrongly_is_no_refusal(kind: type[RecsysError]) -> None:
    problem = explain_error(kind("/secret/place is broken"))
    assert problem.status == 500
    assert "secret" not in problem.detail


def test_every_answer_forbids_what_a_browser_might_guess(server: Any) -> None:
    for path in ("/items/i5/neighbors", "/nothing", "/map"):
        _, _, headers = server.call(path)
        assert headers["x-content-type-options"] == "nosniff"
        assert "default-src 'none'" in headers["content-security-policy"]


def test_whoever_watches_may_ask_for_the_head_alone(server: Any) -> None:
    for path in ("/health", "/ready", "/metrics"):
        status, content, headers = server.call(path, method="HEAD")
        assert (status, content) == (200, b"")
        assert headers["content-type"] == server.call(path)[2]["content-type"]


# --- the process ---


def test_the_service_imports_no_torch_and_no_prefect_and_ends_when_told(
    store: Path, tmp_path: Path, start_server: Callable[..., Any]
) -> None:
    code = (
        "import sys; from recsys_cl.cli import app; from recsys_cl.door import run_app\n"
        "code = run_app(app, ['serve', '--store', sys.argv[1], '--port', '0'])\n"
        "print(code, [m for m in ('torch', 'prefect', 'pandas', 'sklearn', 'onnx', 'scipy') if m in sys.modules])"
    )
    command = [sys.executable, "-c", code, str(store)]
    for number in (signal.SIGTERM, signal.SIGINT):
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert "answers at http://127.0.0.1:" in process.stdout.readline()
            process.send_signal(number)
            assert process.stdout.read() == "0 []\n"


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_what_it_accepts_sends_each_part_of_an_answer_at_once(host: str) -> None:
    with listen(host, 0) as listener, socket.create_connection(listener.getsockname()[:2]), listener.accept()[0] as own:
        assert own.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_where_it_may_not_or_cannot_listen_it_says_so(store: Path, tmp_path: Path, server: Any) -> None:
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "blank").write_text("a token")
    for address, message in (
        (Address(host="0.0.0.0"), "--token-file"),
        (Address(host="::"), "--token-file"),
        (Address(host="no.such.host.invalid"), "is unknown"),
        (Address(host="192.0.2.1", allow_anonymous=True), "cannot be had"),
        (Address(port=server.address[1]), "--port another"),
        (Address(port=70000), "0 to 65535"),
        (Address(token_file=tmp_path / "missing"), "cannot be read"),
        (Address(token_file=tmp_path / "empty"), "holds no token"),
        (Address(token_file=tmp_path / "blank"), "holds no token"),
    ):
        with pytest.raises(ConfigError, match=message):
            serve(store, address, Limits(), print, log=False)
    with pytest.raises(StoreError, match="is not a store"):
        serve(tmp_path, Address(port=0), Limits(), print, log=False)


def test_an_option_that_cannot_be_had_is_one_line(
    store: Path, recsys: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    for options, message in ((("--host", "0.0.0.0"), "--token-file"), (("--most-seconds", "nan"), "--most-seconds is")):
        done = recsys("serve", "--store", store, *options)
        assert (done.returncode, done.stdout) == (2, "")
        (line,) = done.stderr.splitlines()
        assert line.startswith("recsys-cl: ")
        assert message in line


def test_the_page_is_served_from_its_folder_and_nothing_else_is(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("index.html", "app.js", "style.css", "notes.txt"):
        (tmp_path / name).write_text(name)
    monkeypatch.setattr("recsys_cl.serving.app._PAGE", tmp_path)
    assert set(list_page()) == {"/", "/page/app.js", "/page/style.css"}
    app = create_app(Service(Holder(store), Limits(), RequestFigures(), Diffs()))

    async def get(paths: list[str]) -> list[httpx.Response]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://here") as client:
            return [await client.get(path) for path in paths]

    for path, found in zip(list_page(), asyncio.run(get(list(list_page()))), strict=True):
        assert (found.status_code, found.text) == (200, list_page()[path].name)
        kind = {"/": "text/html; charset=utf-8", "/page/app.js": "text/javascript; charset=utf-8"}
        assert found.headers["content-type"] == kind.get(path, "text/css; charset=utf-8")
    others = ["/page/notes.txt", "/page/", "/page/..%2Fapp.py", "/index.html"]
    assert [found.status_code for found in asyncio.run(get(others))] == [404] * 4


@pytest.mark.parametrize("missing", ["fastapi", "uvicorn", "python_multipart"])
def test_a_missing_extra_is_named(store: Path, missing: str) -> None:
    code = (
        f"import sys; sys.modules[{missing!r}] = None; from recsys_cl.cli import app\n"
        "from recsys_cl.door import run_app; sys.exit(run_app(app, ['serve', '--store', sys.argv[1]]))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(store)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert f"needs {missing}" in done.stderr
    assert "recsys_cl[serve]" in done.stderr


def test_requests_must_bring_the_token(store: Path, tmp_path: Path, start_server: Callable[..., Any]) -> None:
    path = tmp_path / "token"
    path.write_text("s3cret\n")
    path.chmod(0o600)
    server = start_server(store, "--token-file", str(path), "--host", "0.0.0.0")
    for given in (None, "Bearer", "Bearer ", "Bearer s3cre", "Bearer s3crett", "Basic s3cret", "s3cret", "Bearer \xff"):
        for target in ("/items/i5/neighbors", "/ready", "/metrics", "/openapi.json", "/nothing"):
            status, problem, headers = server.call(target, headers={} if given is None else {"authorization": given})
            assert (status, problem["status"], headers["www-authenticate"]) == (401, 401, "Bearer")
    assert server.call("/items/i5/neighbors", headers={"authorization": "bearer s3cret"})[0] == 200
    assert server.call("/health")[0] == 200
    assert server.stop() == 0
    assert "s3cret" not in "".join(server.said)


def test_a_token_that_others_may_read_is_told_of(store: Path, tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("s3cret\n")
    path.chmod(0o644)
    command = [sys.executable, "-m", "recsys_cl.cli", "serve", "--store", str(store), "--token-file", str(path)]
    done = subprocess.run([*command, "--port", "70000"], capture_output=True, text=True, timeout=60)
    assert f"chmod 600 {path}" in done.stderr
    assert "s3cret" not in done.stderr


def test_neither_ids_nor_paths_nor_tokens_are_logged(store: Path, start_server: Callable[..., Any]) -> None:
    server, canary = start_server(store), "canary4711"
    for path, body in (
        (f"/items/{canary}/neighbors?allow={canary}", None),
        (f"/users/{canary}/recommendations", None),
        (f"/{canary}?{canary}", None),
        (f"/items?query={canary}", None),
        ("/recommend", {"history": [canary]}),
        ("/recommend", {canary: canary}),
        ("/items/i5/neighbors", None),
    ):
        server.call(path, body, {"authorization": f"Bearer {canary}", "cookie": canary})
    server.call("/", method="CANARY4711")
    with socket.create_connection(server.address, timeout=30) as connection:
        connection.sendall(f"{canary} {canary}\r\n\r\n".encode())
        connection.recv(1000)
    assert server.stop() == 0
    said = "".join(server.said).lower()
    assert canary not in said
    assert '"/items/{item_id}/neighbors", "status": 200' in said
    assert said.count("\n") == 8
