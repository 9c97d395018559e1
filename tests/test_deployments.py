"""Deployments: served by one process with a server of its own, and described for workers as they are."""

from __future__ import annotations

import importlib
import inspect
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect.client.schemas.schedules import CronSchedule

from flows.deployments import FLOWS, Crons
from recsys_cl.errors import ConfigError

ROOT = Path(__file__).parents[1]
ASK = """
from prefect.client.orchestration import get_client
with get_client(sync_client=True) as client:
    known = [one for one in client.read_deployments() if one.name != "images"]  # another test's
    for one in sorted(known, key=lambda one: one.name):
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


def test_the_command_stays_serves_with_a_server_of_its_own_and_ends_with_it(
    prefect_home: dict[str, str], tiny_toml: Path, tmp_path: Path
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
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
            with socket.socket() as asked:
                assert asked.connect_ex(("127.0.0.1", port)) != 0, "the server outlived the command"
        finally:
            if child.poll() is None:
                os.killpg(child.pid, signal.SIGKILL)
