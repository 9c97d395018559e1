"""One suite over every loss: exchange one for another, and logits, masks, weights and samples keep their meaning."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from recsys_cl.config import LossConfig, SamplingConfig
from recsys_cl.model.losses import LOSSES, Logits, compute_loss
from recsys_cl.sampling.negatives import build_negative_sampler

KINDS = tuple(LOSSES)
TEMPERATURE = 0.3


@pytest.fixture(params=KINDS)
def config(request: pytest.FixtureRequest) -> LossConfig:
    return LossConfig(kind=request.param, n_pair_negatives=1000, margin=-0.1, negative_weight=3.0)


@pytest.fixture(params=["apart", "among the candidates"])
def columns(request: pytest.FixtureRequest) -> bool:
    return request.param != "apart"


def draw_logits(columns: bool, seed: int = 0, n_queries: int = 4, n_items: int = 9) -> Logits:
    """A batch in float64 whose candidates are all items but one; two of them are hits of each query."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 3, size=n_queries)
    owned = np.stack([rng.permutation(n_items)[:2] for _ in range(n_queries)])
    owners = np.repeat(np.arange(n_queries), sizes)
    places = np.concatenate([owned[query, :size] for query, size in enumerate(sizes)])
    rows = torch.from_numpy(rng.normal(size=(n_queries, n_items)))
    hits = (torch.arange(n_queries).repeat_interleave(2), torch.from_numpy(owned.ravel()))
    log_q = torch.from_numpy(rng.normal(scale=0.3, size=n_items))
    return Logits(
        candidates=rows - log_q,
        log_q=log_q,
        hits=hits,
        owners=torch.from_numpy(owners),
        weights=torch.from_numpy(rng.uniform(0.5, 2, size=len(owners))),
        total_weight=float(len(owners)),
        n_others=torch.full((n_queries,), n_items - 2),
        shift=3,
        temperature=torch.tensor(TEMPERATURE, dtype=torch.float64),
        positives=None if columns else rows[owners, places].clone(),
        columns=torch.from_numpy(places) if columns else None,
    )


def copy(logits: Logits) -> Logits:
    """Losses overwrite candidates."""
    return replace(logits, candidates=logits.candidates.clone())


def compute_by_hand(logits: Logits, config: LossConfig) -> float:
    """Pair by pair, straight from the formulas in the docstring of the module."""
    hits = set(zip(*(part.tolist() for part in logits.hits), strict=True))
    n_queries, n_candidates = logits.candidates.shape
    total, r = 0.0, TEMPERATURE / config.positive_temperature
    for query in range(n_queries):
        mine = [place for place, owner in enumerate(logits.owners.tolist()) if owner == query]
        negatives = [  # (logit, how many items it stands for)
            (float(logits.candidates[query, c] + logits.log_q[c]), math.exp(-float(logits.log_q[c])))
            for c in range(n_candidates)
            if (query, c) not in hits
        ]
        sum_negatives = sum(math.exp(s) * times for s, times in negatives)
        positives = []
        for place in mine:
            if logits.positives is not None:
                positives.append(float(logits.positives[place]))
            else:
                c = int(logits.columns[place])
                positives.append(float(logits.candidates[query, c] + logits.log_q[c]))
        weights = [float(logits.weights[place]) for place in mine]
        n = float(logits.n_others[query])
        if config.kind == "bilateral_softmax" and mine:
            mean = sum(w * math.exp(r * s) for w, s in zip(weights, positives, strict=True)) / sum(weights)
            total += sum(weights) * (math.log(sum_negatives) - math.log(mean) / r)
        for weight, s in zip(weights, positives, strict=True):
            if config.kind == "softmax":
                total -= weight * math.log(math.exp(s) / (math.exp(s) + sum_negatives))
            if config.kind == "bpr":
                total += weight * sum(times * math.log(1 + math.exp(other - s)) for other, times in negatives) / n
            if config.kind == "cosine_contrastive":
                over = sum(times * max(0, TEMPERATURE * other - config.margin) for other, times in negatives)
                total += weight * (1 - TEMPERATURE * s + config.negative_weight * over / n)
    return total / logits.total_weight


@pytest.mark.parametrize("seed", range(5))
def test_agrees_with_its_formula(config: LossConfig, columns: bool, seed: int) -> None:
    logits = draw_logits(columns, seed)
    found = compute_loss(copy(logits), config)
    assert found.shape == ()
    assert float(found) == pytest.approx(compute_by_hand(logits, config), rel=1e-9)


def test_gradient_agrees_with_finite_differences(config: LossConfig, columns: bool) -> None:
    """By the candidates, the positives and the temperature, which divides scores and is known to the loss."""
    logits = draw_logits(columns)
    given = [logits.candidates, logits.temperature] + ([] if columns else [logits.positives])

    def compute(candidates: torch.Tensor, temperature: torch.Tensor, *positives: torch.Tensor) -> torch.Tensor:
        scale = TEMPERATURE / temperature
        told = {"positives": positives[0] * scale} if positives else {}
        return compute_loss(replace(logits, candidates=candidates * scale, temperature=temperature, **told), config)

    leaves = [value.clone().requires_grad_() for value in given]
    compute(*leaves).backward()
    for place, leaf in enumerate(leaves):
        for cell in np.ndindex(*leaf.shape):
            ends = []
            for step in (1e-6, -1e-6):
                moved = [value.clone() for value in given]
                moved[place][cell] += step
                ends.append(float(compute(*moved)))
            assert float(leaf.grad[cell]) == pytest.approx((ends[0] - ends[1]) / 2e-6, abs=1e-7)


def test_what_is_masked_counts_for_nothing(config: LossConfig) -> None:
    logits = draw_logits(columns=False)
    candidates = logits.candidates.clone().requires_grad_()
    loss = compute_loss(replace(logits, candidates=candidates * 1), config)
    loss.backward()
    assert not candidates.grad[logits.hits].any()
    changed = copy(logits)
    changed.candidates[changed.hits] += 5.0
    assert float(compute_loss(changed, config)) == float(loss.detach())


def test_order_of_queries_and_of_candidates_does_not_matter(config: LossConfig, columns: bool) -> None:
    logits = draw_logits(columns)
    queries, candidates = torch.tensor([2, 0, 3, 1]), torch.randperm(9, generator=torch.Generator().manual_seed(1))
    to_query, to_candidate = torch.argsort(queries), torch.argsort(candidates)
    moved = torch.argsort(to_query[logits.owners], stable=True)
    turned = replace(
        logits,
        candidates=logits.candidates[queries][:, candidates],
        log_q=logits.log_q[candidates],
        hits=(to_query[logits.hits[0]], to_candidate[logits.hits[1]]),
        owners=to_query[logits.owners][moved],
        weights=logits.weights[moved],
        n_others=logits.n_others[queries],
        positives=None if columns else logits.positives[moved],
        columns=to_candidate[logits.columns][moved] if columns else None,
    )
    assert float(compute_loss(turned, config)) == pytest.approx(float(compute_loss(copy(logits), config)), rel=1e-12)


def test_a_heavier_positive_costs_more_and_one_of_no_weight_nothing(config: LossConfig, columns: bool) -> None:
    logits = draw_logits(columns)
    louder, start = replace(copy(logits), weights=logits.weights * 7), float(compute_loss(copy(logits), config))
    assert float(compute_loss(louder, config)) == pytest.approx(7 * start, rel=1e-12)
    silent = replace(copy(logits), weights=torch.zeros_like(logits.weights))
    assert float(compute_loss(silent, config)) == 0


def test_queries_that_share_a_bag_share_its_hits(config: LossConfig) -> None:
    """As where each place of a sequence is a query."""
    logits = draw_logits(columns=False)
    places = torch.tensor([0, 0, 1, 2, 3, 3, 3])
    many = replace(
        logits,
        candidates=logits.candidates[places] + torch.arange(7.0).unsqueeze(1),
        owners=torch.arange(7),
        weights=torch.ones(7, dtype=torch.float64),
        n_others=logits.n_others[places],
        positives=torch.arange(7, dtype=torch.float64),
    )
    pairs = list(zip(*(part.tolist() for part in logits.hits), strict=True))
    hits = [(query, c) for query, bag in enumerate(places.tolist()) for b, c in pairs if b == bag]
    apart = replace(many, hits=(torch.tensor([q for q, _ in hits]), torch.tensor([c for _, c in hits])))
    together = replace(many, bag_of=places)
    assert float(compute_loss(copy(together), config)) == float(compute_loss(copy(apart), config))


def test_one_query_with_one_item_among_one_candidate(config: LossConfig, columns: bool) -> None:
    one = torch.zeros(1, dtype=torch.long)
    for hits in ((one, one), (one[:0], one[:0])):
        candidates = torch.zeros(1, 1, requires_grad=True)
        positives = torch.ones(1, requires_grad=True)
        where = {"columns": one} if columns else {"positives": positives}
        told = (torch.ones(1), 1.0, one, 0, torch.tensor(1.0))
        loss = compute_loss(Logits(candidates * 1, torch.zeros(1), hits, one, *told, **where), config)
        loss.backward()
        assert torch.isfinite(loss)
        assert columns or torch.isfinite(positives.grad).all()
        assert torch.isfinite(candidates.grad).all()
        assert columns or not len(hits[0]) or not candidates.grad.any(), "there is no negative to push"


def test_better_positives_and_worse_negatives_cost_less(config: LossConfig) -> None:
    logits = draw_logits(columns=False)
    start = float(compute_loss(copy(logits), config))
    assert float(compute_loss(replace(copy(logits), positives=logits.positives + 1), config)) < start
    assert float(compute_loss(replace(logits, candidates=logits.candidates - 1), config)) < start


N_ITEMS, N_USERS, BATCH_USERS = 30, 40, 10
TOUCHED = 3  # items 0, 1, 2 are those of the user who asks; 0 and 1 are learned


def compute_gradient(config: LossConfig, scores: np.ndarray, stands_for: np.ndarray, shift: int) -> np.ndarray:
    """Gradient of one query's loss by the scores of all items, from those with stands_for [N_ITEMS] above 0."""
    leaf = torch.from_numpy(scores).requires_grad_()
    rows = np.flatnonzero(stands_for)
    log_q = torch.from_numpy(-np.log(stands_for[rows]))
    own = torch.from_numpy(np.flatnonzero(rows < TOUCHED))
    loss = compute_loss(
        Logits(
            candidates=(leaf[torch.from_numpy(rows)] - log_q).unsqueeze(0),
            log_q=log_q,
            hits=(torch.zeros_like(own), own),
            owners=torch.zeros(2, dtype=torch.long),
            weights=torch.tensor([1.0, 2.0], dtype=torch.float64),
            total_weight=3.0,
            n_others=torch.tensor([N_ITEMS - TOUCHED]),
            shift=shift % len(rows),
            temperature=torch.tensor(TEMPERATURE, dtype=torch.float64),
            positives=leaf[:2],
        ),
        config,
    )
    loss.backward()
    assert leaf.grad is not None
    return leaf.grad.numpy()


@pytest.mark.parametrize(
    ("negatives", "corrected"),
    [(kind, True) for kind in ("popularity", "uniform", "in_batch", "mixed", "hard")] + [("popularity", False)],
)
def test_expected_gradient_of_a_sample_is_that_of_the_whole_catalog(
    config: LossConfig, negatives: str, corrected: bool
) -> None:
    """Within four standard errors, and far outside without logQ correction.

    Inside a logarithm a sample of n has a bias of order 1 / n, so there many batches' candidates are taken together.
    """
    rng = np.random.default_rng(5)
    config = config.model_copy(update={"n_pair_negatives": 2})
    inside_log, n_draws = config.kind in ("softmax", "bilateral_softmax"), 200
    n_together = 50 if inside_log else 1
    scores = rng.normal(size=N_ITEMS)
    histories = [np.arange(TOUCHED)]
    histories += [np.flatnonzero(rng.random(N_ITEMS) < np.linspace(0.1, 0.6, N_ITEMS)) for _ in range(N_USERS - 1)]
    popularity = np.maximum(np.bincount(np.concatenate(histories), minlength=N_ITEMS), 1)
    sampler = build_negative_sampler(
        popularity,
        0.5 * np.bincount(np.concatenate(histories), minlength=N_ITEMS),  # of a user's items half are positives
        SamplingConfig(negatives=negatives, n_negatives=8),
    )
    hard = np.array([1, 7, 9, 12]) if negatives == "hard" else None

    def offer() -> np.ndarray:
        others = rng.permutation(np.arange(1, N_USERS))[: BATCH_USERS - 1]
        drawn = [histories[user][rng.random(len(histories[user])) < 0.5] for user in others]
        positives = np.concatenate([np.array([0, 1]), *drawn])
        offered = sampler.draw(rng, positives, (BATCH_USERS - 1) / (N_USERS - 1), hard)
        times = np.zeros(N_ITEMS)
        times[offered.rows] = np.exp(-offered.log_q) if corrected else N_ITEMS / len(offered.rows)
        return times

    found = [
        compute_gradient(config, scores, np.mean([offer() for _ in range(n_together)], axis=0), int(rng.integers(1e9)))
        for _ in range(n_draws if inside_log else 10 * n_draws)
    ]
    full = compute_gradient(config.model_copy(update={"n_pair_negatives": N_ITEMS}), scores, np.ones(N_ITEMS), shift=0)
    error = np.std(found, axis=0) / math.sqrt(len(found))
    off = np.abs(np.mean(found, axis=0) - full)
    assert np.abs(full).max() > 10 * error.max(), "so many draws that the comparison means something"
    if corrected:
        assert (off <= 4 * error + 1e-12).all()
    else:
        assert (off > 6 * error).any()


@pytest.mark.parametrize("kind", ["softmax", "bilateral_softmax"])
def test_the_bias_inside_a_logarithm_falls_as_one_over_the_number_of_draws(kind: str) -> None:
    """Of single batches: four times the draws, a quarter of the bias."""
    rng = np.random.default_rng(2)
    config = LossConfig(kind=kind)
    scores = 1.5 * rng.normal(size=N_ITEMS)
    full = compute_gradient(config, scores, np.ones(N_ITEMS), shift=0)
    bias = {}
    for n_draws in (6, 24):
        settings = SamplingConfig(negatives="uniform", n_negatives=n_draws)
        sampler = build_negative_sampler(np.ones(N_ITEMS, dtype=np.int64), np.zeros(N_ITEMS), settings)
        found = np.zeros(N_ITEMS)
        for _ in range(6000):
            offered = sampler.draw(rng, np.array([0, 1]), 1.0)
            stands_for = np.zeros(N_ITEMS)
            stands_for[offered.rows] = np.exp(-offered.log_q)
            if stands_for[TOUCHED:].any():
                found += compute_gradient(config, scores, stands_for, shift=0) / 6000
        bias[n_draws] = float(np.linalg.norm(found - full))
    assert 2.5 < bias[6] / bias[24] < 7, bias
