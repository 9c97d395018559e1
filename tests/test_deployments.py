"""Deployments: served by one process with a server of its own, and described for workers as they are."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from prefect.client.schemas.schedules import CronSchedule

from flows.deployments import FLOWS, Crons
from recsys_cl.errors import ConfigError

ROOT = Path(__file__).parents[1]
ASK = """
from prefect.client.orchestration import get_client
with get_client(sync_client=True) as client:
    for one in sorted(client.read_deployments(), key=lambda one: one.name):
        print(one.name, *(when.schedule.cron for when in one.schedules), one.parameters["store"],
              one.global_concurrency_limit.limit, *sorted(one.tags), sep="|")
"""


@pytest.fixture(scope="module")
def described() -> dict[str, Any]:
    """prefect.yaml."""
    found: dict[str, Any] = yaml.safe_load((ROOT / "prefect.yaml").read_text())
    return found


def test_every_flow_is_described_for_workers_with_parameters_that_it_takes(described: dict[str, Any]) -> None:
    flows = []
    for one in described["deployments"]:
        path, _, name = one["entrypoint"].partition(":")
        flow = getattr(importlib.import_module(path.removesuffix(".py").replace("/", ".")), name)
        flows.append(flow)
        inspect.signature(flow.fn).bind(**one["parameters"])
        assert one["concurrency_limit"] == {"limit": 1, "collision_strategy": "ENQUEUE"}
        for schedule in one["schedules"]:
            CronSchedule(cron=schedule["cron"], timezone=schedule["timezone"])
        assert one["work_pool"]["name"] in ("recsys-cl", "recsys-cl-docker")
    assert {flow.name for flow in flows} == set(FLOWS)


def test_a_schedule_that_is_none_and_none_at_all_are_refused() -> None:
    for crons, words in ((Crons(), "no schedule is given"), (Crons(cron="at night"), "--cron is 'at night'")):
        with pytest.raises(ConfigError, match=words):
            crons.by_flow()
    assert Crons(cron="0 3 * * *", export_cron="0 5 * * *").by_flow() == {"daily": "0 3 * * *", "export": "0 5 * * *"}


def find_port() -> int:
    """One that is free."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port


def is_open(port: int) -> bool:
    with socket.socket() as asked:
        return asked.connect_ex(("127.0.0.1", port)) == 0


def schedule(config: Path, store: Path, port: int, home: dict[str, str]) -> subprocess.Popen[str]:
    """`recsys-cl schedule`, in a session of its own, whose processes are known by it."""
    command = [sys.executable, "-m", "recsys_cl.cli", "schedule", str(config), "--store", str(store)]
    return subprocess.Popen(
        [*command, "--cron", "0 3 * * *", "--port", str(port)],
        env=home,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def list_session(leader: int) -> list[int]:
    """The living processes of a session."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(OSError, psutil.Error):
            if os.getsid(process.pid) == leader and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
    return found


def begin_flow(port: int, home: dict[str, str]) -> None:
    """Have a daily flow run now, once its deployment is known."""
    command = [sys.executable, "-m", "prefect", "deployment", "run", "daily/daily"]
    served = home | {"PREFECT_API_URL": f"http://127.0.0.1:{port}/api"}
    for _ in range(20):
        if subprocess.run(command, env=served, capture_output=True, timeout=120).returncode == 0:
            return
    pytest.fail("the deployment never came")


@pytest.mark.parametrize("when", ["starting", "serving", "working"])
def test_a_schedule_that_is_terminated_leaves_no_process(
    when: str, prefect_home: dict[str, str], tiny_toml: Path, tmp_path: Path
) -> None:
    port = find_port()
    with schedule(tiny_toml, tmp_path / "s", port, prefect_home) as child:
        try:
            assert child.stdout is not None
            if when != "starting":
                line = child.stdout.readline()
                assert line == f"serving daily; runs are shown at http://127.0.0.1:{port}\n"
                assert is_open(port)
                if when == "working":
                    begin_flow(port, prefect_home)
                    while not any("prefect.engine" in psutil.Process(pid).cmdline() for pid in list_session(child.pid)):
                        assert child.poll() is None
            else:
                while len(list_session(child.pid)) < 2:  # the server
                    assert child.poll() is None
            os.kill(child.pid, signal.SIGTERM)
            child.communicate(timeout=120)
            assert list_session(child.pid) == []
            assert not is_open(port)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)


@pytest.mark.parametrize("speaks", [b"", b"SSH-2.0-OpenSSH\r\n"])
def test_a_schedule_whose_port_is_taken_says_so_in_one_line(
    speaks: bytes, prefect_home: dict[str, str], tiny_toml: Path, tmp_path: Path
) -> None:
    def answer(server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                with server.accept()[0] as asked:
                    asked.sendall(speaks)

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=answer, args=(server,), daemon=True).start()
        port = server.getsockname()[1]
        with schedule(tiny_toml, tmp_path / "s", port, prefect_home) as child:
            done, told = child.communicate(timeout=120)
    assert (child.returncode, done) == (2, "")
    (line,) = told.splitlines()
    assert line.startswith(f"recsys-cl: port {port} is taken; expected a free port; choose --port")


def test_the_command_stays_serves_with_a_server_of_its_own_and_ends_with_it(
    prefect_home: dict[str, str], tiny_toml: Path, tmp_path: Path
) -> None:
    port = find_port()
    command = [sys.executable, "-m", "flows.deployments", str(tiny_toml), "--store", str(tmp_path / "s")]
    command += ["--cron", "0 3 * * *", "--maintenance-cron", "0 6 * * 0", "--port", str(port)]
    with subprocess.Popen(
        command, env=prefect_home, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as child:
        try:
            assert child.stdout is not None
            line = child.stdout.readline()
            assert line == f"serving daily, maintenance; runs are shown at http://127.0.0.1:{port}\n"
            served = prefect_home | {"PREFECT_API_URL": f"http://127.0.0.1:{port}/api"}
            for _ in range(30):
                found = subprocess.run([sys.executable, "-c", ASK], env=served, capture_output=True, text=True).stdout
                if found.count("\n") == 2:
                    break
            store = tmp_path / "s"
            assert found.splitlines() == [
                f"daily|0 3 * * *|{store}|1|daily|recsys_cl",
                f"maintenance|0 6 * * 0|{store}|1|maintenance|recsys_cl",
            ]
            os.kill(child.pid, signal.SIGINT)
            child.wait(60)
            assert not is_open(port), "the server outlived the command"
        finally:
            if child.poll() is None:
                os.killpg(child.pid, signal.SIGKILL)


CANCEL = """
import sys, time
from prefect.client.orchestration import get_client
from prefect.states import Cancelling
with get_client(sync_client=True) as client:
    deployment = client.read_deployment_by_name("daily/daily")
    run = client.create_flow_run_from_deployment(deployment.id)
    while not client.read_flow_run(run.id).state.is_running():
        time.sleep(0.5)
    client.set_flow_run_state(run.id, Cancelling())
    while not client.read_flow_run(run.id).state.is_final():
        time.sleep(0.5)
    print(run.id, client.read_flow_run(run.id).state_name)
"""


def test_a_flow_run_that_is_cancelled_is_told_of(prefect_home: dict[str, str], tmp_path: Path) -> None:
    own = tmp_path / "prefect"  # a run that another test has killed would keep this one waiting until its lease ends
    home = prefect_home | {"PREFECT_HOME": str(own), "PREFECT_PROFILES_PATH": str(own / "profiles.toml")}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    window = tmp_path / "log" / "dt=2026-01-01"  # still being written: it is waited for
    window.mkdir(parents=True)
    (window / "part.csv").write_text("user_id,item_id,timestamp\nu1,i1,1\n")
    keep = f"import sys; open({str(tmp_path / 'told')!r}, 'a').write(sys.stdin.read() + chr(10))"
    lines = [f'ingest.log = "{tmp_path / "log"}"', "schedule.quiet_minutes = 1e5", "[notify]"]
    (tmp_path / "c.toml").write_text("\n".join([*lines, f"command = {json.dumps([sys.executable, '-c', keep])}"]))
    command = [sys.executable, "-m", "flows.deployments", str(tmp_path / "c.toml"), "--store", str(tmp_path / "s")]
    command += ["--cron", "0 3 29 2 *", "--port", str(port)]
    with subprocess.Popen(command, env=home, stdout=subprocess.PIPE, text=True, start_new_session=True) as child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline().startswith("serving daily")
            served = home | {"PREFECT_API_URL": f"http://127.0.0.1:{port}/api"}
            done = subprocess.run(
                [sys.executable, "-c", CANCEL], env=served, capture_output=True, text=True, timeout=300
            )
            assert done.returncode == 0, done.stderr
            flow_run, state = done.stdout.split()
            assert state == "Cancelled"
            told = [json.loads(line) for line in (tmp_path / "told").read_text().splitlines()]
            assert [(one["flow_run_id"], one["state"]) for one in told] == [(flow_run, "cancelled")]
        finally:
            os.killpg(child.pid, signal.SIGKILL)
