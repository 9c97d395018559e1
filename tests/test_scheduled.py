"""A schedule end to end: a real Prefect server and worker, a deployment every few seconds; killed, and recovered."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl
import psutil
import pytest

from recsys_cl.config import Config, apply_settings
from recsys_cl.files import read_json

ROOT = Path(__file__).parents[1]
CANARY = "canary-4b1d9c"
STATES = """
from prefect.client.orchestration import get_client
with get_client(sync_client=True) as client:
    for run in client.read_flow_runs(limit=200):
        print(run.name, run.state_name, run.state.message, sep="|")
"""


class Place:
    """A folder with a log by days, a store, and the environment of a server of its own."""

    def __init__(self, folder: Path, events: pl.DataFrame, home: dict[str, str]) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.folder, self.store, self.events = folder, folder / "store", events
        self.log = (folder / "out.log").open("w")
        self.env = home | {
            "PREFECT_API_URL": f"http://127.0.0.1:{self.port}/api",
            "PREFECT_HOME": str(folder / "prefect"),
            "PREFECT_PROFILES_PATH": str(folder / "prefect" / "profiles.toml"),
            "PREFECT_WORKER_QUERY_SECONDS": "1",
            "DO_NOT_TRACK": "1",
            "WEBHOOK": f"http://127.0.0.1:9/{CANARY}",  # nobody listens there: telling fails, and tells no secret
        }

    def add_day(self, number: int) -> None:
        """A window of the log, whole at once."""
        folder = self.folder / "log" / f"dt=2026-01-0{number}"
        folder.mkdir(parents=True)
        n = self.events.height // 3
        self.events.slice((number - 1) * n, n).write_csv(folder / "part.csv")
        (folder / "_SUCCESS").touch()

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """A Prefect process in a group of its own."""
        command = [sys.executable, "-m", "prefect", "--no-prompt", *arguments]
        return subprocess.Popen(
            command, env=self.env, cwd=ROOT, stdout=self.log, stderr=self.log, start_new_session=True
        )

    def ask(self, *arguments: str) -> str:
        """What a Python process prints."""
        done = subprocess.run(
            [sys.executable, *arguments], env=self.env, cwd=ROOT, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def list_runs(self) -> set[str]:
        """The ids of the runs."""
        return {path.name for path in (self.store / "runs").iterdir()}

    def count_releases(self) -> int:
        """How many windows are recorded as published."""
        path = self.store / "windows.json"
        known = read_json(path).values() if path.exists() else ()
        return len({done["release"] for windows in known for done in windows.values()})


def wait_for(what: Callable[[], bool], seconds: float, between: float = 0.5) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(between)


def switch_off(child: subprocess.Popen[bytes]) -> None:
    """The process, and every process that it has started, wherever: the machine went off."""
    with contextlib.suppress(psutil.NoSuchProcess):
        whole = psutil.Process(child.pid)
        for one in (whole, *whole.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                one.suspend()  # or it would notice, and end in peace
        for one in (*whole.children(recursive=True), whole):
            one.kill()
    child.wait(30)


@pytest.fixture(scope="module")
def place(
    tiny_config: Config, prefect_home: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("scheduled")
    place = Place(folder, pl.read_csv(tiny_config.ingest.log), prefect_home)
    keep = f"import sys; open({str(folder / 'told')!r}, 'a').write(sys.stdin.read() + chr(10))"
    settings = [
        f'ingest.log="{folder / "log"}"',
        "publishing.compare_live=false",
        "publishing.most_items_lost=0.99",
        "export.k=5",
    ]
    lines = []
    for section, values in apply_settings(tiny_config, settings).dump().items():
        lines += [f"[{section}]", *(f"{key} = {json.dumps(value)}" for key, value in values.items() if key != "store")]
    command = json.dumps([sys.executable, "-c", keep])
    lines += ["[notify]", 'webhook = "${WEBHOOK}"', f"command = {command}", 'states = ["completed", "crashed"]']
    (folder / "daily.toml").write_text("\n".join(lines))
    server = place.start("server", "start", "--port", str(place.port))
    try:
        wait_for(lambda: _answers(place.port), 120)
        yield place
    finally:
        switch_off(server)


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/api/health", timeout=2):
        return True
    return False


@pytest.mark.timeout(1200)
def test_a_schedule_publishes_twice_is_killed_in_the_third_and_recovers(place: Place) -> None:
    place.add_day(1)
    place.ask("-m", "prefect", "work-pool", "create", "recsys-cl", "--type", "process")
    given = ("--param", f"config={place.folder / 'daily.toml'}", "--param", f"store={place.store}")
    place.ask("-m", "prefect", "--no-prompt", "deploy", "--name", "daily", "--interval", "5", *given)
    assert "daily/daily" in place.ask("-m", "prefect", "deployment", "ls")

    worker = place.start("worker", "start", "--pool", "recsys-cl")
    try:
        wait_for(lambda: place.count_releases() == 1, 150)
        place.add_day(2)
        wait_for(lambda: place.count_releases() == 2, 150)
        known = place.list_runs()
        place.add_day(3)

        def is_training() -> bool:
            new = place.list_runs() - known
            stages = [read_json(place.store / "runs" / name / "run.json")["stages"] for name in new]
            return any("ingest" in done and "publish" not in done for done in stages)

        wait_for(is_training, 150, 0.02)
    finally:
        switch_off(worker)
    live = (place.store / "releases" / "CURRENT").read_text()
    (third,) = place.list_runs() - known
    assert place.count_releases() == 2

    worker = place.start("worker", "start", "--pool", "recsys-cl")
    try:
        wait_for(lambda: place.count_releases() == 3, 600)  # the dead one keeps others out until its lease ends
        wait_for(lambda: "Crashed" in place.ask("-c", STATES), 60)
    finally:
        switch_off(worker)
    assert place.list_runs() == known | {third}, "the run that was killed is gone on with"
    assert (place.store / "releases" / "CURRENT").read_text() != live
    crashed = [line for line in place.ask("-c", STATES).splitlines() if "|Crashed|" in line]
    assert any("its process is gone" in line and third in line for line in crashed)
    told = [json.loads(line) for line in (place.folder / "told").read_text().splitlines()]
    assert {"completed", "crashed"} == {one["state"] for one in told}


def test_no_secret_is_in_the_store_the_logs_or_what_the_server_keeps(place: Place) -> None:
    place.log.flush()
    assert "could not be reached" in (place.folder / "out.log").read_text()
    holding = [
        path
        for folder in (place.store, place.folder / "prefect")
        for path in folder.rglob("*")
        if path.is_file() and CANARY.encode() in path.read_bytes()
    ]
    assert holding == []
    assert CANARY not in (place.folder / "out.log").read_text()
