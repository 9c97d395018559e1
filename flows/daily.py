"""The daily flow: ingest, train, evaluate, publish, export, from a configuration file.

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
from recsys_cl.door import load_config, run_app, start_run
from recsys_cl.errors import RecsysError
from recsys_cl.options import Force, MaybeStore

app = App(name="python -m flows.daily", help="Run the daily flow once, with Prefect's embedded server.")


@flow(name="daily")
def run_daily(config: str, store: str | None = None, force: str | None = None) -> tuple[str, str] | State[Any]:
    """Ingest, train, evaluate, publish and export; gives the store and the id of the run, or why it failed."""
    settings = load_config(Path(config), (), None if store is None else Path(store))
    try:
        with start_run(settings) as run:
            for stage in run.stages:
                tasks.run_stage(stage, str(run.store), run.run_id, force)
            tasks.show_metrics(str(run.store), run.run_id)
            for what in settings.export.what:
                tasks.export(what, str(run.store), settings.export.k)
        return str(run.store), run.run_id
    except RecsysError as error:
        return Failed(message=str(error), data=error)  # raised on, Prefect would log it with a traceback


@app.default
def main(
    config: Annotated[Path, Parameter(help="TOML file.")], *, store: MaybeStore = None, force: Force = None
) -> None:
    """Run the daily flow once, and print what came out.

    Example: `python -m flows.daily data/sample/config.toml --store data`
    """
    load_config(config)  # a mistake in it is told before a server is started
    tasks.print_outcome(run_daily(str(config), None if store is None else str(store), force, return_state=True))


if __name__ == "__main__":
    sys.exit(run_app(app))
