"""Training on pictures: each objective learns what it says, seeded, and goes on where it was killed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from recsys_cl.config import Config, apply_settings
from recsys_cl.errors import ConfigError
from recsys_cl.ids import IdMap
from recsys_cl.interactions.table import Interactions
from recsys_cl.progress import Progress
from recsys_cl.sampling.batches import Batch
from recsys_cl.training import checkpoint
from recsys_cl.training.encode import encode_candidates
from recsys_cl.training.loop import Hooks
from recsys_cl.training.pictures import PictureFacts, mask_duplicates, name_pictures, train_pictures
from recsys_cl.training.trainer import build_drawer

N_KINDS, EACH, SIDE = 4, 12, 12
N = N_KINDS * EACH
KINDS = np.arange(N) % N_KINDS
SMALL = [
    "model.dim=12",
    "training.n_threads=1",
    "training.batch_users=20",
    "images.channels=1",
    f"images.side={SIDE}",
    "images.batch_pictures=24",
    "images.least_steps=60",
    "images.epochs=1",
    "images.views=0",
    "images.collaborative=0",
]


def draw_facts() -> PictureFacts:
    """Pictures of four kinds, a bar in one of four places under noise; users touch items of one kind."""
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 120, (N, 1, SIDE, SIDE)).astype(np.uint8)
    for row, kind in enumerate(KINDS):
        pictures[row, 0, :, 3 * kind : 3 * kind + 3] += 100
    histories = [rng.permutation(np.flatnonzero(user % N_KINDS == KINDS))[:6] for user in range(60)]
    rows = np.concatenate(histories).astype(np.int32)
    interactions = Interactions(
        IdMap.build([f"u{row:03d}" for row in range(60)]),
        IdMap.build([f"i{row:03d}" for row in range(N)]),
        np.arange(0, len(rows) + 1, 6),
        rows,
        np.arange(len(rows)),
        np.ones(len(rows), dtype=np.float32),
        True,
    )
    places = np.eye(N_KINDS, 6, dtype=np.float32)[KINDS] + 0.1 * rng.random((N, 6)).astype(np.float32)
    places[::8] = np.nan
    return PictureFacts(lambda at: pictures[at], N, np.arange(N), interactions, places, KINDS.astype(np.int64))


def measure_purity(vectors: np.ndarray) -> float:
    """Share of each item's five nearest that are of its kind."""
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    scores = unit @ unit.T
    np.fill_diagonal(scores, -np.inf)
    return float((KINDS[np.argsort(-scores, axis=1)[:, :5]] == KINDS[:, None]).mean())


@pytest.mark.parametrize(
    "objective", [["images.co_interaction=1"], ["images.labels=1", "images.label_column=kind"], ["images.views=1"]]
)
def test_an_objective_brings_together_what_it_says(objective: list[str]) -> None:
    facts = draw_facts()
    settings = [*SMALL, *objective, "images.shift=0", "images.zoom=0", "images.warp=0"]
    if objective == ["images.views=1"]:
        settings.append("images.erase=0.9")  # what stays alike under it is where the bar stands
    trained = train_pictures(facts, apply_settings(Config(), settings))
    untrained = train_pictures(facts, apply_settings(Config(), [*settings, "images.learning_rate=1e-9"]))
    purity, before = (measure_purity(encode_candidates(one.model)) for one in (trained, untrained))
    assert purity > 0.8
    assert purity > before + (0.0 if objective == ["images.views=1"] else 0.05)


def test_a_picture_is_placed_where_its_kind_lies_also_that_of_an_unknown_item() -> None:
    facts = draw_facts()
    trained = train_pictures(facts, apply_settings(Config(), [*SMALL, "images.views=0.1", "images.collaborative=1"]))
    assert trained.table.place is not None
    places = trained.table.read_features(trained.table.place).numpy()[::8]
    assert (places[:, :N_KINDS].argmax(axis=1) == KINDS[::8]).mean() > 0.9


def test_where_places_are_all_that_is_learned_they_tell_what_is_alike() -> None:
    facts = draw_facts()
    trained = train_pictures(facts, apply_settings(Config(), [*SMALL, "images.collaborative=1"]))
    assert measure_purity(encode_candidates(trained.model)) > 0.8


def settings_of_all() -> list[str]:
    weights = ["views", "co_interaction", "collaborative", "labels"]
    return [*SMALL, *(f"images.{name}=0.5" for name in weights), "images.label_column=kind", "images.least_steps=12"]


def test_same_seed_same_vectors_bit_for_bit_whatever_happened_in_between(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "_PATIENCE", 0.0)
    facts = draw_facts()
    averaged = ["training.average_power=2", "images.least_steps=40"]  # with it the running means of a convnet
    config = apply_settings(Config(), [*settings_of_all(), *averaged, "training.checkpoint_seconds=0.001"])
    key = name_pictures(facts, config)
    whole = encode_candidates(train_pictures(facts, config).model)

    class KilledError(Exception):
        pass

    def kill_at(step: int) -> Progress:
        def progress(what: str, done: float, total: float, note: str) -> None:
            if done == step:
                raise KilledError

        return progress

    path = tmp_path / "checkpoint.safetensors"
    with pytest.raises(KilledError):
        train_pictures(facts, config, hooks=Hooks(progress=kill_at(35), checkpoint=path), key=key)
    began: list[float] = []
    hooks = Hooks(progress=lambda what, done, total, note: began.append(done), checkpoint=path)
    resumed = train_pictures(facts, config, hooks=hooks, key=key)
    assert began[0] == 35  # the step before it was kept
    assert np.array_equal(encode_candidates(resumed.model), whole)
    other = train_pictures(facts, apply_settings(config, ["training.seed=1"]))
    assert not np.array_equal(encode_candidates(other.model), whole)


def test_another_picture_setting_or_log_is_another_training() -> None:
    facts, config = draw_facts(), apply_settings(Config(), settings_of_all())
    lighter = replace(facts, take=lambda rows: facts.take(rows) + np.uint8(1))
    assert facts.interactions is not None
    fewer = replace(facts, interactions=facts.interactions.select(np.arange(facts.interactions.n_events) > 5))
    keys = [name_pictures(found, config) for found in (facts, lighter, fewer, replace(facts, places=None))]
    keys.append(name_pictures(facts, apply_settings(config, ["images.warp=0.5"])))
    assert len(set(keys)) == 5
    assert keys[0] == name_pictures(draw_facts(), config)


def describe_hits(batch: Batch) -> set[tuple[int, int]]:
    items = batch.items[batch.candidates[batch.hit_candidates]]
    return set(zip(batch.hit_bags.tolist(), items.tolist(), strict=True))


@pytest.mark.parametrize("positives", ["rest", "next"])
def test_what_looks_like_a_users_item_is_no_negative(positives: str) -> None:
    facts = draw_facts()
    assert facts.interactions is not None
    config = apply_settings(Config(), [*SMALL, "images.views=1", f"sampling.positives={positives}"])
    batch = build_drawer(facts.interactions, config).draw(0)
    groups = np.arange(N) // 2  # items 2n and 2n + 1 are alike
    before, after = describe_hits(batch), describe_hits(mask_duplicates(batch, groups))
    offered = set(batch.items[batch.candidates].tolist())
    histories = facts.interactions.to_bags().take(batch.user_rows)
    expected = set(before)
    for bag in range(len(histories)):
        for item in histories.item_rows[histories.offsets[bag] : histories.offsets[bag + 1]]:
            expected |= {(bag, row) for row in (item ^ 1,) if row in offered}
    assert after == {(int(bag), int(item)) for bag, item in expected}
    assert after > before
    assert describe_hits(mask_duplicates(batch, np.arange(N))) == before


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("images.collaborative=0", r"^images\.views, co_interaction, collaborative, labels are all 0"),
        ("images.score=euclidean", r"needs images\.score=cosine"),
        ("images.labels=1", "label_column names no attribute"),
        ("images.encoder=onnx", "names no file"),
        ("images.onnx_mean=[0.5,0.5]", "onnx_mean has 2 values for 3 channels"),
        ("images.onnx_std=[0.5,0.5,0.0]", "above 0"),
    ],
)
def test_what_teaches_nothing_or_is_incomplete_is_refused_where_pictures_are_on(setting: str, words: str) -> None:
    more = ["images.views=0"] if "collaborative" in setting or "score" in setting else []
    apply_settings(Config(), [setting, *more])
    with pytest.raises(ConfigError, match=words):
        apply_settings(Config(), [setting, *more, "images.enabled=true"])
