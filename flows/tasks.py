"""Tasks: one for each stage; the body of each is one call into recsys_cl.

Only what can pass later is tried again: a disk, a network or a database that did not answer, was full or locked, and a
store that another process held. Bad data, a file that is
not there, a refused gate and a damaged store stay what they are, however often they are tried.
"""

from __future__ import annotations

import contextlib
import errno
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from prefect import get_run_logger, task
from prefect.client.schemas.objects import State, TaskRun
from prefect.client.schemas.schedules import CronSchedule
from prefect.task_engine import TaskRunTimeoutError
from prefect.tasks import Task
from prefect.transactions import Transaction, transaction

from flows.hooks import take_over
from flows.seen import ShownProgress, log_run, show_run
from recsys_cl import pipeline
from recsys_cl.compacting import compact_store
from recsys_cl.config import Config
from recsys_cl.errors import BusyError, ConfigError, RecsysError, StoreError, UnreachableError
from recsys_cl.files import LEFTOVER_HOURS, remove_leftovers
from recsys_cl.progress import LineProgress
from recsys_cl.publishing.exported import FOLDER, record_export
from recsys_cl.publishing.store import find_current, find_live, find_releases, hold_store
from recsys_cl.publishing.upkeep import check_store, check_whole, prune_store, roll_back
from recsys_cl.release_summary import describe_compacted, describe_damages
from recsys_cl.runs import Run, open_run
from recsys_cl.serving.export import export as run_export
from recsys_cl.serving.export_jobs import Request, What
from recsys_cl.serving.lookup import open_release
from recsys_cl.serving.sinks import FileSink
from recsys_cl.summary import describe_outcome
from recsys_cl.windows import Agenda, Due, await_windows, record_done, record_exported

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
    say, began = log_run(current), time.monotonic()
    say(f"stage={stage} begins")
    pipeline.run_stage(current, stage, force=force, progress=ShownProgress(say, run_id))
    say(f"stage={stage} is done, {time.monotonic() - began:.1f} s")


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


def finish(run: Run, stages: Sequence[str], force: str | None) -> None:
    """Do the stages of a run, at most `schedule.most_hours` each; a release that then does not answer is taken back,
    and the one before is live again. Raises StoreError for a stage that was ended."""
    take_over(run)
    if not stages:  # a process that was killed has published it, and nobody has asked it yet
        try_release(str(run.store), run.run_id)
    stage_task = run_stage.with_options(timeout_seconds=3600 * run.config.schedule.most_hours)
    for stage in stages:
        with transaction() as published:
            published.set("store", str(run.store))
            published.set("run_id", run.run_id)
            published.set("before", find_live(run.store))
            try:
                stage_task(stage, str(run.store), run.run_id, force)
            except TaskRunTimeoutError:
                limit = f"schedule.most_hours={run.config.schedule.most_hours:g}"
                raise StoreError(
                    f"{stage} was ended: it took longer than {limit}", remedy=f"go on with: {run.resume_command}"
                ) from None
            if stage == "publish":
                try_release(str(run.store), run.run_id)
    show(str(run.store), run.run_id, return_state=True)  # what is live stays live, whether or not it can be shown


@task
def show(store: str, run_id: str) -> None:
    """Keep what came out where the Prefect page shows it; see flows.seen."""
    show_run(open_run(Path(store), run_id))


@task(task_run_name="export-{what}", retries=2, retry_delay_seconds=[10.0, 60.0], retry_condition_fn=can_pass_later)
def export(what: What, store: str, k: int) -> str:
    """Export recommendations or neighbors of the live release into the store, at most the whole catalog each; gives the
    file."""
    release = open_release(Path(store))
    out = Path(store) / FOLDER / f"{what}-{release.version}.parquet"
    out.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(out.parent, LEFTOVER_HOURS)
    request = Request(what, min(k, release.n_items))
    record_export(Path(store), out, release.version, what)
    run_export(release, request, FileSink(out), LineProgress(get_run_logger().info))
    record_exported(Path(store), release.version, what)
    return str(out)


@task(retries=2, retry_delay_seconds=[10.0, 60.0], retry_condition_fn=can_pass_later)
def prune(store: str, keep: int) -> str:
    """Delete all but the newest releases."""
    found = prune_store(Path(store), keep)
    return f"pruned {len(found['deleted'])} releases, left {len(found['in_use'])} that are in use"


@task(retries=2, retry_delay_seconds=[10.0, 60.0], retry_condition_fn=can_pass_later)
def compact(store: str, keep: int) -> str:
    """Delete runs and cached sources that nothing needs."""
    return describe_compacted(compact_store(Path(store), keep))


@task(retries=2, retry_delay_seconds=[10.0, 60.0], retry_condition_fn=can_pass_later)
def verify(store: str) -> str:
    """Hash every file of every release. Raises RefusedError naming those that are not as they were sealed."""
    return describe_damages(check_store(Path(store)))


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
