"""The daily flow: ingest, train, evaluate, publish, export, from a configuration file, for each window that is due.

`python -m flows.daily CONFIG [--store DIR]` runs it with Prefect's embedded server: nothing to start.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter
from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from flows import tasks
from flows.hooks import begin, watch
from recsys_cl.config import Config
from recsys_cl.door import check_log_given, load_config, resume_or_start, run_app
from recsys_cl.errors import LogError, RecsysError, RefusedError, UnreachableError
from recsys_cl.options import Force, MaybeStore
from recsys_cl.resuming import mark_refused, was_refused
from recsys_cl.windows import Agenda, Due, bound, lacks_export

app = App(name="python -m flows.daily", help="Run the daily flow once, with Prefect's embedded server.")


@flow(name="daily")
def run_daily(config: str, store: str | None = None, force: str | None = None) -> list[tuple[str, str]] | State[Any]:
    """Ingest, train, evaluate, publish and export each window of the log that is due, oldest first.

    Gives store and run of each window, or why it failed; what was published with the same settings is not done again.
    Exports that an earlier flow has left are made of what is live. A window that is refused does not keep newer ones,
    whose runs read its files too, from being published: the flow has failed where it is the newest.

    Args:
        config: Path of a TOML file.
        store: Folder of raw, runs and releases, instead of the configured one.
        force: A reason to publish whatever the gate says; it is kept in the manifest.
    """
    settings = load_config(Path(config), (), None if store is None else Path(store))
    done: list[tuple[str, str]] = []
    refused: dict[str, RecsysError] = {}
    try:
        check_log_given(settings)  # or a store would be made for nothing
        begin(settings)
        with tasks.hold(settings, "daily"):
            agenda = tasks.find_due(settings)
            for due in agenda.due:
                again = due is agenda.due[-1] or force is not None
                try:
                    done.append(_publish(bound(settings, due), due, force, again=again))
                except UnreachableError:
                    raise
                except (RefusedError, LogError) as error:
                    refused[due.window] = error
                    get_run_logger().warning(f"window {due.window} was not published: {error}")
                else:
                    _export(settings)
            exported = _export(settings)
    except RecsysError as error:
        return Failed(message=str(error), data=error)  # raised on, Prefect would log it with a traceback
    if done and not refused:
        return done
    return _conclude(agenda, done, refused, exported)


def _conclude(
    agenda: Agenda, done: list[tuple[str, str]], refused: dict[str, RecsysError], exported: list[str]
) -> State[Any]:
    """The state of a flow that has published nothing, or not all: failed where the newest window was refused."""
    newest = refused.pop(agenda.due[-1].window, None) if agenda.due else None
    lines = [f"window {window} was not published: {error}" for window, error in refused.items()]
    if newest is not None:
        return Failed(message="; ".join([str(newest), *lines]), data=newest)
    if refused:
        return Completed(message="; ".join([*lines, "a newer window holds its files, and was published"]), data=done)
    return Completed(message="; ".join([*agenda.describe(), *exported]), data=done)


def _publish(config: Config, due: Due, force: str | None, *, again: bool) -> tuple[str, str]:
    """Publish one window; gives store and run. again: judge anew what was refused before."""
    if not again and was_refused(config):
        raise RefusedError("refused before", ["its files are still the same"])
    with resume_or_start(config) as run:
        try:
            tasks.finish(run, tasks.list_left(run), force)
        except (RefusedError, LogError):
            mark_refused(run)
            raise
        tasks.record(str(run.store), run.run_id, due)
    return str(run.store), run.run_id


def _export(settings: Config) -> list[str]:
    """Make the exports that the live release lacks; gives a line for each."""
    missing = [what for what in settings.export.what if lacks_export(settings, what)]
    return [f"exported {path}" for path in tasks.export_all(settings, missing)]


watch(run_daily)


@app.default
def main(
    config: Annotated[Path, Parameter(help="TOML file.")], *, store: MaybeStore = None, force: Force = None
) -> None:
    """Run the daily flow once, and print what came out.

    Example: `python -m flows.daily data/sample/config.toml --store data`
    """
    load_config(config)  # a mistake in it is told before a server is started
    state = run_daily(str(config), None if store is None else str(store), force, return_state=True)
    tasks.print_outcomes(state)
    if state.message:
        print(state.message)


if __name__ == "__main__":
    sys.exit(run_app(app))
