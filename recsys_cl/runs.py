"""Runs: one execution of the pipeline as a folder, runs/<run-id>/, that knows which stages are done.

Comes in a store and a configuration; goes out a `Run` whose paths the stages read from and write to. What a run needs
to go on after an interruption lies in its folder: run.json (configuration, stages done), and what the stages wrote.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shlex
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from recsys_cl.config import Config, build_config
from recsys_cl.errors import ConfigError, StoreError
from recsys_cl.files import read_json, remove_leftovers, write_json, write_text

STAGES = ("ingest", "train", "evaluate", "images", "publish")
_RESULTS = {"ingest": "ingest", "train": "train", "evaluate": "evaluation", "images": "images", "publish": "release"}
# The first stage that looks at a section: another value there, and what it and the stages after it wrote is void.
_FIRST_USE = {
    "ingest": "ingest",
    "images": "images",
    "split": "train",
    "sampling": "train",
    "model": "train",
    "loss": "train",
    "training": "train",
    "evaluation": "evaluate",
    "index": "publish",
    "publishing": "publish",
}
# [export], [schedule] and [notify] are of no stage.
_INGESTED_IMAGES = ("column", "root")  # settings of [images] by which the items file is read
CLAIM = ".claim"
_claimed: set[Path] = set()  # by this process
_RUN_ID = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{12}(-\d+)?")


@dataclass(frozen=True)
class Run:
    """One run; `state` is run.json: `{"run_id", "created", "config", "stages": {stage: {"seconds", "finished"}}}`."""

    store: Path
    run_id: str
    config: Config

    @property
    def folder(self) -> Path:
        """runs/<run-id>."""
        return self.store / "runs" / self.run_id

    @property
    def stages(self) -> tuple[str, ...]:
        """The stages of this run, in order."""
        return tuple(stage for stage in STAGES if stage != "images" or self.config.images.enabled)

    @property
    def raw(self) -> Path:
        """raw/, shared by the runs of a store."""
        return self.store / "raw"

    @property
    def resume_command(self) -> str:
        """The command that goes on with this run."""
        return f"recsys-cl run --store {shlex.quote(str(self.store))} --run {self.run_id}"

    def read_result(self, stage: str) -> dict[str, Any]:
        """What a finished stage found."""
        result: dict[str, Any] = read_json(self.folder / f"{_RESULTS[stage]}.json")
        return result

    def discard_unread(self) -> None:
        """Delete a run that could not even open its log: nothing was read, and there is nothing to go on with."""
        if {path.name for path in self.folder.iterdir()} <= {"run.json", CLAIM}:
            shutil.rmtree(self.folder)
            with contextlib.suppress(OSError):  # the runs of others are there
                self.folder.parent.rmdir()

    def remove_leftovers(self) -> None:
        """Delete what an interrupted process left half-written in the run's folder."""
        remove_leftovers(self.folder)

    def open_work(self, key: str) -> Path:
        """The folder where a stage keeps what it has done so far, to go on there when it is killed; what was left by
        work with another `key` is deleted."""
        work = self.folder / "work"
        if not (work / "key").is_file() or (work / "key").read_text(encoding="utf-8") != key:
            shutil.rmtree(work, ignore_errors=True)
            write_text(work / "key", key)
        remove_leftovers(work)
        return work

    def close_work(self) -> None:
        """Delete it, when the stage is done."""
        shutil.rmtree(self.folder / "work", ignore_errors=True)

    def read_stages(self) -> dict[str, Any]:
        """What is known of each finished stage."""
        stages: dict[str, Any] = _read_state(self.folder)["stages"]
        return stages

    def read_created(self) -> float:
        """When it was created, in seconds since 1970."""
        return datetime.fromisoformat(_read_state(self.folder)["created"]).timestamp()

    def is_done(self, stage: str) -> bool:
        """Whether a stage has finished."""
        return stage in self.read_stages()

    def finish(self, stage: str, seconds: float) -> None:
        """Mark a stage as finished; the stages after it no longer count, for they stand on what it wrote."""
        state = _read_state(self.folder)
        kept = {name: state["stages"][name] for name in STAGES[: STAGES.index(stage)] if name in state["stages"]}
        state["stages"] = kept | {stage: {"seconds": round(seconds, 3), "finished": tell_now()}}
        write_json(self.folder / "run.json", state)


def create_run(store: Path, config: Config) -> Run:
    """Make a new run folder. Raises StoreError where `store` is something else than a store, or cannot be written."""
    check_store_place(store)
    stamp = f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{config.fingerprint}"
    for attempt in range(1000):
        run_id = stamp if not attempt else f"{stamp}-{attempt}"
        run = Run(store, run_id, config)
        try:
            run.folder.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            raise StoreError(
                f"cannot write to the store {store} ({error.strerror})", "a folder you may write to", "choose --store"
            ) from error
        state = {"run_id": run_id, "created": tell_now(), "pid": os.getpid(), "config": config.dump(), "stages": {}}
        write_json(run.folder / "run.json", state)
        return run
    raise StoreError(f"1000 runs were started in {store} within this second", remedy="wait a second")


def open_run(store: Path, run_id: str | None = None) -> Run:
    """Open a run by id, or the newest one that has not published. Raises StoreError where there is none."""
    known = list_run_ids(store)
    if run_id is not None:
        if run_id not in known:
            raise StoreError(f"no run {run_id!r} in {store}", f"one of the last: {', '.join(known[-5:]) or 'none'}")
        return _load_run(store, run_id)
    for name in reversed(known):
        run = _load_run(store, name)
        if not run.is_done("publish"):
            return run
    raise StoreError(f"every run in {store} has been published", "an unfinished run", "start one with: recsys-cl run")


def list_run_ids(store: Path) -> list[str]:
    """The ids of the runs of a store, oldest first. Raises StoreError where it holds none."""
    check_store_place(store)
    if not (store / "runs").is_dir():
        raise StoreError(f"{store} holds no runs", "a store made by `recsys-cl run` or `ingest`", "check --store")
    return [path.name for path in _list_folders(store)]


def find_newest(store: Path, config: Config) -> Run | None:
    """The newest run of exactly this configuration; None for none. What cannot be read is passed over."""
    wanted = config.dump()
    for folder in reversed(_list_folders(store)):
        with contextlib.suppress(StoreError):
            given = _read_state(folder)["config"]
            given["publishing"] = given.get("publishing", {}) | {"store": wanted["publishing"]["store"]}
            if given == wanted:
                return Run(store, folder.name, config)
    return None


@contextlib.contextmanager
def claim_run(run: Run) -> Iterator[None]:
    """Keep other processes from working on a run; may be nested. What a killed process has claimed is free again.

    Raises StoreError naming the process that works on it.
    """
    key = run.folder.resolve()
    if key in _claimed:
        yield
        return
    handle = os.open(run.folder / CLAIM, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(handle, 32, 0).decode("ascii", "replace")
            raise StoreError(
                f"process {holder} is working on run {run.run_id}", "a run that nobody works on", "wait for it"
            ) from None
        os.ftruncate(handle, 0)
        os.pwrite(handle, str(os.getpid()).encode(), 0)
        _claimed.add(key)
        try:
            yield
        finally:
            _claimed.discard(key)
    finally:
        os.close(handle)


def keep_ingest(state: dict[str, Any]) -> dict[str, Any]:
    """The state of a run, as in run.json, with nothing done but an ingest that finished now."""
    return state | {"stages": {"ingest": state["stages"]["ingest"] | {"finished": tell_now()}}}


def list_published(store: Path) -> list[Path]:
    """The folders of the runs that have published, oldest first; none where there is no store."""
    return [folder for folder in _list_folders(store) if "publish" in _read_state(folder)["stages"]]


def _list_folders(store: Path) -> list[Path]:
    """The folders of all runs, oldest first."""
    runs = store / "runs"
    found = runs.iterdir() if runs.is_dir() else ()
    kept = [path for path in found if _is_run(path)]
    return sorted(kept, key=_read_age)


def reconfigure(run: Run, config: Config) -> Run:
    """Go on with another configuration: recorded, and what no longer fits it is done again. The store stays.

    Raises StoreError where what was ingested was read with other settings.
    """
    given, former = config.dump(), run.config.dump()
    given["publishing"]["store"] = former["publishing"]["store"]
    config = config.model_copy(update={"publishing": config.publishing.model_copy(update={"store": str(run.store)})})
    if given == former:
        return Run(run.store, run.run_id, config)
    state = _read_state(run.folder)
    changed = {stage for section, stage in _FIRST_USE.items() if given[section] != former[section]}
    if any(given["images"][key] != former["images"][key] for key in _INGESTED_IMAGES):
        changed.add("ingest")
    if "ingest" in changed and "ingest" in state["stages"]:
        keys = [f"ingest.{key}" for key in _find_changed(given, former, "ingest")]
        keys += [f"images.{key}" for key in _find_changed(given, former, "images") if key in _INGESTED_IMAGES]
        raise StoreError(
            f"run {run.run_id} was ingested with another {' and '.join(keys)}",
            "the same settings of [ingest], and of the column and root of [images]",
            "leave them out to go on as it was ingested, or start a new run",
        )
    kept = STAGES[: min((STAGES.index(stage) for stage in changed), default=len(STAGES))]
    state |= {"config": given, "stages": {name: value for name, value in state["stages"].items() if name in kept}}
    write_json(run.folder / "run.json", state)
    return Run(run.store, run.run_id, config)


def _find_changed(given: dict[str, Any], former: dict[str, Any], section: str) -> list[str]:
    return [key for key, value in given[section].items() if value != former[section][key]]


def _read_age(folder: Path) -> tuple[str, str]:
    """Sorts runs by the second of their id, then by when they were created in it."""
    with contextlib.suppress(StoreError):
        return folder.name[:16], str(_read_state(folder).get("created", ""))
    return folder.name[:16], ""


def _is_run(path: Path) -> bool:
    """Whether this is the folder of a run, itself and no link: a link could lead out of the store."""
    return bool(_RUN_ID.fullmatch(path.name)) and not path.is_symlink() and (path / "run.json").is_file()


def check_store_place(store: Path) -> None:
    """Raise StoreError where a store can neither be nor be made: a file, or a folder whose parts lie elsewhere."""
    if store.exists() and not store.is_dir():
        raise StoreError(f"{store} is a file", "a folder for the store", "choose another --store")
    for name in ("raw", "runs", "releases", "pictures"):
        if (store / name).is_symlink():  # what is written there would be written outside
            raise StoreError(
                f"{store / name} is a link", "a folder of the store itself", "link the whole store instead"
            )


def _load_run(store: Path, run_id: str) -> Run:
    folder = store / "runs" / run_id
    try:
        return Run(store, run_id, build_config(_read_state(folder)["config"]))
    except ConfigError as error:
        raise StoreError(
            f"{folder / 'run.json'} holds settings of another version ({error})", remedy="start a new run"
        ) from error


def _read_state(folder: Path) -> dict[str, Any]:
    try:
        state: dict[str, Any] = read_json(folder / "run.json")
        if not isinstance(state["stages"], dict) or not isinstance(state["config"], dict):
            raise ValueError("its stages or its configuration are missing")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{folder / 'run.json'} cannot be read ({error})", remedy="start a new run") from error
    return state


def tell_now() -> str:
    """The time, ISO 8601 in UTC, of one length: texts of it sort as times do."""
    return datetime.now(UTC).isoformat(timespec="microseconds")
