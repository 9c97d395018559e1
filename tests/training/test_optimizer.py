"""The optimizer: step sizes as scheduled, gradients shortened together, weights moved as Adam does."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from recsys_cl.config import ModelConfig, TrainingConfig
from recsys_cl.model.towers import TwoTowers
from recsys_cl.training.optimizer import Optimizer, scale_step

TOTAL = 20


@pytest.mark.parametrize("schedule", ["linear", "cosine", "constant"])
@pytest.mark.parametrize("warmup_share", [0.0, 0.25])
def test_the_step_size_rises_then_falls_and_never_is_nothing(schedule: str, warmup_share: float) -> None:
    config = TrainingConfig(schedule=schedule, warmup_share=warmup_share)
    scales = [scale_step(step, TOTAL, config) for step in range(1, TOTAL + 1)]
    n_warm = round(warmup_share * TOTAL)
    assert scales[: max(n_warm - 1, 0)] == pytest.approx([step / n_warm for step in range(1, max(n_warm, 1))])
    rest = scales[max(n_warm - 1, 0) :]
    assert min(scales) > 0
    assert max(scales) <= 1
    assert rest == sorted(rest, reverse=True)
    if schedule == "constant":
        assert set(rest) == {1.0}
    else:
        assert rest[-1] < 0.07
    if schedule == "cosine":
        middle = (n_warm + TOTAL + 1) / 2
        assert scale_step(int(np.ceil(middle)), TOTAL, config) == pytest.approx(0.5, abs=0.06)
    if schedule == "linear" and not warmup_share:
        assert scales[0] == pytest.approx(TOTAL / (TOTAL + 1))


def build() -> TwoTowers:
    config = ModelConfig(dim=6, history="attention", learn_temperature=True)
    return TwoTowers(3, np.array([2, 1, 3]), config, torch.Generator().manual_seed(0))


def push(model: TwoTowers) -> None:
    """Gradients on all tables and all weights."""
    loss = sum(((1 + table.gather(torch.arange(3))) ** 2).sum() for table in model.tables.values())
    loss = loss + sum(((2 + weight) ** 2).sum() for weight in model.parameters())
    loss.backward()


def test_a_long_gradient_is_shortened_as_a_whole() -> None:
    model = build()
    optimizer = Optimizer(model, TrainingConfig(clip_norm=0.5), TOTAL)
    push(model)
    gradients = [gradient for table in model.tables.values() for gradient in table.gradients]
    gradients += [weight.grad for weight in model.parameters()]
    before = torch.cat([gradient.flatten().clone() for gradient in gradients])
    optimizer.update(1)
    after = torch.cat([gradient.flatten() for gradient in gradients])
    assert before.norm() > 0.5
    torch.testing.assert_close(after, before * 0.5 / before.norm())


def test_a_short_gradient_stays() -> None:
    one, other = build(), build()
    for model, clip_norm in ((one, 0.0), (other, 1e6)):
        optimizer = Optimizer(model, TrainingConfig(clip_norm=clip_norm), TOTAL)
        push(model)
        optimizer.update(1)
    for name, value in one.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name


def test_weights_move_as_adam_does_with_their_own_step_size() -> None:
    model = build()
    config = TrainingConfig(tower_learning_rate=0.02, schedule="constant", weight_decay=0.1)
    optimizer = Optimizer(model, config, TOTAL)
    reference = model.query_tower.history.hidden.weight.detach().clone().requires_grad_()
    adam = torch.optim.AdamW([reference], lr=0.02, weight_decay=0.1)
    for step in range(1, 4):
        push(model)
        optimizer.update(step)
        adam.zero_grad()
        ((2 + reference) ** 2).sum().backward()
        adam.step()
    torch.testing.assert_close(model.query_tower.history.hidden.weight, reference)


def test_weight_decay_shrinks_what_was_touched_and_no_bias() -> None:
    """With a gradient of 0 nothing but decay moves: tables' rows and matrices, not biases or the temperature."""
    model = build()
    optimizer = Optimizer(model, TrainingConfig(schedule="constant", weight_decay=0.5), TOTAL)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    loss = sum((0 * table.gather(torch.tensor([0, 2]))).sum() for table in model.tables.values())
    loss = loss + sum((0 * weight).sum() for weight in model.parameters())
    loss.backward()
    optimizer.update(1)
    after = model.state_dict()
    for name in model.tables:
        kept, table = before[f"tables.{name}.table"], after[f"tables.{name}.table"]
        torch.testing.assert_close(table[[0, 2]], kept[[0, 2]] * (1 - 0.01 * 0.5))
        assert torch.equal(table[1], kept[1]), "a row that no step touched"
    for name, weight in model.named_parameters():
        shrink = 1 - 0.005 * 0.5 if weight.dim() > 1 else 1.0
        torch.testing.assert_close(after[name], before[name] * shrink)


def test_it_goes_on_from_its_state_as_if_never_stopped() -> None:
    whole, halved = build(), build()
    one, first = (Optimizer(model, TrainingConfig(), TOTAL) for model in (whole, halved))
    for step in (1, 2):
        for model, optimizer in ((whole, one), (halved, first)):
            push(model)
            optimizer.update(step)
    second = Optimizer(halved, TrainingConfig(), TOTAL)
    second.set_state({name: value.clone() for name, value in first.get_state().items()})
    for model, optimizer in ((whole, one), (halved, second)):
        push(model)
        optimizer.update(3)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, halved.state_dict()[name]), name
