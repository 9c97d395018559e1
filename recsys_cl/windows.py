"""Windows of a log: comes in its files as they are now, goes out which windows a scheduled run has yet to publish.

A window is a day, or an hour, that stands in the names of files (`dt=2026-11-26/part-0.parquet`, `20261126.csv`); a run
of a window reads every file up to it. A log without such names is one window, `all`; of a database, each whole day
(UTC) is one. What was published, and exported of it, is kept in `windows.json` of the store, by the fingerprint of the
configuration: the same window with the same settings is done once, another setting begins anew.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from recsys_cl.config import Config, IngestConfig, ScheduleConfig, is_url
from recsys_cl.errors import StoreError
from recsys_cl.files import read_json, write_json
from recsys_cl.interactions.sources import find_window, list_paths
from recsys_cl.publishing.store import find_live, lock_store
from recsys_cl.resuming import read_opened
from recsys_cl.runs import Run

ALL = "all"
UNDATED = "undated"  # files that belong to every window
_STATE, _POLL_SECONDS = "windows.json", 15.0


@dataclass(frozen=True)
class Window:
    """files: its own ones, name -> size and time of change in nanoseconds; writing: whether they still change."""

    name: str
    files: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    writing: bool = False


@dataclass(frozen=True)
class Done:
    """A window that was published: by which run, as which release, what its files were when that run opened them, and
    which exports of the release were made."""

    run_id: str
    release: str
    files: Mapping[str, Sequence[int]]
    exported: Sequence[str] = ()


@dataclass(frozen=True)
class Due:
    """A window to be published; late: windows published before whose files have changed since, or have more."""

    window: str
    late: tuple[str, ...] = ()


@dataclass(frozen=True)
class Agenda:
    """due, oldest first; writing: windows that are still being written; last: the newest one that is done."""

    due: list[Due]
    writing: list[str]
    last: Done | None

    def describe(self) -> list[str]:
        """For people, a line each."""
        lines = [f"window {name} is still being written" for name in self.writing]
        if not self.due and self.last is not None:
            lines.append(
                f"nothing to do: what there is was published with these settings as {self.last.release}, by run "
                f"{self.last.run_id}"
            )
        elif not self.due:
            lines.append("nothing to do: no window is whole yet")
        for due in self.due:
            late = f"; late files of {', '.join(due.late)}" if due.late else ""
            lines.append(f"window {due.window} is due{late}")
        return lines


def find_windows(config: Config, now: float | None = None) -> list[Window]:
    """The windows of the configured log, oldest first, at the time `now` (seconds since 1970; default: this moment).

    Raises LogError where the log has no files.
    """
    now = time.time() if now is None else now
    if is_url(config.ingest.log):
        return [Window((datetime.fromtimestamp(now, UTC).date() - timedelta(days=1)).isoformat())]
    files: dict[str, dict[str, tuple[int, int]]] = {}
    folders: dict[str, set[Path]] = {}
    for name, path in list_paths(config.ingest.log):
        info = path.stat()
        window = find_window(name) or UNDATED
        files.setdefault(window, {})[name] = (info.st_size, info.st_mtime_ns)
        folders.setdefault(window, set()).add(path.parent)
    if list(files) == [UNDATED]:  # taken as it is: nothing tells a log that is written now from one that was copied now
        return [Window(ALL, files[UNDATED])]
    return [
        Window(window, files[window], _is_writing(files[window], folders[window], config.schedule, now))
        for window in sorted(files)
    ]


def plan_windows(found: Sequence[Window], done: Mapping[str, Done]) -> Agenda:
    """What is due. Where nothing is done yet, the newest whole window alone, for a run reads all before it; else each
    whole window after the last done one, and where there is none and files came late, the last one again."""
    dated = [window for window in found if window.name != UNDATED]
    writing = [window.name for window in found if window.writing]
    last = _find_last(done, [ALL] if found and found[-1].name == ALL else [])
    late = tuple(
        window.name for window in found if last is not None and not window.writing and _is_late(window, done, last)
    )
    whole = [window.name for window in dated if not window.writing]
    if last is None:
        due = [Due(name) for name in whole[-1:]]
    else:
        newer = [name for name in whole if name > last]
        due = [Due(name, late if not place else ()) for place, name in enumerate(newer)]
        if not due and late:
            due = [Due(last, tuple(name for name in late if name != ALL))]
    return Agenda(due, writing, None if last is None else done[last])


def fill_days(found: Sequence[Window], done: Mapping[str, Done]) -> list[Window]:
    """Of a database: every day from the last done one to the newest found."""
    last, newest = _find_last(done), found[-1].name
    if last is None or last >= newest:
        return list(found)
    first, n_days = date.fromisoformat(last), (date.fromisoformat(newest) - date.fromisoformat(last)).days
    return [Window((first + timedelta(days=n)).isoformat()) for n in range(1, n_days + 1)]


def plan(config: Config, now: float | None = None) -> Agenda:
    """What is due of the configured log in the configured store. Raises LogError and StoreError."""
    done = read_done(Path(config.publishing.store), config)
    found = find_windows(config, now)
    return plan_windows(fill_days(found, done) if is_url(config.ingest.log) else found, done)


def await_windows(config: Config, tell: Callable[[str], None], sleep: Callable[[float], None] = time.sleep) -> Agenda:
    """As `plan`, but waits for windows that are being written, for at most `schedule.wait_minutes`; tell: for people,
    what it waits for."""
    end = time.monotonic() + 60 * config.schedule.wait_minutes
    told: list[str] = []
    while True:
        agenda = plan(config)
        if agenda.writing and agenda.writing != told:
            tell(f"waiting for {', '.join(agenda.writing)}")
            told = agenda.writing
        if not agenda.writing or time.monotonic() >= end:
            return agenda
        sleep(min(_POLL_SECONDS, max(0.0, end - time.monotonic())))


def bound(config: Config, due: Due) -> Config:
    """The configuration of a run of this window."""
    window = "" if due.window == ALL else due.window
    return config.model_copy(update={"ingest": config.ingest.model_copy(update={"window": window})})


def read_done(store: Path, config: Config) -> dict[str, Done]:
    """What was published with these settings, by window. Raises StoreError where the file cannot be read."""
    return {name: Done(**known) for name, known in _read_state(store).get(_name_settings(config), {}).items()}


def record_done(run: Run, due: Due, release: str) -> None:
    """Remember that a run has published a window. Windows before it, which the run has read too, count as done.

    A file that has come or changed since the run opened the log is late the next time. Raises StoreError where the
    store is held by another process for too long.
    """
    files: dict[str, dict[str, list[int]]] = {due.window: {}}
    for name, stamp in read_opened(run).items():
        window = find_window(name) or (ALL if due.window == ALL else UNDATED)
        files.setdefault(window, {})[name] = stamp
    with _change_state(run.store) as state:
        known = state.setdefault(_name_settings(run.config), {})
        for name, read in files.items():
            if name == due.window or name not in known or known[name]["files"] != read:
                known[name] = asdict(Done(run.run_id, release, read))


def record_exported(store: Path, release: str, what: str) -> None:
    """Remember that an export of a release was made, where that release was published for a window."""
    if not (store / _STATE).exists():
        return
    with _change_state(store) as state:
        for done in (done for known in state.values() for done in known.values() if done["release"] == release):
            done["exported"] = sorted({*done.get("exported", ()), what})


def lacks_export(config: Config, what: str) -> bool:
    """Whether nobody has made an export yet of the live release, where that was published for one of these windows."""
    store = Path(config.publishing.store)
    live = find_live(store)
    made = [done.exported for done in read_done(store, config).values() if done.release == live]
    return bool(made) and not any(what in exported for exported in made)


def rename_releases(store: Path, renamed: Mapping[str, str]) -> tuple[Path, dict[str, Any]] | None:
    """The file of what was published, and what it says once releases have new names; None where that is the same.

    Raises StoreError where the file cannot be read."""
    state, changed = _read_state(store), False
    for known in state.values():
        for done in known.values():
            if done["release"] in renamed:
                done["release"], changed = renamed[done["release"]], True
    return (store / _STATE, state) if changed else None


def _is_late(window: Window, done: Mapping[str, Done], last: str) -> bool:
    if window.name > last and window.name != UNDATED:
        return False
    known = done.get(window.name) or (done.get(ALL) if window.name == UNDATED else None)
    before = {} if known is None else {name: tuple(was) for name, was in known.files.items()}
    return dict(window.files) != before


def _find_last(done: Mapping[str, Done], others: Sequence[str] = ()) -> str | None:
    """The newest window that is done, of those with a date and of `others`."""
    return max((name for name in done if name not in (ALL, UNDATED) or name in others), default=None)


def _is_writing(files: Mapping[str, tuple[int, int]], folders: set[Path], schedule: ScheduleConfig, now: float) -> bool:
    """Whether a folder lacks its marker, and a file changed lately."""
    if schedule.marker and all((folder / schedule.marker).exists() for folder in folders):
        return False
    newest = max(changed for _, changed in files.values()) / 1e9
    return newest > now - 60 * schedule.quiet_minutes


def _name_settings(config: Config) -> str:
    return config.model_copy(update={"ingest": _unbound(config.ingest)}).fingerprint


def _unbound(ingest: IngestConfig) -> IngestConfig:
    return ingest.model_copy(update={"window": ""})


@contextlib.contextmanager
def _change_state(store: Path) -> Iterator[dict[str, Any]]:
    """What is known of windows, to be changed, and then written; nobody else changes the store meanwhile."""
    with lock_store(store):
        state = _read_state(store)
        yield state
        write_json(store / _STATE, state)


def _read_state(store: Path) -> dict[str, Any]:
    path = store / _STATE
    if not path.exists():
        return {}
    try:
        state: dict[str, Any] = read_json(path)
        if not all(isinstance(known, dict) for known in state.values()):
            raise ValueError("not an object of objects")
    except (OSError, ValueError, AttributeError) as error:
        raise StoreError(
            f"{path} cannot be read ({error})", "what a scheduled run has written", "delete it to publish anew"
        ) from error
    return state
