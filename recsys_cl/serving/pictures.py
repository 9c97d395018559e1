"""Encoders of pictures in lookup: comes in a picture, goes out its vectors; onnxruntime, no torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recsys_cl.errors import ConfigError, SealError
from recsys_cl.machine import count_cores
from recsys_cl.serving.sessions import Session

_BLOCK = 256  # pictures at a time


class PictureEncoder:
    """An open `image_encoder.onnx`, behind a frozen model where there is one.

    Pixels [n, channels, side, side] uint8 go in; out come `query` [n, dim] and, where it has learned places among the
    interactions, `place` [n, dim - 1].
    """

    def __init__(self, path: Path, frozen: FrozenModel | None = None) -> None:
        self._session = Session(path)
        outputs = self._session.outputs
        if outputs not in (["query"], ["query", "place"]) or len(self._session.inputs) != 1:
            raise SealError(path.name, f"outputs {outputs}", "query, or query and place, of one input")
        self._path, self._frozen = path, frozen

    def encode(self, pixels: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        """Queries and places of pictures; places None where there are none."""
        found: list[list[NDArray[np.float32]]] = []
        for start in range(0, len(pixels), _BLOCK):
            pictures = pixels[start : start + _BLOCK].astype(np.float32) / np.float32(255)
            features = pictures if self._frozen is None else self._frozen.run(pictures)
            outputs = self._session.run({self._session.inputs[0]: features})
            if not all(np.isfinite(output).all() for output in outputs):
                raise SealError(self._path.name, "answers NaN", "finite vectors")
            found.append(outputs)
        joined = [np.concatenate(parts) for parts in zip(*found, strict=True)]
        return joined[0], joined[1] if len(joined) > 1 else None


class FrozenModel:
    """A frozen ONNX image model. mean, std: of each channel of pixels from 0 to 1; empty: pixels as they are.

    n_threads: None for all cores. Of several outputs the first counts; one with more than two dimensions is averaged
    over all behind the second.
    """

    def __init__(
        self, path: Path, mean: tuple[float, ...] = (), std: tuple[float, ...] = (), n_threads: int | None = None
    ) -> None:
        try:
            self._session = Session(path, n_threads or count_cores())
        except (SealError, OSError) as error:
            expected = "an image model as one ONNX file, its weights in it"
            raise ConfigError(f"{path} is no frozen image model ({error})", expected, "check images.onnx") from error
        self._mean = np.array(mean or (0.0,), dtype=np.float32)[:, None, None]
        self._std = np.array(std or (1.0,), dtype=np.float32)[:, None, None]
        self.path = path

    def run(self, pictures: NDArray[np.float32]) -> NDArray[np.float32]:
        """pictures [n, channels, side, side], from 0 to 1 -> features [n, width]. Raises ConfigError where the model
        takes other pictures, or gives something else."""
        name, shape = self._session.inputs[0], self._session.shapes[0]
        fixed = shape and isinstance(shape[0], int)
        prepared = (pictures - self._mean) / self._std
        try:
            blocks = [prepared[i : i + 1] for i in range(len(prepared))] if fixed else [prepared]
            features = np.concatenate([self._session.run({name: block})[0] for block in blocks])
        except (SealError, ValueError) as error:  # ValueError: outputs that cannot be joined
            expected = f"a model of {shape}; images.side and images.channels to suit it"
            raise ConfigError(f"{self.path} takes no pictures {pictures.shape} ({error})", expected) from error
        if features.ndim > 2:
            features = features.mean(axis=tuple(range(2, features.ndim)))
        if features.ndim != 2 or len(features) != len(pictures) or not np.isfinite(features).all():
            raise ConfigError(f"{self.path} gives {features.shape}, or NaN", "one row of finite features a picture")
        return features.astype(np.float32)
