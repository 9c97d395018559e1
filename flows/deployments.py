"""Deployments: the flows of one configuration, each on a schedule of its own, served by this process.

`python -m flows.deployments CONFIG --cron "0 3 * * *"` needs nothing else: without PREFECT_API_URL it starts a Prefect
server, whose page shows the runs, and ends it with itself. `prefect.yaml` describes the same deployments for workers.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import psutil
from cyclopts import App, Parameter
from prefect import serve
from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy
from prefect.deployments.runner import RunnerDeployment
from prefect.flows import Flow
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows import tasks
from flows.daily import run_daily
from flows.export import run_export
from flows.images import run_images
from flows.maintenance import run_maintenance
from recsys_cl.door import load_config, run_app
from recsys_cl.errors import ConfigError
from recsys_cl.options import MaybeStore

FLOWS: dict[str, Flow[..., Any]] = {
    "daily": run_daily,
    "images": run_images,
    "export": run_export,
    "maintenance": run_maintenance,
}
_START_SECONDS, _END_SECONDS = 120.0, 20.0
app = App(name="python -m flows.deployments", help="Serve the flows of a configuration on their schedules.")


@Parameter(name="*")
@dataclass(frozen=True)
class Crons:
    """When each flow runs: minute hour day month weekday; None: not at all."""

    cron: Annotated[str | None, Parameter(help="When the daily flow runs.")] = None
    images_cron: Annotated[str | None, Parameter(help="When pictures alone are trained on.")] = None
    export_cron: Annotated[str | None, Parameter(help="When the live release is exported.")] = None
    maintenance_cron: Annotated[str | None, Parameter(help="When the store is verified, pruned, compacted.")] = None

    def by_flow(self) -> dict[str, str]:
        """Name of a flow -> its cron, of those that have one. Raises ConfigError where none has."""
        given = dict(zip(FLOWS, (self.cron, self.images_cron, self.export_cron, self.maintenance_cron), strict=True))
        found = {name: cron for name, cron in given.items() if cron is not None}
        if not found:
            raise ConfigError("no schedule is given", "--cron, or that of another flow", '--cron "0 3 * * *"')
        for cron in found.values():
            tasks.check_cron(cron)
        return found


def build_deployments(crons: dict[str, str], config: Path, store: Path | None) -> list[RunnerDeployment]:
    """One deployment for each flow that has a cron; one run at a time of each, later ones wait."""
    parameters = {"config": str(config.resolve()), "store": None if store is None else str(store.resolve())}
    one = ConcurrencyLimitConfig(limit=1, collision_strategy=ConcurrencyLimitStrategy.ENQUEUE)
    return [
        FLOWS[name].to_deployment(  # type: ignore[misc] # a coroutine only where a loop runs
            name=name, cron=cron, parameters=parameters, tags=["recsys_cl", name], concurrency_limit=one
        )
        for name, cron in crons.items()
    ]


@app.default
def main(
    config: Annotated[Path, Parameter(help="TOML file.")],
    *,
    crons: Crons = Crons(),
    store: MaybeStore = None,
    port: Annotated[int, Parameter(help="Where the page of a server of its own is shown.")] = 4200,
) -> None:
    """Serve the flows at their times, one at a time, until this process is ended.

    Example: `python -m flows.deployments data/sample/config.toml --cron "0 3 * * *" --maintenance-cron "0 6 * * 0"`
    """
    load_config(config)
    signal.signal(signal.SIGTERM, _end)
    deployments = build_deployments(crons.by_flow(), config, store)
    with _open_server(port) as url, temporary_settings({PREFECT_API_URL: url}):
        # Flow runs are processes of their own, which know the server by the environment.
        os.environ["PREFECT_API_URL"] = url
        print(f"serving {', '.join(crons.by_flow())}; runs are shown at {url.removesuffix('/api')}", flush=True)
        try:
            serve(*deployments, limit=1, print_starting_message=False)
        finally:
            _end_children()


@contextlib.contextmanager
def _open_server(port: int) -> Iterator[str]:
    """The server that is configured, or one that lives as long as this; gives the address of its API."""
    configured = PREFECT_API_URL.value()
    if configured:
        yield configured
        return
    url = f"http://127.0.0.1:{port}/api"
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    with socket.socket() as asked:
        if asked.connect_ex(("127.0.0.1", port)) == 0:
            remedy = f"choose --port; where a Prefect server has it: export PREFECT_API_URL={url}"
            raise ConfigError(f"port {port} is taken", "a free port", remedy)
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            end = time.monotonic() + _START_SECONDS
            while not _answers(url):
                if server.poll() is not None or time.monotonic() > end:
                    raise ConfigError(f"no Prefect server would start on port {port}", "a free port", "choose --port")
                time.sleep(0.5)
            yield url
        finally:
            _end_children()


def _end_children() -> None:
    """End what this process has started: the server, and flow runs that are just starting, which Prefect forgets."""
    left = psutil.Process().children(recursive=True)
    for child in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            child.terminate()
    for child in psutil.wait_procs(left, _END_SECONDS)[1]:
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()


def _end(number: int, frame: FrameType | None) -> None:
    """SIGTERM ends this as ctrl-C does, and the server with it."""
    del frame
    raise SystemExit(128 + number)


def _answers(url: str) -> bool:
    with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}/health", timeout=2):
        return True
    return False


if __name__ == "__main__":
    sys.exit(run_app(app))
