"""The daily flow: ingest, train, evaluate, publish, export, from a configuration file.

`python -m flows.daily CONFIG [--store DIR]` runs it with Prefect's embedded server: nothing to start.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter
from prefect import flow

from flows import tasks
from recsys_cl.cli import run_app
from recsys_cl.config import read_config
from recsys_cl.pipeline import open_outcome
from recsys_cl.runs import STAGES, create_run, open_run
from recsys_cl.summary import describe_outcome

app = App(name="python -m flows.daily", help="Run the daily flow once, with Prefect's embedded server.")


@flow(name="daily")
def run_daily(config: str, store: str | None = None, force: str | None = None) -> tuple[str, str]:
    """Ingest, train, evaluate, publish and export; gives the store and the id of the run."""
    settings = read_config(Path(config))
    run = create_run(Path(store or settings.publishing.store), settings)
    for stage in STAGES:
        tasks.run_stage(stage, str(run.store), run.run_id, force)
    tasks.show_metrics(str(run.store), run.run_id)
    for what in settings.export.what:
        tasks.export(what, str(run.store), settings.export.k)
    return str(run.store), run.run_id


@app.default
def main(
    config: Annotated[Path, Parameter(help="TOML file.")],
    *,
    store: Annotated[Path | None, Parameter(help="Folder that holds raw, runs and releases.")] = None,
    force: Annotated[str | None, Parameter(help="Publish even if the gate refuses; this reason is recorded.")] = None,
) -> None:
    """Run the daily flow once, and print what came out.

    Example: `python -m flows.daily data/sample/config.toml --store data`
    """
    read_config(config)  # a mistake in it is told before a server is started
    place, run_id = run_daily(str(config), None if store is None else str(store), force)
    print(describe_outcome(open_outcome(open_run(Path(place), run_id))))


if __name__ == "__main__":
    sys.exit(run_app(app))
