"""Compacting: what is needed stays, what is not goes, and nothing that somebody works on."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from recsys_cl.compacting import compact_store
from recsys_cl.config import apply_settings
from recsys_cl.errors import StoreError
from recsys_cl.files import read_json
from recsys_cl.pipeline import Outcome, run_stage
from recsys_cl.release_summary import describe_compacted
from recsys_cl.runs import claim_run, create_run, list_run_ids
from recsys_cl.serving.lookup import open_release


@pytest.fixture
def store(tiny_outcome: Outcome, tmp_path: Path) -> Path:
    """The run of a live release, and three newer ones that have only ingested; the oldest of these of another log."""
    store = tmp_path / "store"
    shutil.copytree(tiny_outcome.run.store, store)
    config = tiny_outcome.run.config
    for seed in (1, 2, 3):
        run_stage(create_run(store, apply_settings(config, [f"training.seed={seed}"])), "ingest")
    return store


def test_old_runs_go_and_the_newest_and_those_of_releases_stay(store: Path, tiny_outcome: Outcome) -> None:
    ids = list_run_ids(store)
    assert (len(ids), ids[0]) == (4, tiny_outcome.run.run_id)
    done = compact_store(store, 1)
    assert done.runs == ids[1:3]
    assert done.size_bytes > 0
    assert list_run_ids(store) == [ids[0], ids[3]]
    assert open_release(store).manifest.run_id == ids[0]
    assert compact_store(store, 1).dump() == {"runs": [], "n_sources": 0, "size_bytes": 0, "unreadable": []}


def test_the_run_of_a_release_that_cannot_be_read_stays(store: Path, tiny_outcome: Outcome) -> None:
    ids = list_run_ids(store)
    manifest = store / "releases" / tiny_outcome.release / "manifest.json"
    manifest.write_bytes(manifest.read_bytes()[:-2])
    done = compact_store(store, 1)
    assert (done.runs, done.unreadable) == ([], [tiny_outcome.release])
    assert list_run_ids(store) == ids
    assert tiny_outcome.release in describe_compacted(done)


def test_a_run_that_a_process_works_on_stays(store: Path, tiny_outcome: Outcome) -> None:
    busy = create_run(store, tiny_outcome.run.config)
    create_run(store, tiny_outcome.run.config)
    code = "import sys,time; from pathlib import Path; from recsys_cl.runs import claim_run, open_run\n"
    code += "with claim_run(open_run(Path(sys.argv[1]), sys.argv[2])): print('x', flush=True); time.sleep(60)"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(store), busy.run_id], stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        assert busy.run_id not in compact_store(store, 1).runs
        child.kill()
    with claim_run(busy):
        pass
    assert busy.run_id in compact_store(store, 1).runs


def test_cached_sources_that_no_ledger_names_go_when_they_are_old(store: Path) -> None:
    (known,) = {part["key"] for part in read_json(store / "raw" / "sources.json")["sources"]}
    for name in ("0" * 32, "1" * 32):
        shutil.copytree(store / "raw" / known, store / "raw" / name)
    os.utime(store / "raw" / ("0" * 32), (1, 1))
    os.utime(store / "raw" / known, (1, 1))
    assert compact_store(store, 9).n_sources == 1
    assert {path.name for path in (store / "raw").iterdir() if path.is_dir()} == {known, "1" * 32}


def test_what_is_no_store_and_a_keep_of_none_are_refused(tmp_path: Path, store: Path) -> None:
    with pytest.raises(StoreError, match="there is no store"):
        compact_store(tmp_path / "none", 1)
    with pytest.raises(StoreError, match="--keep is 0"):
        compact_store(store, 0)
