"""Telling: a real server and a real command get the message, and what goes wrong names no secret."""

from __future__ import annotations

import http.server
import json
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from recsys_cl.config import Config, apply_settings
from recsys_cl.errors import ConfigError
from recsys_cl.notifying import notify
from recsys_cl.scheduled_sections import NotifyConfig

MESSAGE = {"flow": "daily", "state": "failed", "message": "ein Fehler: é"}


class Webhook(http.server.BaseHTTPRequestHandler):
    """Keeps what it was sent; answers 500 below /broken."""

    got: ClassVar[list[Any]] = []

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.got.append((self.path, self.headers["Content-Type"], json.loads(body)))
        self.send_response(500 if self.path.startswith("/broken") else 200)
        self.end_headers()

    def log_message(self, *arguments: Any) -> None:
        """Nothing."""


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Webhook) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_webhook_and_command_both_get_the_message(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Webhook.got.clear()
    monkeypatch.setenv("HOOK_KEY", "canary-7f3a")
    keep = f"import sys; open({str(tmp_path / 'got')!r}, 'wb').write(sys.stdin.buffer.read())"
    config = NotifyConfig(webhook=f"{address}/${{HOOK_KEY}}", command=(sys.executable, "-c", keep))
    assert notify(config, MESSAGE) == []
    assert Webhook.got == [("/canary-7f3a", "application/json", MESSAGE)]
    assert json.loads((tmp_path / "got").read_bytes()) == MESSAGE
    assert notify(NotifyConfig(), MESSAGE) == []


@pytest.mark.parametrize(
    ("webhook", "words"),
    [
        ("{address}/broken/canary-7f3a", "answered 500"),
        ("http://127.0.0.1:9/canary-7f3a", "could not be reached"),
        ("http://[canary-7f3a/", "could not be reached"),
        ("http://127.0.0.1:canary-7f3a/", "could not be reached"),
        ("${NOT_SET_ANYWHERE}", "NOT_SET_ANYWHERE"),
        ("${HOOK_FILE}", "no URL of http or https"),
    ],
)
def test_a_webhook_that_fails_is_told_without_its_secret(
    address: str, webhook: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOOK_FILE", "file:///etc/passwd?canary-7f3a")
    (line,) = notify(NotifyConfig(webhook=webhook.format(address=address) if "{a" in webhook else webhook), MESSAGE)
    assert words in line
    assert "canary" not in line


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (("/no/such/program",), "could not be started (No such file or directory)"),
        ((sys.executable, "-c", "raise SystemExit(3)"), "ended with 3"),
        ((sys.executable, "-c", "import time; time.sleep(60)"), "was ended after 0.5 s"),
    ],
)
def test_a_command_that_fails_or_hangs_is_told(command: tuple[str, ...], words: str) -> None:
    (line,) = notify(NotifyConfig(command=command, timeout_seconds=0.5 if "sleep" in command[-1] else 20), MESSAGE)
    assert line == f"{command[0]} {words}" or line.startswith(f"{command[0]} {words}")


def test_who_is_told_is_no_setting_of_a_run() -> None:
    told = apply_settings(Config(), ["notify.webhook=https://hooks.example/canary-7f3a"])
    assert told.fingerprint == Config().fingerprint
    assert "canary" not in json.dumps(told.dump())
    with pytest.raises(ConfigError, match="neither a URL of http or https") as caught:
        apply_settings(Config(), ["notify.webhook=file:///canary-7f3a"])
    assert "canary" not in str(caught.value)
