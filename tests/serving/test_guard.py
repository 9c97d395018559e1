"""Bounds of every request: size, time, number, and nothing of a request in the log, whatever fails."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from recsys_cl.errors import ConfigError
from recsys_cl.serving.guard import Access, Guard, Line, Token
from recsys_cl.serving.limits import Limits
from recsys_cl.serving.metrics import RequestFigures

Run = Callable[[Any, Any, Any], Awaitable[None]]


def scope(path: str = "/secret-id", method: str = "GET", **headers: str) -> dict[str, Any]:
    pairs = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return {"type": "http", "method": method, "path": path, "raw_path": path.encode(), "headers": pairs}


def talk(
    app: Run, limits: Limits, asked: list[dict[str, Any]], chunks: Sequence[bytes] = (), ended: bool = False
) -> tuple[list[Any], list[Line]]:
    """What is answered to each, asked one after the other while those before may still run; and the log.

    chunks: of the body of each, after which nothing more comes; ended: it is told that the last was the last."""
    lines: list[Line] = []

    async def ask(guard: Guard, one: dict[str, Any]) -> list[dict[str, Any]]:
        sent: list[dict[str, Any]] = []
        waiting = list(chunks)

        async def receive() -> dict[str, Any]:
            if not waiting:
                await asyncio.sleep(60)
            return {"type": "http.request", "body": waiting.pop(0), "more_body": bool(waiting) or not ended}

        async def send(message: Any) -> None:
            sent.append(message)

        await guard(one, receive, send)
        return sent

    async def ask_all() -> list[Any]:
        guard = Guard(app, limits, RequestFigures(), lines.append, Access())
        return await asyncio.gather(*(ask(guard, one) for one in asked))

    return asyncio.run(ask_all()), lines


def read(sent: list[dict[str, Any]]) -> tuple[int, Any, dict[str, str]]:
    headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], json.loads(sent[1]["body"]), headers


async def answer(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"{}"})


def test_a_fault_is_answered_and_logged_by_its_place_alone() -> None:
    async def fail(scope: Any, receive: Any, send: Any) -> None:
        raise KeyError("secret-id")

    (sent,), (line,) = talk(fail, Limits(), [scope()])
    status, problem, _ = read(sent)
    assert (status, problem["status"]) == (500, 500)
    assert "secret" not in str(problem) + str(line)
    assert str(line.fault).startswith("KeyError at test_guard.py:")


def test_what_is_too_slow_is_told_to_come_again_and_counts_until_it_ends() -> None:
    stuck = 0

    async def wait(scope: Any, receive: Any, send: Any) -> None:
        nonlocal stuck
        stuck += 1
        try:
            await asyncio.sleep(60)
        finally:
            await answer(scope, receive, send)  # too late: nobody may see it

    (first, second), _ = talk(wait, Limits(most_seconds=0.2, most_running=1), [scope(), scope()])
    assert stuck == 1
    for sent, kind in ((first, "too-slow"), (second, "busy")):
        status, problem, headers = read(sent)
        assert (status, problem["type"].rpartition(":")[2], headers["retry-after"]) == (503, kind, "1")
        assert len(sent) == 2


def test_health_is_answered_however_many_are_running() -> None:
    async def wait(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] != "/health":
            await asyncio.sleep(60)
        await answer(scope, receive, send)

    found, _ = talk(wait, Limits(most_seconds=0.2, most_running=1), [scope(), scope("/health")])
    assert [sent[0]["status"] for sent in found] == [503, 200]


@pytest.mark.parametrize("said", [{"content_length": "11"}, {"content_length": "3"}, {"transfer_encoding": "chunked"}])
@pytest.mark.parametrize("ended", [True, False])
def test_a_body_is_bounded_whatever_its_head_says(said: dict[str, str], ended: bool) -> None:
    """It is read to its end where that comes soon, so that whoever sends it hears the answer."""
    limits = Limits(most_body_bytes=10, most_seconds=0.2)
    (sent,), _ = talk(answer, limits, [scope(method="POST", **said)], [b"123456", b"78901"], ended)
    status, problem, headers = read(sent)
    assert (status, problem["status"]) == (413, 413)
    assert ("connection" in headers) is not ended


def test_a_body_that_is_far_too_large_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    (sent,), _ = talk(answer, Limits(), [scope(method="POST", content_length="9" * 400)])
    assert (sent[0]["status"], read(sent)[2]["connection"]) == (413, "close")
    monkeypatch.setattr("recsys_cl.serving.guard._MOST_DROPPED", 5)
    endless = scope(method="POST", transfer_encoding="chunked")
    (sent,), _ = talk(answer, Limits(most_body_bytes=10), [endless], [b"123456"] * 3)
    assert (sent[0]["status"], read(sent)[2]["connection"]) == (413, "close")


def test_a_body_that_does_not_come_is_not_waited_for() -> None:
    (sent,), (line,) = talk(answer, Limits(most_seconds=0.1), [scope(method="POST", content_length="9")], [b"12"])
    assert (read(sent)[0], line.status) == (408, 408)


def test_a_method_and_an_address_of_nobody_are_not_kept() -> None:
    _, (line,) = talk(answer, Limits(), [scope(method="SECRET-ID")])
    assert (line.method, line.route) == ("other", "unmatched")


def test_only_the_token_fits() -> None:
    token = Token(b"abc")
    assert token.fits(b"Bearer abc")
    assert token.fits(b"bearer  abc ")
    assert not any(token.fits(given) for given in (b"", b"abc", b"Bearer", b"Bearer ab", b"Bearer abcd", b"Basic abc"))


@pytest.mark.parametrize(
    ("host", "here"),
    [
        ("localhost:8000", True),
        ("LOCALHOST", True),
        ("127.0.0.1:8000", True),
        ("127.9.9.9", True),
        ("[::1]:8000", True),
        ("[::1]", True),
        ("evil.example:8000", False),
        ("localhost.evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("192.168.0.1", False),
        ("", False),
        ("\xff", False),
    ],
)
def test_a_page_from_elsewhere_cannot_have_its_name_lead_here(host: str, here: bool) -> None:
    problem = Access(local=True).check("/items", [(b"host", host.encode("latin-1"))])
    assert (problem is None) is here
    assert Access().check("/items", [(b"host", host.encode("latin-1"))]) is None


def test_limits_below_one_are_refused() -> None:
    for name in ("most_k", "most_running", "most_seconds", "threads"):
        with pytest.raises(ConfigError, match=f"--{name.replace('_', '-')}"):
            Limits(**{name: 0})


# --- a real process ---


@pytest.fixture(scope="module")
def narrow(start_server: Callable[..., Any], store: Path) -> Any:
    """A service that answers one request at a time, each within three seconds, bodies of 1,000 bytes."""
    return start_server(store, "--most-running", "1", "--most-seconds", "3", "--most-body-bytes", "1000")


@pytest.fixture
def connection(narrow: Any) -> Iterator[socket.socket]:
    with socket.create_connection(narrow.address, timeout=30) as found:
        yield found


def hear(connection: socket.socket) -> bytes:
    """All that comes until the other side hangs up."""
    found = b""
    while more := connection.recv(65536):
        found += more
    return found


HEAD = b"POST /recommend HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"


def test_whoever_sends_no_head_is_hung_up_on(narrow: Any, connection: socket.socket) -> None:
    with socket.create_connection(narrow.address, timeout=30) as begun:
        begun.sendall(b"GET /items/i5/neighbors HTTP/1.1\r\nhost")
        assert hear(connection) == hear(begun) == b""


def test_a_slow_body_holds_one_place_and_is_told(narrow: Any, connection: socket.socket) -> None:
    connection.sendall(HEAD + b"content-length: 100\r\n\r\n{")
    status, problem, headers = narrow.call("/items/i5/neighbors")
    assert (status, problem["status"], headers["retry-after"]) == (503, 503, "1")
    assert narrow.call("/health")[0] == narrow.call("/ready")[0] == 200
    assert b" 408 " in hear(connection)
    assert narrow.call("/items/i5/neighbors")[0] == 200


def test_a_body_without_a_length_is_bounded(narrow: Any, connection: socket.socket) -> None:
    connection.sendall(HEAD + b"transfer-encoding: chunked\r\n\r\n3e9\r\n" + b" " * 1001 + b"\r\n0\r\n\r\n")
    assert b" 413 " in connection.recv(65536)


def test_what_is_no_http_is_refused_as_everything_else(narrow: Any) -> None:
    for sent in (b"nonsense\r\n\r\n", b"GET /" + b"x" * 70_000, b"GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n"):
        with socket.create_connection(narrow.address, timeout=30) as connection:
            connection.sendall(sent)
            head, _, body = connection.recv(65536).partition(b"\r\n\r\n")
            assert b"application/problem+json" in head
            assert json.loads(body)["status"] == 400


def test_without_a_token_another_name_is_refused(narrow: Any) -> None:
    status, problem, _ = narrow.call("/items/i5/neighbors", headers={"host": "evil.example"})
    assert (status, problem["type"].rpartition(":")[2]) == (403, "host")
