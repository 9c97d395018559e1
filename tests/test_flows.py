"""The daily flow, for real: Prefect's embedded server, a process of its own and a Prefect home of its own."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
import yaml
from prefect.client.schemas.objects import State, TaskRun
from prefect.states import Completed, Crashed, Failed
from prefect.utilities.callables import parameter_schema, parameter_schema_from_entrypoint

from flows import tasks
from flows.deployments import FLOWS
from flows.tasks import can_pass_later
from recsys_cl.errors import BusyError, LogError, RefusedError, SealError, StoreError, UnreachableError
from recsys_cl.files import TEMPORARY, read_json
from recsys_cl.publishing.store import list_versions

ROOT = Path(__file__).parents[1]
# A mistake of a user, and then a question to Prefect about what the runs before have left: one server for both.
AFTERWARDS = """
import json, sys
from flows.daily import app
from recsys_cl.door import run_app
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.sorting import FlowRunSort

code = run_app(app, sys.argv[1:])
with get_client(sync_client=True) as client:
    artifacts = sorted(client.read_artifacts(), key=lambda one: one.created)
    flow = client.read_flow_runs(sort=FlowRunSort.START_TIME_DESC, limit=1)[0]
    tasks = client.read_task_runs(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[flow.id])))
shown = {one.key or one.description: one.data for one in artifacts}
tried = [(run.name, run.state_name, run.run_count) for run in tasks]
print(json.dumps([code, shown, flow.state_name, flow.state.message, tried]))
"""


def run_python(home: dict[str, str], *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=240, env=home)


@pytest.fixture(scope="module")
def daily(
    prefect_home: dict[str, str], tiny_toml: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[subprocess.CompletedProcess[str], Path]:
    """A whole daily flow, and its store."""
    store = tmp_path_factory.mktemp("daily") / "s"
    config = store.parent / "daily.toml"
    text = tiny_toml.read_text().replace('what = ["recommendations"]', 'what = ["recommendations", "neighbors"]')
    config.write_text(text.replace("k = 20\n", "k = 1000\n"))  # more than there are items
    left = store / "exports" / f"{TEMPORARY}left"  # by a process that was killed long ago
    left.mkdir(parents=True)
    os.utime(left, (1, 1))
    return run_python(prefect_home, "-m", "flows.daily", config, "--store", store), store


def test_the_daily_flow_publishes_exports_and_prints_what_came_out(
    daily: tuple[subprocess.CompletedProcess[str], Path],
) -> None:
    done, store = daily
    assert done.returncode == 0, done.stderr
    release = (store / "releases" / "CURRENT").read_text()
    assert f"release {release} is live" in done.stdout
    assert re.search(r"run=\d{8}T\d{6}Z-[0-9a-f]{12} window=all \S", done.stderr)
    assert all(name in done.stdout for name in ("rows read 1,500", "model − popularity", "neighbors of", "next, try:"))
    n_items = read_json(store / "releases" / release / "manifest.json")["n_items"]
    exported = {path.name: pl.read_parquet(path) for path in (store / "exports").iterdir()}
    assert set(exported) == {f"{what}-{release}.parquet" for what in ("recommendations", "neighbors")}
    neighbors = exported[f"neighbors-{release}.parquet"]
    assert neighbors.height == n_items * (n_items - 1)
    assert neighbors["release"].unique().to_list() == [release]


def test_a_bad_log_fails_the_flow_in_one_line_and_what_the_good_one_found_is_shown(
    daily: tuple[subprocess.CompletedProcess[str], Path], prefect_home: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "log.csv").write_text("user_id,item_id,timestamp\nu1,i1,never\n")
    (tmp_path / "bad.toml").write_text("ingest.log = 'log.csv'\n")
    done = run_python(prefect_home, "-c", AFTERWARDS, tmp_path / "bad.toml", "--store", tmp_path / "s")
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("recsys-cl: ")]
    assert "none of the 1 rows of the log is left (refused: 1 bad_time)" in line
    code, shown, state, message, tried = json.loads(done.stdout)
    assert code == 2
    assert not (tmp_path / "s" / "releases").exists()
    (refused,) = (tmp_path / "s").glob("runs/*/refused.parquet")
    assert str(refused) in line
    assert (state, message) == ("Failed", line.removeprefix("recsys-cl: "))
    assert sorted(tried) == [["ingest", "Failed", 1], ["show-ingest", "Completed", 1]]  # not again: a bad log stays one
    store = daily[1]
    (path,) = store.glob("runs/*/evaluation.json")
    table = json.loads(shown["metrics"])
    figure = read_json(path)["metrics"]["model"]["ndcg@20"]["value"]
    assert [row[""] for row in table] == ["model", "popularity", "item-kNN", "model − popularity", "model − item-kNN"]
    assert table[0]["ndcg@20"].startswith(f"{figure:.4f} [")
    assert json.loads(shown["refused"]) == [{"reason": "bad_time", "rows": 1}], "of the bad one, which came last"
    release = (store / "releases" / "CURRENT").read_text()
    assert f"`{store / 'releases' / release / 'report.html'}`" in shown["report"]
    assert shown[f"publish, run {path.parent.name}"] == 100.0


def test_every_parameter_of_every_deployment_is_described_on_the_page() -> None:
    entrypoints = {one["entrypoint"] for one in yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]}
    schemas = [parameter_schema_from_entrypoint(str(ROOT / entrypoint)) for entrypoint in sorted(entrypoints)]
    schemas += [parameter_schema(flow) for flow in FLOWS.values()]
    assert len(schemas) == 2 * len(FLOWS)
    for schema in schemas:
        assert set(schema.properties) in ({"config", "store"}, {"config", "store", "force"})
        assert all(parameter.get("description") for parameter in schema.properties.values())


def test_a_mistake_in_the_configuration_is_told_before_a_server_starts(
    prefect_home: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "bad.toml").write_text("[ingestion]\n")
    done = run_python(prefect_home, "-m", "flows.daily", tmp_path / "bad.toml")
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("recsys-cl: no setting 'ingestion'")


def cause(error: Exception, reason: Exception) -> Exception:
    """The error as `raise error from reason` makes it."""
    error.__cause__ = reason
    return error


@pytest.mark.parametrize(
    ("state", "later"),
    [
        (Failed(data=OSError(5, "Input/output error")), True),
        (Failed(data=ConnectionResetError("the database hung up")), True),
        (Failed(data=TimeoutError("no answer")), True),
        (Failed(data=cause(StoreError("nothing was published"), OSError(28, "No space left on device"))), True),
        (Failed(data=cause(StoreError("nothing was published"), OSError(13, "Permission denied"))), False),
        (Failed(data=cause(LogError("log.csv.gz cannot be read"), OSError("zlib inflate failed"))), False),
        (Failed(data=FileNotFoundError(2, "No such file or directory")), False),
        (Failed(data=LogError("a bad log")), False),
        (Failed(data=UnreachableError("the database does not answer")), True),
        (Failed(data=BusyError("another process publishes")), True),
        (Failed(data=RefusedError("the gate refused", ["a reason"])), False),
        (Failed(data=SealError("index.faiss", "other bytes", "those that were sealed")), False),
        (Failed(data=ValueError("a bug")), False),
        (Crashed(data=MemoryError()), False),
        (Completed(data="done"), False),
    ],
    ids=lambda value: type(value.data).__name__ if isinstance(value, State) else None,
)
def test_only_what_can_pass_later_is_tried_again(state: State[object], later: bool) -> None:
    assert can_pass_later(tasks.export, TaskRun(task_key="x", dynamic_key="0"), state) is later


def test_what_touches_disks_and_databases_is_tried_again() -> None:
    for task in (tasks.run_stage, tasks.export):
        assert (task.retries, task.retry_condition_fn) == (2, can_pass_later)


def test_pictures_are_trained_on_and_published_with_the_run_that_is_live(
    daily: tuple[subprocess.CompletedProcess[str], Path], prefect_home: dict[str, str]
) -> None:
    _, store = daily
    before = (store / "releases" / "CURRENT").read_text()
    config = store.parent / "images.toml"
    others, images = (store.parent / "daily.toml").read_text().split("[images]")
    own = {"enabled": "true", "side": "16", "channels": "1", "epochs": "1", "least_steps": "5", "cold_share": "0.0"}
    for key, value in own.items():
        images = re.sub(rf"(?m)^{key} = .*$", f"{key} = {value}", images)
    config.write_text(f"{others}[images]{images}")
    done = run_python(prefect_home, "-m", "flows.images", config, "--store", store)
    assert done.returncode == 0, done.stderr
    release = (store / "releases" / "CURRENT").read_text()
    assert release != before
    assert f"release {release} is live" in done.stdout
    manifests = [read_json(store / "releases" / name / "manifest.json") for name in (before, release)]
    assert manifests[0]["run_id"] == manifests[1]["run_id"]
    assert (manifests[0]["images"] is None, manifests[1]["images"]["side"]) == (True, 16)


LOSING = """
import sys
from flows.daily import app
from recsys_cl import pipeline
from recsys_cl.door import run_app
from recsys_cl.publishing.store import read_current

real = pipeline.run_stage

def run_stage(run, stage, **given):
    real(run, stage, **given)
    if stage == "publish":  # a disk that does not keep what it was given
        path = run.store / "releases" / read_current(run.store) / "item_embeddings.npy"
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.unlink()
        path.write_bytes(data)

pipeline.run_stage = run_stage
sys.exit(run_app(app, sys.argv[1:]))
"""


def test_a_release_that_does_not_answer_is_taken_back_and_the_window_is_not_done(
    daily: tuple[subprocess.CompletedProcess[str], Path], prefect_home: dict[str, str], tmp_path: Path
) -> None:
    store = shutil.copytree(daily[1], tmp_path / "s")
    live, published = (store / "releases" / "CURRENT").read_text(), (store / "windows.json").read_text()
    n_before = len(list_versions(store))
    config = tmp_path / "again.toml"
    config.write_text((daily[1].parent / "daily.toml").read_text().replace("batch_users = 32", "batch_users = 16"))
    done = run_python(prefect_home, "-c", LOSING, config, "--store", store)
    assert done.returncode == 2, done.stderr
    assert "item_embeddings.npy" in done.stderr.splitlines()[-2] + done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert len(list_versions(store)) == n_before + 1
    assert (store / "releases" / "CURRENT").read_text() == live
    assert (store / "windows.json").read_text() == published


def test_a_stage_that_takes_too_long_is_ended_in_one_line_and_not_tried_again(
    prefect_home: dict[str, str], tiny_toml: Path, tmp_path: Path
) -> None:
    config = tmp_path / "short.toml"
    config.write_text(tiny_toml.read_text().replace("most_hours = 24.0", "most_hours = 0.00001"))
    done = run_python(prefect_home, "-m", "flows.daily", config, "--store", tmp_path / "s")
    assert done.returncode == 2, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("recsys-cl: ")]
    assert "ingest was ended: it took longer than schedule.most_hours=1e-05" in line
    assert "Retry" not in done.stderr
    assert not (tmp_path / "s" / "releases").exists()


# Flows one after another, with one server, and what became of each.
NIGHTS = """
import json, sys
from pathlib import Path
from flows import daily, tasks

config, store, log = sys.argv[1:]

def publish(force=None):
    state = daily.run_daily(config, store, force, return_state=True)
    runs = Path(store, "runs")
    print(json.dumps([state.name, state.message, len(list(runs.iterdir())) if runs.exists() else 0]), flush=True)
"""


def run_nights(home: dict[str, str], body: str, config: Path, store: Path, log: Path) -> list[tuple[str, str, int]]:
    """State, message and number of runs after each flow."""
    done = run_python(home, "-c", NIGHTS + body, config, store, log)
    assert done.returncode == 0, done.stderr
    return [tuple(json.loads(line)) for line in done.stdout.splitlines() if line.startswith("[")]


def write_config(path: Path, tiny_toml: Path, log: Path, *changes: tuple[str, str]) -> Path:
    """The tiny configuration on another log, with lines replaced."""
    text = re.sub(r"(?m)^log = .*$", f"log = {json.dumps(str(log))}", tiny_toml.read_text())
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path.write_text(text)
    return path


REFUSED_AND_CORRECTED = """
publish()
rows = Path(log).read_text().splitlines(keepends=True)
items = sorted({row.split(",")[1] for row in rows[1:]})
Path(log).write_text(rows[0] + "".join(row for row in rows[1:] if row.split(",")[1] in items[:20]))
publish()  # half of the items are gone
publish()
Path(log).write_text("".join(rows))
publish()
"""


def test_a_refused_window_is_not_trained_again_until_its_file_changes_and_is_then_read_anew(
    prefect_home: dict[str, str], tiny_toml: Path, tiny_sample: Path, tmp_path: Path
) -> None:
    log = tmp_path / "events.csv"
    shutil.copy(tiny_sample / "events.csv", log)
    config = write_config(tmp_path / "daily.toml", tiny_toml, log, ("incremental = true", "incremental = false"))
    store = tmp_path / "s"
    nights = run_nights(prefect_home, REFUSED_AND_CORRECTED, config, store, log)
    assert [(state, n_runs) for state, _, n_runs in nights] == [
        ("Completed", 1),
        ("Failed", 2),
        ("Failed", 2),
        ("Completed", 3),
    ]
    assert "items" in nights[1][1]
    assert nights[2][1] == nights[1][1]
    assert len(list_versions(store)) == 2
    live = read_json(store / "releases" / (store / "releases" / "CURRENT").read_text() / "manifest.json")
    assert live["n_items"] == 40


REFUSED_AND_PASSED = """
def add(day):
    (Path(log).parent / f"later-{day}").rename(Path(log) / f"dt=2026-01-0{day}")
    publish()

add(1)
add(2)
publish()
add(3)
publish()
"""


def test_a_refused_window_does_not_keep_newer_ones_from_being_published(
    prefect_home: dict[str, str], tiny_toml: Path, tiny_sample: Path, tmp_path: Path
) -> None:
    (tmp_path / "log").mkdir()
    header, *rows = (tiny_sample / "events.csv").read_text().splitlines(keepends=True)
    bad = ["u000004,i00009,view,never\n"] * 150
    for day, part in ((1, rows[:700]), (2, [*rows[700:800], *bad]), (3, rows[800:])):
        folder = tmp_path / f"later-{day}"
        folder.mkdir()
        (folder / "part.csv").write_text(header + "".join(part))
        (folder / "_SUCCESS").touch()
    changes = (('on_change = "warn"', 'on_change = "stop"'), ("compare_live = true", "compare_live = false"))
    config = write_config(tmp_path / "daily.toml", tiny_toml, tmp_path / "log", *changes)
    nights = run_nights(prefect_home, REFUSED_AND_PASSED, config, tmp_path / "s", tmp_path / "log")
    assert [(state, n_runs) for state, _, n_runs in nights] == [
        ("Completed", 1),
        ("Failed", 2),
        ("Failed", 2),
        ("Completed", 3),
        ("Completed", 3),
    ]
    assert nights[1][1].startswith("data contract: share refused")
    assert nights[2][1] == nights[1][1]
    assert nights[3][1].startswith("window 2026-01-02 was not published: refused before")
    assert nights[4][1].startswith("nothing to do: ")
    assert len(list_versions(tmp_path / "s")) == 2


KILLED = """
import psutil

def kill(*given):
    me = psutil.Process()
    for one in (*me.children(recursive=True), me):
        one.kill()

tasks.run_export = kill
publish()
"""
EXPORTED_LATER = """
from recsys_cl.errors import StoreError

def fail(*given):
    raise StoreError("no room for it")

real, tasks.run_export = tasks.run_export, fail
publish()
tasks.run_export = real
publish()
"""


def test_an_export_that_was_killed_or_failed_is_made_by_the_next_flow_which_publishes_nothing(
    prefect_home: dict[str, str], tiny_toml: Path, tiny_sample: Path, tmp_path: Path
) -> None:
    config, store, log = tmp_path / "daily.toml", tmp_path / "s", tiny_sample / "events.csv"
    write_config(config, tiny_toml, log)
    assert run_python(prefect_home, "-c", NIGHTS + KILLED, config, store, log).returncode == -9
    (release,) = list_versions(store)
    out = store / "exports" / f"recommendations-{release}.parquet"
    assert not out.exists()
    failed, made = run_nights(prefect_home, EXPORTED_LATER, config, store, log)
    assert failed == ("Failed", "no room for it", 1)
    assert (made[0], made[2]) == ("Completed", 1)
    assert re.fullmatch(f"nothing to do: .* as {release}, by run .*; exported {re.escape(str(out))}", made[1])
    assert pl.read_parquet(out)["release"].unique().to_list() == [release]
    out.unlink()
    again = run_python(prefect_home, "-m", "flows.daily", config, "--store", store)
    assert again.returncode == 0, again.stderr
    assert re.fullmatch(f"nothing to do: .* as {release}, by run .*\n", again.stdout)
    assert not out.exists(), "whoever takes an export away has it"
    assert list_versions(store) == [release]


HANGING = """
import importlib, sys, time
from flows import tasks
from recsys_cl.door import run_app
tasks.run_export = tasks.prune_store = lambda *given: time.sleep(600)
sys.exit(run_app(importlib.import_module(sys.argv[1]).app, sys.argv[2:]))
"""


@pytest.mark.parametrize(("flow", "what"), [("export", "the export of recommendations"), ("maintenance", "prune")])
def test_what_is_no_stage_is_bound_too(
    flow: str, what: str, daily: tuple[subprocess.CompletedProcess[str], Path], prefect_home: dict[str, str]
) -> None:
    store = daily[1]
    config = store.parent / f"short-{flow}.toml"
    config.write_text((store.parent / "daily.toml").read_text().replace("most_hours = 24.0", "most_hours = 0.0005"))
    done = run_python(prefect_home, "-c", HANGING, f"flows.{flow}", config, "--store", store)
    assert done.returncode == 2, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("recsys-cl: ")]
    assert f"{what} was ended: it took longer than schedule.most_hours=0.0005" in line
