"""A log goes in and a release comes out: stage by stage on disk, the test seen by the metrics alone."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import recsys_cl
from recsys_cl.catalog import Catalog
from recsys_cl.comparing import compare_runs
from recsys_cl.config import Config, apply_settings, format_value
from recsys_cl.embeddings import EmbeddingTable
from recsys_cl.errors import (
    ConfigError,
    InputError,
    InterruptedRunError,
    LogError,
    RecsysError,
    RefusedError,
    StoreError,
)
from recsys_cl.files import TEMPORARY, hash_file, read_json
from recsys_cl.interactions.split import split_interactions
from recsys_cl.interactions.table import Interactions
from recsys_cl.pipeline import Frames, Outcome, open_outcome, run_all, run_stage
from recsys_cl.publishing.live import list_releases
from recsys_cl.publishing.store import find_current
from recsys_cl.runs import STAGES, Run, create_run, open_run, reconfigure
from recsys_cl.serving.lookup import open_release


def run_on(log: Path, config: Config, store: Path, *settings: str, force: str | None = None) -> Outcome:
    changed = apply_settings(config, [f"ingest.log={format_value(str(log))}", *settings])
    return run_all(create_run(store, changed), force=force)


def copy_run(outcome: Outcome, folder: Path) -> Run:
    """The finished run in a store of its own, which may be written to."""
    shutil.copytree(outcome.run.store, folder / "store")
    return open_run(folder / "store", outcome.run.run_id)


def read_log(config: Config) -> pl.DataFrame:
    return pl.read_csv(config.ingest.log)


def shuffle_late(frame: pl.DataFrame, cut: int) -> pl.DataFrame:
    """The same log with the items of the events from `cut` (seconds) dealt out anew."""
    late = frame["timestamp"] >= cut
    items = frame["item_id"].to_numpy().copy()
    items[late.to_numpy()] = np.random.default_rng(0).permutation(items[late.to_numpy()])
    return frame.with_columns(item_id=pl.Series(items))


def test_every_stage_is_done_and_tells_what_it_found(tiny_outcome: Outcome) -> None:
    run = tiny_outcome.run
    assert set(run.read_stages()) == set(run.stages)
    ingest, train, evaluation, release = (
        tiny_outcome.read(name) for name in ("ingest", "train", "evaluation", "release")
    )
    assert ingest["n_read"] == 1_500 == ingest["n_kept"] + sum(ingest["refused"].values())
    assert train["audit"]["n_leaked"] == 0
    assert evaluation["n_users"] > 10
    assert {"model", "popularity", "item_knn"} == set(evaluation["metrics"])
    assert release["release"] == tiny_outcome.release == find_current(run.store)
    dumped = tiny_outcome.dump()
    assert dumped["train"] == train
    assert (dumped["run_id"], dumped["release"], dumped["store"]) == (run.run_id, tiny_outcome.release, str(run.store))
    assert list(run.store.rglob(f"{TEMPORARY}*")) == []


def test_the_published_fit_holds_every_user_and_item_of_the_log(tiny_outcome: Outcome, tiny_config: Config) -> None:
    log = read_log(tiny_config)
    parts = open_release(tiny_outcome.run.store).parts
    assert parts.users.to_series().to_list() == sorted(log["user_id"].unique())
    assert parts.catalog.items.to_series().to_list() == sorted(log["item_id"].unique())
    assert parts.item_vectors.shape == (log["item_id"].n_unique(), tiny_config.model.dim)
    assert parts.user_vectors.shape == (log["user_id"].n_unique(), tiny_config.model.dim)
    pairs = log.select("user_id", "item_id").unique()
    assert len(parts.seen.item_rows) == pairs.height
    for row, user in enumerate(parts.users.to_series()):
        seen = parts.catalog.items.get_ids(parts.seen.item_rows[parts.seen.offsets[row] : parts.seen.offsets[row + 1]])
        assert set(seen) == set(pairs.filter(pl.col("user_id") == user)["item_id"])
    files = tiny_outcome.run.folder / "published"
    release = tiny_outcome.run.store / "releases" / tiny_outcome.release
    assert hash_file(files / "candidates.npy") == hash_file(release / "item_embeddings.npy")
    assert hash_file(files / "queries.npy") == hash_file(release / "user_embeddings.npy")


def test_events_after_the_cut_change_the_metrics_and_the_published_fit_but_not_the_evaluated_one(
    tiny_outcome: Outcome, tiny_config: Config, tmp_path: Path
) -> None:
    cut = tiny_outcome.read("train")["audit"]["cut"]
    other = shuffle_late(read_log(tiny_config), cut // 1_000_000)
    other.write_csv(tmp_path / "events.csv")
    assert not other.equals(read_log(tiny_config))
    ours, theirs = tiny_outcome, run_on(tmp_path / "events.csv", tiny_config, tmp_path / "store")
    assert theirs.read("train")["audit"]["cut"] == cut
    for name in ("queries.npy", "candidates.npy"):
        evaluated = [hash_file(outcome.run.folder / "evaluated" / name) for outcome in (ours, theirs)]
        published = [hash_file(outcome.run.folder / "published" / name) for outcome in (ours, theirs)]
        assert evaluated[0] == evaluated[1]
        assert published[0] != published[1]
        assert evaluated[0] != published[0]
    for name in ("members", "choice"):
        assert ours.read("train")[name] == theirs.read("train")[name]
    figures = [outcome.read("evaluation")["metrics"]["model"]["ndcg@20"]["value"] for outcome in (ours, theirs)]
    assert figures[0] != figures[1]


def test_the_popularity_of_the_evaluated_fit_counts_training_users_alone(tiny_outcome: Outcome) -> None:
    run = tiny_outcome.run
    interactions = Interactions.read(run.folder / "interactions")
    train = split_interactions(interactions, run.config.split, run.config.training.seed).train
    for fitted, log in (("evaluated", train), ("published", interactions)):
        last = EmbeddingTable.read(run.folder / fitted / "candidates.npy", "candidate").vectors[:, -1]
        counts = log.count_users()
        order = np.argsort(counts, kind="stable")
        assert (np.diff(last[order]) >= 0).all()
        assert len(np.unique(last)) == len(np.unique(counts))


def test_the_figures_of_each_user_are_kept_and_their_means_are_the_metrics(tiny_outcome: Outcome) -> None:
    table = pl.read_parquet(tiny_outcome.run.folder / "per_user.parquet")
    evaluation = tiny_outcome.read("evaluation")
    assert table["user_id"].n_unique() == table.height == evaluation["n_users"]
    assert table["n_targets"].sum() == evaluation["n_targets"]
    metrics = [name for name in table.columns if "@" in name]
    assert set(metrics) == {f"{name}@{k}" for name in ("recall", "ndcg", "mrr") for k in evaluation["ks"]}
    for metric in metrics:
        assert table[metric].mean() == pytest.approx(evaluation["metrics"]["model"][metric]["value"])
    interactions = Interactions.read(tiny_outcome.run.folder / "interactions")
    assert set(table["user_id"]) <= set(interactions.users.to_series())


def test_two_runs_are_compared_over_the_users_both_judged_on_the_same_items(
    tiny_outcome: Outcome, tmp_path: Path
) -> None:
    run, names = copy_run(tiny_outcome, tmp_path), ("recall@5", "ndcg@20")
    weaker = create_run(run.store, apply_settings(run.config, ["training.seed=5"]))
    shutil.copytree(run.folder, weaker.folder, ignore=shutil.ignore_patterns("run.json"), dirs_exist_ok=True)
    path = weaker.folder / "evaluated" / "queries.npy"
    np.save(path, np.random.default_rng(0).permutation(np.load(path)))  # everybody gets the lists of somebody else
    with pytest.raises(StoreError, match=rf"run {weaker.run_id} has not been evaluated; first: recsys-cl evaluate"):
        compare_runs(run.store, run.run_id, weaker.run_id)
    for stage in ("ingest", "train"):
        weaker.finish(stage, 1.0)
    run_stage(weaker, "evaluate")
    found = compare_runs(run.store, run.run_id, weaker.run_id)
    figures = [current.read_result("evaluate")["metrics"]["model"] for current in (run, weaker)]
    assert found.n_users == tiny_outcome.read("evaluation")["n_users"]
    assert (found.n_first, found.n_second, found.n_other_targets) == (0, 0, 0)
    for name in names:
        compared = found.metrics[name]
        assert [compared["first"], compared["second"]] == pytest.approx([f[name]["value"] for f in figures])
    assert found == compare_runs(run.store, run.run_id, weaker.run_id)
    (weaker.folder / "per_user.parquet").write_bytes(b"PAR1")
    with pytest.raises(StoreError, match=r"per_user\.parquet cannot be read .* evaluate again: recsys-cl evaluate"):
        compare_runs(run.store, weaker.run_id, run.run_id)
    (weaker.folder / "per_user.parquet").unlink()
    with pytest.raises(StoreError, match=r"per_user\.parquet cannot be read"):
        compare_runs(run.store, run.run_id, weaker.run_id)


def test_same_data_configuration_and_seed_give_the_same_bytes(
    tiny_outcome: Outcome, tiny_config: Config, tmp_path: Path
) -> None:
    again = run_all(create_run(tmp_path, tiny_config))
    other = run_all(create_run(tmp_path, apply_settings(tiny_config, ["training.seed=1"])))
    folders = [outcome.run.store / "releases" / outcome.release for outcome in (tiny_outcome, again, other)]
    for name in ("item_embeddings.npy", "user_embeddings.npy", "item_bags.npy"):
        hashes = [hash_file(folder / name) for folder in folders]
        assert hashes[0] == hashes[1] != hashes[2], name
    for name in ("catalog.arrow", "users.arrow", "seen_items.npy", "index.faiss", "towers.safetensors"):
        assert hash_file(folders[0] / name) == hash_file(folders[1] / name), name
    metrics = [outcome.read("evaluation")["metrics"] for outcome in (tiny_outcome, again)]
    assert metrics[0] == metrics[1]
    fingerprints = [read_json(folder / "manifest.json")["data_fingerprint"] for folder in folders]
    assert len(set(fingerprints)) == 1


def test_stages_out_of_order_are_refused_with_what_to_do_first(tiny_config: Config, tmp_path: Path) -> None:
    run = create_run(tmp_path, tiny_config)
    for stage, first in (("train", "ingest"), ("evaluate", "ingest"), ("publish", "ingest")):
        with pytest.raises(StoreError, match=f"has not finished {first}; first: recsys-cl {first}"):
            run_stage(run, stage)
    run_stage(run, "ingest")
    with pytest.raises(StoreError, match="has not finished train"):
        run_stage(run, "publish")
    assert set(run.read_stages()) == {"ingest"}
    with pytest.raises(StoreError, match="has published nothing"):
        open_outcome(run)


def test_stages_that_are_done_are_not_done_again(tiny_outcome: Outcome, tmp_path: Path) -> None:
    run = copy_run(tiny_outcome, tmp_path)
    before = {path: path.stat().st_mtime_ns for path in run.store.rglob("*")}
    assert run_all(run).release == tiny_outcome.release
    assert {path: path.stat().st_mtime_ns for path in run.store.rglob("*")} == before


def test_a_run_goes_on_after_the_stage_that_is_done(tiny_outcome: Outcome, tmp_path: Path) -> None:
    run = copy_run(tiny_outcome, tmp_path)
    run.finish("train", 1.0)
    before = hash_file(run.folder / "published" / "candidates.npy")
    outcome = run_all(run)
    assert outcome.release != tiny_outcome.release
    assert hash_file(run.folder / "published" / "candidates.npy") == before
    assert set(run.read_stages()) == set(run.stages)


def test_publishing_twice_gives_two_releases_of_the_same_vectors(tiny_outcome: Outcome, tmp_path: Path) -> None:
    run = copy_run(tiny_outcome, tmp_path)
    run_stage(run, "publish")
    listed = list_releases(run.store)
    assert [entry["release"] for entry in listed] == [tiny_outcome.release, open_outcome(run).release]
    assert [entry["live"] for entry in listed] == [False, True]
    assert listed[0]["metrics"] == listed[1]["metrics"]
    folders = [run.store / "releases" / entry["release"] for entry in listed]
    for name in ("item_embeddings.npy", "index.faiss"):
        assert hash_file(folders[0] / name) == hash_file(folders[1] / name)
    assert read_json(folders[1] / "manifest.json")["parent"] == tiny_outcome.release


def test_a_gate_that_says_no_publishes_nothing_and_a_reason_overrules_it(tiny_outcome: Outcome, tmp_path: Path) -> None:
    run = copy_run(tiny_outcome, tmp_path)
    strict = Run(run.store, run.run_id, apply_settings(run.config, ["publishing.least_effective_rank=2"]))
    path = run.folder / "published" / "candidates.npy"
    vectors = np.array(EmbeddingTable.read(path, "candidate").vectors)
    vectors[:, :-1] = vectors[:1, :-1]
    EmbeddingTable(vectors, "candidate").write(path)
    with pytest.raises(RefusedError, match=r"item vectors have collapsed: effective rank 1\.00"):
        run_stage(strict, "publish")
    assert [entry["release"] for entry in list_releases(run.store)] == [tiny_outcome.release]
    run_stage(strict, "publish", force="we know")
    manifest = read_json(run.store / "releases" / open_outcome(run).release / "manifest.json")
    assert manifest["gate"]["forced"] == "we know"
    assert any("effective rank" in reason for reason in manifest["gate"]["reasons"])


@pytest.mark.parametrize("name", ["queries", "candidates", "bags"])
def test_vectors_that_are_no_numbers_are_refused_whatever_the_reason(
    tiny_outcome: Outcome, tmp_path: Path, name: str
) -> None:
    run = copy_run(tiny_outcome, tmp_path)
    path = run.folder / "published" / f"{name}.npy"
    vectors = np.array(EmbeddingTable.read(path, "query").vectors)
    vectors[0, 0] = np.nan
    EmbeddingTable(vectors, "query").write(path)
    with pytest.raises(RefusedError, match=r"1 of .* vectors hold NaN"):
        run_stage(run, "publish", force="we know")
    assert find_current(run.store) == tiny_outcome.release


@pytest.mark.parametrize("stage", STAGES)
def test_ctrl_c_in_a_stage_says_how_to_go_on_and_the_run_can(tiny_outcome: Outcome, tmp_path: Path, stage: str) -> None:
    run = copy_run(tiny_outcome, tmp_path)
    if stage == "images":
        run = reconfigure(run, apply_settings(run.config, ["images.enabled=true", "images.least_steps=2"]))
    run.finish("ingest", 1.0)
    for earlier in run.stages[1 : run.stages.index(stage)]:
        run.finish(earlier, 1.0)

    def interrupt(what: str, done: float, total: float, note: str = "") -> None:
        raise KeyboardInterrupt

    if stage == "ingest":  # what was read before is not read again, so nothing is told of it
        run = create_run(tmp_path / "fresh", run.config)
    before = set(run.read_stages())
    with pytest.raises(InterruptedRunError, match=f"interrupted in {stage}; .*--run {run.run_id}"):
        run_stage(run, stage, progress=interrupt)
    assert set(run.read_stages()) == before
    assert not list(run.store.rglob(f"{TEMPORARY}*"))
    if stage != "ingest":
        assert find_current(run.store) == tiny_outcome.release
    assert run_all(run).release != tiny_outcome.release
    assert open_release(run.store).version == find_current(run.store)


def test_a_log_of_which_nothing_is_left_leaves_the_reasons_and_no_release(tiny_config: Config, tmp_path: Path) -> None:
    with pytest.raises(LogError, match="none of the 1500 rows"):
        run_on(Path(tiny_config.ingest.log), tiny_config, tmp_path, "ingest.since=2099-01-01")
    run = open_run(tmp_path)
    assert pl.read_parquet(run.folder / "refused.parquet").height == 1500
    assert not (tmp_path / "releases").exists()
    assert not (run.folder / "interactions").exists()
    assert set(run.read_stages()) == set()


def test_a_given_test_file_is_judged_and_is_in_the_published_fit_only_where_the_log_has_it(
    tiny_outcome: Outcome, tiny_config: Config, tmp_path: Path
) -> None:
    log, cut = read_log(tiny_config), tiny_outcome.read("train")["audit"]["cut"] // 1_000_000
    log.filter(pl.col("timestamp") < cut).write_csv(tmp_path / "train.csv")
    log.filter(pl.col("timestamp") >= cut).write_csv(tmp_path / "test.csv")
    given = run_on(
        tmp_path / "train.csv",
        tiny_config,
        tmp_path / "store",
        "split.by=file",
        f"split.test={format_value(str(tmp_path / 'test.csv'))}",
    )
    assert given.read("train")["audit"]["n_test"] == tiny_outcome.read("train")["audit"]["n_test"]
    assert given.read("train")["audit"]["n_leaked"] == 0
    users = open_release(given.run.store).parts.users.to_series().to_list()
    assert users == sorted(log.filter(pl.col("timestamp") < cut)["user_id"].unique())
    with pytest.raises(ConfigError, match="no test file is given"):
        run_on(tmp_path / "train.csv", tiny_config, tmp_path / "store", "split.by=file")


def test_leaks_beyond_the_bound_stop_the_run(tiny_config: Config, tmp_path: Path) -> None:
    log = Path(tiny_config.ingest.log)
    settings = ["split.by=file", f"split.test={format_value(str(log))}"]
    with pytest.raises(RefusedError, match=r"audit of the split: 100\.00% of 1,500 test events leak"):
        run_on(log, tiny_config, tmp_path, *settings)
    assert not (tmp_path / "releases").exists()


def test_every_stage_tells_how_far_it_is(tiny_config: Config, tmp_path: Path) -> None:
    told: dict[str, float] = {}

    def tell(what: str, done: float, total: float, note: str = "") -> None:
        told[what] = done / total if total else 0.0

    run_all(create_run(tmp_path, tiny_config), progress=tell)
    training = [f"training, {name}" for name in ("choosing", "evaluated fit", "published fit")]
    assert {"reading", "evaluate", "publish", *training} <= set(told)
    assert [told[what] for what in ("reading", "evaluate", "publish", *training[1:])] == [1.0] * 5


def test_frames_in_memory_give_the_release_of_the_same_file(
    tiny_outcome: Outcome, tiny_config: Config, tmp_path: Path
) -> None:
    bare = apply_settings(tiny_config, ['ingest.log=""', 'ingest.items=""', 'ingest.users=""'])
    frames = Frames(read_log(tiny_config), pl.read_csv(tiny_config.ingest.items))
    outcome = run_all(create_run(tmp_path, bare), frames=frames)
    ours, theirs = (found.run.store / "releases" / found.release for found in (outcome, tiny_outcome))
    assert hash_file(ours / "item_embeddings.npy") == hash_file(theirs / "item_embeddings.npy")
    titles = [Catalog.read(folder / "catalog.arrow").get_titles(np.arange(5)) for folder in (ours, theirs)]
    assert titles[0].to_list() == titles[1].to_list()  # type: ignore[union-attr]


def test_a_missing_part_of_a_run_is_one_clear_error(tiny_outcome: Outcome, tmp_path: Path) -> None:
    for number, (stage, name) in enumerate(
        [("train", "interactions"), ("evaluate", "evaluated/queries.npy"), ("publish", "published/candidates.npy")]
    ):
        run = copy_run(tiny_outcome, tmp_path / str(number))
        path = run.folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        with pytest.raises(RecsysError, match=path.name):
            run_stage(run, stage)
        assert find_current(run.store) == tiny_outcome.release


def test_a_damaged_array_of_the_interactions_is_named(tiny_outcome: Outcome, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_outcome.run.folder / "interactions", tmp_path / "interactions")
    path = folder / "times.npy"
    whole = path.read_bytes()
    np.savez(tmp_path / "archive.npz", np.zeros(3))
    np.save(tmp_path / "floats.npy", np.zeros(len(np.load(path))))
    foreign = [(tmp_path / name).read_bytes() for name in ("archive.npz", "floats.npy")]
    for data in (b"", whole[:7], whole[:60], whole[:-1], b"PK\x03\x04", *foreign):
        path.write_bytes(data)
        with pytest.raises(StoreError, match=r"times\.npy is not an array of interactions"):
            Interactions.read(folder)


def test_numbers_of_numpy_and_paths_are_settings_of_the_library(tmp_path: Path) -> None:
    config = {
        "ingest": {"log": tmp_path / "none.csv"},
        "model": {"temperature": np.float32(0.5), "dim": np.int64(8)},
        "images": {"root": tmp_path},
    }
    for ks in ([np.int64(3), 5], (3, np.int32(5)), np.array([3, 5])):
        store = tmp_path / f"it's {type(ks).__name__}\x7f"
        with pytest.raises(LogError, match=r"there is no log at .*none\.csv"):
            recsys_cl.run(config | {"evaluation": {"ks": ks}}, store=store)
        made = open_run(store).config
        assert (made.model.temperature, made.model.dim, made.evaluation.ks) == (0.5, 8, (3, 5))
        assert made.images.root == str(tmp_path)


def test_a_test_that_can_judge_nobody_is_refused_before_training(tiny_config: Config, tmp_path: Path) -> None:
    lines = [f"u{user},i{item},{day}" for user in range(4) for item, day in ((user % 2, 1), (2 + user % 2, 2))]
    lines += [f"new{user},i{user % 2},90" for user in range(4)]
    log = tmp_path / "log.csv"
    log.write_text("user_id,item_id,timestamp\n" + "\n".join(lines))
    config = apply_settings(tiny_config, [f"ingest.log={log}", "ingest.time_unit=s", "split.test_share=0.3"])
    run = create_run(tmp_path / "store", config)
    run_stage(run, "ingest")
    steps: list[str] = []
    with pytest.raises(InputError, match="no user can be judged"):
        run_stage(run, "train", progress=lambda what, done, total, note="": steps.append(what))
    assert not steps
