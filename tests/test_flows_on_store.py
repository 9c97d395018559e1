"""Flows on a store, for real: maintenance verifies before it deletes, exports are written, one waits for another."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from recsys_cl.config import apply_settings
from recsys_cl.pipeline import Outcome, run_stage
from recsys_cl.publishing.store import list_versions, read_current
from recsys_cl.runs import create_run, list_run_ids, open_run

HOLD = """
import sys
from pathlib import Path
from recsys_cl.publishing.store import hold_store
with hold_store(Path(sys.argv[1]), "daily", 0.0, print):
    print("held", flush=True)
    sys.stdin.read()
"""
EACH = """
import sys
from flows import daily, images, maintenance
from recsys_cl.door import run_app
print([run_app(flow.app, sys.argv[1:]) for flow in (daily, images, maintenance)])
"""


@pytest.fixture
def store(tiny_outcome: Outcome, tmp_path: Path) -> Path:
    """Three releases of one run, and two newer runs that have only ingested."""
    store = shutil.copytree(tiny_outcome.run.store, tmp_path / "store")
    run = open_run(store, tiny_outcome.run.run_id)
    for _ in range(2):
        run_stage(run, "publish")
    for seed in (1, 2):
        run_stage(create_run(store, apply_settings(run.config, [f"training.seed={seed}"])), "ingest")
    return store


@pytest.fixture
def config(tiny_toml: Path, tmp_path: Path) -> Path:
    """Maintenance keeps one of each."""
    text = re.sub(r"(?m)^(keep_\w+) = .*$", r"\1 = 1", tiny_toml.read_text())
    (tmp_path / "config.toml").write_text(text)
    return tmp_path / "config.toml"


def start(home: dict[str, str], *arguments: str | Path, **more: Any) -> subprocess.Popen[str]:
    command = [sys.executable, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=home, **more)


@pytest.fixture
def held(store: Path) -> Any:
    """The store, held by another process."""
    with start(dict(os.environ), "-c", HOLD, store, stdin=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "held\n"
        yield child
        child.kill()


def test_maintenance_stops_at_a_damaged_release_before_anything_is_deleted(
    store: Path, config: Path, prefect_home: dict[str, str]
) -> None:
    versions, runs = list_versions(store), list_run_ids(store)
    assert (len(versions), len(runs)) == (3, 3)
    damaged = store / "releases" / read_current(store) / "item_embeddings.npy"
    data = bytearray(damaged.read_bytes())
    data[-1] ^= 1
    damaged.write_bytes(data)
    with start(prefect_home, "-m", "flows.maintenance", config, "--store", store) as child:
        _, told = child.communicate(timeout=300)
    assert child.returncode == 1, told
    (line,) = [line for line in told.splitlines() if line.startswith("recsys-cl: ")]
    assert f"{damaged.parent.name}/item_embeddings.npy" in line
    assert f"recsys-cl rollback --store {store}" in line
    assert "Traceback" not in told
    assert (list_versions(store), list_run_ids(store)) == (versions, runs)


def test_maintenance_waits_for_a_flow_that_is_killed_and_then_deletes_what_is_old(
    store: Path, config: Path, prefect_home: dict[str, str], held: subprocess.Popen[str]
) -> None:
    live, runs = read_current(store), list_run_ids(store)
    with start(prefect_home, "-m", "flows.maintenance", config, "--store", store) as child:
        assert child.stderr is not None
        told = next(line for line in child.stderr if "waiting for process" in line)
        assert f"process {held.pid} (daily), which works on the store {store}" in told
        assert len(list_versions(store)) == 3
        held.kill()
        done, logged = child.communicate(timeout=300)
    assert child.returncode == 0
    assert "pruned 2 releases" in done
    assert all(line in logged for line in done.splitlines())
    assert list_versions(store) == [live]
    assert list_run_ids(store) == [runs[0], runs[2]]  # that of the live release, and the newest


def test_each_flow_that_writes_gives_up_in_one_line_where_another_never_ends(
    store: Path, config: Path, prefect_home: dict[str, str], held: subprocess.Popen[str]
) -> None:
    config.write_text(config.read_text().replace("most_hours = 24.0", "most_hours = 0.0001"))
    versions = list_versions(store)
    with start(prefect_home, "-c", EACH, config, "--store", store) as child:
        done, told = child.communicate(timeout=300)
    assert done.splitlines()[-1] == "[2, 2, 2]"
    lines = [line for line in told.splitlines() if line.startswith("recsys-cl: ")]
    assert len(lines) == 3
    assert all(f"process {held.pid} (daily) works on the store {store}" in line for line in lines)
    assert list_versions(store) == versions


def test_the_export_flow_writes_what_is_configured_of_the_live_release_while_another_flow_works(
    store: Path, config: Path, prefect_home: dict[str, str], held: subprocess.Popen[str]
) -> None:
    text = config.read_text().replace('what = ["recommendations"]', 'what = ["recommendations", "neighbors"]')
    config.write_text(text.replace("k = 20\n", "k = 3\n"))
    with start(prefect_home, "-m", "flows.export", config, "--store", store) as child:
        done, told = child.communicate(timeout=300)
    assert child.returncode == 0, told
    live = read_current(store)
    files = [store / "exports" / f"{what}-{live}.parquet" for what in ("recommendations", "neighbors")]
    assert done.split() == list(map(str, files))
    for path, source in zip(files, ("user_id", "item_id"), strict=True):
        rows = pl.read_parquet(path)
        assert rows["release"].unique().to_list() == [live]
        assert rows.group_by(source).len()["len"].unique().to_list() == [3]
    assert held.poll() is None


def test_a_place_that_is_no_store_is_not_made_into_one(
    config: Path, prefect_home: dict[str, str], tmp_path: Path
) -> None:
    with start(
        prefect_home, "-c", EACH.replace("daily, images, ", "images, "), config, "--store", tmp_path / "no"
    ) as one:
        done, told = one.communicate(timeout=300)
    assert done.splitlines()[-1] == "[2, 2]"
    assert told.count("there is no store at") >= 2
    assert not (tmp_path / "no").exists()
