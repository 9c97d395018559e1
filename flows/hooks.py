"""Around a flow run: whoever is configured is told of its states, and those whose process is gone are ended.

Each process holds a lock on a file of the store, named after its flow run, for as long as it lives. A file that nobody
holds is that of a process that is gone. That asks that locks (flock) hold for all machines that share the store; what
flow runs of another store do is none of this one's business, for their files lie there.

A hook never changes how a flow ends: what goes wrong in it is a warning in the log.
"""

from __future__ import annotations

import fcntl
import os
import time
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

from recsys_cl.config import Config
from recsys_cl.door import load_config
from recsys_cl.errors import RecsysError
from recsys_cl.files import LEFTOVER_HOURS, TEMPORARY, remove_leftovers
from recsys_cl.notifying import notify
from recsys_cl.runs import Run

FLOW_RUNS = "flow_runs"  # a folder of the store: <flow>.<flow run>.<how often it was begun>, in it the run it works on
_FORGOTTEN_DAYS = 30
_CANCELLING_SECONDS = 300.0
_held: dict[UUID, int] = {}  # by this process: never let go, so that a lock ends with the process, however that ends


def watch(flow: Flow[..., Any]) -> None:
    """Tell of the ends of a flow that are told unless configured otherwise; of the others `begin` takes care."""
    for register in (flow.on_failure, flow.on_crashed, flow.on_cancellation):
        register(tell_state)


def begin(config: Config) -> None:
    """What comes first in a flow: it is told of, it is noted as alive, and flow runs of the same flow and store whose
    process is gone are marked as crashed, which frees what they kept others from."""
    context = FlowRunContext.get()
    if context is None or context.flow_run is None or context.flow is None:
        return
    flow, flow_run = context.flow, context.flow_run
    if "running" in config.notify.states and flow_run.state is not None:
        tell_state(flow, flow_run, flow_run.state)
    if "completed" in config.notify.states and tell_state not in flow.on_completion_hooks:
        flow.on_completion(tell_state)
    folder = Path(config.publishing.store) / FLOW_RUNS
    own = folder / f"{flow.name}.{flow_run.id}.{flow_run.run_count}"
    try:
        _held[flow_run.id] = _hold(own)
        remove_leftovers(folder, LEFTOVER_HOURS)
    except OSError as error:
        get_run_logger().warning(f"nobody can tell whether this flow run lives ({type(error).__name__})")
    for path in sorted(folder.glob(f"{flow.name}.*")):
        try:
            if path != own:
                _look_after(flow, path, flow_run.name)
        except (OSError, ValueError, httpx.HTTPError) as error:  # it stays as it is shown; the work goes on
            get_run_logger().warning(f"nobody can tell whether that of {path.name} lives ({type(error).__name__})")


def note_run(run: Run) -> None:
    """Note which run this flow run works on, for whoever finds it dead."""
    context = FlowRunContext.get()
    if context is not None and context.flow_run is not None and context.flow_run.id in _held:
        handle = _held[context.flow_run.id]
        try:
            os.ftruncate(handle, 0)
            os.pwrite(handle, run.run_id.encode(), 0)
        except OSError as error:
            get_run_logger().warning(f"nobody can tell what this flow run works on ({type(error).__name__})")


def tell_state(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:
    """Tell of one state. The configuration is read anew: it is that of the parameters."""
    logger = flow_run_logger(flow_run, flow)
    try:
        config = load_config(Path(flow_run.parameters["config"])).notify
    except (RecsysError, OSError, KeyError):
        logger.warning("nobody is told: the configuration cannot be read")
        return
    # Of a cancellation Prefect tells while it goes on.
    name = "cancelled" if state.is_cancelling() else state.type.value.lower()
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


def _hold(path: Path) -> int:
    """Make a file that is locked from when it has its name: another process would take it for one of the dead."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{TEMPORARY}{path.name}")
    handle = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    temporary.replace(path)
    return handle


def _look_after(flow: Flow[..., Any], path: Path, finder: str) -> None:
    """End the flow run of a file whose process is gone, and delete the file; where its server is another one, or has
    forgotten it, only when the file is old."""
    try:
        handle = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:  # another flow run was faster
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        worked = os.pread(handle, 100, 0).decode("ascii", "replace")
        gone = f"its process is gone, {finder} has found; it worked on {f'run {worked}' if worked else 'no run'}"
        old = time.time() - os.fstat(handle).st_mtime > 86400 * _FORGOTTEN_DAYS
        if _end_zombie(flow, path.name, gone) or old:
            path.unlink(missing_ok=True)
    except BlockingIOError:  # it lives
        return
    finally:
        os.close(handle)


def _end_zombie(flow: Flow[..., Any], name: str, message: str) -> bool:
    """Mark a flow run, named as its file, as crashed where it is shown as running, or has long been cancelling, and was
    not begun anew elsewhere; false where it is to be looked at again, and where the server does not know it."""
    _, flow_run_id, begun = name.rsplit(".", 2)
    with get_client(sync_client=True) as client:
        try:
            left = client.read_flow_run(UUID(flow_run_id))
        except (ObjectNotFound, ValueError):
            return False
        state = left.state
        if state is None or not (state.is_running() or state.is_cancelling()) or str(left.run_count) != begun:
            return True
        if state.is_cancelling() and (datetime.now(UTC) - state.timestamp).total_seconds() < _CANCELLING_SECONDS:
            return False  # whoever cancels it tells of its end
        crashed: State[Any] = Crashed(message=message)
        client.set_flow_run_state(left.id, crashed, force=True)
    get_run_logger().warning(f"flow run {left.name} is a zombie: marked as crashed")
    tell_state(flow, left, crashed)
    return True
