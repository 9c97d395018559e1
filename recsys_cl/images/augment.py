"""Augmentation: comes in a batch of pictures, goes out the same ones as they might also have been taken.

Everything happens to whole batches of tensors: one sampling of the pixels for turn, shift, zoom, shear and a smooth
bending (Simard et al., ICDAR 2003), then light, colors and a hidden rectangle (SimCLR, Chen et al., ICML 2020; Zhong et
al., AAAI 2020). Chance comes from a generator alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from recsys_cl.image_sections import ImagesConfig

_Draw = Callable[..., Tensor]
_KNOTS = 5  # points a side that are moved by chance; between them the bending is smooth


def augment(pictures: Tensor, config: ImagesConfig, generator: torch.Generator) -> Tensor:
    """One view of each picture [n, channels, side, side], from 0 to 1; what lies beyond an edge repeats the edge.

    generator: on the device of the pictures.
    """
    (n, channels, side, _), device = pictures.shape, pictures.device

    def draw(*shape: int) -> Tensor:
        """Evenly between -1 and 1."""
        return torch.rand(n, *shape, generator=generator, device=device).mul_(2).sub_(1)

    if any((config.rotate_degrees, config.shift, config.zoom, config.shear, config.warp, config.mirror)):
        turns = _draw_turns(draw, config)  # [n, 2, 3]
        grid = functional.affine_grid(turns, [n, channels, side, side], align_corners=False)  # [n, side, side, 2]
        if config.warp:
            knots = torch.randn(n, 2, _KNOTS, _KNOTS, generator=generator, device=device) * config.warp
            bent = functional.interpolate(knots, size=(side, side), mode="bicubic", align_corners=True)
            grid = grid + bent.permute(0, 2, 3, 1)
        pictures = functional.grid_sample(pictures, grid, "bilinear", "border", align_corners=False)
    if config.light:
        contrast, brightness = 1 + config.light * draw(1, 1, 1), 0.5 * config.light * draw(1, 1, 1)
        means = pictures.mean(dim=(1, 2, 3), keepdim=True)
        pictures = (pictures - means) * contrast + means + brightness
    if config.hue and channels > 1:
        pictures = pictures * (1 + config.hue * draw(channels, 1, 1))
    if config.erase:
        pictures = pictures.masked_fill(_draw_rectangles(draw, side, config.erase), 0.5)
    return pictures.clamp(0, 1)


def _draw_turns(draw: _Draw, config: ImagesConfig) -> Tensor:
    """Where each point of a view comes from: matrices [n, 2, 3] of coordinates from -1 to 1."""
    angle = draw(1) * math.radians(config.rotate_degrees)
    zoom = torch.exp(draw(2) * math.log1p(config.zoom))  # either way alike, each direction by its own
    shear = draw(1) * config.shear
    cos, sin = angle.cos(), angle.sin()
    rows = torch.stack(
        (torch.cat((cos, shear * cos - sin), dim=1) * zoom, torch.cat((sin, shear * sin + cos), dim=1) * zoom), dim=1
    )
    if config.mirror:
        rows = rows * torch.cat(
            (torch.where(draw(1) < 0, -1.0, 1.0).to(rows.dtype), torch.ones_like(angle)), dim=1
        ).unsqueeze(1)
    return torch.cat((rows, draw(2, 1) * 2 * config.shift), dim=2)


def _draw_rectangles(draw: _Draw, side: int, most: float) -> Tensor:
    """Which pixels are hidden [n, 1, side, side]: one rectangle a picture, of up to `most` of a side."""
    hidden = []
    for _ in range(2):
        middle, reach = draw(1), most * draw(1).abs()
        hidden.append((torch.linspace(-1, 1, side, device=middle.device) - middle).abs() <= reach)  # [n, side]
    return (hidden[0].unsqueeze(2) & hidden[1].unsqueeze(1)).unsqueeze(1)
