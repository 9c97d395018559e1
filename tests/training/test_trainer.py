"""Training: learns planted tastes, is the same bit for bit, stops where validation says, refuses what has no pair."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from recsys_cl.config import Config, apply_settings
from recsys_cl.errors import ConfigError, InputError, RefusedError
from recsys_cl.ids import IdMap
from recsys_cl.index.mine import mine_items
from recsys_cl.interactions.table import Interactions
from recsys_cl.training.encode import encode_candidates, encode_queries
from recsys_cl.training.loop import Hooks, Validation
from recsys_cl.training.mining import Search
from recsys_cl.training.trainer import train

N_USERS, N_ITEMS, N_TASTES = 120, 60, 4
CONFIG = apply_settings(
    Config(), ["training.epochs=30", "training.batch_users=32", "model.dim=16", "training.least_steps=0"]
)


def build_world(seed: int = 0, size: int = 12) -> tuple[Interactions, np.ndarray]:
    """Users of four tastes, each taste a quarter of the items; one event in six is noise."""
    rng = np.random.default_rng(seed)
    rows = []
    for user in range(N_USERS):
        own = np.arange(N_ITEMS)[np.arange(N_ITEMS) % N_TASTES == user % N_TASTES]
        rows.append(np.where(rng.random(size) < 5 / 6, rng.choice(own, size), rng.integers(N_ITEMS, size=size)))
    flat = np.concatenate(rows).astype(np.int32)
    interactions = Interactions(
        IdMap.build([f"u{row:03d}" for row in range(N_USERS)]),
        IdMap.build([f"i{row:03d}" for row in range(N_ITEMS)]),
        np.arange(0, len(flat) + 1, size, dtype=np.int64),
        flat,
        np.arange(len(flat)),
        np.ones(len(flat), dtype=np.float32),
        False,
    )
    return interactions, np.arange(N_USERS) % N_TASTES


def test_learns_planted_tastes_also_for_strangers() -> None:
    interactions, tastes = build_world()
    model = train(interactions, CONFIG).model
    bags = interactions.to_bags()
    for users in (np.arange(N_USERS), None):
        scores = encode_queries(model, bags, users) @ encode_candidates(model).T
        top = np.argsort(-scores, axis=1)[:, :10]
        assert (top % N_TASTES == tastes[:, None]).mean() > 0.9


KINDS = {
    "whole catalog": [],
    "sampled": ["sampling.n_negatives=16"],
    "in batch": ["sampling.negatives=in_batch"],
    "hard": ["sampling.negatives=hard", "sampling.n_negatives=16"],
    "transformer": ["model.history=transformer", "sampling.positives=next", "sampling.n_negatives=16"],
    "gru": ["model.history=gru", "model.learn_temperature=true"],
    "bpr": ["loss.kind=bpr"],
    "bilateral softmax": ["loss.kind=bilateral_softmax"],
    "cosine contrastive": ["loss.kind=cosine_contrastive"],
    "uniform": ["sampling.negatives=uniform", "sampling.n_negatives=16"],
    "mixed": ["sampling.negatives=mixed", "sampling.n_negatives=16"],
    "attention": ["model.history=attention"],
    "tied, no user embedding": ["model.tied=true", "model.user_weight=0.0"],
    "dot": ["model.score=dot"],
    "Euclidean": ["model.score=euclidean"],
    "window": ["sampling.window_days=1.0"],
    "feed-forward, averaged": ["model.query_hidden=8", "training.average_power=2.0", "training.epochs=5"],
    "session": ["sampling.session_gap_minutes=60.0"],
}


@pytest.mark.parametrize("kind", KINDS)
def test_same_seed_same_vectors_bit_for_bit(kind: str) -> None:
    interactions = replace(build_world()[0], timed=True)
    config = apply_settings(CONFIG, ["training.epochs=3", *KINDS[kind]])
    hooks = Hooks(mine=mine_items)
    one, other = (encode_candidates(train(interactions, config, hooks=hooks).model) for _ in range(2))
    assert one.tobytes() == other.tobytes()
    reseeded = encode_candidates(train(interactions, apply_settings(config, ["training.seed=1"]), hooks=hooks).model)
    assert one.tobytes() != reseeded.tobytes()


def test_stops_after_patience_and_returns_the_best_where_chance_plays_no_part() -> None:
    interactions, _ = build_world()
    values = iter([0.1, 0.5, 0.3, 0.2, 0.4, 0.9])
    snapshots = []

    def measure(queries: np.ndarray, candidates: np.ndarray) -> np.ndarray:
        snapshots.append(candidates.copy())
        return np.full(N_USERS, next(values))

    trained = train(interactions, CONFIG, hooks=Hooks(Validation(np.arange(N_USERS), measure)))
    assert len(snapshots) == 2 + CONFIG.training.patience
    assert encode_candidates(trained.model).tobytes() == snapshots[1].tobytes()
    steps = [entry["step"] for entry in trained.history if "recall" in entry]
    assert trained.n_steps == steps[1]


def test_a_loss_within_chance_does_not_stop_a_longer_training() -> None:
    interactions, _ = build_world()
    best = np.linspace(0, 1, 200)
    near = best - 0.001 + np.where(np.arange(200) % 2, 0.2, -0.2)
    worse = best - 0.2
    values = iter([best, near, worse, worse, worse, best])
    trained = train(interactions, CONFIG, hooks=Hooks(Validation(np.arange(N_USERS), lambda q, c: next(values))))
    steps = [entry["step"] for entry in trained.history if "recall" in entry]
    assert len(steps) == 5, "three in a row that are worse by more than chance end it"
    assert trained.n_steps == steps[1], "the later of two that chance cannot tell apart is kept"


def test_a_small_log_is_passed_over_until_least_steps() -> None:
    interactions, _ = build_world()
    config = apply_settings(CONFIG, ["training.epochs=2", "training.least_steps=21"])
    assert train(interactions, config).n_steps == 24, "whole epochs of four steps"


@pytest.mark.parametrize("power", [0, 2])
def test_n_steps_repeats_what_validation_chose(power: int) -> None:
    """What is averaged, too: the 24 steps that are chosen hold one look and more."""
    interactions, _ = build_world()
    config = apply_settings(CONFIG, [f"training.average_power={power}"])
    values = iter([0.1, 0.2, 0.5, 0.4, 0.3, 0.2])
    judged: list[bytes] = []

    def measure(queries: np.ndarray, candidates: np.ndarray) -> np.ndarray:
        judged.append(candidates.tobytes())
        return np.full(9, next(values))

    chosen = train(interactions, config, hooks=Hooks(Validation(np.arange(N_USERS), measure)))
    again = train(interactions, config, n_steps=chosen.n_steps)
    assert again.n_steps == chosen.n_steps == 24
    assert encode_candidates(again.model).tobytes() == encode_candidates(chosen.model).tobytes() == judged[2]
    last = train(interactions, CONFIG, n_steps=24)
    assert (encode_candidates(again.model).tobytes() == encode_candidates(last.model).tobytes()) == (not power)


def test_progress_counts_steps_to_the_end() -> None:
    interactions, _ = build_world()
    seen: list[tuple[float, float]] = []
    config = apply_settings(CONFIG, ["training.epochs=2"])
    hooks = Hooks(progress=lambda what, done, total, note="": seen.append((done, total)))
    train(interactions, config, hooks=hooks)
    assert [done for done, _ in seen] == list(range(1, 9))
    assert {total for _, total in seen} == {8}


def test_users_with_one_item_only_are_refused() -> None:
    interactions, _ = build_world(size=1)
    with pytest.raises(InputError, match="two distinct items"):
        train(interactions, CONFIG)


@pytest.mark.parametrize("mine_every", [1, 3])
def test_hard_negatives_are_searched_for_as_often_as_asked(mine_every: int) -> None:
    interactions, _ = build_world()
    config = apply_settings(CONFIG, [*KINDS["hard"], "training.epochs=7", f"sampling.mine_every={mine_every}"])
    searched = []

    def mine(candidates: np.ndarray) -> Search:
        searched.append(len(candidates))
        return mine_items(candidates)

    train(interactions, config, hooks=Hooks(mine=mine))
    assert searched == [N_ITEMS] * len(range(0, 7, mine_every))


def test_bfloat16_changes_the_product_and_little_else() -> None:
    interactions, _ = build_world()
    exact, rough = (
        encode_candidates(train(interactions, apply_settings(CONFIG, [f"training.precision={kind}"])).model)
        for kind in ("float32", "bfloat16")
    )
    assert exact.tobytes() != rough.tobytes()
    assert np.einsum("ij,ij->i", exact[:, :-1], rough[:, :-1]).mean() > 0.9


@pytest.mark.parametrize("kind", KINDS)
def test_a_single_user_is_learned_from_or_refused_in_words(kind: str) -> None:
    interactions = replace(build_world()[0], timed=True)
    one = interactions.select(interactions.expand_users() == 5)
    config = apply_settings(CONFIG, ["training.epochs=2", *KINDS[kind]])
    if kind == "in batch":
        with pytest.raises(ConfigError, match="1 users hold a pair"):
            train(one, config)
    else:
        assert np.isfinite(encode_candidates(train(one, config, hooks=Hooks(mine=mine_items)).model)).all()


def test_what_was_chosen_of_a_plan_is_trained_along_that_plan(tmp_path: Path) -> None:
    """Step sizes of n_steps are those of the first n_steps of n_planned, whatever the length of an epoch is here."""
    interactions, _ = build_world()
    train(interactions, CONFIG, n_steps=6, n_planned=11, hooks=Hooks(steps=tmp_path / "s.jsonl"))
    sizes = [json.loads(line)["learning_rate"] for line in (tmp_path / "s.jsonl").read_text().splitlines()]
    assert sizes == pytest.approx([0.01 * (1 - step / 12) for step in range(1, 7)])


def test_a_window_without_a_pair_is_named() -> None:
    interactions, _ = build_world()
    config = apply_settings(CONFIG, ["sampling.window_days=1e-9"])
    with pytest.raises(InputError, match="within one window"):
        train(replace(interactions, timed=True, times=interactions.times * 10**9), config)


def test_hard_negatives_without_a_search_are_refused() -> None:
    interactions, _ = build_world()
    with pytest.raises(ConfigError, match="nothing to search with"):
        train(interactions, apply_settings(CONFIG, KINDS["hard"]))


@pytest.mark.filterwarnings("ignore:invalid value encountered")
def test_a_loss_that_is_no_number_ends_the_training_and_says_so() -> None:
    interactions, _ = build_world()
    interactions.weights[3] = np.inf
    with pytest.raises(RefusedError, match=r"the loss of step \d+ is (nan|inf)"):
        train(interactions, CONFIG)


def test_the_temperature_moves_where_it_is_learned_and_only_there() -> None:
    interactions, _ = build_world()
    for learned in (True, False):
        config = apply_settings(CONFIG, [f"model.learn_temperature={str(learned).lower()}", "training.epochs=3"])
        temperature = float(train(interactions, config).model.temperature.detach())
        assert (temperature != pytest.approx(config.model.temperature, rel=1e-4)) == learned


def test_the_step_log_tells_every_step_and_validation(tmp_path: Path) -> None:
    interactions, _ = build_world()
    config = apply_settings(CONFIG, ["training.epochs=4", "training.validate_every=2"])
    validation = Validation(np.arange(N_USERS), lambda q, c: np.full(9, 0.25))
    trained = train(interactions, config, hooks=Hooks(validation, steps=tmp_path / "steps.jsonl"))
    lines = [json.loads(line) for line in (tmp_path / "steps.jsonl").read_text().splitlines()]
    steps = [line for line in lines if "loss" in line]
    assert [line["step"] for line in steps] == list(range(1, 17))
    assert [(line["step"], line["epoch"], line["recall"]) for line in lines if "recall" in line] == [
        (8, 2, 0.25),
        (16, 4, 0.25),
    ]
    assert steps[0].keys() == {
        *("step", "epoch", "loss", "learning_rate", "temperature"),
        *("n_positives", "positives_per_second", "seconds"),
    }
    losses = [line["loss"] for line in steps]
    assert trained.history[1]["loss"] == pytest.approx(np.mean(losses[4:8]))
    assert steps[0]["learning_rate"] == pytest.approx(0.01 * 16 / 17)
