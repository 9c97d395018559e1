"""Exports: every user and item once, the same lines whatever the block, and a file that is whole or absent."""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest

from recsys_cl.errors import ConfigError, InputError, UnknownIdError
from recsys_cl.evaluation.topk import search_exact
from recsys_cl.publishing.release import publish_release
from recsys_cl.serving.export import Exported, export
from recsys_cl.serving.export_jobs import Request, What
from recsys_cl.serving.filters import Filters
from recsys_cl.serving.lookup import Release, open_release
from recsys_cl.serving.sinks import FileSink, FolderSink

REQUESTED: tuple[What, ...] = ("recommendations", "neighbors", "embeddings")
SEARCHED = REQUESTED[:2]
KILLED = (
    "import os, signal, sys; from pathlib import Path; from recsys_cl.serving.lookup import open_release\n"
    "from recsys_cl.serving.export import export; from recsys_cl.serving.export_jobs import Request\n"
    "from recsys_cl.serving.sinks import FolderSink\n"
    "def kill(what, done, total, note):\n"
    "    if done >= 25: os.kill(os.getpid(), signal.SIGKILL)\n"
    "sink = FolderSink(Path(sys.argv[2]))\n"
    "export(open_release(sys.argv[1]), Request('recommendations', 5), sink, kill, block_rows=5, shard_rows=10)"
)


@pytest.fixture
def frame_of(release: Release, tmp_path: Path) -> Callable[..., pl.DataFrame]:
    """frame_of(request, …): what an export to a Parquet file holds."""

    def read(request: Request, **options: int) -> pl.DataFrame:
        done = export(release, request, FileSink(tmp_path / "x.parquet"), **options)  # type: ignore[arg-type]
        frame = pl.read_parquet(tmp_path / "x.parquet")
        assert len(frame) == done.n_lines
        assert set(frame["release"]) == {release.version}
        assert set(frame["model"]) == {release.manifest.config_fingerprint}
        return frame

    return read


Frames = Callable[..., pl.DataFrame]


def test_recommendations_are_the_exact_best_unseen_items_of_every_user(release: Release, frame_of: Frames) -> None:
    frame = frame_of(Request("recommendations", 7))
    assert frame.columns == ["user_id", "item_id", "score", "rank", "release", "model"]
    parts = release.parts
    exact = search_exact(parts.user_vectors, parts.item_vectors, 7, parts.seen)
    lines, places = np.nonzero(exact.rows >= 0)
    assert frame["user_id"].to_list() == parts.users.get_ids(lines).to_list()
    assert frame["item_id"].to_list() == parts.catalog.items.get_ids(exact.rows[lines, places]).to_list()
    assert frame["rank"].to_list() == (places + 1).tolist()
    np.testing.assert_array_equal(frame["score"].to_numpy(), exact.scores[lines, places])
    assert frame["user_id"].n_unique() == len(parts.users) - 1  # the first user has seen everything


def test_exported_recommendations_are_those_of_lookup(release: Release, frame_of: Frames) -> None:
    chosen = Filters(deny=("i1", "i2", "a,b"), where={"genre": ("crime",)})
    for include_seen, filters in ((False, Filters()), (True, Filters()), (False, chosen), (True, chosen)):
        frame = frame_of(Request("recommendations", 5, include_seen=include_seen, filters=filters))
        assert frame["user_id"].n_unique() == len(release.parts.users) - (not include_seen)
        for user in frame["user_id"].unique().to_list():
            expected = [answer["item_id"] for answer in release.answer_user(user, 5, include_seen, filters)]
            assert frame.filter(pl.col("user_id") == user)["item_id"].to_list() == expected


def test_exported_neighbors_are_those_of_lookup(release: Release, frame_of: Frames) -> None:
    for filters in (Filters(), Filters(allow=("i1", "i2", "i3", "007"))):
        frame = frame_of(Request("neighbors", 5, filters=filters))
        assert frame.columns == ["item_id", "neighbor_id", "score", "rank", "space", "release", "model"]
        assert frame["space"].cast(pl.String).unique().to_list() == ["behavior"]
        expected = release.neighbors(release.parts.catalog.items.to_series(), k=5, filters=filters)
        assert frame["item_id"].to_list() == expected["item_id"].to_list()  # type: ignore[union-attr]
        assert frame["neighbor_id"].to_list() == expected["neighbor_id"].to_list()  # type: ignore[union-attr]
        assert (frame["item_id"] != frame["neighbor_id"]).all()


def test_a_filter_that_lets_nothing_through_exports_no_line(release: Release, tmp_path: Path) -> None:
    done = export(release, Request("recommendations", 5, filters=Filters(allow=())), FileSink(tmp_path / "x.csv"))
    assert done.n_lines == 0
    assert (tmp_path / "x.csv").read_text().splitlines() == ['"user_id","item_id","score","rank","release","model"']


def test_exported_embeddings_are_the_vectors_of_the_release(release: Release, frame_of: Frames) -> None:
    parts, items = release.parts, release.parts.catalog.items
    asking = release.encode_items(np.arange(len(items)))
    for of, ids, vectors in (
        ("items", items, parts.item_vectors),
        ("users", parts.users, parts.user_vectors),
        ("queries", items, asking),
    ):
        frame = frame_of(Request("embeddings", of=of), block_rows=7)  # type: ignore[arg-type]
        assert frame.columns[1:] == ["embedding", "release", "model"]
        assert frame[:, 0].to_list() == ids.to_series().to_list()
        np.testing.assert_array_equal(frame["embedding"].to_numpy(), vectors)


def test_only_those_named_are_exported_in_their_order_each_once(release: Release, frame_of: Frames) -> None:
    cases: tuple[tuple[What, str, list[str]], ...] = (
        ("recommendations", "user_id", ["u9", "u3", "u12"]),
        ("neighbors", "item_id", ["ünï", "a,b", "i4"]),
        ("embeddings", "item_id", ["ünï", "a,b", "i4"]),
    )
    for what, column, ids in cases:
        whole = frame_of(Request(what, 4))
        frame = frame_of(Request(what, 4, ids=pl.Series([*ids, ids[0]])), block_rows=2, shard_rows=2)
        assert frame[column].unique(maintain_order=True).to_list() == ids
        for one in ids:
            assert frame.filter(pl.col(column) == one).equals(whole.filter(pl.col(column) == one))


@pytest.mark.parametrize("what", REQUESTED)
def test_ids_that_the_release_lacks_are_named_or_left_out_as_asked(
    release: Release, tmp_path: Path, what: What
) -> None:
    known, sink = "u3" if what == "recommendations" else "i3", FileSink(tmp_path / "x.parquet")
    ids = pl.Series(["nobody", known, "nothing"])
    with pytest.raises(UnknownIdError, match=r"'nobody'.*'nothing'"):
        export(release, Request(what, 4, ids=ids), sink)
    done = export(release, Request(what, 4, ids=ids, skip_unknown=True), sink)
    assert (done.n_asked, done.n_unknown) == (1, 2)
    assert pl.read_parquet(sink.path)[:, 0].unique().to_list() == [known]


@pytest.mark.parametrize(
    "wrong",
    [
        {"what": "recommendations", "by": "image"},
        {"what": "embeddings", "of": "users", "by": "image"},
        {"what": "neighbors", "of": "users"},
        {"what": "neighbors", "include_seen": True},
        {"what": "embeddings", "approximate": True},
        {"what": "embeddings", "filters": Filters(deny=("a",))},
        {"what": "neighbors", "skip_unknown": True},
    ],
)
def test_what_would_do_nothing_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        Request(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("what", REQUESTED)
def test_neither_the_block_nor_the_shard_changes_a_line(frame_of: Frames, what: What) -> None:
    whole = frame_of(Request(what, 9))
    for block_rows, shard_rows in ((1, 60), (7, 10), (16_384, 3)):
        assert frame_of(Request(what, 9), block_rows=block_rows, shard_rows=shard_rows).equals(whole)


def test_a_block_is_a_row_group(release: Release, tmp_path: Path) -> None:
    """Lines are written as they come, not gathered."""
    export(release, Request("neighbors", 2), FileSink(tmp_path / "n.parquet"), block_rows=20)
    assert pq.ParquetFile(tmp_path / "n.parquet").num_row_groups == 3


def test_progress_is_told_to_the_end(release: Release, tmp_path: Path) -> None:
    told: list[tuple[str, float, float]] = []

    def tell(what: str, done: float, total: float, note: str) -> None:
        told.append((what, done, total))

    export(release, Request("neighbors", 2), FileSink(tmp_path / "n.parquet"), tell, block_rows=20)
    assert told == [("export neighbors", done, 60) for done in (0, 20, 40, 60)]


@pytest.mark.parametrize("kind", ["ivf", "hnsw", "ivfpq"])
def test_an_approximate_export_tells_what_it_missed(small_release: ModuleType, tmp_path: Path, kind: str) -> None:
    world = small_release.World(n_items=2000, n_users=300, dim=16, kind=kind, n_seen=5)
    parts = small_release.make_parts(tmp_path / "given", world)
    publish_release(parts, small_release.make_facts(world), tmp_path / "s")
    release = open_release(tmp_path / "s")
    sinks = [FileSink(tmp_path / f"{name}.parquet") for name in ("exact", "approximate")]
    assert export(release, Request("recommendations", 10), sinks[0]).ann_recall is None
    done = export(release, Request("recommendations", 10, approximate=True), sinks[1])
    exact, found = (pl.read_parquet(sink.path) for sink in sinks)
    assert len(found) == len(exact)
    assert found.select("user_id", "rank").equals(exact.select("user_id", "rank"))
    shared = exact.join(found, on=["user_id", "item_id"], how="semi")
    assert done.ann_recall == pytest.approx(len(shared) / len(exact), abs=2e-3)
    seen = parts.seen.item_rows.reshape(300, 5)
    rows = parts.catalog.items.find_rows(found["item_id"])
    users = parts.users.find_rows(found["user_id"])
    assert not (rows[:, None] == seen[users]).any()


def test_a_killed_export_goes_on_without_touching_the_shards_that_are_there(
    store: Path, release: Release, tmp_path: Path
) -> None:
    folder, whole = tmp_path / "shards", FileSink(tmp_path / "whole.parquet")
    done = subprocess.run([sys.executable, "-c", KILLED, str(store), str(folder)], capture_output=True, timeout=60)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert sorted(path.name for path in folder.iterdir() if not path.name.startswith(".")) == [
        "_release.json",
        "part-00000.parquet",
        "part-00001.parquet",
    ]
    before = {path: path.stat().st_mtime_ns for path in folder.glob("part-*")}

    def go_on() -> Exported:
        return export(release, Request("recommendations", 5), FolderSink(folder), shard_rows=10)

    first, second = go_on(), go_on()
    assert (first.n_shards, first.n_shards_kept, second.n_shards_kept) == (4, 2, 4)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert [path.name for path in folder.iterdir() if path.name.startswith(".")] == []
    assert (folder / "_SUCCESS").exists()
    lines = export(release, Request("recommendations", 5), whole).n_lines
    assert lines == first.n_lines == second.n_lines
    assert pl.read_parquet(folder / "*.parquet").equals(pl.read_parquet(whole.path))


@pytest.mark.parametrize(
    "other",
    [
        Request("recommendations", 6),
        Request("neighbors", 5),
        Request("recommendations", 5, include_seen=True),
        Request("recommendations", 5, filters=Filters(deny=("i1",))),
        Request("recommendations", 5, ids=pl.Series(["u1"])),
        Request("recommendations", 5, approximate=True),
    ],
)
def test_another_request_into_a_begun_folder_is_refused(release: Release, tmp_path: Path, other: Request) -> None:
    export(release, Request("recommendations", 5), FolderSink(tmp_path / "f"))
    before = {path: path.read_bytes() for path in (tmp_path / "f").iterdir()}
    with pytest.raises(InputError, match="another export"):
        export(release, other, FolderSink(tmp_path / "f"))
    assert {path: path.read_bytes() for path in (tmp_path / "f").iterdir()} == before


def test_memory_is_that_of_a_block_whatever_the_users_times_items(small_release: ModuleType, tmp_path: Path) -> None:
    world = small_release.World(n_items=20_000, n_users=100_000, dim=8, n_seen=10)  # all scores at once: 8 GB
    parts = small_release.make_parts(tmp_path / "given", world)
    publish_release(parts, small_release.make_facts(world), tmp_path / "s")
    code = (
        "import resource, sys; from pathlib import Path; from recsys_cl.serving.lookup import open_release\n"
        "from recsys_cl.serving.export import export; from recsys_cl.serving.export_jobs import Request\n"
        "from recsys_cl.serving.sinks import FolderSink\n"
        "release = open_release(sys.argv[1])\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "export(release, Request('recommendations', 10), FolderSink(Path(sys.argv[2])), block_rows=4096)\n"
        "print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "s"), str(tmp_path / "f")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 400  # MiB, with 256 for blocks of scores


@pytest.mark.parametrize("what", SEARCHED)
def test_a_bad_k_is_refused(release: Release, tmp_path: Path, what: What) -> None:
    with pytest.raises(InputError, match="a whole number from 1"):
        export(release, Request(what, 0), FileSink(tmp_path / "x.parquet"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("what", SEARCHED)
def test_more_lines_than_exist_are_as_many_as_exist(release: Release, tmp_path: Path, what: What) -> None:
    for name, k in (("all", 60), ("more", 10**9)):
        export(release, Request(what, k), FileSink(tmp_path / f"{name}.jsonl"))
    assert (tmp_path / "more.jsonl").read_bytes() == (tmp_path / "all.jsonl").read_bytes() != b""


def test_an_output_that_cannot_be_written_is_refused(release: Release, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder.parquet").mkdir()
    bad = {
        "missing/x.parquet": "there is no folder",
        "file/x.parquet": "there is no folder",
        "folder.parquet": "is a folder",
        "x.xlsx": "ends in .parquet",
    }
    before = sorted(tmp_path.iterdir())
    for name, message in bad.items():
        with pytest.raises(InputError, match=message):
            export(release, Request("recommendations", 5), FileSink(tmp_path / name))
    assert sorted(tmp_path.iterdir()) == before


def test_a_folder_without_permission_is_refused(
    store: Path, tmp_path: Path, run_bound: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    (tmp_path / "closed").mkdir(mode=0o555)
    code = (
        "import sys; from pathlib import Path; from recsys_cl.errors import InputError\n"
        "from recsys_cl.serving.export import export; from recsys_cl.serving.lookup import open_release\n"
        "from recsys_cl.serving.export_jobs import Request; from recsys_cl.serving.sinks import FileSink\n"
        "try: export(open_release(sys.argv[1]), Request('neighbors', 5), FileSink(Path(sys.argv[2])))\n"
        "except InputError as error: print(error)"
    )
    done = run_bound("-c", code, store, tmp_path / "closed" / "x.parquet")
    assert "cannot be written" in done.stdout, done.stderr
    assert list((tmp_path / "closed").iterdir()) == []


@pytest.mark.parametrize("name", ["x.parquet", "x.csv", "x.jsonl", "shards"])
def test_a_disk_that_refuses_leaves_nothing_half(store: Path, tmp_path: Path, name: str) -> None:
    out = tmp_path / name
    if out.suffix:
        out.write_bytes(b"what was there")
    sink = "FileSink" if out.suffix else "FolderSink"
    code = (
        "import sys; from pathlib import Path; from recsys_cl.serving.lookup import open_release\n"
        "from recsys_cl.serving.export import export; from recsys_cl.errors import InputError\n"
        f"from recsys_cl.serving.export_jobs import Request; from recsys_cl.serving.sinks import {sink} as Sink\n"
        "release = open_release(sys.argv[1])\n"
        "try: export(release, Request('neighbors', 50), Sink(Path(sys.argv[2])))\n"
        "except InputError as error: print('refused', error)\n"
    )

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))

    command = [sys.executable, "-c", code, str(store), str(out)]
    done = subprocess.run(command, capture_output=True, text=True, preexec_fn=limit, timeout=60)
    assert done.stdout.startswith("refused"), done.stderr
    if out.suffix:
        assert out.read_bytes() == b"what was there"
        assert list(tmp_path.iterdir()) == [out]
    else:
        assert [path.name for path in out.iterdir()] == ["_release.json"]
