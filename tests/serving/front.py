"""A gateway before the service, for tests of the web page: requests come in and are passed on, answers go out, those of
some addresses changed, as another version of the service, or another catalog, would have given them.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

_PASSED_ON = ("content-type", "content-security-policy", "release", "retry-after")


@dataclass
class Front:
    """An open gateway. asked: method and address of each request, in the order in which they came."""

    url: str
    asked: list[str] = field(default_factory=list)


@contextlib.contextmanager
def open_front(url: str, changes: Mapping[str, Callable[[Any], Any]]) -> Iterator[Front]:
    """A gateway before the service at `url`. changes: of the JSON of answers, by the path of the address."""
    behind = urlsplit(url).netloc
    front = Front("")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            length = int(self.headers.get("content-length") or 0)
            body = self.rfile.read(length) if length else None
            front.asked.append(f"{self.command} {self.path}")
            headers = {name: value for name, value in self.headers.items() if name.lower() == "content-type"}
            with contextlib.closing(HTTPConnection(behind, timeout=30)) as connection:
                connection.request(self.command, self.path, body, headers)
                answer = connection.getresponse()
                content = answer.read()
            change = changes.get(self.path.partition("?")[0])
            if change is not None and answer.status == 200:
                content = json.dumps(change(json.loads(content))).encode()
            self.send_response(answer.status)
            for name in _PASSED_ON:
                if (value := answer.headers.get(name)) is not None:
                    self.send_header(name, value)
            self.send_header("content-length", str(len(content)))
            with contextlib.suppress(ConnectionError):  # the page has gone on, and does not want it any more
                self.end_headers()
                self.wfile.write(content)

        do_POST = do_GET  # noqa: N815 - named so by the base class

        def log_message(self, *_: Any) -> None:
            """Nothing: what was asked is kept."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        front.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield front
        finally:
            server.shutdown()
            thread.join()
