"""Progress tells how long work still takes: a line now and then in a log, a bar on a terminal that then is gone."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
import time

import pytest

from recsys_cl.progress import LineProgress, describe_progress, show_progress

SHOW = """
import time
from recsys_cl.progress import show_progress
print("before", flush=True)
with show_progress() as progress:
    for done in range(1, 9):
        progress("reading", 100 * done, 800, "[red]file[/x].csv")
        time.sleep(0.15)
    for done in range(1, 5):
        progress("rows", done, 0, "of unknown number")
        time.sleep(0.15)
print("after", flush=True)
"""


class Clock:
    """A clock that moves when told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(time, "monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def test_lines_come_at_most_every_ten_seconds_with_the_time_left_by_the_pace(clock: Clock) -> None:
    lines: list[str] = []
    progress = LineProgress(lines.append)
    for second in range(101):
        clock.now = 1000.0 + second
        progress("training", second, 200, f"second {second}")
    assert len(lines) == 10
    assert lines[0] == "training:   5%, 190 s left, second 10"
    assert lines[-1] == "training:  50%, 100 s left, second 100"


def test_each_work_has_its_own_pace_and_short_work_no_line(clock: Clock) -> None:
    lines: list[str] = []
    progress = LineProgress(lines.append)
    progress("reading", 0, 10)
    clock.now += 9.9
    progress("reading", 10, 10)
    progress("training", 0, 10)
    clock.now += 9.9
    progress("training", 1, 10)
    assert lines == []
    clock.now += 10.1
    progress("training", 2, 10)
    assert lines == ["training:  20%, 80 s left"]


@pytest.mark.parametrize(
    ("done", "total", "note", "line"),
    [
        (0, 10, "", "x: under way"),
        (5, 0, "rows", "x: under way, rows"),
        (10, 10, "", "x: 100%, 0 s left"),
        (1, 10_000, "", "x:   0%, 299,970 s left"),
    ],
)
def test_a_line_tells_no_more_than_is_known(done: float, total: float, note: str, line: str) -> None:
    assert describe_progress("x", done, total, (30.0, done), note) == line


def test_work_that_goes_on_is_estimated_by_its_own_pace(clock: Clock) -> None:
    lines: list[str] = []
    progress = LineProgress(lines.append)
    progress("training", 80, 100)
    clock.now += 20
    progress("training", 90, 100)
    assert lines == ["training:  90%, 20 s left"], "not by the steps of the process that was killed"


def test_the_same_work_done_again_has_a_pace_of_its_own(clock: Clock) -> None:
    lines: list[str] = []
    progress = LineProgress(lines.append)
    for done in (0, 100, 0):
        progress("training", done, 100)
        clock.now += 500
    clock.now -= 480
    progress("training", 20, 100)
    assert lines == ["training: 100%, 0 s left", "training:  20%, 80 s left"]


def test_into_a_file_nothing_is_drawn(capfd: pytest.CaptureFixture[str], clock: Clock) -> None:
    with show_progress() as progress:
        progress("training", 0, 10)
        clock.now += 11
        progress("training", 5, 10, "[red]note[/x]")
    out, err = capfd.readouterr()
    assert (out, err) == ("", "training:  50%, 11 s left, [red]note[/x]\n")


def read_terminal() -> tuple[str, int]:
    """What the script writes on a terminal of 80 columns, and its exit status."""
    leader, follower = pty.openpty()
    environment = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR")}
    environment |= {"TERM": "xterm-256color", "COLUMNS": "80", "LINES": "24"}
    child = subprocess.Popen([sys.executable, "-c", SHOW], stderr=follower, stdout=follower, env=environment)
    os.close(follower)
    written = b""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        if not select.select([leader], [], [], 1)[0]:
            continue
        try:
            data = os.read(leader, 65_536)
        except OSError:  # the terminal is gone with the child
            break
        if not data:
            break
        written += data
    os.close(leader)
    return written.decode(), child.wait(timeout=60)


def replay(written: str) -> list[str]:
    """The lines that a terminal shows at the end, for the few movements that a bar needs."""
    lines, row, column = [""], 0, 0
    for token in re.findall(r"\x1b\[[0-9;?]*[A-Za-z]|\r|\n|[^\x1b\r\n]+", written):
        if token == "\r":
            column = 0
        elif token == "\n":
            row += 1
            column = 0
            lines += [""] * (row + 1 - len(lines))
        elif token.startswith("\x1b["):
            number = int(token[2:-1]) if token[2:-1].isdigit() else 1
            if token[-1] == "A":
                row = max(0, row - number)
            elif token[-1] == "K":
                lines[row] = "" if token == "\x1b[2K" else lines[row][:column]
            else:
                assert token[-1] in "mhl", f"{token!r} is not known here"
        else:
            lines[row] = lines[row][:column].ljust(column) + token + lines[row][column + len(token) :]
            column += len(token)
    return [line.rstrip() for line in lines if line.strip()]


def test_on_a_terminal_a_bar_is_drawn_and_nothing_of_it_is_left() -> None:
    written, status = read_terminal()
    assert status == 0, written
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", written)
    assert "reading" in plain
    assert "━" in plain
    assert re.search(r"0:00:0\d", plain), "the time left"
    assert "[red]file[/x].csv" in plain
    assert "of unknown number" in plain
    assert replay(written) == ["before", "after"]
    assert written.rindex("\x1b[?25h") > written.rindex("\x1b[?25l"), "the cursor is shown again"
