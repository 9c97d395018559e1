"""Encoders of pictures: comes in pixels, goes out one row of features each.

The contract: `forward(pictures [n, channels, side, side], from 0 to 1) -> features [n, width]`, and `width`.

    convnet     two convolutions, of 32 and 64 channels, each halved in size, and 512 features
    resnet18    eighteen layers with shortcuts (He et al., CVPR 2016), the first made for small pictures
    onnx        a frozen model in a file, run by a callable that is given
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from recsys_cl.image_sections import ImagesConfig

Run = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""A frozen model: pictures [n, channels, side, side] -> features [n, width]."""

_FEATURES = 512
_WIDTHS = (64, 128, 256, 512)


class Encoder(nn.Module):
    """Pictures to features; see the module."""

    def __init__(self, width: int, layers: nn.Module) -> None:
        super().__init__()
        self.width, self.layers = width, layers

    def forward(self, pictures: Tensor) -> Tensor:
        """pictures [n, channels, side, side], from 0 to 1 -> features [n, width]."""
        # Channels last, as the weights are: on a CPU some half of the time.
        return cast(Tensor, self.layers(pictures.contiguous(memory_format=torch.channels_last)))


def build_encoder(config: ImagesConfig, generator: torch.Generator, run: Run | None = None) -> Encoder:
    """The encoder of `config.encoder`, its weights drawn from `generator`; run: the frozen model of `onnx`."""
    if config.encoder == "onnx":
        assert run is not None, "who chooses a frozen model gives it"
        blank = np.zeros((1, config.channels, config.side, config.side), dtype=np.float32)
        return Encoder(run(blank).shape[1], _Frozen(run))
    if config.encoder == "resnet18":
        encoder = Encoder(_FEATURES, _build_resnet(config.channels))
    else:
        encoder = Encoder(_FEATURES, _build_convnet(config.channels, config.side))
    for module in encoder.modules():  # He et al., ICCV 2015: the size of what passes stays the same
        if isinstance(module, nn.Conv2d | nn.Linear):
            fan_in = module.weight[0].numel()
            nn.init.normal_(module.weight, std=(2 / fan_in) ** 0.5, generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return encoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def build_head(width: int, dim: int, generator: torch.Generator) -> nn.Sequential:
    """A projection head (SimCLR): features [n, width] -> vectors [n, dim]."""
    first, last = nn.Linear(width, width), nn.Linear(width, dim)
    for layer in (first, last):
        nn.init.normal_(layer.weight, std=(2 / width) ** 0.5, generator=generator)
        nn.init.zeros_(layer.bias)
    return nn.Sequential(first, nn.ReLU(), last)


def _build_convnet(channels: int, side: int) -> nn.Module:
    return nn.Sequential(  # pooled before they are scaled and cut, which then costs a quarter
        nn.Conv2d(channels, 32, 3, padding=1),
        nn.MaxPool2d(2),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3, padding=1),
        nn.MaxPool2d(2),
        nn.BatchNorm2d(64),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(64 * (side // 4) ** 2, _FEATURES),
        nn.ReLU(),
    )


def _build_resnet(channels: int) -> nn.Module:
    layers: list[nn.Module] = [
        nn.Conv2d(channels, _WIDTHS[0], 3, padding=1, bias=False),
        nn.BatchNorm2d(_WIDTHS[0]),
        nn.ReLU(),
    ]
    before = _WIDTHS[0]
    for place, width in enumerate(_WIDTHS):
        layers += [_Block(before, width, 2 if place else 1), _Block(width, width, 1)]
        before = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())


class _Block(nn.Module):
    """Two convolutions beside a shortcut."""

    def __init__(self, before: int, width: int, stride: int) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            nn.Conv2d(before, width, 3, stride, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, 1, 1, bias=False),
            nn.BatchNorm2d(width),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or before != width:
            self.shortcut = nn.Sequential(nn.Conv2d(before, width, 1, stride, bias=False), nn.BatchNorm2d(width))

    def forward(self, values: Tensor) -> Tensor:
        return torch.relu(self.convolutions(values) + self.shortcut(values))


class _Frozen(nn.Module):
    """A model that is not trained here."""

    def __init__(self, run: Run) -> None:
        super().__init__()
        self._run = run

    def forward(self, pictures: Tensor) -> Tensor:
        return torch.from_numpy(self._run(pictures.numpy()))
