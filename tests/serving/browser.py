"""A real browser for tests of the web page: Chromium, steered over the WebDriver protocol by its chromedriver.

Keys and clicks go in as somebody's would; what the page shows, its console and each address that it asks for come out.
"""

from __future__ import annotations

import base64
import contextlib
import json
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

KEYS = {
    "Enter": "\ue007",
    "Tab": "\ue004",
    "Escape": "\ue00c",
    "Down": "\ue015",
    "Up": "\ue013",
    "Left": "\ue012",
    "Right": "\ue014",
}
_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
_FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars"]
_FLAGS += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
_PATIENCE_SECONDS = 30.0
_TOLD = ("computedrole", "computedlabel")


@dataclass
class Browser:
    """An open window. asked: the addresses that the pages in it have asked for; complaints: what their console said."""

    base: str
    asked: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def open(self, address: str) -> None:
        """Load an address."""
        self._post("url", {"url": address})

    def ask(self, script: str, *arguments: Any) -> Any:
        """What a function body gives back in the page."""
        return self._post("execute/sync", {"script": script, "args": list(arguments)})

    def wait(self, script: str, *arguments: Any) -> Any:
        """As `ask`, again and again until it gives something true. Raises AssertionError where it never does."""
        end = time.monotonic() + _PATIENCE_SECONDS
        while not (found := self.ask(f"return {script}", *arguments)):
            assert time.monotonic() < end, f"never true: {script}; the page shows: {self.text('body')[:1500]}"
            time.sleep(0.05)
        return found

    def texts(self, selector: str) -> list[str]:
        """The visible text of each element."""
        script = "return Array.from(document.querySelectorAll(arguments[0]), (one) => one.innerText.trim())"
        found: list[str] = self.ask(script, selector)
        return found

    def text(self, selector: str) -> str:
        """The visible text of the first element."""
        return self.texts(selector)[0]

    def names(self, selector: str) -> list[tuple[str, str]]:
        """Role and name of each element, as the browser tells them to a screen reader."""
        found = self._post("elements", {"using": "css selector", "value": selector})
        places = [f"element/{one[_ELEMENT]}" for one in found]
        return [tuple(self._call("GET", f"{at}/{what}", None) for what in _TOLD) for at in places]  # type: ignore[misc]

    def click(self, selector: str) -> None:
        """Click the first element, once there is one, where somebody could: nothing may cover it."""
        self.wait("document.querySelector(arguments[0])", selector)
        found = self._post("element", {"using": "css selector", "value": selector})
        self._post(f"element/{found[_ELEMENT]}/click", {})

    def point(self, *places: tuple[int, int], press: bool = False) -> None:
        """Move the mouse from pixel to pixel of the window; press: its button is down from the first to the last."""
        actions: list[dict[str, Any]] = [{"type": "pointerMove", "x": x, "y": y} for x, y in places]
        if press:
            actions[1:1] = [{"type": "pointerDown", "button": 0}]
            actions.append({"type": "pointerUp", "button": 0})
        source = {"type": "pointer", "id": "mouse", "parameters": {"pointerType": "mouse"}, "actions": actions}
        self._post("actions", {"actions": [source]})

    def touch(self, *steps: list[tuple[int, int]]) -> None:
        """Put fingers down, move them and lift them: each step says at which pixels they are."""
        # WebDriver's own fingers are felt by the first page of a window only.
        for number, places in enumerate([*steps, []]):
            kind = "touchEnd" if not places else "touchMove" if number else "touchStart"
            points = [{"x": x, "y": y, "id": finger} for finger, (x, y) in enumerate(places)]
            self._devtools("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    def scroll(self, x: int, y: int, delta: int) -> None:
        """Turn the wheel over a pixel of the window."""
        action = {"type": "scroll", "x": x, "y": y, "deltaX": 0, "deltaY": delta, "duration": 0}
        self._post("actions", {"actions": [{"type": "wheel", "id": "wheel", "actions": [action]}]})

    def press(self, *keys: str) -> None:
        """Press keys one after the other, by name or as they are; text is typed."""
        actions: list[dict[str, str]] = []
        for key in keys:
            for one in [KEYS[key]] if key in KEYS else key:
                actions += [{"type": "keyDown", "value": one}, {"type": "keyUp", "value": one}]
        self._post("actions", {"actions": [{"type": "key", "id": "keys", "actions": actions}]})

    def set_screen(self, width: int, height: int, *, dark: bool = False, still: bool = False, ratio: int = 1) -> None:
        """The size of the window, and what its owner prefers."""
        size = {"width": width, "height": height, "deviceScaleFactor": ratio, "mobile": False}
        self._devtools("Emulation.setDeviceMetricsOverride", size)
        features = [
            {"name": "prefers-color-scheme", "value": "dark" if dark else "light"},
            {"name": "prefers-reduced-motion", "value": "reduce" if still else "no-preference"},
        ]
        self._devtools("Emulation.setEmulatedMedia", {"features": features})

    def save_picture(self, path: Path) -> None:
        """What the window shows, as a PNG."""
        path.write_bytes(base64.b64decode(self._call("GET", "screenshot", None)))

    def listen(self) -> None:
        """Take over what was logged since the last time: into `asked` and `complaints`."""
        for line in self._post("se/log", {"type": "performance"}):
            message = json.loads(line["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                self.asked.append(message["params"]["request"]["url"])
        self.complaints += [line["message"] for line in self._post("se/log", {"type": "browser"})]

    def _devtools(self, command: str, parameters: dict[str, Any]) -> None:
        self._post("goog/cdp/execute", {"cmd": command, "params": parameters})

    def _post(self, path: str, body: dict[str, Any]) -> Any:
        return self._call("POST", path, body)

    def _call(self, method: str, path: str, body: dict[str, Any] | None) -> Any:
        return _send(method, f"{self.base}/{path}", body)


@contextlib.contextmanager
def open_browser(chromium: str, chromedriver: str, profile: Path) -> Iterator[Browser]:
    """A window of its own, closed at the end."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [chromedriver, f"--port={port}", "--allowed-ips=127.0.0.1"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as driver:
        try:
            yield from _open_window(f"http://127.0.0.1:{port}", chromium, profile)
        finally:
            driver.terminate()


def _open_window(driver: str, chromium: str, profile: Path) -> Iterator[Browser]:
    wanted = {
        "goog:chromeOptions": {"binary": chromium, "args": [*_FLAGS, f"--user-data-dir={profile}"]},
        "goog:loggingPrefs": {"performance": "ALL", "browser": "ALL"},
    }
    end = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            answer = _send("POST", f"{driver}/session", {"capabilities": {"alwaysMatch": wanted}})
            break
        except urllib.error.URLError:  # chromedriver does not listen yet
            assert time.monotonic() < end, "chromedriver does not answer"
            time.sleep(0.05)
    browser = Browser(f"{driver}/session/{answer['sessionId']}")
    try:
        yield browser
    finally:
        _send("DELETE", browser.base, None)


def _send(method: str, address: str, body: dict[str, Any] | None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(address, data, {"content-type": "application/json"}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return json.load(response)["value"]
    except urllib.error.HTTPError as error:
        raise AssertionError(f"{method} {address}: {json.load(error)['value']['message'][:1000]}") from None
