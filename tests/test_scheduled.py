"""A schedule end to end: a real Prefect server and worker, a deployment every few seconds; killed, and cancelled."""

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
from recsys_cl.files import TEMPORARY, read_json

ROOT = Path(__file__).parents[1]
CANARY = "canary-4b1d9c"
STATES = """
from prefect.client.orchestration import get_client
with get_client(sync_client=True) as client:
    for run in client.read_flow_runs(limit=200):
        print(run.name, run.state_name, run.state.message, run.id, sep="|")
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

    def find_new(self, known: set[str]) -> str:
        """The id of a run that is none of those known, once it is between ingest and publish."""
        found: list[str] = []

        def is_training() -> bool:
            for state in (self.store / "runs").glob("*/run.json"):  # none yet in a folder that was just made
                if state.parent.name not in known:
                    done = read_json(state)["stages"]
                    found.extend([state.parent.name] if "ingest" in done and "publish" not in done else [])
            return bool(found)

        wait_for(is_training, 150, 0.02)
        return found[0]

    def list_states(self) -> list[list[str]]:
        """Name, state, message and id of each flow run."""
        return [line.split("|") for line in self.ask("-c", STATES).splitlines() if line.count("|") == 3]

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
def test_a_schedule_outlives_a_kill_and_a_cancel_and_tells_no_secret(place: Place) -> None:
    place.add_day(1)
    place.ask("-m", "prefect", "work-pool", "create", "recsys-cl", "--type", "process")
    given = ("--param", f"config={place.folder / 'daily.toml'}", "--param", f"store={place.store}")
    place.ask("-m", "prefect", "--no-prompt", "deploy", "--name", "daily", "--interval", "5", *given)
    assert "daily/daily" in place.ask("-m", "prefect", "deployment", "ls")

    worker = place.start("worker", "start", "--pool", "recsys-cl")
    try:
        wait_for(lambda: place.count_releases() == 1, 150)
        cancel_the_second(place, worker)
        known = place.list_runs()
        place.add_day(3)
        third = place.find_new(known)
    finally:
        switch_off(worker)
    live = read_live(place)
    assert place.count_releases() == 2

    worker = place.start("worker", "start", "--pool", "recsys-cl")
    try:
        wait_for(lambda: place.count_releases() == 3, 600)  # the dead one keeps others out until its lease ends
        wait_for(lambda: any(state == "Crashed" for _, state, *_ in place.list_states()), 60)
        assert place.list_runs() == known | {third}, "the run that was killed is gone on with"
        assert read_live(place) != live
    finally:
        switch_off(worker)
    crashed = [message for _, state, message, _ in place.list_states() if state == "Crashed"]
    assert any("its process is gone" in message and third in message for message in crashed), crashed
    told = [json.loads(line) for line in (place.folder / "told").read_text().splitlines()]
    assert {"completed", "crashed"} == {one["state"] for one in told}
    look_for_the_secret(place)


def read_live(place: Place) -> str:
    """The name of the live release."""
    return (place.store / "releases" / "CURRENT").read_text()


def cancel_the_second(place: Place, worker: subprocess.Popen[bytes]) -> None:
    """What is live stays, nothing is left half-written, and the next flow run goes on with the run."""
    known, live = place.list_runs(), read_live(place)
    place.add_day(2)
    second = place.find_new(known)
    working = psutil.Process(worker.pid).children(recursive=True)
    for one in working:  # or it might be done before it is cancelled
        one.suspend()
    try:
        (running,) = [number for _, state, _, number in place.list_states() if state == "Running"]
        assert "publish" not in read_json(place.store / "runs" / second / "run.json")["stages"]
        place.ask("-m", "prefect", "--no-prompt", "flow-run", "cancel", running)
    finally:
        for one in working:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.resume()
    wait_for(lambda: [running] == [number for _, state, _, number in place.list_states() if state == "Cancelled"], 60)
    assert read_live(place) == live
    wait_for(lambda: place.count_releases() == 2, 150)
    assert place.list_runs() == known | {second}
    assert read_live(place) != live
    place.ask("-m", "recsys_cl.cli", "verify", "--store", str(place.store))
    wait_for(lambda: not list(place.store.rglob(f"{TEMPORARY}*")), 60)


def look_for_the_secret(place: Place) -> None:
    """It is neither in the store, nor in the logs, nor in what the server keeps."""
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
