"""Exports: every user and item once, the same lines whatever the block, and a file that is whole or absent."""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest

from recsys_cl.errors import InputError
from recsys_cl.evaluation.topk import search_exact
from recsys_cl.serving.export import export_neighbors, export_recommendations
from recsys_cl.serving.lookup import Release

EXPORTS = (export_recommendations, export_neighbors)


def test_recommendations_are_the_exact_best_unseen_items_of_every_user(release: Release, tmp_path: Path) -> None:
    n_lines = export_recommendations(release, tmp_path / "r.parquet", 7)
    frame = pl.read_parquet(tmp_path / "r.parquet")
    assert frame.columns == ["user_id", "item_id", "score", "rank", "release"]
    assert len(frame) == n_lines
    parts = release.parts
    exact = search_exact(parts.user_vectors, parts.item_vectors, 7, parts.seen)
    lines, places = np.nonzero(exact.rows >= 0)
    assert frame["user_id"].to_list() == parts.users.get_ids(lines).to_list()
    assert frame["item_id"].to_list() == parts.catalog.items.get_ids(exact.rows[lines, places]).to_list()
    assert frame["rank"].to_list() == (places + 1).tolist()
    np.testing.assert_array_equal(frame["score"].to_numpy(), exact.scores[lines, places])
    assert frame["release"].unique().to_list() == [release.version]
    assert frame["user_id"].n_unique() == len(parts.users) - 1  # the first user has seen everything


def test_exported_recommendations_are_those_of_lookup(release: Release, tmp_path: Path) -> None:
    export_recommendations(release, tmp_path / "r.parquet", 5)
    frame = pl.read_parquet(tmp_path / "r.parquet")
    for user in frame["user_id"].unique().to_list():
        expected = [answer["item_id"] for answer in release.answer_user(user, 5)]
        assert frame.filter(pl.col("user_id") == user)["item_id"].to_list() == expected


def test_exported_neighbors_are_those_of_lookup(release: Release, tmp_path: Path) -> None:
    export_neighbors(release, tmp_path / "n.parquet", 5)
    frame = pl.read_parquet(tmp_path / "n.parquet")
    assert frame.columns == ["item_id", "neighbor_id", "score", "rank", "space", "release"]
    assert frame["space"].cast(pl.String).unique().to_list() == ["behavior"]
    expected = release.neighbors(release.parts.catalog.items.to_series(), k=5)
    assert frame["item_id"].to_list() == expected["item_id"].to_list()  # type: ignore[union-attr]
    assert frame["neighbor_id"].to_list() == expected["neighbor_id"].to_list()  # type: ignore[union-attr]
    assert (frame["item_id"] != frame["neighbor_id"]).all()


@pytest.mark.parametrize("export", EXPORTS)
def test_the_block_changes_no_line(release: Release, tmp_path: Path, export: Callable[..., int]) -> None:
    frames = []
    for block_rows in (1, 7, 16_384):
        export(release, tmp_path / "x.parquet", 9, block_rows=block_rows)
        frames.append(pl.read_parquet(tmp_path / "x.parquet"))
    assert frames[0].equals(frames[1])
    assert frames[0].equals(frames[2])


def test_a_block_is_a_row_group(release: Release, tmp_path: Path) -> None:
    """Lines are written as they come, not gathered."""
    export_neighbors(release, tmp_path / "n.parquet", 2, block_rows=20)
    assert pq.ParquetFile(tmp_path / "n.parquet").num_row_groups == 3


def test_progress_is_told_to_the_end(release: Release, tmp_path: Path) -> None:
    told: list[tuple[str, float, float]] = []
    export_neighbors(
        release, tmp_path / "n.parquet", 2, lambda what, done, total, _: told.append((what, done, total)), 20
    )
    assert told == [("export neighbors", done, 60) for done in (0, 20, 40, 60)]


@pytest.mark.parametrize("k", [0, 61])
@pytest.mark.parametrize("export", EXPORTS)
def test_a_bad_k_is_refused(release: Release, tmp_path: Path, export: Callable[..., int], k: int) -> None:
    with pytest.raises(InputError, match="1 to 60"):
        export(release, tmp_path / "x.parquet", k)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("export", EXPORTS)
def test_an_output_that_cannot_be_written_is_refused(
    release: Release, tmp_path: Path, export: Callable[..., int]
) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder.parquet").mkdir()
    bad = {
        "missing/x.parquet": "there is no folder",
        "file/x.parquet": "there is no folder",
        "folder.parquet": "is a folder",
        "x.xlsx": "ends in .parquet",
        "x": "ends in .parquet",
    }
    before = sorted(tmp_path.iterdir())
    for name, message in bad.items():
        with pytest.raises(InputError, match=message):
            export(release, tmp_path / name, 5)
    assert sorted(tmp_path.iterdir()) == before


def test_a_folder_without_permission_is_refused(
    store: Path, tmp_path: Path, run_bound: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    (tmp_path / "closed").mkdir(mode=0o555)
    code = (
        "import sys; from pathlib import Path; from recsys_cl.errors import InputError\n"
        "from recsys_cl.serving.export import export_neighbors; from recsys_cl.serving.lookup import open_release\n"
        "try: export_neighbors(open_release(sys.argv[1]), Path(sys.argv[2]), 5)\n"
        "except InputError as error: print(error)"
    )
    done = run_bound("-c", code, store, tmp_path / "closed" / "x.parquet")
    assert "cannot be written" in done.stdout, done.stderr
    assert list((tmp_path / "closed").iterdir()) == []


def test_a_disk_that_refuses_leaves_what_was_there(store: Path, tmp_path: Path) -> None:
    out = tmp_path / "x.parquet"
    out.write_bytes(b"what was there")
    code = (
        "import sys; from pathlib import Path; from recsys_cl.serving.lookup import open_release\n"
        "from recsys_cl.serving.export import export_neighbors; from recsys_cl.errors import InputError\n"
        "release = open_release(sys.argv[1])\n"
        "try: export_neighbors(release, Path(sys.argv[2]), 50)\n"
        "except InputError as error: print('refused', error)\n"
    )

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))

    command = [sys.executable, "-c", code, str(store), str(out)]
    done = subprocess.run(command, capture_output=True, text=True, preexec_fn=limit, timeout=60)
    assert done.stdout.startswith("refused"), done.stderr
    assert out.read_bytes() == b"what was there"
    assert list(tmp_path.iterdir()) == [out]
