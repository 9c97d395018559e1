"""A whole run with towers that read in order: published, opened without torch's help, and answering by order."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from recsys_cl.bags import Bags
from recsys_cl.config import Config, apply_settings
from recsys_cl.files import read_json
from recsys_cl.interactions.table import Interactions
from recsys_cl.pipeline import run_all
from recsys_cl.runs import create_run
from recsys_cl.serving.lookup import Release, open_release

LENGTH = 6


@pytest.fixture(scope="module")
def store(tiny_config: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    settings = ["model.history=transformer", f"model.history_length={LENGTH}", "model.score=euclidean"]
    settings += ["sampling.positives=next", "model.learn_temperature=true", "sampling.negatives=hard"]
    settings += ["sampling.n_negatives=16", "model.user_weight=0.0", "sampling.session_gap_minutes=6000.0"]
    folder = tmp_path_factory.mktemp("ordered") / "store"
    run_all(create_run(folder, apply_settings(tiny_config, settings)))
    return folder


@pytest.fixture(scope="module")
def release(store: Path) -> Release:
    return open_release(store)


def test_a_history_is_answered_by_its_order(release: Release) -> None:
    ids = release.parts.catalog.items.get_ids(np.arange(4))
    there, back = (release.answer_history(history, 5) for history in (ids, ids[::-1]))
    assert [a["score"] for a in there] != [a["score"] for a in back]
    frame = release.recommend(history=ids, k=5)
    assert frame["item_id"].to_list() == [answer["item_id"] for answer in there]


def test_only_the_last_items_of_a_long_history_are_read_and_all_are_left_out(release: Release) -> None:
    assert release.manifest.history_length == LENGTH
    ids = release.parts.catalog.items.get_ids(np.arange(3 * LENGTH))
    long, short = (release.answer_history(history, 10, include_seen=True) for history in (ids, ids[-LENGTH:]))
    assert long == short
    assert not {answer["item_id"] for answer in release.answer_history(ids, 10)} & set(ids)


def test_a_users_published_vector_is_that_of_their_history(store: Path, release: Release) -> None:
    """Without a free embedding a known user is asked as a stranger with the same items is."""
    run = next((store / "runs").iterdir())
    bags = Interactions.read(run / "interactions").to_bags()
    np.testing.assert_allclose(release.encode_bags(bags), release.parts.user_vectors, atol=1e-5)


def test_neighbors_are_near_and_popularity_plays_no_part(release: Release) -> None:
    rows = np.arange(release.n_items)
    queries = release.encode_items(rows)
    assert not queries[:, -1].any()
    assert (queries[:, -2] == 1).all(), "the float that holds an item's length"
    apart = np.square(queries[:, None, :-2] - release.parts.item_vectors[None, :, :-2]).sum(axis=2)
    np.fill_diagonal(apart, np.inf)
    nearest = release.search(queries, 1, Bags.of_items(rows)).rows[:, 0]
    np.testing.assert_allclose(apart[rows, nearest], apart.min(axis=1), rtol=1e-4)


def test_a_learned_temperature_is_told_step_by_step(store: Path) -> None:
    run = next((store / "runs").iterdir())
    told = read_json(run / "train.json")
    for path in (run / "steps").iterdir():
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        steps = [line for line in lines if "temperature" in line]
        assert [line["step"] for line in steps] == list(range(1, len(steps) + 1)), path.name
        assert len({line["temperature"] for line in steps}) == len(steps), "it is learned"
        assert path.name != "published.jsonl" or len(steps) == told["members"][0]["n_steps"]
    assert max(len(path.read_text().splitlines()) for path in (run / "steps").iterdir()) > 3
    assert told["audit"]["n_users_paired"] > 10
