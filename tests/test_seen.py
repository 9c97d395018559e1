"""What the Prefect page shows: after each stage what there is of it, of a run that failed too; never a reason to fail,
or to wait. Real flow runs, each a process with Prefect's embedded server."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock
from uuid import uuid4

import polars as pl
import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows import seen
from flows.seen import ShownProgress
from recsys_cl.files import read_json

# A flow, and then a question to Prefect about what it has left: one server for both.
SHOWING = """
import importlib, json, sys
from recsys_cl.door import run_app
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId
from prefect.client.schemas.sorting import FlowRunSort

code = run_app(importlib.import_module(sys.argv[1]).app, sys.argv[2:])
with get_client(sync_client=True) as client:
    flow = client.read_flow_runs(sort=FlowRunSort.START_TIME_DESC, limit=1)[0]
    mine = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[flow.id]))
    found = sorted(client.read_artifacts(artifact_filter=mine), key=lambda one: one.created)
shown = {one.key or one.description: [one.type, one.data, one.description] for one in found}
print(json.dumps([code, flow.state_name, flow.state.message, shown]))
"""


@dataclass(frozen=True)
class Flown:
    """A flow run: its exit code, state and message, its artifacts by key (progress: by description) as type, data and
    description, and the lines of its log."""

    code: int
    state: str
    message: str
    shown: dict[str, list[Any]]
    log: list[str]

    def read_table(self, key: str) -> list[dict[str, Any]]:
        """The rows of a table."""
        kind, data, _ = self.shown[key]
        assert kind == "table"
        rows: list[dict[str, Any]] = json.loads(data)
        return rows


def fly(home: dict[str, str], name: str, config: Path, store: Path) -> Flown:
    command = [sys.executable, "-c", SHOWING, f"flows.{name}", str(config), "--store", str(store)]
    done = subprocess.run(command, env=home, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    code, state, message, shown = json.loads(done.stdout.splitlines()[-1])
    return Flown(code, state, message, shown, done.stderr.splitlines())


def write_config(path: Path, tiny: Path, **settings: str) -> Path:
    """The tiny configuration at `path`, with other values, each the TOML of a `section__key`."""
    text = tiny.read_text()
    for name, value in settings.items():
        section, _, key = name.partition("__")
        before, head, after = text.partition(f"[{section}]\n")
        (former, *_) = re.findall(rf"(?m)^{key} = .*$", after)
        text = before + head + after.replace(former, f"{key} = {value}", 1)
    path.write_text(text)
    return path


@pytest.fixture(scope="module")
def place(tiny_toml: Path, tiny_sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the tiny log, three rows of it bad, a configuration `first.toml`, and room for a store."""
    folder = tmp_path_factory.mktemp("seen")
    log = (tiny_sample / "events.csv").read_text()
    n = log.splitlines()[0].count(",")
    bad = [f"u1,i1,never{',' * (n - 2)}"] * 2 + [f",i1,2026-01-01{',' * (n - 2)}"]
    (folder / "log.csv").write_text(log + "\n".join(bad) + "\n")
    write_config(folder / "first.toml", tiny_toml, ingest__log=json.dumps(str(folder / "log.csv")))
    return folder


@pytest.fixture(scope="module")
def first(prefect_home: dict[str, str], place: Path) -> Flown:
    """The flow run of a first release."""
    return fly(prefect_home, "daily", place / "first.toml", place / "s")


def test_a_run_shows_what_it_refused_its_metrics_its_progress_and_a_summary(first: Flown, place: Path) -> None:
    assert (first.code, first.state) == (0, "Completed"), first.log
    release = (place / "s" / "releases" / "CURRENT").read_text()
    manifest = read_json(place / "s" / "releases" / release / "manifest.json")
    run_id = manifest["run_id"]
    refused = first.read_table("refused")
    assert sum(row["rows"] for row in refused) == 3
    assert len(refused) == 2
    titles = [row[""] for row in first.read_table("metrics")]
    assert titles == ["model", "popularity", "item-kNN", "model − popularity", "model − item-kNN"]
    kind, text, _ = first.shown["report"]
    assert kind == "markdown"
    assert f"# Release {release} is live" in text
    assert all(f"{row['rows']:,} {row['reason']}" in text for row in refused)
    assert f"| model | {manifest['metrics']['recall@10']:.4f} [" in text
    assert f"`{place / 's' / 'releases' / release / 'report.html'}`" in text
    assert f"recsys-cl serve --store {place / 's'}" in text
    assert "file:" not in text
    assert not {"contract", "refusal", "neighbors"} & set(first.shown)
    for name in (f"publish, run {run_id}", f"export recommendations, release {release}"):
        assert first.shown[name][:2] == ["progress", 100.0]


def test_each_line_of_a_stage_and_of_an_export_says_what_it_is_of(first: Flown, place: Path) -> None:
    release = (place / "s" / "releases" / "CURRENT").read_text()
    run_id = read_json(place / "s" / "releases" / release / "manifest.json")["run_id"]
    for stage in ("ingest", "train", "evaluate", "publish"):
        lines = [line for line in first.log if f"run={run_id} window=all stage={stage} " in line]
        assert "begins" in lines[0]
        assert "is done" in lines[-1]
    lines = [line for line in first.log if f"run={run_id} release={release} stage=export-recommendations " in line]
    assert "begins" in lines[0]
    assert "rows of recommendations" in lines[-1]
    of_hooks = [line for line in first.log if "hook" in line]
    assert of_hooks == [], "nobody is told of what went well, and no line says that nobody is"


def test_a_refused_release_shows_its_reasons_its_metrics_beside_the_live_one_and_what_it_had_refused(
    first: Flown, prefect_home: dict[str, str], tiny_toml: Path, place: Path
) -> None:
    live = (place / "s" / "releases" / "CURRENT").read_text()
    log = json.dumps(str(place / "log.csv"))
    config = write_config(
        place / "gated.toml", tiny_toml, ingest__log=log, training__seed="5", publishing__most_churn="0.0"
    )
    gated = fly(prefect_home, "daily", config, place / "s")
    assert (gated.code, gated.state) == (1, "Failed"), gated.log
    assert (place / "s" / "releases" / "CURRENT").read_text() == live
    reasons = [row["reason"] for row in gated.read_table("refusal")]
    assert any("of the top 10 neighbors changed" in reason for reason in reasons)
    assert all(reason in gated.message for reason in reasons)
    assert sum(row["rows"] for row in gated.read_table("refused")) == 3
    *_, beside = gated.read_table("metrics")
    assert beside[""] == f"model − {live}"
    assert re.fullmatch(r"[+-]\d\.\d{4} \[[+-]\d\.\d{4}, [+-]\d\.\d{4}\]", beside["ndcg@20"])
    _, text, _ = gated.shown["report"]
    assert "was not published" in text
    assert all(f"- {reason}" in text for reason in reasons)
    (path,) = re.findall(r"Report: `(.*)`", text)
    assert Path(path).is_file()


def test_an_ingest_that_is_refused_shows_the_rows_that_it_refused(
    prefect_home: dict[str, str], tiny_toml: Path, tmp_path: Path
) -> None:
    (tmp_path / "log.csv").write_text("user_id,item_id,timestamp\nu1,i1,never\nu2,i1,never\n,i1,2026-01-01\n")
    config = write_config(
        tmp_path / "bad.toml", tiny_toml, ingest__log=json.dumps(str(tmp_path / "log.csv")), ingest__items='""'
    )
    flown = fly(prefect_home, "daily", config, tmp_path / "s")
    assert (flown.code, flown.state) == (2, "Failed")
    counts = {row["reason"]: row["rows"] for row in flown.read_table("refused")}
    assert counts == {"bad_time": 2, "missing_user_id": 1}
    assert not {"metrics", "report", "refusal"} & set(flown.shown)


@pytest.mark.parametrize("on_change", ["warn", "stop"])
def test_a_change_of_the_data_is_shown_beside_its_bounds_and_warned_of_or_refused(
    on_change: str, first: Flown, prefect_home: dict[str, str], tiny_toml: Path, place: Path
) -> None:
    log = place / f"{on_change}.csv"
    pl.read_csv(place / "log.csv", n_rows=300).write_csv(log)
    config = write_config(
        place / f"{on_change}.toml",
        tiny_toml,
        ingest__log=json.dumps(str(log)),
        ingest__incremental="false",
        contract__on_change=json.dumps(on_change),
        publishing__compare_live="false",
    )
    flown = fly(prefect_home, "daily", config, shutil.copytree(place / "s", place / on_change))
    (events,) = (row for row in flown.read_table("contract") if row["figure"] == "events")
    found = [events[name] for name in ("of", "found", "median", "at least", "verdict")]
    assert found == ["the log", "300", "1,500", "750", "CHANGED"]
    warned = [line for line in flown.log if "WARNING" in line and "data contract: events in the log: found 300" in line]
    (line,) = warned
    if on_change == "warn":
        assert flown.state == "Completed", flown.log
        assert "window all was not published" not in line
        assert "refusal" not in flown.shown
    else:
        assert (flown.code, flown.state) == (1, "Failed")
        assert "window all was not published: data contract" in line
        assert any(row["reason"].startswith("events in the log") for row in flown.read_table("refusal"))


def test_pictures_show_their_neighbors_and_the_release_stands_beside_the_last_one(
    first: Flown, prefect_home: dict[str, str], place: Path
) -> None:
    live = (place / "s" / "releases" / "CURRENT").read_text()
    own = {"enabled": "true", "side": "16", "channels": "1", "epochs": "1", "least_steps": "5", "cold_share": "0.0"}
    settings = {f"images__{key}": value for key, value in own.items()}
    config = write_config(place / "images.toml", place / "first.toml", **settings)
    flown = fly(prefect_home, "images", config, place / "s")
    assert flown.state == "Completed", flown.log
    kind, data, _ = flown.shown["neighbors"]
    assert (kind, data.startswith("data:image/png;base64,")) == ("image", True)
    *_, beside = flown.read_table("metrics")
    assert beside[""] == f"model − {live}"
    assert "refused" in flown.shown, "what the run had refused when it was ingested"
    release = (place / "s" / "releases" / "CURRENT").read_text()
    assert f"# Release {release} is live" in flown.shown["report"][1]
    assert f"| model − {live} |" in flown.shown["report"][1]


def test_a_server_that_is_gone_is_asked_once_and_told_in_one_line() -> None:
    lines: list[str] = []
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):  # nobody listens there
        shown = ShownProgress(lines.append, "run 1")
        for done in range(5):
            shown("training", done, 4.0)
    (line,) = lines
    assert line.startswith("progress is no longer shown (")


def test_a_bar_moves_when_it_is_new_and_full_and_every_few_seconds_not_at_each_step(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[float] = []
    settings = MagicMock()
    monkeypatch.setattr(seen, "temporary_settings", settings)
    monkeypatch.setattr(seen, "create_progress_artifact", lambda percent, **_: asked.append(percent) or uuid4())
    monkeypatch.setattr(seen, "update_progress_artifact", lambda _, percent: asked.append(percent))
    shown = ShownProgress(lambda line: None, "run 1")
    for done in range(1001):
        shown("training", done, 1000.0)
    assert asked == [0.0, 100.0]
    assert settings.call_count == len(asked), "it takes milliseconds"
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + 60)
    shown("evaluate", 0, 4.0)
    monkeypatch.setattr(time, "monotonic", lambda: now + 120)
    shown("evaluate", 1, 4.0)
    assert asked[2:] == [0.0, 25.0]
