"""Around a flow run: whoever is configured is told of its states, and one whose process is gone is ended.

A hook never changes how a flow ends: what goes wrong in it is a warning in the log.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
from prefect import get_run_logger
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun, State
from prefect.context import FlowRunContext
from prefect.exceptions import ObjectNotFound
from prefect.flows import Flow
from prefect.logging.loggers import flow_run_logger
from prefect.settings import PREFECT_UI_URL
from prefect.states import Crashed

from recsys_cl.door import load_config
from recsys_cl.errors import RecsysError
from recsys_cl.files import write_text
from recsys_cl.notifying import notify
from recsys_cl.runs import Run

_FLOW_RUN = ".flow_run"  # in the folder of a run: which flow run works on it


def watch(flow: Flow[..., Any]) -> None:
    """Tell of every state of a flow that is configured; see [notify]."""
    for register in (flow.on_running, flow.on_completion, flow.on_failure, flow.on_crashed, flow.on_cancellation):
        register(tell_state)


def tell_state(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:
    """Tell of one state. The configuration is read anew: it is that of the parameters."""
    logger = flow_run_logger(flow_run, flow)
    try:
        config = load_config(Path(flow_run.parameters["config"])).notify
    except (RecsysError, OSError, KeyError):
        logger.warning("nobody is told: the configuration cannot be read")
        return
    name = state.type.value.lower()
    if name not in config.states:
        return
    message = {
        "flow": flow.name,
        "flow_run": flow_run.name,
        "flow_run_id": str(flow_run.id),
        "state": name,
        "message": state.message or "",
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "config": flow_run.parameters["config"],
        "store": flow_run.parameters.get("store"),
        "url": f"{PREFECT_UI_URL.value()}/runs/flow-run/{flow_run.id}" if PREFECT_UI_URL.value() else None,
    }
    for line in notify(config, message):
        logger.warning(line)


def take_over(run: Run) -> None:
    """Note that this flow run works on a run that is held. One that did before, and never ended, is a zombie: its
    process is gone, for nobody else holds the run. It is marked as crashed, which frees what it kept others from."""
    context = FlowRunContext.get()
    if context is None or context.flow_run is None or context.flow is None:
        return
    path, own = run.folder / _FLOW_RUN, str(context.flow_run.id)
    if path.exists() and (former := path.read_text(encoding="utf-8")) != own:
        try:
            _end_zombie(context.flow, former, f"{context.flow_run.name} goes on with run {run.run_id}")
        except httpx.HTTPError as error:  # it stays as it is shown; the work goes on
            get_run_logger().warning(f"flow run {former} could not be looked at ({type(error).__name__})")
    write_text(path, own)


def _end_zombie(flow: Flow[..., Any], former: str, why: str) -> None:
    with get_client(sync_client=True) as client:
        try:
            left = client.read_flow_run(UUID(former))
        except (ObjectNotFound, ValueError):  # of another server
            return
        if left.state is None or left.state.is_final():
            return
        gone: State[Any] = Crashed(message=f"its process is gone; {why}")
        client.set_flow_run_state(left.id, gone, force=True)
    get_run_logger().warning(f"flow run {left.name} is a zombie: marked as crashed")
    tell_state(flow, left, gone)
