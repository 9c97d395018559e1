"""Augmentation: seeded, within bounds, nothing where nothing is wanted, and each part does what it says."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from recsys_cl.image_sections import ImagesConfig
from recsys_cl.images.augment import augment

STRENGTHS = ("rotate_degrees", "shift", "zoom", "shear", "warp", "mirror", "light", "hue", "erase")
NOTHING = dict.fromkeys(STRENGTHS, 0.0) | {"mirror": False}
PARTS = {
    "rotate_degrees": 40.0,
    "shift": 0.3,
    "zoom": 0.5,
    "shear": 0.4,
    "warp": 0.1,
    "mirror": True,
    "light": 0.5,
    "hue": 0.5,
    "erase": 0.5,
}


def draw(n: int = 64, channels: int = 3, side: int = 20) -> Tensor:
    return torch.rand(n, channels, side, side, generator=torch.Generator().manual_seed(1))


def view(pictures: Tensor, seed: int = 0, **settings: object) -> Tensor:
    return augment(pictures, ImagesConfig(**(NOTHING | settings)), torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("channels", [1, 3])
def test_each_part_is_seeded_changes_pictures_and_stays_in_bounds(part: str, channels: int) -> None:
    pictures = draw(channels=channels)
    one, same, other = (view(pictures, seed, **{part: PARTS[part]}) for seed in (0, 0, 1))
    assert one.shape == pictures.shape
    assert torch.equal(one, same)
    assert one.min() >= 0
    assert one.max() <= 1
    if part == "hue" and channels == 1:
        assert torch.equal(one, pictures)  # gray has no colors
    else:
        assert not torch.equal(one, pictures)
        assert not torch.equal(one, other)


def test_nothing_wanted_is_nothing_done() -> None:
    pictures = draw()
    assert torch.equal(view(pictures), pictures)


def test_pictures_of_a_batch_are_changed_each_by_its_own_chance() -> None:
    pictures = draw(1).expand(8, -1, -1, -1)
    views = view(pictures, rotate_degrees=30.0)
    assert len({tuple(one.flatten().tolist()) for one in views}) == 8


def test_half_of_the_pictures_are_mirrored_and_nothing_else() -> None:
    pictures = draw(400)
    views = view(pictures, mirror=True)
    kept = (views - pictures).abs().amax(dim=(1, 2, 3)) < 1e-4
    turned = (views - pictures.flip(3)).abs().amax(dim=(1, 2, 3)) < 1e-4
    assert (kept ^ turned).all()
    assert 140 < int(kept.sum()) < 260


def test_a_shift_moves_by_no_more_than_its_share() -> None:
    pictures = torch.zeros(300, 1, 21, 21)
    pictures[:, :, 10, 10] = 1.0
    views = view(pictures, shift=0.2)
    places = torch.arange(21.0)
    across = (views.sum(dim=2).squeeze(1) * places).sum(dim=1) / views.sum(dim=(1, 2, 3))
    moved = (across - 10).abs()
    assert moved.max() <= 0.2 * 21 + 0.5
    assert moved.max() > 0.15 * 21


def test_a_hidden_rectangle_is_gray_and_no_larger_than_its_share() -> None:
    pictures = torch.ones(300, 3, 20, 20)
    hidden = (view(pictures, erase=0.5) == 0.5).all(dim=1)
    assert hidden.any(dim=(1, 2)).float().mean() > 0.5
    assert hidden.any(dim=1).sum(dim=1).max() <= 0.5 * 20 + 1
    assert hidden.any(dim=2).sum(dim=1).max() <= 0.5 * 20 + 1
