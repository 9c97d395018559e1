"""A real browser shows the report of a release in light and in dark, without a complaint and without a request."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from recsys_cl.pipeline import Outcome

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--enable-logging=stderr",
]
Browse = Callable[..., "tuple[str, list[str]]"]


@pytest.fixture(scope="module")
def browse(program: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> Browse:
    """browse(page, *flags): the output of the browser, and what it wrote on its console."""
    chromium = program("chromium")

    def run(page: Path, *flags: str) -> tuple[str, list[str]]:
        profile = tmp_path_factory.mktemp("profile")
        command = [chromium, *FLAGS, f"--user-data-dir={profile}", *flags, page.as_uri()]
        done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", timeout=120)
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout, re.findall(r":CONSOLE[:(].*", done.stderr)

    return run


@pytest.fixture(scope="module")
def report(tiny_outcome: Outcome) -> Path:
    return tiny_outcome.run.store / "releases" / tiny_outcome.release / "report.html"


def test_the_browser_shows_all_of_it_and_complains_of_nothing(browse: Browse, report: Path) -> None:
    shown, complaints = browse(report, "--dump-dom")
    assert complaints == []
    given = report.read_text(encoding="utf-8")
    for tag in ("section", "img", "svg", "table", "tr", "details"):
        assert shown.count(f"<{tag}") == given.count(f"<{tag}") > 0, tag
    assert re.findall(r"<title>[^<]*</title>", shown) == re.findall(r"<title>[^<]*</title>", given)


def test_the_page_names_no_place_outside_itself(browse: Browse, report: Path) -> None:
    shown, _ = browse(report, "--dump-dom")
    links = re.findall(r"""\b(?:src|href|action|data|poster|srcset)=["']?([^"'\s>]*)""", shown)
    assert links
    assert [link for link in links if not link.startswith(("data:", "#"))] == []
    outside = re.findall(r"https?://[^\s\"'<>)]*|@import|url\([^)]*\)", shown)
    assert [text for text in outside if text != "http://www.w3.org/2000/svg"] == []


def test_it_is_light_on_light_screens_and_dark_on_dark_ones_and_legible_on_both(
    browse: Browse, report: Path, tmp_path: Path
) -> None:
    pages = {}
    for name, scheme in (("light", 1), ("dark", 0)):
        path = tmp_path / f"{name}.png"
        _, complaints = browse(
            report, f"--blink-settings=preferredColorScheme={scheme}", f"--screenshot={path}", "--window-size=1000,1400"
        )
        assert complaints == []
        with Image.open(path) as picture:
            pages[name] = np.asarray(picture.convert("L")).astype(np.int64)
    light, dark = pages["light"], pages["dark"]
    assert light.shape == dark.shape == (1400, 1000)
    assert np.median(light) > 230
    assert np.median(dark) < 60
    assert (light < 100).mean() > 0.005, "dark letters on light"
    assert (dark > 180).mean() > 0.005, "light letters on dark"


def test_on_a_phone_nothing_sticks_out(browse: Browse, report: Path, tmp_path: Path) -> None:
    """The page itself is not wider than the window: what is wide scrolls in its own box."""
    framed = tmp_path / "phone.html"
    probe = "<script>onload=()=>{document.title='width '+document.documentElement.scrollWidth}</script>"
    text = re.sub(r"<meta http-equiv=[^>]*>", "", report.read_text(encoding="utf-8"))  # its policy forbids our probe
    framed.write_text(text.replace("</body>", f"{probe}</body>"), encoding="utf-8")
    shown, _ = browse(framed, "--dump-dom", "--window-size=500,900")  # no window of Chromium is narrower
    widths = re.findall(r"<title>width (\d+)</title>", shown)
    assert len(widths) == 1
    assert int(widths[0]) <= 500


def test_a_script_in_the_page_would_not_run_and_would_be_noticed(browse: Browse, report: Path, tmp_path: Path) -> None:
    """What the other tests rely on: the policy of the page holds, and the console is heard."""
    text = report.read_text(encoding="utf-8")
    assert "<script" not in text
    (tmp_path / "a.html").write_text(
        text.replace("</body>", "<script>document.title='run'</script><img src='https://x.invalid/a.png'></body>"),
        encoding="utf-8",
    )
    shown, complaints = browse(tmp_path / "a.html", "--dump-dom")
    assert "<title>run</title>" not in shown
    assert len(complaints) == 2
    assert all("Content Security Policy" in complaint for complaint in complaints)
