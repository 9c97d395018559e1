"""Small releases for the tests of this folder, made by the same module as for those of publishing."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from http.client import HTTPConnection
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import quote, urlsplit

import pytest

from recsys_cl.publishing.release import publish_release
from recsys_cl.serving.lookup import Release, open_release


def _load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[path.stem] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


small = sys.modules.get("small_release") or _load(Path(__file__).parents[1] / "publishing" / "small_release.py")


@pytest.fixture(scope="session")
def small_release() -> ModuleType:
    """The module that makes small releases."""
    return small


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with one small release; nothing may be written into it."""
    folder = tmp_path_factory.mktemp("store")
    world = small.World()
    publish_release(small.make_parts(folder / "given", world), small.make_facts(world), folder / "s")
    return folder / "s"


@pytest.fixture(scope="session")
def release(store: Path) -> Release:
    """The small release, open."""
    return open_release(store)


@pytest.fixture(scope="session")
def pictured_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with one small release that has pictures; nothing may be written into it."""
    folder = tmp_path_factory.mktemp("pictured")
    world = small.World()
    parts, images = small.add_pictures(folder, small.make_parts(folder / "given", world))
    publish_release(parts, replace(small.make_facts(world), images=images), folder / "s")
    return folder / "s"


@dataclass
class Server:
    """A service as a process of its own. said: what it has printed, line by line."""

    url: str
    process: subprocess.Popen[str]
    said: list[str] = field(default_factory=list)

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        found = urlsplit(self.url)
        return str(found.hostname), int(found.port or 0)

    def call(
        self, path: str, body: Any = None, headers: dict[str, str] | None = None, method: str | None = None
    ) -> tuple[int, Any, dict[str, str]]:
        """Status, content (JSON where it is), headers in lower case. body: bytes, or a value to be sent as JSON."""
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        kind = {} if body is None or isinstance(body, bytes) else {"content-type": "application/json"}
        with contextlib.closing(HTTPConnection(*self.address, timeout=30)) as connection:
            connection.request(method or ("GET" if body is None else "POST"), path, data, kind | (headers or {}))
            answer = connection.getresponse()
            content, found = answer.read(), {name.lower(): value for name, value in answer.getheaders()}
        is_json = "json" in found.get("content-type", "")
        return answer.status, json.loads(content) if is_json and content else content, found

    def ask(self, path: str, body: Any = None) -> Any:
        """The JSON of an answer that is one."""
        status, found, _ = self.call(path, body)
        assert status == 200, found
        return found

    def stop(self) -> int:
        """End it as an operator would; gives the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=30)


@pytest.fixture(scope="session")
def start_server() -> Iterator[Callable[..., Server]]:
    """start_server(store, *options): a service on a free port, ended after the tests."""
    with contextlib.ExitStack() as stack:

        def start(store: Path, *options: str) -> Server:
            command = [sys.executable, "-m", "recsys_cl.cli", "serve", "--store", str(store), "--port", "0", "--json"]
            process = subprocess.Popen(
                [*command, *options], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
            assert process.stdout is not None
            first = process.stdout.readline()
            if not first.startswith("{"):
                pytest.fail(first + process.stdout.read())
            server = Server(json.loads(first)["url"], process)
            reader = threading.Thread(target=server.said.extend, args=(process.stdout,), daemon=True)
            reader.start()
            for end in (reader.join, process.wait, process.kill):  # the last first
                stack.callback(end)
            return server

        yield start


@pytest.fixture(scope="session")
def server(start_server: Callable[..., Server], store: Path) -> Server:
    """A service over the small store."""
    return start_server(store)


@pytest.fixture(scope="session")
def open_front() -> Callable[..., contextlib.AbstractContextManager[Any]]:
    """with open_front(url, changes) as front: a gateway before a service; see `front.py`."""
    module: Any = _load(Path(__file__).with_name("front.py"))
    return lambda *given: module.open_front(*given)


@pytest.fixture(scope="session")
def encode() -> Callable[..., str]:
    """encode("items", item_id, "neighbors"): a path with its parts encoded."""
    return lambda *parts: "".join(f"/{quote(part, safe='')}" for part in parts)


@pytest.fixture(scope="session")
def open_browser(
    program: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[], contextlib.AbstractContextManager[Any]]:
    """with open_browser() as browser: a window of a real browser; see `browser.py`."""
    programs = program("chromium"), program("chromedriver")
    module = _load(Path(__file__).with_name("browser.py"))
    return lambda: module.open_browser(*programs, tmp_path_factory.mktemp("profile"))


@pytest.fixture(scope="session")
def browser(open_browser: Callable[[], contextlib.AbstractContextManager[Any]]) -> Iterator[Any]:
    """A window that tests share."""
    with open_browser() as opened:
        yield opened
