"""Progress of long work: a stage reports how far it is, the door that called it decides how that is shown."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Progress = Callable[[str, float, float, str], None]
"""(what, done, total, note): `what` names the work, `done` of `total` in any unit (total 0: unknown), `note` is for
people, such as `loss 3.21, recall@20 .214`. May be called often; must be cheap."""

_SECONDS_BETWEEN_LINES = 10.0


def report_nothing(what: str, done: float, total: float, note: str = "") -> None:
    """The progress of a caller that does not want to see any."""


class LineProgress:
    """Writes a line with the time left at most every ten seconds: for logs, and terminals that cannot redraw."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write, self._is_new = write, _notice_new()
        self._started, self._first, self._written = 0.0, 0.0, 0.0

    def __call__(self, what: str, done: float, total: float, note: str = "") -> None:
        """See `Progress`."""
        now = time.monotonic()
        if self._is_new(what, done):
            self._started, self._first, self._written = now, done, now
        if now - self._written < _SECONDS_BETWEEN_LINES:
            return
        self._written = now
        since = (now - self._started, done - self._first)
        self._write(describe_progress(what, done, total, since, note))


def _notice_new() -> Callable[[str, float], bool]:
    """Tells whether a report is the first of its work: it has another name, or less is done than was."""
    before, done_before = "", 0.0

    def is_new(what: str, done: float) -> bool:
        nonlocal before, done_before
        new = what != before or done < done_before
        before, done_before = what, done
        return new

    return is_new


def describe_progress(what: str, done: float, total: float, since: tuple[float, float], note: str = "") -> str:
    """One line: share done, time left as the pace tells it, and the note. since: seconds, and what was done in them;
    work that goes on where another process stopped did the rest before."""
    seconds, lately = since
    left = f"{done / total:4.0%}, {seconds * (total - done) / lately:,.0f} s left" if total and lately else "under way"
    return f"{what}: {left}{', ' if note else ''}{note}"


@contextmanager
def show_progress() -> Iterator[Progress]:
    """Progress on standard error: a bar with the time left on a terminal, else a line now and then."""
    if not sys.stderr.isatty():
        yield LineProgress(lambda line: print(line, file=sys.stderr, flush=True))  # noqa: T201
        return
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    # Names of files stand in these texts: what looks like markup in them is not meant.
    texts = [TextColumn(f"{{task.{field}}}", markup=False) for field in ("description", "fields[note]")]
    columns = (texts[0], BarColumn(), TimeRemainingColumn(), texts[1])
    with Bars(*columns, console=Console(stderr=True), transient=True) as bars:
        task, is_new = bars.add_task("", total=None, note=""), _notice_new()

        def show(what: str, done: float, total: float, note: str = "") -> None:
            nonlocal task
            if is_new(what, done):
                bars.remove_task(task)
                task = bars.add_task(what, total=total or None, note=note)
            bars.update(task, completed=done, total=total or None, note=note)

        yield show
