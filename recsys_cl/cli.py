"""The command line: a thin door to the same functions that flows and Python callers use.

Nothing heavy is imported before a command needs it, so that `--help` answers at once. Exit codes: 0 done, 1 a gate or
an audit said no, 2 something the user can mend, 130 interrupted.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, CycloptsError, Parameter

from recsys_cl.errors import ConfigError, InputError, RecsysError

if TYPE_CHECKING:
    from recsys_cl.config import Config
    from recsys_cl.runs import Run

app = App(name="recsys-cl", help="From user interaction logs to a live nearest-neighbor index.", help_format="markdown")

ConfigFile = Annotated[Path | None, Parameter(help="TOML file; without one the defaults hold, or the run's own.")]
Store = Annotated[Path, Parameter(help="Folder that holds raw, runs and releases.")]
Json = Annotated[bool, Parameter(name="--json", help="Print JSON, for programs.", negative="")]
RunId = Annotated[str | None, Parameter(name="--run", help="A run to go on with; otherwise the newest unfinished one.")]
Force = Annotated[str | None, Parameter(help="Publish even if the gate refuses; this reason is recorded.")]
K = Annotated[int, Parameter(name=["-k", "--k"], help="How many.")]


@Parameter(name="*")
@dataclass(frozen=True)
class Settings:
    """What every stage can be told on the command line."""

    store: Annotated[Path | None, Parameter(help="Folder that holds raw, runs and releases (default: data).")] = None
    set: Annotated[
        list[str] | None, Parameter(name="--set", help="section.key=value; may be repeated.", negative="")
    ] = None


@Parameter(name="*")
@dataclass(frozen=True)
class Inputs:
    """What a run reads."""

    log: Annotated[str | None, Parameter(help="Log: file, folder, glob, or database URL.")] = None
    items: Annotated[str | None, Parameter(help="File with titles and attributes of the items.")] = None
    users: Annotated[str | None, Parameter(help="File with attributes of the users.")] = None


@Parameter(name="*")
@dataclass(frozen=True)
class LookupOptions:
    """How recommendations are answered."""

    include_seen: Annotated[bool, Parameter(help="Items of the history may be recommended.", negative="")] = False
    as_json: Json = False


_NOTHING, _NO_INPUTS, _PLAIN = Settings(), Inputs(), LookupOptions()


@app.command
def run(
    config: ConfigFile = None,
    *,
    inputs: Inputs = _NO_INPUTS,
    settings: Settings = _NOTHING,
    force: Force = None,
    run_id: RunId = None,
    as_json: Json = False,
) -> None:
    """Ingest a log, train, evaluate and publish a release.

    Example: `recsys-cl run --log events.csv --items items.csv --store data`

    With --run RUN_ID, go on with a run that was interrupted.
    """
    from recsys_cl import pipeline, summary
    from recsys_cl.progress import show_progress

    current = _start_run(config, inputs, settings) if run_id is None else _continue_run(config, settings, run_id)
    with show_progress() as progress:
        outcome = pipeline.run_all(current, force=force, progress=progress)
    _print(as_json, outcome.dump(), summary.describe_outcome(outcome))


@app.command
def ingest(config: ConfigFile = None, *, inputs: Inputs = _NO_INPUTS, settings: Settings = _NOTHING) -> None:
    """Start a run and read the log into it.

    Example: `recsys-cl ingest --log events.csv --store data`
    """
    _run_stage(_start_run(config, inputs, settings), "ingest", None)


@app.command
def train(config: ConfigFile = None, *, settings: Settings = _NOTHING, run_id: RunId = None) -> None:
    """Split what was ingested, and train on it.

    Example: `recsys-cl train --store data`
    """
    _run_stage(_continue_run(config, settings, run_id), "train", None)


@app.command
def evaluate(config: ConfigFile = None, *, settings: Settings = _NOTHING, run_id: RunId = None) -> None:
    """Judge what was trained on the events held out, beside the baselines.

    Example: `recsys-cl evaluate --store data`
    """
    _run_stage(_continue_run(config, settings, run_id), "evaluate", None)


@app.command
def publish(
    config: ConfigFile = None, *, settings: Settings = _NOTHING, run_id: RunId = None, force: Force = None
) -> None:
    """Build the index, pass the gate, and make the release live.

    Example: `recsys-cl publish --store data`

    A run that was published before is published again, as a new release.
    """
    _run_stage(_continue_run(config, settings, run_id), "publish", force)


@app.command
def similar(
    item_id: Annotated[str, Parameter(help="The item whose neighbors are wanted.", allow_leading_hyphen=True)],
    *,
    store: Store = Path("data"),
    k: K = 10,
    as_json: Json = False,
) -> None:
    """Print the neighbors of an item.

    Example: `recsys-cl similar i00042 --store data -k 5`
    """
    from recsys_cl.serving.lookup import open_release
    from recsys_cl.summary import describe_answers

    answers = open_release(store).answer_similar(item_id, k)
    _print(as_json, answers, describe_answers(answers))


@app.command
def recommend(
    *,
    user: Annotated[str | None, Parameter(help="A user of the log.", allow_leading_hyphen=True)] = None,
    history: Annotated[str | None, Parameter(help="item_ids, separated by commas.", allow_leading_hyphen=True)] = None,
    history_file: Annotated[Path | None, Parameter(help="File with one item_id a line, for ids with commas.")] = None,
    store: Store = Path("data"),
    k: K = 10,
    options: LookupOptions = _PLAIN,
) -> None:
    """Print recommendations for a user, or for anyone with a history of items.

    Example: `recsys-cl recommend --user u000042 --store data`
    """
    from recsys_cl.serving.lookup import open_release
    from recsys_cl.summary import describe_answers

    if sum(given is not None for given in (user, history, history_file)) != 1:
        raise ConfigError("whom to recommend to is not clear", "exactly one of --user, --history, --history-file")
    release = open_release(store)
    if user is not None:
        answers = release.answer_user(user, k, include_seen=options.include_seen)
    else:
        items = _read_history(history, history_file)
        answers = release.answer_history(items, k, include_seen=options.include_seen)
    _print(options.as_json, answers, describe_answers(answers))


@app.command
def export(
    what: Literal["recommendations", "neighbors"],
    *,
    store: Store = Path("data"),
    out: Annotated[Path, Parameter(help="Parquet file to write.")],
    k: K = 20,
) -> None:
    """Write recommendations for every user, or neighbors of every item, to a Parquet file.

    Example: `recsys-cl export recommendations --store data --out recommendations.parquet`
    """
    from recsys_cl.progress import show_progress
    from recsys_cl.serving.export import export_neighbors, export_recommendations
    from recsys_cl.serving.lookup import open_release

    write = export_recommendations if what == "recommendations" else export_neighbors
    with show_progress() as progress:
        n_rows = write(open_release(store), out, k, progress=progress)
    print(f"{n_rows:,} rows of {what} in {out}")


@app.command
def releases(*, store: Store = Path("data"), as_json: Json = False) -> None:
    """List the releases of a store, oldest first.

    Example: `recsys-cl releases --store data --json`
    """
    from recsys_cl.publishing.release import list_releases
    from recsys_cl.summary import describe_releases

    found = list_releases(store)
    _print(as_json, found, describe_releases(found))


@app.command
def benchmark(
    *,
    train: Annotated[Path | None, Parameter(help="Training events, with --test.")] = None,
    test: Annotated[Path | None, Parameter(help="Test events, read once, at the end.")] = None,
    sequences: Annotated[Path | None, Parameter(help="`user item item …` lines in time order: leave-one-out.")] = None,
    settings: Annotated[
        list[str] | None, Parameter(name="--set", help="section.key=value; may be repeated.", negative="")
    ] = None,
    as_json: Json = False,
) -> None:
    """Train on a public split with every choice made on a validation part, and judge on its test part.

    Example: `recsys-cl benchmark --train train.txt --test test.txt --json`
    """
    from recsys_cl.benchmark import run_benchmark
    from recsys_cl.progress import show_progress
    from recsys_cl.summary import describe_benchmark

    config = _load_config(None, settings)
    with show_progress() as progress:
        figures = run_benchmark(config, train=train, test=test, sequences=sequences, progress=progress)
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
def doctor(*, store: Store = Path("data"), as_json: Json = False) -> None:
    """Check versions against pins, memory, disk, threads and the store.

    Example: `recsys-cl doctor --store data`
    """
    from recsys_cl.doctor import check_machine, describe_checks

    checks = check_machine(store)
    _print(as_json, [check.dump() for check in checks], describe_checks(checks))
    if any(check.status == "bad" for check in checks):
        raise SystemExit(1)


def main() -> int:
    """The entry point; gives the exit code."""
    return run_app(app)


def run_app(door: App, tokens: Sequence[str] | None = None) -> int:
    """Run one command; gives the exit code. Prints one message, never a traceback, for anything a user can cause."""
    try:
        door(tokens, exit_on_error=False, print_error=False, result_action="return_value")
    except CycloptsError as error:
        return _fail(str(error).strip(), 2)
    except RecsysError as error:
        return _fail(str(error), error.exit_code)
    except BrokenPipeError:
        # Whoever read our output is gone; pointing it nowhere keeps the interpreter from complaining at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return _fail("interrupted; nothing was left half-written", 130)
    except MemoryError:
        return _fail("out of memory; lower ingest.batch_rows, ingest.bucket_rows or training.batch_users", 2)
    except OSError as error:
        return _fail(f"{error.filename or 'a file'}: {error.strerror or error}", 2)
    return 0


def _start_run(config: Path | None, inputs: Inputs, settings: Settings) -> Run:
    from recsys_cl.runs import create_run

    given = [f"ingest.{name}={json.dumps(value)}" for name, value in vars(inputs).items() if value is not None]
    built = _load_config(config, [*given, *(settings.set or [])], settings.store)
    if not built.ingest.log:
        raise ConfigError("no log to read", "--log PATH, or ingest.log in the configuration")
    return create_run(Path(built.publishing.store), built)


def _continue_run(config: Path | None, settings: Settings, run_id: str | None) -> Run:
    from recsys_cl.config import apply_settings
    from recsys_cl.runs import open_run, reconfigure

    found = open_run(Path(_load_config(config, None, settings.store).publishing.store), run_id)
    wanted = _load_config(config, None) if config else found.config
    return reconfigure(found, apply_settings(wanted, settings.set or []))


def _load_config(path: Path | None, settings: Sequence[str] | None, store: Path | None = None) -> Config:
    from recsys_cl.config import Config, apply_settings, read_config

    config = apply_settings(read_config(path) if path else Config(), settings or [])
    return config if store is None else apply_settings(config, [f"publishing.store={json.dumps(str(store))}"])


def _run_stage(current: Run, stage: str, force: str | None) -> None:
    from recsys_cl import pipeline, summary
    from recsys_cl.progress import show_progress

    with show_progress() as progress:
        pipeline.run_stage(current, stage, force=force, progress=progress)
    print(summary.describe_stage(current, stage))


def _read_history(history: str | None, path: Path | None) -> list[str]:
    if history is not None:
        return [item_id for item_id in history.split(",") if item_id]
    assert path is not None
    try:
        return [line for line in path.read_text(encoding="utf-8").splitlines() if line]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read the history in {path} ({error})", "a text file, one item_id a line") from error


def _print(as_json: bool, value: Any, text: str) -> None:
    print(json.dumps(value, ensure_ascii=False, indent=2) if as_json else text)


def _fail(message: str, code: int) -> int:
    print(f"recsys-cl: {message}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
