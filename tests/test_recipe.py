"""Every choice is made on a part of the training events that nothing was trained on, and is what is used then."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recsys_cl.benchmark import read_events
from recsys_cl.config import Config, apply_settings
from recsys_cl.errors import RefusedError
from recsys_cl.interactions.split import split_validation
from recsys_cl.interactions.table import Interactions
from recsys_cl.plan import Choice
from recsys_cl.progress import report_nothing
from recsys_cl.recipe import choose_steps, fit
from recsys_cl.training.trainer import train
from recsys_cl.trials import VALIDATION_K, Place


@pytest.fixture(scope="module")
def config(tiny_config: Config) -> Config:
    return apply_settings(tiny_config, ["training.epochs=6", "training.learning_rate=0.05"])


@pytest.fixture(scope="module")
def interactions(tiny_config: Config) -> Interactions:
    return read_events(Path(tiny_config.ingest.log), tiny_config, report_nothing)


def make_log(folder: Path, histories: list[list[int]]) -> Interactions:
    lines = [f"{user},{item}" for user, items in enumerate(histories) for item in items]
    (folder / "log.csv").write_text("\n".join(["user_id,item_id", *lines]))
    return read_events(folder / "log.csv", Config(), report_nothing)


def strip(history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in entry.items() if name != "seconds"} for entry in history]


def test_the_number_of_steps_is_one_at_which_the_model_was_validated(
    interactions: Interactions, config: Config
) -> None:
    choice = choose_steps(interactions, config)
    chosen = [entry for entry in choice.history if entry["step"] == choice.n_steps]
    assert len(chosen) == 1
    assert f"epoch {chosen[0]['epoch']}" in choice.reason
    assert f"recall@{VALIDATION_K} {chosen[0]['recall']:.4f}" in choice.reason
    best = max(entry["recall"] for entry in choice.history if "recall" in entry)
    assert chosen[0]["recall"] > best / 2
    assert [entry["recall"] for entry in choice.history if "recall" in entry] != [0.0] * len(choice.history)


def test_choices_and_vectors_are_the_same_each_time_and_others_for_another_seed(
    interactions: Interactions, config: Config
) -> None:
    first, second = choose_steps(interactions, config), choose_steps(interactions, config)
    assert (first.n_steps, first.reason, strip(first.history)) == (
        second.n_steps,
        second.reason,
        strip(second.history),
    )
    one, two = fit(interactions, config, first), fit(interactions, config, second)
    assert one.queries.tobytes() == two.queries.tobytes()
    assert one.candidates.tobytes() == two.candidates.tobytes()
    other = fit(interactions, apply_settings(config, ["training.seed=1"]), first)
    assert other.candidates.tobytes() != one.candidates.tobytes()


def test_what_is_validated_on_is_not_trained_on(interactions: Interactions, config: Config) -> None:
    """With other items in the validation part the losses stay what they were, and only the recall changes."""
    cut = split_validation(interactions, config.split, config.training.seed).cut
    assert cut is not None
    late = np.flatnonzero(interactions.times >= cut)
    rows = interactions.item_rows.copy()
    rows[late] = np.random.default_rng(0).permutation(rows[late])
    assert (rows != interactions.item_rows).any()
    ours, theirs = (choose_steps(log, config).history for log in (interactions, replace(interactions, item_rows=rows)))
    n_both = min(len(ours), len(theirs))
    assert [entry["loss"] for entry in ours[:n_both]] == [entry["loss"] for entry in theirs[:n_both]]
    assert ours[0]["recall"] != theirs[0]["recall"]


def test_a_fit_takes_the_chosen_steps_on_all_events_and_encodes_everyone(
    interactions: Interactions, config: Config
) -> None:
    fitted = fit(interactions, config, Choice(5, [], "told"))
    assert fitted.history[-1]["step"] == 5
    assert fitted.queries.shape == (interactions.n_users, config.model.dim)
    assert fitted.candidates.shape == (interactions.n_items, config.model.dim)
    trained = train(interactions, config, n_steps=5)
    for name, table in trained.model.tables.items():
        assert fitted.model.tables[name].table.equal(table.table)
    longer = fit(interactions, config, Choice(None, [], "all"))
    assert longer.history[-1]["epoch"] == config.training.epochs
    assert longer.history[-1]["step"] > 5


def test_a_sample_of_the_users_validates_where_there_are_many(interactions: Interactions, config: Config) -> None:
    choice = choose_steps(interactions, apply_settings(config, ["training.validation_users=12"]))
    assert "of 12 users" in choice.reason


PAIRS = [[user % 5, (user + 1) % 5] for user in range(20)]


@pytest.mark.parametrize(
    ("histories", "settings", "reason"),
    [
        ([[0, 1, 2, 3]] * 20, ["split.validation_share=0"], "split.validation_share is 0"),
        ([[user % 3, 3, 4, 5] for user in range(6)], ["split.by=random", "split.validation_share=0.3"], "users"),
        ([[0, 1], [1, 2]], ["split.by=leave_last", "split.n_last=5"], "no validation part"),
        (PAIRS, ["split.by=leave_last"], "no user has two distinct items"),
    ],
)
def test_small_logs_are_trained_without_validation_and_it_is_said_why(
    tmp_path: Path, config: Config, histories: list[list[int]], settings: list[str], reason: str
) -> None:
    log, changed = make_log(tmp_path, histories), apply_settings(config, settings)
    choice = choose_steps(log, changed)
    assert choice.n_steps is None
    assert choice.history == []
    assert choice.reason.startswith("all 6 epochs: ")
    assert reason in choice.reason
    assert fit(log, changed, choice).history[-1]["epoch"] == 6


@pytest.mark.filterwarnings("ignore:overflow encountered")
def test_vectors_that_are_no_numbers_are_refused_before_anything_is_made_of_them(
    interactions: Interactions, config: Config
) -> None:
    """Weights that are numbers each and too large together: a user's repeats are added."""
    log = replace(interactions, weights=np.full(interactions.n_events, 3e38, dtype=np.float32))
    for attempt in (lambda: choose_steps(log, config), lambda: fit(log, config, Choice(3, [], ""))):
        with pytest.raises(
            RefusedError, match=r"training diverged: ([0-9,]+ vectors hold NaN or infinity|the loss of step 1 is nan)"
        ):
            attempt()


def test_progress_of_choosing_is_told_to_the_last_step_taken(interactions: Interactions, config: Config) -> None:
    told: list[float] = []
    place = Place(lambda what, done, total, note: told.append(done))
    choice = choose_steps(interactions, config, place)
    assert told[-1] == choice.history[-1]["step"]
