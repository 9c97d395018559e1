"""Items known by their picture: the counterpart of `RowTable`, with pixels in the place of free embeddings."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from recsys_cl.image_sections import ImagesConfig
from recsys_cl.images.augment import augment
from recsys_cl.images.encoders import Encoder, build_head

_BLOCK = 1024  # pictures encoded at a time

Take = Callable[[NDArray[np.int64]], NDArray[np.uint8]]
"""rows [b] -> pixels [b, channels, side, side]."""


class PictureTable(nn.Module):
    """Embeddings of pictures: `gather` and `read` as a `RowTable` has them, of `n_rows` pictures that `take` brings.

    Where gradients are on, `gather` sees a view of each picture, drawn from `generator`. `embed` gives vectors for the
    score of pictures, `place` vectors in the space of the interactions. seconds: spent in `take`.
    """

    def __init__(
        self,
        take: Take,
        n_rows: int,
        encoder: Encoder,
        config: ImagesConfig,
        dims: tuple[int, int | None],
        generator: torch.Generator,
    ) -> None:
        """dims: of the vectors that `embed` and `place` give; None where there is no space of interactions."""
        super().__init__()
        self._take, self._n_rows, self.config = take, n_rows, config
        self.encoder = encoder
        self._embed = None if config.places_alone else build_head(encoder.width, dims[0], generator)
        self.place = None if dims[1] is None else build_head(encoder.width, dims[1], generator)
        assert self._embed is not None or self.place is not None, "a picture learns something"
        self.generator = torch.Generator()
        self.seconds = 0.0

    @property
    def embed(self) -> nn.Module:
        """The head that gives vectors for the score of pictures: its own, or that of the places where pictures learn
        nothing else."""
        head = self.place if self._embed is None else self._embed
        assert head is not None
        return head

    def gather(self, rows: Tensor) -> Tensor:
        """Vectors [n, dim] of the pictures at rows [n], for the score of pictures."""
        features: Tensor = self.embed(self.look(rows.numpy()))
        return features

    def look(self, rows: NDArray[np.int64]) -> Tensor:
        """Features [n, width] of the pictures at rows [n], each in a view of its own where gradients are on."""
        started = time.perf_counter()
        pictures = scale_pixels(self._take(rows))
        self.seconds += time.perf_counter() - started
        if torch.is_grad_enabled():
            with torch.no_grad():
                pictures = augment(pictures, self.config, self.generator)
        features: Tensor = self.encoder(pictures)
        return features

    @torch.no_grad()
    def read(self) -> Tensor:
        """Vectors of all pictures [n_rows, dim], as they are, without a view."""
        return self.read_features(self.embed)

    @torch.no_grad()
    def read_features(self, head: nn.Module | None = None) -> Tensor:
        """What `head` makes of the features of all pictures [n_rows, …]; without one, the features."""
        training = self.training
        self.eval()
        blocks = []
        for start in range(0, self._n_rows, _BLOCK):
            features = self.look(np.arange(start, min(start + _BLOCK, self._n_rows)))
            blocks.append(features if head is None else head(features))
        self.train(training)
        return torch.cat(blocks)


def scale_pixels(pixels: NDArray[np.uint8]) -> Tensor:
    """Pixels from 0 to 255 as numbers from 0 to 1."""
    return torch.from_numpy(np.ascontiguousarray(pixels)).float().div_(255)
