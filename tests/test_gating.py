"""The gate of a whole run: what another seed gives passes beside the live release, what is broken does not."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from recsys_cl import gating, pipeline, settling
from recsys_cl.config import Config, apply_settings, build_config
from recsys_cl.errors import MovedError, RefusedError
from recsys_cl.interactions.sample import write_sample
from recsys_cl.interactions.world import WorldConfig
from recsys_cl.pipeline import run_all, run_stage
from recsys_cl.publishing.store import find_current
from recsys_cl.release_summary import describe_beside
from recsys_cl.runs import Run, create_run, open_run
from recsys_cl.serving.lookup import Release, open_release


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    """600 users whom a model of seconds tells from chance."""
    folder = tmp_path_factory.mktemp("log")
    write_sample(folder, WorldConfig(n_users=600, n_items=200, n_events=15_000, seed=5, days=60))
    return build_config(
        {
            "ingest": {"log": str(folder / "events.csv")},
            "model": {"dim": 16},
            "training": {"epochs": 12, "validate_every": 12, "batch_users": 128, "n_threads": 1, "least_steps": 0},
            "recipe": {"search": False},
            "evaluation": {"n_resamples": 100},
        }
    )


@pytest.fixture(scope="module")
def live(config: Config, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run whose release is live; only to be copied."""
    run = create_run(tmp_path_factory.mktemp("live") / "store", config)
    run_all(run)
    return run


@pytest.fixture
def again(live: Run, tmp_path: Path) -> Run:
    """The same run in a store of its own, where its release is live."""
    shutil.copytree(live.store, tmp_path / "store")
    return open_run(tmp_path / "store", live.run_id)


def publish(run: Run) -> Release:
    run_stage(run, "publish")
    return open_release(run.store)


def run_beside(run: Run, config: Config) -> Release:
    run_all(create_run(run.store, config))
    return open_release(run.store)


def change(run: Run, where: str, do: Callable[[np.ndarray], np.ndarray]) -> None:
    """Change the item vectors of one of the two fits."""
    path = run.folder / where / "candidates.npy"
    np.save(path, do(np.load(path)).astype(np.float32))


def shuffle(vectors: np.ndarray) -> np.ndarray:
    return np.random.default_rng(0).permutation(vectors)


def test_a_first_release_stands_alone_and_is_not_turned(live: Run) -> None:
    release = open_release(live.store)
    assert release.manifest.gate.alone == "no release is live"
    assert release.manifest.drift is None
    assert describe_beside(release.manifest) == []
    np.testing.assert_array_equal(release.parts.rotation, np.eye(15))
    np.testing.assert_array_equal(release.parts.item_vectors, np.load(live.folder / "published" / "candidates.npy"))


def test_the_same_run_again_lies_where_it_lay(again: Run) -> None:
    before, release = open_release(again.store), publish(again)
    assert release.manifest.drift is not None
    assert release.manifest.drift.churn == release.manifest.drift.stored_after == 0
    np.testing.assert_allclose(release.parts.item_vectors, before.parts.item_vectors, atol=1e-5)


def test_another_seed_passes_and_is_turned_onto_the_live_release(again: Run, config: Config) -> None:
    before = open_release(again.store)
    release = run_beside(again, apply_settings(config, ["training.seed=7"]))
    drift, beside = release.manifest.drift, release.manifest.gate.beside
    assert drift is not None
    assert (drift.release, drift.n_items) == (before.version, before.n_items)
    assert drift.stored_after < 0.8 < 0.9 < drift.stored_before
    assert beside is not None
    assert beside["compared"]["n_users"] > 300
    (figures, moved) = describe_beside(release.manifest)
    assert before.version in figures
    assert "recall@20" in figures
    assert f"{drift.stored_before:.1%}" in moved
    turn, run = release.parts.rotation, open_run(again.store, release.manifest.run_id)
    np.testing.assert_allclose(turn @ turn.T, np.eye(15), atol=1e-10)
    trained = np.load(run.folder / "published" / "candidates.npy").astype(np.float64)
    np.testing.assert_allclose(release.parts.item_vectors[:, :15], trained[:, :15] @ turn, atol=1e-6)
    np.testing.assert_array_equal(release.parts.item_vectors[:, 15], trained[:, 15])
    # The tower is turned with the vectors, so that no score changes.
    bags = release.parts.seen.take(np.arange(20))
    settled = settling.settle(run.folder / "published", run.folder / "settled", release.parts.catalog.items, None, 0)
    scores = settled.open_tower().encode(bags, release.parts.bag_vectors) @ trained.T
    np.testing.assert_allclose(release.encode_bags(bags) @ release.parts.item_vectors.T, scores, atol=1e-5)


@pytest.mark.parametrize(
    ("break_it", "named"),
    [
        (lambda run: change(run, "evaluated", lambda v: np.random.default_rng(0).normal(size=v.shape)), "recall@20"),
        (lambda run: change(run, "published", lambda v: v[:1] + 0 * v), "have collapsed"),
        (lambda run: change(run, "published", shuffle), "do its rows belong to its ids"),
        (lambda run: change(run, "evaluated", shuffle), "ndcg@20 of everyone"),
    ],
)
def test_a_broken_candidate_is_refused_and_kept_aside(again: Run, break_it: Callable[[Run], None], named: str) -> None:
    before = find_current(again.store)
    break_it(again)
    with pytest.raises(RefusedError, match=named) as caught:
        publish(again)
    assert caught.value.exit_code == 1
    assert find_current(again.store) == before
    assert named in (again.folder / "report.html").read_text().replace("&#x27;", "'")
    run_stage(again, "publish", force="we know")
    manifest = open_release(again.store).manifest
    assert manifest.gate.forced == "we know"
    assert any(named in line and "we know" in line for line in describe_beside(manifest))


def write_log(config: Config, folder: Path, do: Callable[[pl.DataFrame], pl.DataFrame]) -> Config:
    path = folder / "changed.csv"
    do(pl.read_csv(config.ingest.log)).write_csv(path)
    return apply_settings(config, [f'ingest.log="{path}"', "ingest.incremental=false"])


def test_a_tenth_of_the_data_is_refused(again: Run, config: Config, tmp_path: Path) -> None:
    less = write_log(config, tmp_path, lambda log: log.sample(fraction=0.1, seed=1))
    with pytest.raises(RefusedError):
        run_beside(again, less)


def test_items_under_the_names_of_others_are_refused(again: Run, config: Config, tmp_path: Path) -> None:
    def rename(log: pl.DataFrame) -> pl.DataFrame:
        names = log["item_id"].unique().sort()
        return log.with_columns(pl.col("item_id").replace(names, names.sample(fraction=1, shuffle=True, seed=2)))

    with pytest.raises(RefusedError, match="of the top 10 neighbors changed"):
        run_beside(again, write_log(config, tmp_path, rename))


def test_a_damaged_live_release_does_not_keep_a_whole_one_away(again: Run) -> None:
    path = again.store / "releases" / (find_current(again.store) or "") / "users.arrow"
    path.write_bytes(path.read_bytes()[:-1])
    release = publish(again)
    assert release.manifest.gate.alone is not None
    assert "users.arrow" in release.manifest.gate.alone


def test_when_another_release_goes_live_meanwhile_the_candidate_stands_beside_that_one(
    again: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    names: list[str | None] = []
    gather = gating.gather_facts

    def gather_late(run: Run, *more: object) -> object:
        names.append(find_current(run.store))
        if len(names) == 1:
            twin = run.folder.with_name(run.run_id[:-12] + "0" * 12)
            shutil.copytree(run.folder, twin)
            pipeline._publish(open_run(run.store, twin.name), lambda *said: None, None)  # which gathers, too
        return gather(run, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(pipeline, "gather_facts", gather_late)
    release = publish(again)
    assert len(names) == 3
    assert release.manifest.drift is not None
    assert release.manifest.parent == release.manifest.drift.release != names[0]


def test_who_is_overtaken_again_and_again_says_so(again: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*given: object, beside: str | None = None) -> str:
        raise MovedError(again.store, "another", beside)

    before = find_current(again.store)
    monkeypatch.setattr(pipeline, "publish_release", refuse)
    with pytest.raises(MovedError, match=r"another is live in .* by now"):
        publish(again)
    assert find_current(again.store) == before
