"""The index of a whole run: what was tried and what it costs stand in the release, and it comes out the same again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from recsys_cl import rebuilding
from recsys_cl.config import Config, IndexConfig, apply_settings
from recsys_cl.files import hash_text, read_json
from recsys_cl.index.build import build_index
from recsys_cl.index.facts import IndexFacts
from recsys_cl.index.recall import measure_ann_recall
from recsys_cl.index.structure import Index
from recsys_cl.indexing import index_items, repeat_index
from recsys_cl.interactions.split import split_interactions
from recsys_cl.interactions.table import Interactions
from recsys_cl.interactions.world import WorldConfig, build_world, draw_events
from recsys_cl.pipeline import Outcome, run_all
from recsys_cl.rebuilding import rebuild
from recsys_cl.runs import create_run
from recsys_cl.serving.lookup import Release, open_release
from recsys_cl.settling import settle


@pytest.fixture(scope="module")
def outcome(tiny_config: Config, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """A run over 600 items in lists; only to be read."""
    folder = tmp_path_factory.mktemp("indexing")
    world = build_world(WorldConfig(n_users=150, n_items=600, n_events=6_000, seed=4, days=30))
    pl.concat(draw_events(world, 6_000)).write_csv(folder / "events.csv")
    ingest = tiny_config.ingest.model_copy(update={"log": str(folder / "events.csv"), "items": "", "users": ""})
    config = apply_settings(tiny_config.model_copy(update={"ingest": ingest}), ["index.kind=ivf"])
    return run_all(create_run(folder / "store", config))


@pytest.fixture(scope="module")
def release(outcome: Outcome) -> Release:
    return open_release(outcome.run.store)


def test_what_was_tried_and_chosen_stands_in_the_manifest(release: Release) -> None:
    facts = release.manifest.index
    (chosen,) = [trial for trial in facts.trade_off if trial.chosen]
    assert (chosen.kind, chosen.parameters) == ("ivf", facts.parameters)
    assert chosen.reached
    assert len(facts.trade_off) > 3
    for queries in (release.parts.user_vectors, release.encode_items(np.arange(release.manifest.n_items))):
        assert measure_ann_recall(release.parts.index, release.parts.item_vectors, queries) >= 0.98
    assert release.manifest.ann_recall >= 0.98


def test_the_loss_is_against_the_recall_that_the_evaluation_found(outcome: Outcome, release: Release) -> None:
    held_out = release.manifest.index.held_out
    assert held_out is not None
    assert held_out.n_users == outcome.read("evaluation")["n_users"]
    assert held_out.exact == pytest.approx(release.manifest.metrics[f"recall@{held_out.k}"], abs=1e-6)
    assert held_out.index == pytest.approx(held_out.exact, abs=0.02)


def test_an_index_that_looks_at_too_little_is_said_to_lose(outcome: Outcome, release: Release, tmp_path: Path) -> None:
    folder, seed = outcome.run.folder, outcome.run.config.training.seed
    interactions = Interactions.read(folder / "interactions")
    split = split_interactions(interactions, outcome.run.config.split, seed)
    settled = settle(folder / "published", tmp_path / "towers", interactions.items, None, seed)
    config = apply_settings(outcome.run.config, ["index.n_lists=8", "index.n_probe=1"])
    poor = index_items(settled, (folder / "evaluated", split), config).facts.held_out
    good = release.manifest.index.held_out
    assert poor is not None
    assert good is not None
    assert poor.exact == good.exact
    assert poor.index < poor.exact


def test_the_report_shows_the_curve_and_the_loss(outcome: Outcome) -> None:
    page = (outcome.run.store / "releases" / outcome.release / "report.html").read_text(encoding="utf-8")
    assert "Index trade-off curve" in page
    assert "of held-out items" in page


def test_a_small_catalog_is_searched_exactly_unless_told_otherwise(tiny_outcome: Outcome) -> None:
    facts = open_release(tiny_outcome.run.store).manifest.index
    assert (facts.kind, facts.parameters, facts.held_out) == ("flat", {}, None)


def test_a_tuned_index_comes_out_the_same_bit_for_bit_and_another_is_named(
    outcome: Outcome, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert rebuild(outcome.run.store, outcome.release).same

    def turn(facts: IndexFacts, vectors: np.ndarray, config: IndexConfig) -> Index:
        return repeat_index(facts, vectors[::-1].copy(), config)

    monkeypatch.setattr(rebuilding, "run_stage", lambda run, stage, **more: _copy_stage(outcome, run.folder))
    monkeypatch.setattr(rebuilding, "repeat_index", turn)
    assert rebuild(outcome.run.store, outcome.release).differing == ["index.faiss"]


def _copy_stage(outcome: Outcome, folder: Path) -> None:
    """What a stage would write again."""
    shutil.copytree(outcome.run.folder, folder, dirs_exist_ok=True)


@pytest.mark.parametrize("kind", ["flat", "ivf", "hnsw"])
def test_an_index_is_repeated_with_the_numbers_that_were_recorded_not_those_of_the_configuration(
    tmp_path: Path, kind: str
) -> None:
    vectors = np.random.default_rng(0).normal(size=(2_000, 8)).astype(np.float32)
    config = IndexConfig(kind=kind, n_lists=30, n_probe=7, ef_search=55, ef_construction=30)  # type: ignore[arg-type]
    index, facts = build_index(vectors, config)
    index.write(tmp_path / "before")
    told = config.model_copy(update={"kind": "auto", "n_lists": 0, "n_probe": 0})
    again = repeat_index(facts, vectors, told)
    again.write(tmp_path / "after")
    assert again.facts == facts
    assert (tmp_path / "before").read_bytes() == (tmp_path / "after").read_bytes()


def test_what_was_recorded_of_a_large_catalog_serves_a_small_one() -> None:
    facts = IndexFacts("ivf", 10_000, 8, {"n_lists": 200, "n_probe": 9})
    vectors = np.random.default_rng(0).normal(size=(400, 8)).astype(np.float32)
    assert repeat_index(facts, vectors, IndexConfig()).facts.parameters == {"n_lists": 10, "n_probe": 9}
    assert repeat_index(facts, vectors[:20], IndexConfig()).facts.kind == "flat"


def test_a_release_from_before_the_index_was_tuned_opens_and_answers(outcome: Outcome, tmp_path: Path) -> None:
    """Its manifest lacks what was tried, its configuration the settings of tuning."""
    releases = tmp_path / "store" / "releases"
    shutil.copytree(outcome.run.store / "releases", releases)
    values = read_json(releases / outcome.release / "manifest.json")
    for name in ("trade_off", "held_out"):
        del values["index"][name]
    for name in ("wanted_ann_recall", "n_lists"):
        del values["config"]["index"][name]
    text = json.dumps(values)
    name = f"{outcome.release[:-12]}{hash_text(text)[:12]}"
    (releases / outcome.release).rename(releases / name)
    (releases / name / "manifest.json").write_text(text)
    (releases / "CURRENT").write_text(name)
    old, now = open_release(tmp_path / "store"), open_release(outcome.run.store)
    assert old.manifest.index.trade_off == ()
    queries = now.parts.user_vectors[:20]
    assert np.array_equal(old.parts.index.search(queries, 5).rows, now.parts.index.search(queries, 5).rows)
