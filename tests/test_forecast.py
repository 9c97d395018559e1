"""A forecast states what a run takes, writes nothing, and refuses what cannot fit with the figure that does not."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from recsys_cl.config import Config, apply_settings
from recsys_cl.errors import InputError, LogError, RefusedError
from recsys_cl.files import measure_folder
from recsys_cl.forecast import Forecast, Limits, check_fit, forecast_run
from recsys_cl.machine import measure_free_disk, measure_free_memory
from recsys_cl.pipeline import Outcome

GIB = 1 << 30


@pytest.fixture(scope="module")
def found(tiny_config: Config) -> Forecast:
    return forecast_run(tiny_config)


def test_what_is_said_is_what_the_run_takes(found: Forecast, tiny_outcome: Outcome) -> None:
    run = tiny_outcome.run
    ingest = run.read_result("ingest")
    assert found.share == 1
    for name in ("n_read", "n_events", "n_users", "n_items"):
        assert getattr(found, name) == ingest[name]
    lines = [json.loads(line) for path in (run.folder / "steps").iterdir() for line in path.read_text().splitlines()]
    assert found.steps.low <= sum("loss" in line for line in lines) <= found.steps.high
    # Its reports and pictures of the tower are most of so small a store.
    assert found.disk_bytes == pytest.approx(measure_folder(run.store), rel=0.5)
    assert 0 < found.minutes.low < found.minutes.high


def test_more_of_anything_takes_more(found: Forecast, tiny_config: Config) -> None:
    wide = forecast_run(apply_settings(tiny_config, ["model.dim=256"]))
    assert wide.disk_bytes > found.disk_bytes
    assert wide.memory_bytes > found.memory_bytes
    layered = forecast_run(apply_settings(tiny_config, ["model.query_hidden=4096"]))
    assert layered.disk_bytes > found.disk_bytes
    assert layered.memory_bytes > found.memory_bytes
    averaged = forecast_run(apply_settings(tiny_config, ["training.average_power=2"]))
    assert averaged.memory_bytes > found.memory_bytes


def test_a_tower_that_the_recipe_does_not_try_takes_no_memory(tiny_config: Config, tmp_path: Path) -> None:
    """Without times there is no order to read, but where the last events of each user are held out."""
    log = tmp_path / "untimed.csv"
    pl.read_csv(tiny_config.ingest.log).drop("timestamp").write_csv(log)
    searching = apply_settings(
        tiny_config, ["recipe.search=true", "model.query_hidden=0", f'ingest.log="{log}"', 'ingest.time_column=""']
    )
    memory = {
        (by, towers): forecast_run(
            apply_settings(searching, [f"split.by={by}", f"recipe.towers={json.dumps(towers.split())}"])
        ).memory_bytes
        for by in ("random", "leave_last")
        for towers in ("bag", "bag sequence")
    }
    assert memory["random", "bag sequence"] == memory["random", "bag"]
    assert memory["leave_last", "bag sequence"] > memory["leave_last", "bag"]


def test_a_run_that_cannot_fit_is_refused_with_each_figure_that_does_not(found: Forecast) -> None:
    check_fit(found, Limits(found.memory_bytes, found.peak_disk_bytes))
    with pytest.raises(RefusedError, match=r"memory: [\d,]+ MiB are needed, 1 are free") as refused:
        check_fit(found, Limits(1 << 20, GIB))
    assert (len(refused.value.reasons), refused.value.exit_code) == (1, 1)
    with pytest.raises(RefusedError, match=r"disk: \d+ MiB are needed, 0 are free") as refused:
        check_fit(found, Limits(1 << 20, 1))
    assert len(refused.value.reasons) == 2


def test_what_ingest_would_refuse_is_refused_before(tiny_config: Config, tmp_path: Path) -> None:
    missing = apply_settings(tiny_config, [f"ingest.log={str(tmp_path / 'none.csv')!r}"])
    with pytest.raises(LogError, match="there is no log"):
        forecast_run(missing)
    (tmp_path / "alone.csv").write_text("user_id,item_id,timestamp\na,x,1700000000\nb,x,1700000001\n")
    with pytest.raises(InputError, match="one item only"):
        forecast_run(apply_settings(tiny_config, [f"ingest.log={str(tmp_path / 'alone.csv')!r}"]))


def test_a_dry_run_writes_nothing_at_all(
    recsys: Callable[..., subprocess.CompletedProcess[str]], tiny_toml: Path, tmp_path: Path
) -> None:
    before = {path: path.stat().st_mtime_ns for path in tiny_toml.parent.rglob("*")}
    store = tmp_path / "store"
    done = recsys("run", tiny_toml, "--dry-run", "--json", "--store", store, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["n_read"] == 1500
    assert list(tmp_path.iterdir()) == []
    assert {path: path.stat().st_mtime_ns for path in tiny_toml.parent.rglob("*")} == before
    both = recsys("run", tiny_toml, "--dry-run", "--run", "x")
    assert (both.returncode, both.stdout) == (2, "")


def test_the_command_refuses_with_exit_code_1_where_memory_is_too_small(tiny_toml: Path, tmp_path: Path) -> None:
    code = (
        "import sys, recsys_cl.forecast as forecast; from recsys_cl import cli\n"
        "forecast.measure_free_memory = lambda: 1 << 20\n"
        f"sys.argv = ['recsys-cl', 'run', {str(tiny_toml)!r}, '--dry-run', '--store', {str(tmp_path / 's')!r}]\n"
        "sys.exit(cli.main())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert "this run cannot fit: memory:" in done.stderr
    assert "nothing was written" in done.stdout
    assert not (tmp_path / "s").exists()


def test_free_memory_is_that_of_the_container_and_free_disk_that_of_a_folder_to_be(tmp_path: Path) -> None:
    free = measure_free_memory(tmp_path)
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("1000\n")
    assert measure_free_memory(tmp_path) == pytest.approx(free, rel=0.5)
    (tmp_path / "memory.max").write_text("5000\n")
    assert measure_free_memory(tmp_path) == 4000
    assert measure_free_disk(tmp_path / "not" / "yet") == pytest.approx(measure_free_disk(tmp_path), rel=0.1)
