"""The topics of the pictures are balanced, and mean what their names say."""

from __future__ import annotations

import numpy as np

from recsys_cl.interactions.digits import N_STYLES, load_pictures


def test_every_digit_has_every_style() -> None:
    pictures = load_pictures()
    assert np.array_equal(pictures.topics // N_STYLES, pictures.digits)
    sizes = np.bincount(pictures.topics, minlength=10 * N_STYLES)
    assert sizes.min() >= 25
    assert sizes.sum() == 1_797


def test_bold_pictures_have_more_ink_and_slanted_ones_lean_to_the_right() -> None:
    pictures = load_pictures()
    styles = pictures.topics % N_STYLES
    images = pictures.images.astype(np.float64)
    ink = images.sum(axis=(1, 2))
    columns = np.arange(8)
    top, bottom = images[:, :4].sum(axis=1), images[:, 4:].sum(axis=1)
    lean = top @ columns / top.sum(axis=1) - bottom @ columns / bottom.sum(axis=1)
    for digit in range(10):
        own = pictures.digits == digit
        assert ink[own & (styles % 2 == 1)].min() >= ink[own & (styles % 2 == 0)].max()
        assert lean[own & (styles >= 2)].mean() > lean[own & (styles < 2)].mean() + 0.15
