"""Objectives of pictures: the losses of their papers, written out pair by pair."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from recsys_cl.config import LossConfig
from recsys_cl.images.objectives import contrast_labels, contrast_places, contrast_views
from recsys_cl.model.losses import compute_loss

TEMPERATURE = 0.3
LABELS = st.lists(st.tuples(st.integers(0, 3), st.integers(-1, 2)), min_size=2, max_size=7)


def draw(n: int, seed: int = 0) -> Tensor:
    return torch.randn(n, 5, generator=torch.Generator().manual_seed(seed))


def score(one: Tensor, other: Tensor, kind: str) -> float:
    if kind == "cosine":
        return float(torch.nn.functional.cosine_similarity(one, other, dim=0)) / TEMPERATURE
    return float(-0.5 * (one - other).square().sum()) / TEMPERATURE


def contrast(scores: dict[int, float], positives: list[int], negatives: list[int]) -> float:
    """Each positive against the negatives: their mean."""
    losses = [
        -math.log(math.exp(scores[p]) / (math.exp(scores[p]) + sum(math.exp(scores[n]) for n in negatives)))
        for p in positives
    ]
    return sum(losses) / len(losses)


def minimize(logits: object) -> float:
    return float(compute_loss(logits, LossConfig()))  # type: ignore[arg-type]


@settings(deadline=None, max_examples=60)
@given(LABELS, st.sampled_from(["cosine", "euclidean"]))
def test_views_are_contrasted_with_all_that_show_something_else(told: list[tuple[int, int]], kind: str) -> None:
    groups = [group for group, _ in told]
    b = len(groups)
    vectors = draw(2 * b)
    expected = []
    for one in range(2 * b):
        scores = {other: score(vectors[one], vectors[other], kind) for other in range(2 * b)}
        negatives = [other for other in scores if groups[other % b] != groups[one % b]]
        expected.append(contrast(scores, [(one + b) % (2 * b)], negatives))
    logits = contrast_views(vectors, torch.tensor(groups), torch.tensor(TEMPERATURE), kind)
    assert minimize(logits) == pytest.approx(sum(expected) / len(expected), rel=1e-4, abs=1e-5)


@settings(deadline=None, max_examples=60)
@given(LABELS, st.sampled_from(["cosine", "euclidean"]))
def test_labels_pull_their_own_and_push_the_others(told: list[tuple[int, int]], kind: str) -> None:
    groups, labels = [group for group, _ in told], [label for _, label in told]
    b = len(groups)
    vectors = draw(2 * b, 1)
    expected = []
    for one in range(2 * b):
        if labels[one % b] < 0:
            continue
        scores = {other: score(vectors[one], vectors[other], kind) for other in range(2 * b)}
        positives = [o for o in scores if o != one and labels[o % b] == labels[one % b]]
        negatives = [o for o in scores if -1 != labels[o % b] != labels[one % b] and groups[o % b] != groups[one % b]]
        expected.append(contrast(scores, positives, negatives))
    given_labels = torch.tensor(labels)
    logits = contrast_labels(vectors, torch.tensor(groups), given_labels, torch.tensor(TEMPERATURE), kind)
    if logits is None:
        assert not expected
    else:
        assert minimize(logits) == pytest.approx(sum(expected) / len(expected), rel=1e-4, abs=1e-5)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 3), st.booleans()), min_size=2, max_size=7))
def test_pictures_find_the_places_of_their_items(told: list[tuple[int, bool]]) -> None:
    groups, known = [group for group, _ in told], [is_known for _, is_known in told]
    b = len(groups)
    vectors, places = draw(2 * b, 2), draw(b, 3)
    expected = []
    for one in range(2 * b):
        if known[one % b]:
            scores = {other: score(vectors[one], places[other], "cosine") for other in range(b) if known[other]}
            negatives = [other for other in scores if groups[other] != groups[one % b]]
            expected.append(contrast(scores, [one % b], negatives))
    given_places = torch.where(torch.tensor(known)[:, None], places, torch.nan)
    logits = contrast_places(
        vectors, torch.tensor(groups), given_places, torch.tensor(known), torch.tensor(TEMPERATURE)
    )
    if sum(known) < 2:
        assert logits is None
    else:
        assert minimize(logits) == pytest.approx(sum(expected) / len(expected), rel=1e-4, abs=1e-5)
