"""Tasks: one for each stage; the body of each is one call into recsys_cl.

Only what can pass later is tried again: a disk, a network or a database that did not answer, was full or locked, and a
store that another process held. Bad data, a file that is not there, a refused gate and a damaged store stay what they
are, however often they are tried.
"""

from __future__ import annotations

import contextlib
import errno
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import numpy as np
from prefect import get_run_logger, task
from prefect.client.schemas.objects import State, TaskRun
from prefect.client.schemas.schedules import CronSchedule
from prefect.task_engine import TaskRunTimeoutError
from prefect.tasks import Task
from prefect.transactions import Transaction, transaction

from flows.hooks import note_run
from flows.seen import SHOWN_STAGES, ShownProgress, log_of, log_stage, show_stage, warn_of_changes
from recsys_cl import pipeline
from recsys_cl.compacting import compact_store
from recsys_cl.config import Config, ScheduleConfig
from recsys_cl.errors import (
    BusyError,
    ConfigError,
    InterruptedRunError,
    RecsysError,
    RefusedError,
    StoreError,
    UnreachableError,
)
from recsys_cl.files import LEFTOVER_HOURS, remove_leftovers
from recsys_cl.publishing.exported import FOLDER, record_export
from recsys_cl.publishing.store import find_current, find_live, find_releases, hold_store
from recsys_cl.publishing.upkeep import check_store, check_whole, prune_store, roll_back
from recsys_cl.release_summary import describe_compacted, describe_damages, describe_export
from recsys_cl.runs import Run, open_run
from recsys_cl.serving.export import export as run_export
from recsys_cl.serving.export_jobs import Request, What
from recsys_cl.serving.lookup import open_release
from recsys_cl.serving.sinks import FileSink
from recsys_cl.summary import describe_outcome
from recsys_cl.windows import Agenda, Due, await_windows, record_done, record_exported

P = ParamSpec("P")
R = TypeVar("R")
_SHOW_SECONDS = 600.0
_PASSING = frozenset(
    {errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.ESTALE, errno.EAGAIN, errno.EBUSY, errno.EMFILE, errno.ENFILE}
)


def can_pass_later(task: Task[..., Any], run: TaskRun, state: State[Any]) -> bool:
    """Whether a failed task is worth trying again: an error of the system, or one that it caused."""
    del task, run
    try:
        state.result()
    except TaskRunTimeoutError:  # it had its hours; the next flow goes on with it
        return False
    except Exception as error:
        cause = error.__cause__ if isinstance(error, RecsysError) else error
        lost = isinstance(cause, (TimeoutError, ConnectionError)) or isinstance(error, (UnreachableError, BusyError))
        return lost or (isinstance(cause, OSError) and cause.errno in _PASSING)
    return False


@contextlib.contextmanager
def hold(config: Config, flow: str) -> Iterator[None]:
    """Keep other flows from writing to the configured store, while this one does; raises BusyError where another one
    does so for longer than `schedule.most_hours`."""
    seconds = 3600 * config.schedule.most_hours
    with hold_store(Path(config.publishing.store), flow, seconds, get_run_logger().info):
        yield


def find_due(config: Config) -> Agenda:
    """The windows that are due, once those that are being written are whole; see recsys_cl.windows."""
    agenda = await_windows(config, get_run_logger().info)
    for line in agenda.describe():
        get_run_logger().info(line)
    return agenda


def list_left(run: Run) -> list[str]:
    """The stages of a run that are not done yet."""
    return [stage for stage in run.stages if not run.is_done(stage)]


@task
def record(store: str, run_id: str, due: Due) -> None:
    """Remember that a window was published."""
    run = open_run(Path(store), run_id)
    record_done(run, due, pipeline.open_outcome(run).release)


@task(task_run_name="{stage}", retries=2, retry_delay_seconds=[10.0, 60.0], retry_condition_fn=can_pass_later)
def run_stage(stage: str, store: str, run_id: str, force: str | None = None) -> None:
    """Run one stage of a run; see recsys_cl.pipeline."""
    current = open_run(Path(store), run_id)
    say, began = log_stage(current, stage), time.monotonic()
    say("begins")
    pipeline.run_stage(current, stage, force=force, progress=ShownProgress(say, f"run {run_id}"))
    say(f"is done, {time.monotonic() - began:.1f} s")


@run_stage.on_rollback
def take_back(published: Transaction) -> None:
    """Make the release live again that was before, where the one that was published does not answer; a first one has
    none before it, and what somebody else has published meanwhile stays."""
    store, before, run_id = Path(published.get("store")), published.get("before"), published.get("run_id")
    if before is not None and find_current(store) == open_run(store, run_id).read_result("publish")["release"]:
        roll_back(store, before)


@task(retries=2, retry_delay_seconds=[1.0, 10.0], retry_condition_fn=can_pass_later)
def try_release(store: str, run_id: str) -> None:
    """Ask the release of a run what a reader would, every file hashed. Raises SealError and StoreError."""
    folder = find_releases(Path(store)) / open_run(Path(store), run_id).read_result("publish")["release"]
    check_whole(folder)
    release = open_release(folder)
    (item,) = release.parts.catalog.items.get_ids(np.zeros(1, np.int64))
    answers = release.answer_similar(item, 1)
    if len(answers) < min(1, release.n_items - 1):
        raise StoreError(f"release {release.version} knows no neighbor of {item!r}", "one", "look at its report.html")


def within(schedule: ScheduleConfig, what: str, called: Task[P, R], remedy: str = "run it again") -> Callable[P, R]:
    """The task, bound to `schedule.most_hours`; what: its name for people. Raises StoreError where it was ended."""
    bound = called.with_options(timeout_seconds=3600 * schedule.most_hours)

    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return bound(*args, **kwargs)
        except TaskRunTimeoutError:
            limit = f"schedule.most_hours={schedule.most_hours:g}"
            raise StoreError(f"{what} was ended: it took longer than {limit}", remedy=remedy) from None

    return call


def finish(run: Run, stages: Sequence[str], force: str | None) -> None:
    """Do the stages of a run, and show what comes of each. Raises as they do, and StoreError for one that was ended;
    see `within`."""
    note_run(run)
    for stage in run.stages:
        if stage not in stages:  # done before, by a process that was killed
            _show(run, stage)
    if not stages:  # nor has anybody asked its release yet
        _try_release(run)
    for stage in stages:
        try:
            _do_stage(run, stage, force)
        except RefusedError as error:
            _show(run, stage, error.what, error.reasons)
            raise
        except InterruptedRunError:  # somebody waits for it to end
            raise
        except Exception:
            _show(run, stage)
            raise
        if stage == "ingest":
            warn_of_changes(run)
        _show(run, stage)


def _do_stage(run: Run, stage: str, force: str | None) -> None:
    """Do one stage; a release that then does not answer is taken back, and the one before is live again."""
    with transaction() as published:
        published.set("store", str(run.store))
        published.set("run_id", run.run_id)
        published.set("before", find_live(run.store))
        within(run.config.schedule, stage, run_stage, _tell_how_on(run))(stage, str(run.store), run.run_id, force)
        if stage == "publish":
            _try_release(run)


def _try_release(run: Run) -> None:
    trial = within(run.config.schedule, "the trial of the release", try_release, _tell_how_on(run))
    trial(str(run.store), run.run_id)


def _tell_how_on(run: Run) -> str:
    return f"go on with: {run.resume_command}"


def _show(run: Run, stage: str, what: str = "", reasons: Sequence[str] = ()) -> None:
    """What cannot be shown changes nothing of what is done, and what failed has its own reasons."""
    if reasons or stage in SHOWN_STAGES:
        given = (str(run.store), run.run_id, stage, what, list(reasons))
        show.with_options(timeout_seconds=_SHOW_SECONDS)(*given, return_state=True)


@task(task_run_name="show-{stage}")
def show(store: str, run_id: str, stage: str, what: str, reasons: list[str]) -> None:
    """Keep what came of a stage where the Prefect page shows it; see flows.seen."""
    show_stage(open_run(Path(store), run_id), stage, what, reasons)


@task(task_run_name="export-{what}", retries=2, retry_delay_seconds=[10.0, 60.0], retry_condition_fn=can_pass_later)
def export(what: What, store: str, k: int) -> str:
    """Export recommendations or neighbors of the live release into the store, at most the whole catalog each; gives the
    file."""
    release = open_release(Path(store))
    say = log_of(run=release.manifest.run_id, release=release.version, stage=f"export-{what}")
    say("begins")
    out = Path(store) / FOLDER / f"{what}-{release.version}.parquet"
    out.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(out.parent, LEFTOVER_HOURS)
    request = Request(what, min(k, release.n_items))
    record_export(Path(store), out, release.version, what)
    done = run_export(release, request, FileSink(out), ShownProgress(say, f"release {release.version}"))
    record_exported(Path(store), release.version, what)
    say(f"is done, {done.seconds:.1f} s: {describe_export(done)}")
    return str(out)


def export_all(config: Config, exported: Sequence[What]) -> list[str]:
    """Export one after another; gives the files."""
    return [
        within(config.schedule, f"the export of {what}", export)(what, config.publishing.store, config.export.k)
        for what in exported
    ]


@task(retries=2, retry_delay_seconds=[10.0, 60.0], retry_condition_fn=can_pass_later)
def prune(store: str, keep: int) -> str:
    """Delete all but the newest releases."""
    found = prune_store(Path(store), keep)
    return _log(f"pruned {len(found['deleted'])} releases, left {len(found['in_use'])} that are in use")


@task(retries=2, retry_delay_seconds=[10.0, 60.0], retry_condition_fn=can_pass_later)
def compact(store: str, keep: int) -> str:
    """Delete runs and cached sources that nothing needs."""
    return _log(describe_compacted(compact_store(Path(store), keep)))


@task(retries=2, retry_delay_seconds=[10.0, 60.0], retry_condition_fn=can_pass_later)
def verify(store: str) -> str:
    """Hash every file of every release. Raises RefusedError naming those that are not as they were sealed."""
    return _log(describe_damages(check_store(Path(store))))


def _log(line: str) -> str:
    get_run_logger().info(line)
    return line


def print_lines(done: State[Any]) -> None:
    """Print the lines that a flow gave; raises why it failed."""
    print("\n".join(done.result()))


def print_outcomes(done: State[Any]) -> None:
    """Print what came out of a flow that gave the store and the id of each of its runs; raises why it failed."""
    for place, run_id in done.result():
        print(describe_outcome(pipeline.open_outcome(open_run(Path(place), run_id))))


def check_cron(cron: str) -> None:
    """Raise ConfigError where `cron` is no schedule."""
    try:
        CronSchedule(cron=cron)
    except ValueError:
        raise ConfigError(f"--cron is {cron!r}", "minute hour day month weekday, such as '30 3 * * *'") from None
