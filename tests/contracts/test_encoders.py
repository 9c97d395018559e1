"""One suite over every encoder of items and of histories: shapes, padding, order of the batch, gradients, one item."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from recsys_cl.config import ModelConfig
from recsys_cl.model.encoders import IdEncoder
from recsys_cl.model.histories import Dropout, build_history

HISTORIES = ("mean", "attention", "gru", "transformer")
ORDERED = ("gru", "transformer")
DIM = 5


@pytest.fixture(params=HISTORIES)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def history(kind: str) -> nn.Module:
    """In float64, its weights all drawn, so that no term is 0 by its start."""
    generator = torch.Generator().manual_seed(0)
    built = build_history(DIM, ModelConfig(history=kind, history_length=8, n_blocks=2), generator).double().eval()
    with torch.no_grad():
        for weight in built.parameters():
            weight += 0.3 * torch.randn(weight.shape, generator=generator, dtype=weight.dtype)
    return built


def draw_bags(n_filled: list[int], length: int = 6, seed: int = 1) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    vectors = torch.randn(len(n_filled), length, DIM, generator=generator, dtype=torch.float64)
    weights = 0.5 + torch.rand(len(n_filled), length, generator=generator, dtype=torch.float64)
    weights[torch.arange(length) >= torch.tensor(n_filled)[:, None]] = 0
    return vectors, weights


def test_a_state_for_each_place(history: nn.Module) -> None:
    assert history(*draw_bags([6, 2, 1])).shape == (3, 6, DIM)


def test_a_state_knows_nothing_of_what_comes_later_or_of_padding(history: nn.Module) -> None:
    vectors, weights = draw_bags([6, 3])
    states = history(vectors, weights)
    for place in range(1, 6):
        shorter = history(vectors[:1, :place], weights[:1, :place])
        assert torch.allclose(shorter, states[:1, :place], atol=1e-12)
    vectors[1, 3:] = 100.0
    assert torch.allclose(history(vectors, weights)[1, :3], states[1, :3], atol=1e-12)


def test_order_of_the_batch_does_not_matter(history: nn.Module) -> None:
    vectors, weights = draw_bags([6, 3, 1, 4])
    order = torch.tensor([2, 0, 3, 1])
    assert torch.allclose(history(vectors[order], weights[order]), history(vectors, weights)[order], atol=1e-12)


def test_order_of_a_bag_matters_to_those_that_read_it_in_order(history: nn.Module, kind: str) -> None:
    vectors, weights = draw_bags([6, 6])
    turned = history(vectors.flip(1), weights.flip(1))[:, -1]
    assert torch.allclose(turned, history(vectors, weights)[:, -1], atol=1e-9) == (kind not in ORDERED)


def test_every_item_of_a_bag_and_every_weight_is_heard(history: nn.Module) -> None:
    vectors, weights = draw_bags([6])
    leaf = vectors.requires_grad_()
    heavy = weights.clone().requires_grad_()
    history(leaf, heavy)[:, -1].square().sum().backward()
    assert leaf.grad is not None
    assert (leaf.grad.abs().sum(dim=2) > 0).all()
    assert heavy.grad is not None
    assert (heavy.grad.abs() > 0).all()


def test_only_ratios_of_weights_count(history: nn.Module) -> None:
    """So a log of ratings 1 to 5 and a session of weight 1 are read alike."""
    vectors, weights = draw_bags([6, 3, 1])
    assert torch.allclose(history(vectors, 5 * weights), history(vectors, weights), atol=1e-12)


def test_gradients_agree_with_finite_differences(history: nn.Module) -> None:
    vectors, weights = draw_bags([4, 2], length=4)
    names = [name for name, _ in history.named_parameters()]
    start = [weight.detach().clone().requires_grad_() for weight in history.parameters()]

    def compute(vectors: Tensor, *values: Tensor) -> Tensor:
        states: Tensor = torch.func.functional_call(history, dict(zip(names, values, strict=True)), (vectors, weights))
        return states[weights > 0]

    assert torch.autograd.gradcheck(compute, (vectors.requires_grad_(), *start), fast_mode=True)


def test_one_item_and_no_item_give_finite_states(history: nn.Module) -> None:
    vectors, weights = draw_bags([1, 0], length=1)
    assert torch.isfinite(history(vectors, weights)).all()


def test_the_mean_of_a_bag_is_its_weighted_mean() -> None:
    vectors, weights = draw_bags([6, 3])
    history = build_history(DIM, ModelConfig(history="mean"), torch.Generator())
    wanted = torch.stack([(v * w[:, None]).sum(0) / w.sum() for v, w in zip(vectors, weights, strict=True)])
    assert torch.allclose(history(vectors, weights)[:, -1], wanted)


def test_its_state_can_be_saved_and_loaded(history: nn.Module, kind: str) -> None:
    other = build_history(
        DIM, ModelConfig(history=kind, history_length=8, n_blocks=2), torch.Generator().manual_seed(9)
    )
    other = other.double().eval()
    other.load_state_dict(history.state_dict())
    bags = draw_bags([6, 2])
    assert torch.equal(other(*bags), history(*bags))


def test_weights_come_from_the_generator_alone(kind: str) -> None:
    config = ModelConfig(history=kind)
    one, other, third = (
        build_history(DIM, config, torch.Generator().manual_seed(seed)).state_dict() for seed in (1, 1, 2)
    )
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert not one or any(not torch.equal(one[name], third[name]) for name in one)


@pytest.mark.parametrize("kind", ORDERED)
def test_dropout_acts_in_training_alone_and_from_its_generator(history: nn.Module) -> None:
    bags = draw_bags([6, 2])
    history.train()
    found = []
    for seed in (1, 1, 2):
        generator = torch.Generator().manual_seed(seed)
        for module in history.modules():
            if isinstance(module, Dropout):
                module.generator = generator
        found.append(history(*bags))
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])
    assert torch.equal(history.eval()(*bags), history(*bags))


def test_dropout_keeps_the_mean() -> None:
    dropout = Dropout(0.3).train()
    dropout.generator = torch.Generator().manual_seed(0)
    kept = dropout(torch.ones(200_000))
    assert float((kept == 0).float().mean()) == pytest.approx(0.3, abs=0.01)
    assert float(kept.mean()) == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("unit", [True, False])
def test_an_id_encoder_gives_the_row_at_unit_length_or_as_it_is(unit: bool) -> None:
    features = torch.from_numpy(np.random.default_rng(0).normal(size=(7, DIM))).requires_grad_()
    encoder: Callable[[Tensor], Tensor] = IdEncoder(unit)
    vectors = encoder(features)
    lengths = vectors.norm(dim=1)
    assert torch.allclose(lengths, torch.ones(7, dtype=torch.float64)) if unit else torch.equal(vectors, features)
    assert torch.allclose(encoder(features[[3, 0]]), vectors[[3, 0]])
    assert torch.autograd.gradcheck(encoder, (features,))
    assert encoder(features[:1]).shape == (1, DIM)
