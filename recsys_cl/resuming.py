"""Resuming: comes in the configuration of a scheduled run, goes out the run that an earlier process has left of it.

A run is gone on with while the files of its log are as it has read them, by name, size and time of change: one that
holds what is no longer there would publish it, or be refused for it, again and again.
"""

from __future__ import annotations

from pathlib import Path

from recsys_cl.config import Config, is_url
from recsys_cl.files import read_json
from recsys_cl.interactions.ingest import OPENED
from recsys_cl.interactions.sources import stamp_files
from recsys_cl.publishing.store import find_live
from recsys_cl.runs import Run, find_newest

_REFUSED = ".refused"  # in the folder of a run


def find_left(config: Config) -> Run | None:
    """The newest run of exactly this configuration, where there is something to go on with: it has not published, or
    its release is live and holds the log as it is, and the process ended before the window was recorded."""
    run = find_newest(Path(config.publishing.store), config)
    if run is None or not run.is_done("publish"):
        return run
    return run if run.read_result("publish")["release"] == find_live(run.store) and holds_log(run) else None


def holds_log(run: Run) -> bool:
    """Whether the files up to the window of a run are those that it has opened, by name, size and time of change; of a
    database nobody can tell. Raises LogError where there are none."""
    config = run.config.ingest
    if is_url(config.log):
        return True
    return read_opened(run) == {name: list(stamp) for name, stamp in stamp_files(config.log, config.window).items()}


def mark_refused(run: Run) -> None:
    """Remember that what a run has read was refused: by the gate, an audit, the data contract, or as a log."""
    (run.folder / _REFUSED).touch()


def was_refused(config: Config) -> bool:
    """Whether the newest run of exactly this configuration was refused, and its files are still the same."""
    run = find_newest(Path(config.publishing.store), config)
    return run is not None and not run.is_done("publish") and (run.folder / _REFUSED).exists() and holds_log(run)


def read_opened(run: Run) -> dict[str, list[int]]:
    """Size and time of change (nanoseconds) of the files that a run has read, by name; none where it has read none."""
    path = run.folder / OPENED
    opened: dict[str, list[int]] = read_json(path) if path.exists() else {}
    return opened
