"""One suite over every kind of tower: what training sees is what lookup answers; planted worlds are learned."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime
import pytest
import torch

from recsys_cl.bags import Bags
from recsys_cl.config import Config, LossConfig, apply_settings
from recsys_cl.ids import IdMap
from recsys_cl.interactions.table import Interactions
from recsys_cl.model.losses import LOSSES, compute_loss
from recsys_cl.model.towers import TwoTowers
from recsys_cl.sampling.batches import Batch, BatchDrawer
from recsys_cl.sampling.negatives import build_negative_sampler
from recsys_cl.sampling.neighbors import build_neighbors
from recsys_cl.sampling.pairs import build_pair_source
from recsys_cl.serving.towers import QueryTower
from recsys_cl.training.encode import encode_bag_vectors, encode_candidates, encode_queries
from recsys_cl.training.save import load_towers, save_towers, save_weights
from recsys_cl.training.trainer import train

if TYPE_CHECKING:
    from tests.contracts.conftest import Planted

KINDS: dict[str, list[str]] = {
    "default": [],
    "tied": ["model.tied=true"],
    "no user embedding": ["model.user_weight=0.0"],
    "neighbors": ["model.neighbor_weight=0.7", "model.n_neighbors=2"],
    "neighbors, tied, next": [
        *("model.neighbor_weight=2", "model.tied=true"),
        *("model.history=transformer", "sampling.positives=next"),
    ],
    "no popularity": ["model.popularity_weight=0.0"],
    "dot": ["model.score=dot"],
    "euclidean": ["model.score=euclidean"],
    "learned temperature": ["model.learn_temperature=true"],
    "attention": ["model.history=attention"],
    "feed-forward": ["model.query_hidden=12"],
    "feed-forward, dot, gru": ["model.query_hidden=12", "model.score=dot", "model.history=gru"],
    "gru": ["model.history=gru"],
    "transformer": ["model.history=transformer"],
    "transformer, euclidean, tied": ["model.history=transformer", "model.score=euclidean", "model.tied=true"],
    "mean of what came before": ["sampling.positives=next"],
    "gru, next": ["model.history=gru", "sampling.positives=next"],
    "transformer, next": ["model.history=transformer", "sampling.positives=next"],
}
N_USERS, N_ITEMS = 4, 9


@pytest.fixture(params=KINDS)
def settings(request: pytest.FixtureRequest) -> list[str]:
    return KINDS[request.param]


def configure(settings: list[str], **more: Any) -> Config:
    given = [f"{name.replace('__', '.')}={value}" for name, value in more.items()]
    return apply_settings(Config(), ["model.dim=8", "model.history_length=6", "model.dropout=0.0", *settings, *given])


def build_log() -> Interactions:
    """Four users with two to five items each, weighted; the last item is nobody's."""
    items = np.array([0, 1, 2, 4, 5, 3, 1, 0, 6, 7, 5, 2, 4, 7], dtype=np.int32)
    return Interactions(
        IdMap.build([f"u{row}" for row in range(N_USERS)]),
        IdMap.build([f"i{row}" for row in range(N_ITEMS)]),
        np.array([0, 5, 8, 10, 14]),
        items,
        np.arange(len(items)),
        np.linspace(0.5, 2, len(items)).astype(np.float32),
        True,
    )


def build_model(config: Config, seed: int = 0) -> TwoTowers:
    model = TwoTowers(N_USERS, build_log().count_users(), config.model, torch.Generator().manual_seed(seed))
    if config.model.neighbor_weight:
        model.smooth(build_neighbors(build_log().to_bags(), N_ITEMS, config.model.n_neighbors, seed))
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim():
                weight += 0.2 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(seed))
    return model


def draw_batch(config: Config, seed: int = 0) -> Batch:
    log = build_log()
    source = build_pair_source(log, config.sampling, config.model.history_length + 1)
    sampler = build_negative_sampler(log.count_users(), source.offers, config.sampling)
    drawer = BatchDrawer(source, sampler, N_USERS, seed, config.model.tied)
    return drawer.draw_for(np.array([2, 0, 3, 1]), np.random.default_rng(seed))


def list_bags(batch: Batch) -> tuple[Bags, np.ndarray]:
    """The bag of each query over item rows, and its user."""
    rows = batch.bag_items[batch.bags.item_rows].astype(np.int32)
    if not batch.every_place:
        return Bags(batch.bags.offsets, rows, batch.bags.weights), batch.user_rows
    places = [
        np.arange(start, stop)
        for start, end in zip(batch.bags.offsets[:-1], batch.bags.offsets[1:], strict=True)
        for stop in range(start + 1, end + 1)
    ]
    flat = np.concatenate(places)
    offsets = np.concatenate(([0], np.cumsum([len(part) for part in places])))
    return Bags(offsets, rows[flat], batch.bags.weights[flat]), np.repeat(batch.user_rows, batch.bags.sizes)


@pytest.mark.parametrize("n_negatives", [100, 4])
def test_logits_of_training_are_scores_of_lookup(settings: list[str], n_negatives: int) -> None:
    config = configure(settings, sampling__n_negatives=n_negatives)
    model, batch = build_model(config), draw_batch(config)
    with torch.no_grad():
        logits = model.compute_logits(batch)
    bags, users = list_bags(batch)
    queries, candidates = encode_queries(model, bags, users), encode_candidates(model)
    scores = queries @ candidates.T
    if config.model.score == "euclidean":  # lookup leaves out what is the same for every item
        scores -= 0.5 * np.square(queries[:, :-2]).sum(axis=1, keepdims=True)
    wanted = scores[:, batch.items[batch.candidates]] / config.model.temperature
    np.testing.assert_allclose((logits.candidates + logits.log_q).numpy(), wanted, atol=2e-5)
    positives = scores[logits.owners, batch.items[batch.positives.item_rows]] / config.model.temperature
    if logits.columns is None:
        assert logits.positives is not None
        np.testing.assert_allclose(logits.positives.numpy(), positives, atol=2e-5)
    else:
        np.testing.assert_allclose(wanted[logits.owners, logits.columns], positives, atol=2e-5)


def test_published_vectors_have_their_shape_and_length(settings: list[str]) -> None:
    config = configure(settings)
    model, log = build_model(config), build_log()
    queries, candidates = encode_queries(model, log.to_bags(), np.arange(N_USERS)), encode_candidates(model)
    assert queries.shape == (N_USERS, 8)
    assert candidates.shape == (N_ITEMS, 8)
    assert (queries[:, -1] == 1).all()
    if config.model.score == "cosine":
        np.testing.assert_allclose(np.linalg.norm(queries[:, :-1], axis=1), 1, atol=1e-5)
        np.testing.assert_allclose(np.linalg.norm(candidates[:, :-1], axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("loss", LOSSES)
def test_gradient_agrees_with_finite_differences(settings: list[str], loss: str) -> None:
    config = configure(settings, sampling__n_negatives=4)
    model, batch = build_model(config).double(), draw_batch(config)
    told = LossConfig(kind=loss, margin=-1.0, n_pair_negatives=4)  # a margin that no score is at
    if loss == "cosine_contrastive" and (config.model.score != "cosine" or config.model.learn_temperature):
        pytest.skip("refused")

    def compute() -> torch.Tensor:
        return compute_loss(model.compute_logits(batch), told)

    compute().backward()
    checked = [(table.table, table.take_gradient()) for table in model.tables.values()]
    checked += [(weight, weight.grad) for weight in model.parameters() if weight.requires_grad]
    assert all(gradient is not None and gradient.abs().max() > 0 for _, gradient in checked)
    rng = np.random.default_rng(0)
    for values, gradient in checked:
        for _ in range(6):
            cell = tuple(int(rng.integers(size)) for size in gradient.shape)
            ends = []
            for step in (1e-6, -2e-6):
                with torch.no_grad():
                    values[cell] += step
                ends.append(float(compute().detach()))
            with torch.no_grad():
                values[cell] += 1e-6
            assert float(gradient[cell]) == pytest.approx((ends[0] - ends[1]) / 2e-6, abs=1e-6)


@pytest.mark.parametrize("loss", LOSSES)
def test_order_of_a_batch_does_not_matter_to_the_loss(settings: list[str], loss: str) -> None:
    config = configure(settings, sampling__n_negatives=100)
    if loss == "cosine_contrastive" and (config.model.score != "cosine" or config.model.learn_temperature):
        pytest.skip("refused")
    model, batch = build_model(config).double(), draw_batch(config)
    order = np.array([3, 1, 0, 2])
    queries = order
    if batch.every_place:  # the queries of a bag move with it
        ends = np.cumsum(batch.bags.sizes)
        queries = np.concatenate([np.arange(ends[bag] - batch.bags.sizes[bag], ends[bag]) for bag in order])
    positives = batch.positives.take(queries)
    columns = None
    if batch.columns is not None:
        spots = Bags(batch.positives.offsets, batch.columns.astype(np.int32), batch.positives.weights)
        columns = spots.take(queries).item_rows.astype(np.int64)
    turned = replace(
        batch,
        user_rows=batch.user_rows[order],
        bags=batch.bags.take(order),
        positives=positives,
        columns=columns,
        hit_bags=np.argsort(order)[batch.hit_bags],
        n_others=batch.n_others[order],
    )
    told = LossConfig(kind=loss, n_pair_negatives=1000)
    with torch.no_grad():
        values = [float(compute_loss(model.compute_logits(one), told)) for one in (batch, turned)]
    assert values[0] == pytest.approx(values[1], rel=1e-12)


def test_order_of_bags_does_not_matter(settings: list[str]) -> None:
    model, bags = build_model(configure(settings)), build_log().to_bags()
    order = np.array([3, 0, 2, 1])
    np.testing.assert_allclose(
        encode_queries(model, bags.take(order), order), encode_queries(model, bags, np.arange(4))[order], atol=1e-6
    )


def test_one_item_no_item_and_no_bag_are_encoded(settings: list[str]) -> None:
    model = build_model(configure(settings))
    empty = Bags(np.array([0, 1, 1]), np.array([2], dtype=np.int32), np.ones(1, dtype=np.float32))
    queries = encode_queries(model, empty, None)
    assert np.isfinite(queries).all()
    assert not queries[1, :6].any(), "without an item and without an embedding there is no taste"
    assert encode_queries(model, empty.take(np.zeros(0, dtype=np.int64)), None).shape == (0, 8)


def test_only_the_last_items_of_a_long_bag_are_read(settings: list[str]) -> None:
    config = configure(settings)
    model = build_model(config)
    rows = np.array([8, 0, 1, 2, 3, 4, 5, 6], dtype=np.int32)
    both = Bags(np.array([0, 8, 14]), np.append(rows, rows[2:]), np.ones(14, dtype=np.float32))
    long, short = encode_queries(model, both, None)
    assert np.allclose(long, short, atol=1e-6) == (config.model.history != "mean")


def test_weights_are_saved_and_loaded(settings: list[str], tmp_path: Path) -> None:
    config = configure(settings)
    model, other = build_model(config), build_model(config, seed=1)
    with torch.no_grad():
        model.log_temperature += 0.3
    save_weights(model, tmp_path)
    load_towers(other, tmp_path)
    bags = build_log().to_bags()
    for users in (np.arange(N_USERS), None):
        assert np.array_equal(encode_queries(model, bags, users), encode_queries(other, bags, users))
    assert np.array_equal(encode_candidates(model), encode_candidates(other))
    with pytest.raises(ValueError, match="other settings"):
        load_towers(build_model(configure([*settings, "model.dim=9"])), tmp_path)


@pytest.mark.parametrize("name", ["default", "euclidean", "attention", "feed-forward", "gru", "transformer"])
def test_exported_towers_answer_as_the_trained_ones(name: str, tmp_path: Path) -> None:
    """The files differ by history, the layer behind it, and score alone."""
    config = configure(KINDS[name])
    model, bags = build_model(config), build_log().to_bags()
    save_towers(model, tmp_path)
    table = encode_bag_vectors(model)
    tower = QueryTower(tmp_path / "query_tower.onnx", table.shape[1], config.model.dim)
    weights = np.where(np.arange(len(bags.weights)) == 1, np.float32(1e-40), bags.weights)  # nearly nothing, yet there
    asked = Bags(np.append(bags.offsets, bags.offsets[-1]), bags.item_rows, weights)  # an empty one too
    np.testing.assert_allclose(tower.encode(asked, table), encode_queries(model, asked, None), atol=1e-6)
    candidate = onnxruntime.InferenceSession(str(tmp_path / "candidate_tower.onnx"))
    inputs = {"vectors": model.item_table.table.numpy(), "log_popularity": model.log_popularity.numpy()}
    np.testing.assert_allclose(candidate.run(["candidate"], inputs)[0], encode_candidates(model), atol=1e-6)


@pytest.mark.parametrize("negatives", ["popularity", "uniform", "in_batch", "mixed", "hard"])
@pytest.mark.parametrize("loss", ["bpr", "cosine_contrastive"])
def test_gradients_of_drawn_batches_are_those_of_the_whole_catalog(loss: str, negatives: str) -> None:
    """Through drawer, towers and loss together. Each user has two items, the first the bag and the second its positive,
    so that nothing but the negatives is left to chance; both losses are unbiased for any number of them."""
    rng = np.random.default_rng(0)
    n_users, n_items = 24, 12
    rows = np.stack([rng.permutation(n_items)[:2] for _ in range(n_users)]).astype(np.int32)
    rows[:n_items, 0], rows[:n_items, 1] = np.arange(n_items), (np.arange(n_items) + 1) % n_items  # all are positives
    log = Interactions(
        IdMap.build([f"u{row:02d}" for row in range(n_users)]),
        IdMap.build([f"i{row:02d}" for row in range(n_items)]),
        np.arange(0, 2 * n_users + 1, 2),
        rows.ravel(),
        np.arange(2 * n_users),
        np.ones(2 * n_users, dtype=np.float32),
        True,
    )
    settings = [
        "sampling.positives=next",
        f"loss.kind={loss}",
        "loss.margin=-1.0",
        "model.dim=5",
        "model.user_weight=0.0",
    ]
    settings += ["loss.n_pair_negatives=1000", "sampling.n_negatives=5", f"sampling.negatives={negatives}"]
    config = apply_settings(Config(), settings)
    model = TwoTowers(n_users, log.count_users(), config.model, torch.Generator().manual_seed(0)).double()

    def build_drawer(changed: Config) -> BatchDrawer:
        source = build_pair_source(log, changed.sampling, 51)
        sampler = build_negative_sampler(log.count_users(), source.offers, changed.sampling)
        return BatchDrawer(source, sampler, n_users, 0, tied=False)

    def compute(drawer: BatchDrawer, users: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        batch = drawer.draw_for(users, rng)
        compute_loss(model.compute_logits(batch), config.loss).backward()
        (gradient,) = model.item_table.gradients
        found = np.zeros((n_items, 4))
        found[batch.items] = gradient.numpy()
        for table in model.tables.values():
            table.update(1, 0.0, 0.0)  # forget the gradients
        return found

    whole = compute(
        build_drawer(apply_settings(config, ["sampling.negatives=popularity", "sampling.n_negatives=99"])),
        np.arange(n_users),
        rng,
    )
    drawer = build_drawer(config)
    drawer.hard = Bags(
        np.arange(n_users + 1), (rows[:, 1] + 3).astype(np.int32) % n_items, np.ones(n_users, np.float32)
    )
    if negatives != "hard":
        drawer.hard = None
    drawn = np.stack([compute(drawer, rng.permutation(n_users)[:6], rng) for _ in range(3000)])
    error = drawn.std(axis=0) / np.sqrt(len(drawn))
    assert np.abs(whole).max() > 10 * error.max(), "so many draws that the comparison means something"
    assert (np.abs(drawn.mean(axis=0) - whole) <= 4.5 * error + 1e-9).all()


def test_distances_of_unit_vectors_are_cosines() -> None:
    """At unit length -½ ‖q - v‖² is the cosine minus 1: the same softmax, the same gradient."""
    near, far = (
        configure(["model.score=cosine", "model.user_weight=0.0"]),
        configure(["model.score=euclidean", "model.user_weight=0.0", "model.dim=9"]),
    )
    cosine, distance = build_model(near), build_model(far)
    for name in ("bag", "item"):
        unit = torch.nn.functional.normalize(cosine.tables[name].table, dim=1)
        cosine.tables[name].table = unit.clone()
        distance.tables[name].table = unit.clone()
    log = build_log()
    ones = Bags.of_items(np.arange(N_ITEMS))  # bags of one: their mean has unit length
    scores = encode_queries(cosine, ones, None)[:, :-1] @ encode_candidates(cosine)[:, :-1].T
    distance.item_weights = torch.ones(N_ITEMS)
    apart = encode_queries(distance, ones, None)[:, :-1] @ encode_candidates(distance)[:, :-1].T
    np.testing.assert_allclose(apart - 0.5, scores - 1, atol=1e-6)
    batch = draw_batch(near)
    single = replace(batch, bags=Bags.of_items(batch.bags.item_rows[batch.bags.offsets[:-1]]))
    cosine.item_weights = torch.ones(N_ITEMS)
    losses = [compute_loss(model.compute_logits(single), LossConfig()) for model in (cosine, distance)]
    assert float(losses[0].detach()) == pytest.approx(float(losses[1].detach()), abs=1e-5)
    for loss in losses:
        loss.backward()
    unit = cosine.item_table.table[torch.from_numpy(single.items)]
    pulls = [model.item_table.gradients[0] for model in (cosine, distance)]
    along = (pulls[1] * unit).sum(dim=1, keepdim=True) * unit
    assert torch.allclose(pulls[0], pulls[1] - along, atol=1e-5), "but for the length, which the cosine does not see"
    assert log.n_items == N_ITEMS


LEARNED: dict[str, list[str]] = KINDS | {
    "bfloat16": ["training.precision=bfloat16"],
    "warm-up, cosine, clipped": ["training.warmup_share=0.1", "training.schedule=cosine", "training.clip_norm=1.0"],
    "bilateral softmax": ["loss.kind=bilateral_softmax"],
    "bpr": ["loss.kind=bpr"],
    "cosine contrastive": ["loss.kind=cosine_contrastive", "loss.margin=0.0", "loss.negative_weight=2.0"],
    "popularity": ["sampling.n_negatives=40"],
    "uniform": ["sampling.n_negatives=40", "sampling.negatives=uniform"],
    "in batch": ["sampling.n_negatives=40", "sampling.negatives=in_batch"],
    "mixed": ["sampling.n_negatives=40", "sampling.negatives=mixed"],
    "hard": ["sampling.n_negatives=40", "sampling.negatives=hard"],
    "window": ["sampling.window_days=20.0"],
    "session": ["sampling.session_gap_minutes=3000.0"],
}


@pytest.mark.parametrize("name", LEARNED)
def test_a_planted_world_is_learned_to_nine_tenths_of_its_true_scores(planted: Planted, name: str) -> None:
    assert planted.measure(LEARNED[name]) >= 0.9


def test_only_those_that_read_in_order_learn_an_order() -> None:
    """Each user walks a circle of 24 items, half of them backward: the set of items gives two ends, the order one."""
    rng = np.random.default_rng(0)
    n_users, n_items, length = 300, 24, 7
    way = np.where(np.arange(n_users) % 2, 1, -1)[:, None]
    walks = (rng.integers(n_items, size=(n_users, 1)) + way * np.arange(length + 1)) % n_items
    log = Interactions(
        IdMap.build([f"u{row:03d}" for row in range(n_users)]),
        IdMap.build([f"i{row:02d}" for row in range(n_items)]),
        np.arange(0, n_users * length + 1, length),
        walks[:, :-1].ravel().astype(np.int32),
        np.arange(n_users * length),
        np.ones(n_users * length, dtype=np.float32),
        True,
    )
    found = {}
    for history in ("mean", "attention", "gru", "transformer"):
        settings = [f"model.history={history}", "sampling.positives=next", "model.user_weight=0.0", "model.dim=16"]
        settings += ["training.least_steps=250", "training.batch_users=100", "training.n_threads=1"]
        model = train(log, apply_settings(Config(), settings)).model
        scores = encode_queries(model, log.to_bags(), None) @ encode_candidates(model).T
        np.put_along_axis(scores, walks[:, :-1], -np.inf, axis=1)
        found[history] = float((scores.argmax(axis=1) == walks[:, -1]).mean())
    assert min(found["gru"], found["transformer"]) > 0.9, found
    assert max(found["mean"], found["attention"]) < 0.7, found
