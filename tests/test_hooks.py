"""Around a flow run: real flow runs tell a real webhook, and those whose process was killed are found, those that live
are not."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar
from uuid import uuid4

import pytest

from recsys_cl.pipeline import Outcome

STATES = """
import json
from prefect.client.orchestration import get_client
with get_client(sync_client=True) as client:
    found = client.read_flow_runs(limit=200)
print(json.dumps({str(run.id): [run.state_name, run.state.message] for run in found}))
"""
# An export that is killed by the system in the middle of its work.
DYING = """
import os, signal, sys
from flows import tasks
from flows.export import app
from recsys_cl.door import run_app
tasks.run_export = lambda *given: os.kill(os.getpid(), signal.SIGKILL)
run_app(app, sys.argv[1:])
"""


class Webhook(http.server.BaseHTTPRequestHandler):
    """Keeps what it was sent."""

    got: ClassVar[list[dict[str, Any]]] = []

    def do_POST(self) -> None:
        self.got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *arguments: Any) -> None:
        """Nothing."""


@pytest.fixture
def webhook() -> Iterator[str]:
    Webhook.got.clear()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Webhook) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/hook"
        server.shutdown()


def run_python(home: dict[str, str], *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, env=home, capture_output=True, text=True, timeout=240)


@contextlib.contextmanager
def start(home: dict[str, str], *arguments: str | Path) -> Iterator[subprocess.Popen[str]]:
    """A Python process, killed on leaving, as is the server that it has started."""
    command = [sys.executable, *map(str, arguments)]
    with subprocess.Popen(command, env=home, stderr=subprocess.PIPE, text=True, start_new_session=True) as child:
        try:
            yield child
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)


def read_states(home: dict[str, str]) -> dict[str, list[str]]:
    """Name of the state and its message, by flow run."""
    states: dict[str, list[str]] = json.loads(run_python(home, "-c", STATES).stdout)
    return states


def write_export(path: Path, url: str, states: str = "") -> Path:
    """A configuration of an export that tells `url`; states: TOML, else the default ones."""
    path.write_text(f'export.k = 3\n[notify]\nwebhook = "{url}"\n{f"states = {states}" if states else ""}\n')
    return path


@pytest.fixture
def store(tiny_outcome: Outcome, tmp_path: Path) -> Path:
    """A copy of the tiny store."""
    return Path(shutil.copytree(tiny_outcome.run.store, tmp_path / "s"))


def test_a_flow_that_fails_is_told_of_by_default_and_one_that_does_well_is_not(
    webhook: str, prefect_home: dict[str, str], store: Path, tmp_path: Path
) -> None:
    config = write_export(tmp_path / "c.toml", webhook)
    done = run_python(prefect_home, "-m", "flows.export", config, "--store", store)
    assert (done.returncode, Webhook.got) == (0, []), done.stderr
    assert "hook" not in done.stderr
    failed = run_python(prefect_home, "-m", "flows.export", config, "--store", tmp_path / "none")
    assert failed.returncode == 2
    (told,) = Webhook.got
    expected = {"flow": "export", "state": "failed", "config": str(config), "store": str(tmp_path / "none")}
    assert {name: told[name] for name in expected} == expected
    assert set(told) == {*expected, "flow_run", "flow_run_id", "message", "time", "url"}
    assert told["message"] in failed.stderr
    assert read_states(prefect_home)[told["flow_run_id"]][0] == "Failed"


def test_a_flow_run_that_was_killed_is_told_of_by_the_next_one_beside_its_own_states(
    webhook: str, prefect_home: dict[str, str], store: Path, tmp_path: Path
) -> None:
    config = write_export(tmp_path / "c.toml", webhook, '["running", "completed", "crashed"]')
    with start(prefect_home, "-c", DYING, config, "--store", store) as dying:
        assert dying.wait(240) == -signal.SIGKILL
    (begun,) = Webhook.got
    assert begun["state"] == "running"
    assert read_states(prefect_home)[begun["flow_run_id"]][0] == "Running"
    done = run_python(prefect_home, "-m", "flows.export", config, "--store", store)
    assert done.returncode == 0, done.stderr
    assert [one["state"] for one in Webhook.got] == ["running", "running", "crashed", "completed"]
    _, own, crashed, completed = Webhook.got
    assert crashed["flow_run_id"] == begun["flow_run_id"]
    assert own["flow_run_id"] == completed["flow_run_id"] != begun["flow_run_id"]
    state, message = read_states(prefect_home)[begun["flow_run_id"]]
    assert (state, message) == ("Crashed", crashed["message"])
    assert message.startswith("its process is gone")
    assert "flow_run" in crashed
    assert len(list((store / "flow_runs").iterdir())) == 1, "only that of the last one is left, to be looked at next"


def test_files_that_are_of_no_flow_run_of_this_server_stop_nothing_and_go_when_they_are_old(
    prefect_home: dict[str, str], store: Path, tmp_path: Path
) -> None:
    folder = store / "flow_runs"
    folder.mkdir(exist_ok=True)
    stray, young, old = (folder / f"export.{name}" for name in ("stray", f"{uuid4()}.1", f"{uuid4()}.1"))
    for path in (stray, young, old):
        path.touch()
    os.utime(old, (time.time() - 40 * 86400,) * 2)
    done = run_python(prefect_home, "-m", "flows.export", write_export(tmp_path / "c.toml", ""), "--store", store)
    assert done.returncode == 0, done.stderr
    assert "nobody can tell whether that of export.stray lives (ValueError)" in done.stderr
    assert (stray.exists(), young.exists(), old.exists()) == (True, True, False)


def test_a_flow_run_that_lives_is_left_alone_until_its_process_is_gone(
    prefect_home: dict[str, str], tmp_path: Path
) -> None:
    folder, store = tmp_path / "log" / "dt=2026-01-01", tmp_path / "s"
    folder.mkdir(parents=True)
    (folder / "part.csv").write_text("user_id,item_id,timestamp\nu1,i1,1\n")
    for name, minutes, hours in (("waits", 60, 1), ("passes", 0, 0.0001)):
        lines = [f'ingest.log = "{tmp_path / "log"}"', "[schedule]", f"wait_minutes = {minutes}", "quiet_minutes = 1e5"]
        lines += [f"most_hours = {hours}"]
        (tmp_path / f"{name}.toml").write_text("\n".join(lines))
    command: list[str | Path] = ["-m", "flows.daily", tmp_path / "passes.toml", "--store", store]
    with start(prefect_home, "-m", "flows.daily", tmp_path / "waits.toml", "--store", store) as waiting:
        assert waiting.stderr is not None
        assert any("waiting for 2026-01-01" in line for line in waiting.stderr)
        (own,) = (store / "flow_runs").iterdir()
        flow_run = own.name.split(".")[1]
        for _ in range(2):
            assert run_python(prefect_home, *command).returncode == 2, "two do not work on one store"
            assert read_states(prefect_home)[flow_run][0] == "Running"
    done = run_python(prefect_home, *command)
    assert done.returncode == 0, done.stderr
    assert "is a zombie: marked as crashed" in done.stderr
    assert read_states(prefect_home)[flow_run][0] == "Crashed"
    assert not own.exists()
