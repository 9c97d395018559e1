"""The command line: a thin door to the same functions that flows and Python callers use.

Nothing heavy is imported before a command needs it, so that `--help` answers at once; exit codes are in `door.py`.
"""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from recsys_cl.commands import lookup, store
from recsys_cl.commands.export import export
from recsys_cl.commands.schedule import schedule
from recsys_cl.commands.serve import serve
from recsys_cl.door import check_log_given, continue_run, load_config, run_app, start_run
from recsys_cl.door import print_answer as _print
from recsys_cl.errors import ConfigError
from recsys_cl.options import (
    Beside,
    ConfigFile,
    Force,
    Inputs,
    Json,
    Set,
    Settings,
    SplitFiles,
    StageSettings,
    Store,
)

if TYPE_CHECKING:
    from recsys_cl.config import Config
    from recsys_cl.runs import Run

app = App(name="recsys-cl", help="From user interaction logs to a live nearest-neighbor index.", help_format="markdown")

_NOTHING, _STAGE, _NO_INPUTS, _ALONE, _NO_FILES = Settings(), StageSettings(), Inputs(), Beside(), SplitFiles()


@app.command
def run(
    config: ConfigFile = None,
    *,
    inputs: Inputs = _NO_INPUTS,
    settings: Settings = _NOTHING,
    force: Force = None,
    run_id: Annotated[str | None, Parameter(name="--run", help="Go on with this run instead of a new one.")] = None,
    dry_run: Annotated[bool, Parameter(help="Say what it would take, and write nothing.", negative="")] = False,
) -> None:
    """Ingest a log, train, evaluate and publish a release.

    Example: `recsys-cl run --log events.csv --items items.csv --store data`

    With --run RUN_ID, go on with a run that was interrupted. With --dry-run, exit code 1 where memory or disk are too
    small.
    """
    given = inputs.list_settings() + (settings.set or [])
    if dry_run:
        if run_id is not None:
            raise ConfigError("--dry-run says what a new run takes, and --run names one", "one of the two")
        _forecast(load_config(config, given, settings.store), settings.as_json)
        return
    if run_id is None:
        work = start_run(load_config(config, given, settings.store))
    else:
        work = continue_run(config, given, settings.store, run_id)
    with work as current:
        from recsys_cl import pipeline, summary
        from recsys_cl.progress import show_progress

        with show_progress() as progress:
            outcome = pipeline.run_all(current, force=force, progress=progress)
        _print(settings.as_json, outcome.dump(), summary.describe_outcome(outcome))


@app.command
def ingest(config: ConfigFile = None, *, inputs: Inputs = _NO_INPUTS, settings: StageSettings = _STAGE) -> None:
    """Read a log into a new run; without a log, into one that is unfinished.

    Example: `recsys-cl ingest --log events.csv --store data`
    """
    given = inputs.list_settings() + (settings.set or [])
    built = load_config(config, given, settings.store)
    if settings.run_id is None and built.ingest.log:
        work = start_run(built)
    else:
        work = continue_run(config, given, settings.store, settings.run_id)
    _run_stage("ingest", work, settings)


@app.command
def profile(
    log: Annotated[str, Parameter(help="Log: file, folder, glob, or database URL.")],
    *,
    config: ConfigFile = None,
    settings: Set = None,
    other: Beside = _ALONE,
    html: Annotated[Path | None, Parameter(help="File for a self-contained page.")] = None,
    as_json: Json = False,
) -> None:
    """Print how many events, of whom, on what and when a log holds, and what of that is unusual.

    Example: `recsys-cl profile events.csv --store data --html profile.html`

    Exit code 1 where a figure is past its bound and contract.on_change is stop.
    """
    from recsys_cl.files import write_text
    from recsys_cl.profile_page import render_profile
    from recsys_cl.profile_summary import describe_profile
    from recsys_cl.profiling import profile_log
    from recsys_cl.progress import show_progress

    if other.beside is not None and other.store is not None:
        raise ConfigError("what to compare with is not clear", "either --beside LOG or --store DIR")
    given = load_config(config, [*Inputs(log=log).list_settings(), *(settings or [])])
    with show_progress() as progress:
        found = profile_log(given, beside=other.beside, store=other.store, progress=progress)
    if html is not None:
        write_text(html, render_profile(found))
    _print(as_json, found.dump(), describe_profile(found))
    if found.changes and given.contract.on_change == "stop":
        raise SystemExit(1)


@app.command
def train(config: ConfigFile = None, *, settings: StageSettings = _STAGE) -> None:
    """Split what was ingested, and train on it.

    Example: `recsys-cl train --store data`
    """
    _run_stage("train", continue_run(config, settings.set or [], settings.store, settings.run_id), settings)


@app.command
def evaluate(config: ConfigFile = None, *, settings: StageSettings = _STAGE) -> None:
    """Judge what was trained on the events held out, beside the baselines.

    Example: `recsys-cl evaluate --store data`
    """
    _run_stage("evaluate", continue_run(config, settings.set or [], settings.store, settings.run_id), settings)


@app.command
def publish(config: ConfigFile = None, *, settings: StageSettings = _STAGE, force: Force = None) -> None:
    """Build the index, pass the gate, and make the release live.

    Example: `recsys-cl publish --store data`

    A run that was published before is published again, as a new release.
    """
    _run_stage("publish", continue_run(config, settings.set or [], settings.store, settings.run_id), settings, force)


@app.command
def images(config: ConfigFile = None, *, settings: StageSettings = _STAGE) -> None:
    """Train the encoder of pictures, and judge it, for a run that was trained with images.enabled=true.

    Example: `recsys-cl images --store data`

    A run that has published is published anew, as a new release, by `recsys-cl publish --run RUN_ID`.
    """
    _run_stage("images", continue_run(config, settings.set or [], settings.store, settings.run_id), settings)


for asking in lookup.COMMANDS:  # here, for help lists commands in the order in which they come
    app.command(asking)


@app.command
def compare(
    run_a: Annotated[str, Parameter(help="An evaluated run, by its id.")],
    run_b: Annotated[str, Parameter(help="Another one of the same store.")],
    /,
    *,
    store: Store = Path("data"),
    as_json: Json = False,
) -> None:
    """Say which of two runs has the better model, user by user, and whether that could be chance.

    Example: `recsys-cl compare 20260301T101500Z-0123456789ab 20260302T101500Z-ba9876543210 --store data`
    """
    from recsys_cl.comparing import compare_runs
    from recsys_cl.summary import describe_comparison

    found = compare_runs(store, run_a, run_b).dump()
    _print(as_json, {"first": run_a, "second": run_b} | found, describe_comparison(run_a, run_b, found))


@app.command
def benchmark(
    *,
    files: SplitFiles = _NO_FILES,
    settings: Set = None,
    budget_seconds: Annotated[float | None, Parameter(help="Bounds choosing and training, by a nominal pace.")] = None,
    explain: Annotated[bool, Parameter(help="Test the samplers of negatives, too.", negative="")] = False,
    as_json: Json = False,
) -> None:
    """Train on a public split with every choice made on a validation part, and judge on its test part.

    Example: `recsys-cl benchmark --train train.txt --test test.txt --json`
    """
    from recsys_cl.benchmark import run_benchmark
    from recsys_cl.progress import show_progress
    from recsys_cl.summary import describe_benchmark

    bound = [] if budget_seconds is None else [f"recipe.budget_seconds={budget_seconds}"]
    config = load_config(None, [*(settings or []), *bound])
    with show_progress() as progress:
        figures = run_benchmark(config, **vars(files), explain=explain, progress=progress)
    _print(as_json, figures, describe_benchmark(figures))


@app.command
def init(folder: Annotated[Path, Parameter(help="A new or empty folder.")]) -> None:
    """Write a commented configuration and the sample log into a folder.

    Example: `recsys-cl init shop && recsys-cl run shop/config.toml`
    """
    from recsys_cl.config_docs import init_folder
    from recsys_cl.progress import show_progress

    with show_progress() as progress:
        init_folder(folder, progress)
    print(f"{folder / 'config.toml'} and a sample log are written; next: recsys-cl run {folder / 'config.toml'}")


@app.command
def sample(
    folder: Annotated[Path, Parameter(help="A new or empty folder.")],
    *,
    users: Annotated[int, Parameter(help="Users of the world.")] = 2_000,
    items: Annotated[int, Parameter(help="Items of the world.")] = 1_000,
    events: Annotated[int, Parameter(help="Events of the log.")] = 80_000,
    seed: Annotated[int, Parameter(help="Another seed, another world.")] = 0,
) -> None:
    """Draw a log from a seeded world with planted tastes, with items, users and pictures; of any size.

    Example: `recsys-cl sample world --users 100000 --items 20000 --events 10000000`
    """
    from recsys_cl.interactions.sample import write_sample
    from recsys_cl.interactions.world import WorldConfig
    from recsys_cl.progress import show_progress

    with show_progress() as progress:
        write_sample(folder, WorldConfig(n_users=users, n_items=items, n_events=events, seed=seed), progress)
    print(f"{events:,} events of {users:,} users and {items:,} items are in {folder}")


@app.command
def doctor(config: ConfigFile = None, *, store: Store = Path("data"), as_json: Json = False) -> None:
    """Check versions, memory, disk, threads, telemetry, the Prefect server and the store; with a configuration, whether
    the database of its log answers, too.

    Example: `recsys-cl doctor --store data`
    """
    from recsys_cl.doctor import check_machine, describe_checks

    checks = check_machine(store, None if config is None else load_config(config))
    _print(as_json, [check.dump() for check in checks], describe_checks(checks))
    if any(check.status == "bad" for check in checks):
        raise SystemExit(1)


for command in (export, serve, schedule, *store.COMMANDS):
    app.command(command)


def main() -> int:
    """The entry point; gives the exit code."""
    return run_app(app)


def _forecast(config: Config, as_json: bool) -> None:
    from recsys_cl.forecast import Limits, check_fit, forecast_run
    from recsys_cl.progress import show_progress

    check_log_given(config)
    with show_progress() as progress:
        found = forecast_run(config, progress)
    _print(as_json, found.dump(), found.describe())
    check_fit(found, Limits.measure(Path(config.publishing.store)))


def _run_stage(
    stage: str, work: AbstractContextManager[Run], settings: StageSettings, force: str | None = None
) -> None:
    with work as current:
        from recsys_cl import pipeline, summary
        from recsys_cl.progress import show_progress

        with show_progress() as progress:
            pipeline.run_stage(current, stage, force=force, progress=progress)
        known = {"run_id": current.run_id, "store": str(current.store), "stage": stage}
        result = {"result": current.read_result(stage)}
        _print(settings.as_json, known | result, summary.describe_stage(current, stage))


if __name__ == "__main__":
    sys.exit(main())
