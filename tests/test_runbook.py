"""The commands of docs/operations.md for restoring, as they are written there, on a real store."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from recsys_cl.files import read_json
from recsys_cl.pipeline import Outcome, run_stage
from recsys_cl.publishing.store import list_versions, read_current
from recsys_cl.publishing.upkeep import verify_store
from recsys_cl.runs import open_run

TEXT = (Path(__file__).parents[1] / "docs" / "operations.md").read_text().split("## Restore")[1].split("## Upgrade")[0]
BLOCKS = [re.sub(r"(?m)^[$>] ", "", block) for block in re.findall(r"```console\n(.*?)```", TEXT, flags=re.DOTALL)]
Do = Callable[..., str]


@pytest.fixture
def store(tiny_outcome: Outcome, tmp_path: Path) -> Path:
    """Two releases of one run."""
    store = shutil.copytree(tiny_outcome.run.store, tmp_path / "store")
    run_stage(open_run(store, tiny_outcome.run.run_id), "publish")
    return store


@pytest.fixture
def do(tmp_path: Path) -> Do:
    """do(number, NAME=value…): what a block prints, its words in capitals replaced."""

    def run(number: int, **names: str) -> str:
        script = BLOCKS[number]
        for name, value in names.items():
            assert name in script
            script = script.replace(name, value)
        script = f'set -e\nrecsys-cl() {{ "{sys.executable}" -m recsys_cl.cli "$@"; }}\n{script}'
        done = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


def test_a_store_that_is_gone_comes_back_from_its_backup(store: Path, do: Do, tmp_path: Path) -> None:
    live, versions = read_current(store), list_versions(store)
    do(0)
    shutil.rmtree(store / "releases" / live)
    assert f"release {live} in store is whole" in do(1)
    assert (read_current(store), list_versions(store)) == (live, versions)
    assert (tmp_path / "store.damaged").is_dir()
    run_stage(open_run(store, open_run_id(store)), "publish")  # with its runs, it can go on


def open_run_id(store: Path) -> str:
    """The run of the live release."""
    return str(read_json(store / "releases" / read_current(store) / "manifest.json")["run_id"])


def test_a_bad_release_is_taken_back(store: Path, do: Do) -> None:
    live = read_current(store)
    (before,) = set(list_versions(store)) - {live}
    assert before in do(2)
    assert read_current(store) == before


@pytest.mark.parametrize("part", ["manifest.json", "item_embeddings.npy"])
def test_a_damaged_live_release_is_replaced_by_its_run(store: Path, do: Do, part: str) -> None:
    live, run_id = read_current(store), open_run_id(store)
    (before,) = set(list_versions(store)) - {live}
    path = store / "releases" / live / part
    path.write_bytes(path.read_bytes()[:-1])
    assert part in do(3, RELEASE=before, DAMAGED=live, RUN=run_id).splitlines()[0]
    assert live not in list_versions(store)
    assert read_current(store) != before
    assert not any(verify_store(store).values())
