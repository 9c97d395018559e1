"""The flow of pictures: train their encoder anew for the newest run that has published, and publish that run again.

`python -m flows.images CONFIG [--store DIR]` runs it with Prefect's embedded server. In the daily flow the same stage
comes with every run whose configuration has images.enabled=true; this one is for pictures that change more often than
the log is trained on.
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
from recsys_cl.door import continue_published, load_config, run_app
from recsys_cl.errors import RecsysError
from recsys_cl.options import Force, MaybeStore
from recsys_cl.publishing.store import read_current

app = App(name="python -m flows.images", help="Train on pictures once, with Prefect's embedded server.")


@flow(name="images")
def run_images(config: str, store: str | None = None, force: str | None = None) -> list[tuple[str, str]] | State[Any]:
    """Train on the pictures of the newest published run, and publish it again; gives the store and the id of the run,
    or why it failed.

    Args:
        config: Path of a TOML file.
        store: Folder of raw, runs and releases, instead of the configured one.
        force: A reason to publish whatever the gate says; it is kept in the manifest.
    """
    place = None if store is None else Path(store)
    try:
        settings = load_config(Path(config), (), place)
        read_current(Path(settings.publishing.store))  # or a store that is none would be made
        begin(settings)
        with tasks.hold(settings, "images"), continue_published(Path(config), place) as run:
            tasks.finish(run, ("images", "publish"), force)
        return [(str(run.store), run.run_id)]
    except RecsysError as error:
        return Failed(message=str(error), data=error)  # raised on, Prefect would log it with a traceback


watch(run_images)


@app.default
def main(
    config: Annotated[Path, Parameter(help="TOML file.")],
    *,
    store: MaybeStore = None,
    force: Force = None,
) -> None:
    """Train on the pictures of the live release's run, publish it again, and print what came out.

    Example: `python -m flows.images data/sample/config.toml --store data`
    """
    load_config(config)  # a mistake in it is told before a server is started
    tasks.print_outcomes(run_images(str(config), None if store is None else str(store), force, return_state=True))


if __name__ == "__main__":
    sys.exit(run_app(app))
