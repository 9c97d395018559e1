"""The daily flow: ingest, train, evaluate, publish, export, from a configuration file, for each window that is due.

`python -m flows.daily CONFIG [--store DIR]` runs it with Prefect's embedded server: nothing to start.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter
from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Failed

from flows import tasks
from flows.hooks import watch
from recsys_cl.door import check_log_given, load_config, resume_or_start, run_app
from recsys_cl.errors import RecsysError
from recsys_cl.options import Force, MaybeStore
from recsys_cl.windows import bound

app = App(name="python -m flows.daily", help="Run the daily flow once, with Prefect's embedded server.")


@flow(name="daily")
def run_daily(config: str, store: str | None = None, force: str | None = None) -> list[tuple[str, str]] | State[Any]:
    """Ingest, train, evaluate, publish and export each window of the log that is due, oldest first.

    config: path of a TOML file. store: folder of raw, runs and releases, instead of the configured one. force: a reason
    to publish whatever the gate says. Gives store and run of each window, or why it failed; what was published with
    the same settings is not done again.
    """
    settings, done = load_config(Path(config), (), None if store is None else Path(store)), []
    try:
        check_log_given(settings)  # or a store would be made for nothing
        with tasks.hold(settings, "daily"):
            for due in tasks.find_due(settings).due:
                with resume_or_start(bound(settings, due)) as run:
                    tasks.finish(run, tasks.list_left(run), force)
                    for what in settings.export.what:
                        tasks.export(what, str(run.store), settings.export.k)
                    tasks.record(str(run.store), run.run_id, due)
                done.append((str(run.store), run.run_id))
        return done
    except RecsysError as error:
        return Failed(message=str(error), data=error)  # raised on, Prefect would log it with a traceback


watch(run_daily)


@app.default
def main(
    config: Annotated[Path, Parameter(help="TOML file.")], *, store: MaybeStore = None, force: Force = None
) -> None:
    """Run the daily flow once, and print what came out.

    Example: `python -m flows.daily data/sample/config.toml --store data`
    """
    load_config(config)  # a mistake in it is told before a server is started
    tasks.print_outcomes(run_daily(str(config), None if store is None else str(store), force, return_state=True))


if __name__ == "__main__":
    sys.exit(run_app(app))
