"""The maintenance flow: every release of a store verified; where all are whole, old ones pruned, and what nothing needs
any more deleted.

`python -m flows.maintenance CONFIG [--store DIR]` runs it with Prefect's embedded server.
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

app = App(name="python -m flows.maintenance", help="Maintain a store once, with Prefect's embedded server.")


@flow(name="maintenance")
def run_maintenance(config: str, store: str | None = None) -> list[str] | State[Any]:
    """Verify, then prune and compact the store; gives a line for each, or why it failed. Where a release is damaged, it
    is named and nothing is deleted: what is to be pruned may be all that is whole.

    Args:
        config: Path of a TOML file.
        store: Folder of raw, runs and releases, instead of the configured one.
    """
    settings = load_config(Path(config), (), None if store is None else Path(store))
    place, schedule = settings.publishing.store, settings.schedule
    try:
        read_current(Path(place))  # or a store that is none would be made
        begin(settings)
        with tasks.hold(settings, "maintenance"):
            return [
                tasks.within(schedule, "verify", tasks.verify)(place),
                tasks.within(schedule, "prune", tasks.prune)(place, schedule.keep_releases),
                tasks.within(schedule, "compact", tasks.compact)(place, schedule.keep_runs),
            ]
    except RecsysError as error:
        return Failed(message=str(error), data=error)  # raised on, Prefect would log it with a traceback


watch(run_maintenance)


@app.default
def main(config: Annotated[Path, Parameter(help="TOML file.")], *, store: MaybeStore = None) -> None:
    """Maintain the store once, and print what was done.

    Example: `python -m flows.maintenance data/sample/config.toml --store data`
    """
    load_config(config)  # a mistake in it is told before a server is started
    tasks.print_lines(run_maintenance(str(config), None if store is None else str(store), return_state=True))


if __name__ == "__main__":
    sys.exit(run_app(app))
