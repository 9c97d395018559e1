"""The loss: equal to a reference too simple to be wrong, right gradient, masks that hold."""

from __future__ import annotations

import math

import pytest
import torch

from recsys_cl.model.losses import compute_sampled_softmax


def build(seed: int = 0) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    positives = torch.randn(5, generator=generator, dtype=torch.float64)
    owners = torch.tensor([0, 0, 1, 2, 2])
    weights = torch.rand(5, generator=generator, dtype=torch.float64) + 0.1
    candidates = torch.randn(3, 7, generator=generator, dtype=torch.float64)
    return positives, owners, weights, candidates


HITS = (torch.tensor([0, 2]), torch.tensor([3, 6]))


def test_equals_a_plain_loop() -> None:
    positives, owners, weights, candidates = build()
    total = 0.0
    masked = {(0, 3), (2, 6)}
    for index, owner in enumerate(owners.tolist()):
        row = [candidates[owner, c].item() for c in range(7) if (owner, c) not in masked]
        own = positives[index].item()
        total += weights[index].item() * (math.log(sum(map(math.exp, [own, *row]))) - own)
    loss = compute_sampled_softmax(positives, owners, weights, candidates, HITS)
    assert loss.item() == pytest.approx(total / weights.sum().item(), rel=1e-12)


def test_gradient_agrees_with_finite_differences() -> None:
    positives, owners, weights, candidates = build(1)
    assert torch.autograd.gradcheck(
        lambda p, c: compute_sampled_softmax(p, owners, weights, c, HITS),
        (positives.requires_grad_(), candidates.requires_grad_()),
    )


def test_a_masked_candidate_gets_no_gradient() -> None:
    positives, owners, weights, candidates = build(2)
    candidates.requires_grad_()
    compute_sampled_softmax(positives, owners, weights, candidates, HITS).backward()
    assert candidates.grad is not None
    assert candidates.grad[0, 3] == 0
    assert candidates.grad[2, 6] == 0
    assert (candidates.grad != 0).sum() == 3 * 7 - 2


def test_the_order_of_positives_plays_no_part() -> None:
    positives, owners, weights, candidates = build(3)
    order = torch.tensor([4, 2, 0, 3, 1])
    one = compute_sampled_softmax(positives, owners, weights, candidates, HITS)
    other = compute_sampled_softmax(positives[order], owners[order], weights[order], candidates, HITS)
    assert one.item() == pytest.approx(other.item(), rel=1e-12)
