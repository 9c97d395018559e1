"""The export flow: what the configuration exports, of the release that is live.

`python -m flows.export CONFIG [--store DIR]` runs it with Prefect's embedded server.
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
from flows.hooks import begin, watch
from recsys_cl.door import load_config, run_app
from recsys_cl.errors import RecsysError
from recsys_cl.options import MaybeStore
from recsys_cl.publishing.store import read_current

app = App(name="python -m flows.export", help="Export once, with Prefect's embedded server.")


@flow(name="export")
def run_export(config: str, store: str | None = None) -> list[str] | State[Any]:
    """Write what [export] names, of the live release, into the store; gives the files, or why it failed.

    Args:
        config: Path of a TOML file.
        store: Folder of raw, runs and releases, instead of the configured one.
    """
    settings = load_config(Path(config), (), None if store is None else Path(store))
    try:
        read_current(Path(settings.publishing.store))  # or a store that is none would be made
        begin(settings)
        return tasks.export_all(settings, settings.export.what)
    except RecsysError as error:
        return Failed(message=str(error), data=error)  # raised on, Prefect would log it with a traceback


watch(run_export)


@app.default
def main(config: Annotated[Path, Parameter(help="TOML file.")], *, store: MaybeStore = None) -> None:
    """Export the live release once, and print the files.

    Example: `python -m flows.export data/sample/config.toml --store data`
    """
    load_config(config)  # a mistake in it is told before a server is started
    tasks.print_lines(run_export(str(config), None if store is None else str(store), return_state=True))


if __name__ == "__main__":
    sys.exit(run_app(app))
