"""Near-duplicates: copies are found through noise and light, other pictures are not."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from recsys_cl.images import duplicates
from recsys_cl.images.duplicates import group_duplicates


def draw(n: int, side: int = 32, channels: int = 3) -> NDArray[np.uint8]:
    """Smooth pictures, each another."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(40, 200, (n, channels, 4, 4))
    return np.repeat(np.repeat(coarse, side // 4, axis=2), side // 4, axis=3).astype(np.uint8)


@pytest.mark.parametrize("block", [3, 2048])
@pytest.mark.parametrize("side", [8, 32, 52])
def test_copies_share_a_group_and_others_do_not(monkeypatch: pytest.MonkeyPatch, block: int, side: int) -> None:
    monkeypatch.setattr(duplicates, "_BLOCK", block)
    monkeypatch.setattr(duplicates, "_COMPARED", block)
    pictures = draw(10, side)
    rng = np.random.default_rng(1)
    noisy = np.clip(pictures[[2, 5]] + rng.integers(-2, 3, pictures[[2, 5]].shape), 0, 255).astype(np.uint8)
    lighter = pictures[[5]] + np.uint8(20)
    everything = np.concatenate((pictures, noisy, lighter))
    groups = group_duplicates(lambda rows: everything[rows], len(everything), 0.99)
    assert len(set(groups[:10].tolist())) == 10
    assert groups[10] == groups[2]
    assert groups[11] == groups[5] == groups[12]


def test_many_copies_of_one_picture_are_one_group_and_cost_little() -> None:
    everything = np.concatenate((draw(3), np.repeat(draw(1), 3000, axis=0)))
    groups = group_duplicates(lambda rows: everything[rows], len(everything), 0.99)
    assert len(set(groups.tolist())) == 3
    assert set(groups[3:].tolist()) == {int(groups[0])}


def test_chains_of_pairs_are_joined_across_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates, "_COMPARED", 2)
    one, other = draw(2, channels=1).astype(float)
    steps = [((1 - t) * one + t * other).astype(np.uint8) for t in np.linspace(0, 1, 40)]
    everything = np.stack(steps)[np.random.default_rng(0).permutation(40)]
    assert len(set(group_duplicates(lambda rows: everything[rows], 40, 0.995).tolist())) == 1


def test_pictures_of_one_color_are_no_duplicates() -> None:
    flat = np.full((4, 1, 16, 16), 255, dtype=np.uint8)
    assert len(set(group_duplicates(lambda rows: flat[rows], 4, 0.99).tolist())) == 4


def test_none_at_all() -> None:
    assert len(group_duplicates(lambda rows: np.zeros((len(rows), 1, 16, 16), np.uint8), 0, 0.99)) == 0
