"""The command that stays, and runs the flows at their times."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from recsys_cl.errors import MissingExtraError
from recsys_cl.options import MaybeStore


def schedule(
    config: Annotated[Path, Parameter(help="TOML file.")],
    *,
    cron: Annotated[str, Parameter(help="When the daily flow runs: minute hour day month weekday.")],
    store: MaybeStore = None,
    port: Annotated[int, Parameter(help="Where the page of a server of its own is shown.")] = 4200,
) -> None:
    """Run the daily flow at the times of --cron, for as long as this command lives, with a Prefect server of its own.

    Example: `recsys-cl schedule data/sample/config.toml --cron "0 3 * * *"`

    With PREFECT_API_URL set, that server keeps the schedule. Images, exports and maintenance: python -m
    flows.deployments --help.
    """
    if importlib.util.find_spec("prefect") is None:
        raise MissingExtraError("flows", "prefect")
    more = [] if store is None else ["--store", str(store)]
    command = [sys.executable, "-m", "flows.deployments", str(config), "--cron", cron, "--port", str(port), *more]
    os.execv(sys.executable, command)  # in the place of this process, so that whoever ends it ends that
