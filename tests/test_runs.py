"""A run knows which of its stages are done, and what of it still holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from recsys_cl.config import Config, apply_settings
from recsys_cl.errors import RecsysError, StoreError
from recsys_cl.files import read_json, write_json
from recsys_cl.runs import STAGES, Run, create_run, open_run, reconfigure


def make(store: Path, *settings: str, done: int = 0) -> Run:
    run = create_run(store, apply_settings(Config(), ["ingest.log=a.csv", *settings]))
    for stage in run.stages[:done]:
        run.finish(stage, 1.0)
    return run


def test_runs_of_one_second_have_names_of_their_own(tmp_path: Path) -> None:
    runs = [make(tmp_path) for _ in range(30)]
    assert len({run.run_id for run in runs}) == 30
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == sorted(run.run_id for run in runs)
    for run in runs:
        assert run.run_id[16:29] == f"-{run.config.fingerprint}"
        assert open_run(tmp_path, run.run_id) == run


def test_the_newest_unfinished_run_is_found_even_within_a_second(tmp_path: Path) -> None:
    runs = [make(tmp_path, f"training.seed={number % 5}") for number in range(24)]
    for run in reversed(runs):
        for stage in run.stages:
            assert open_run(tmp_path).run_id == run.run_id
            run.finish(stage, 1.0)
    with pytest.raises(StoreError, match=r"every run in .* has been published"):
        open_run(tmp_path)


def test_what_a_run_was_told_comes_back(tmp_path: Path) -> None:
    run = make(tmp_path, "ingest.kind_weights={view = 1.5}", "evaluation.ks=[3]", "training.seed=7")
    found = open_run(tmp_path)
    assert found.config == run.config
    assert found.read_stages() == {}
    assert found.folder == tmp_path / "runs" / run.run_id
    assert found.raw == tmp_path / "raw"


def test_stages_are_done_once_finished_and_later_ones_no_more(tmp_path: Path) -> None:
    run = make(tmp_path, "images.enabled=true", done=5)
    assert list(run.read_stages()) == sorted(STAGES)
    for place, stage in reversed(list(enumerate(STAGES))):
        run.finish(stage, 2.0)
        assert set(run.read_stages()) == set(STAGES[: place + 1])
        assert run.read_stages()[stage]["seconds"] == 2.0
        assert run.is_done(stage)
        assert not any(run.is_done(later) for later in STAGES[place + 1 :])


@pytest.mark.parametrize(
    ("setting", "kept"),
    [
        ("publishing.store=/elsewhere", 4),
        ("index.kind=hnsw", 3),
        ("publishing.least_users=1", 3),
        ("images.enabled=true", 3),
        ("images.side=64", 3),
        ("evaluation.ks=[3]", 2),
        ("training.seed=1", 1),
        ("model.dim=9", 1),
        ("sampling.bag_share=0.4", 1),
        ("split.test_share=0.3", 1),
    ],
)
def test_another_setting_keeps_the_stages_that_do_not_look_at_it(tmp_path: Path, setting: str, kept: int) -> None:
    run = make(tmp_path, done=4)
    changed = reconfigure(run, apply_settings(run.config, [setting]))
    assert set(changed.read_stages()) == set(run.stages[:kept])
    assert changed.store == tmp_path
    assert open_run(tmp_path, run.run_id).config.model_copy(update={"publishing": None}) == changed.config.model_copy(
        update={"publishing": None}
    )


def test_another_way_of_reading_needs_another_run(tmp_path: Path) -> None:
    run = make(tmp_path, done=1)
    for setting in ("ingest.log=b.csv", "ingest.core_users=2", "images.root=/x"):
        with pytest.raises(StoreError, match="start a new run"):
            reconfigure(run, apply_settings(run.config, [setting]))
    assert open_run(tmp_path).config == run.config
    fresh = make(tmp_path)
    changed = reconfigure(fresh, apply_settings(fresh.config, ["ingest.log=b.csv"]))
    assert open_run(tmp_path, fresh.run_id).config.ingest.log == changed.config.ingest.log == "b.csv"


def break_state(state: dict[str, Any], how: str) -> str:
    if how in ("stages", "config"):
        del state[how]
    elif how == "wrong kind":
        state["stages"] = ["ingest"]
    return {"empty": "", "cut": json.dumps(state)[:-20], "list": "[1]"}.get(how, json.dumps(state))


@pytest.mark.parametrize("how", ["empty", "cut", "list", "stages", "config", "wrong kind"])
def test_a_damaged_run_is_named(tmp_path: Path, how: str) -> None:
    run = make(tmp_path)
    path = run.folder / "run.json"
    path.write_text(break_state(read_json(path), how))
    for open_damaged in (lambda: open_run(tmp_path), lambda: open_run(tmp_path, run.run_id)):
        with pytest.raises(StoreError, match=r"run\.json cannot be read .*; start a new run") as caught:
            open_damaged()
        assert str(path) in str(caught.value)


def test_a_run_of_settings_that_are_no_more_names_them(tmp_path: Path) -> None:
    run = make(tmp_path)
    state = read_json(run.folder / "run.json")
    state["config"]["training"]["no_such_setting"] = 1
    write_json(run.folder / "run.json", state)
    with pytest.raises(RecsysError, match="no_such_setting"):
        open_run(tmp_path)


def test_a_run_that_is_not_there_is_named_beside_those_that_are(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="holds no runs"):
        open_run(tmp_path)
    run = make(tmp_path)
    for name in ("no-such-run", "../runs", "", "."):
        with pytest.raises(StoreError, match=f"no run '{name}' in .*{run.run_id}"):
            open_run(tmp_path, name)


def test_other_folders_among_the_runs_are_left_alone(tmp_path: Path) -> None:
    run = make(tmp_path)
    for name in ("notes", ".partial-x", "20990101T000000Z-000000000000", "20990101T000000Z-abcdefabcdef-x"):
        (tmp_path / "runs" / name).mkdir()
    (tmp_path / "runs" / "20990101T000000Z-000000000001").write_text("a file")
    assert open_run(tmp_path).run_id == run.run_id


def test_a_file_in_the_place_of_the_store_is_refused(tmp_path: Path) -> None:
    (tmp_path / "s").write_text("mine")
    with pytest.raises(StoreError, match="is a file; expected a folder for the store"):
        make(tmp_path / "s")
    with pytest.raises(StoreError, match="cannot write to the store"):
        make(tmp_path / "s" / "below")
    assert (tmp_path / "s").read_text() == "mine"


def test_a_store_without_permission_is_refused(tmp_path: Path, run_bound: Any) -> None:
    (tmp_path / "s").mkdir(mode=0o555)
    code = (
        "import sys; from pathlib import Path; from recsys_cl.config import Config\n"
        "from recsys_cl.runs import create_run; from recsys_cl.errors import StoreError\n"
        "try: create_run(Path(sys.argv[1]), Config())\n"
        "except StoreError as error: print(error)"
    )
    done = run_bound("-c", code, tmp_path / "s")
    assert "cannot write to the store" in done.stdout, done.stderr
    assert "Permission denied" in done.stdout


def test_settings_that_this_version_does_not_know_are_blamed_on_the_run(tmp_path: Path) -> None:
    run = make(tmp_path)
    state = read_json(run.folder / "run.json")
    state["config"]["training"]["magic"] = 1
    write_json(run.folder / "run.json", state)
    with pytest.raises(StoreError, match=r"run\.json holds settings of another version .*start a new run"):
        open_run(tmp_path, run.run_id)
