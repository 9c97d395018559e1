"""Averaging of weights: comes in a model while it is trained, goes out the average of what it was on its way.

Steps of constant size end somewhere around the best place, and the average of where they were lies nearer to it than
the last of them (Polyak and Juditsky 1992). Later ones count more: the one taken n-th with n to the `power`, so that no
start has to be chosen and none be forgotten (polynomial-decay averaging; Shamir and Zhang, ICML 2013).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor

from recsys_cl.model.encoders import Trainable

EVERY = 16  # steps: neighboring ones are alike, and each look passes over whole tables


class Average:
    """Of what `model` has learned; with a power of 0, and before step 16, there is none, and the model stands as its
    last step left it.

    Memory: 4 bytes a float of the model.
    """

    def __init__(self, model: Trainable, power: float) -> None:
        self._model, self._power, self._taken = model, power, 0
        self._means = {name: value.clone() for name, value in self._find().items()} if power else {}

    def note(self, step: int) -> None:
        """Take note of the model behind `step`, which counts from 1."""
        if not self._means or step % EVERY:
            return
        self._taken += 1
        share = (self._power + 1) / (self._taken + self._power)
        for name, value in self._find().items():
            self._means[name].lerp_(value, share)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Within, the model is its average, where there is one yet."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def settle(self) -> None:
        """Make the model its average, for good."""
        self._swap()
        self._means, self._taken = {}, 0

    def get_tensors(self) -> dict[str, Tensor]:
        """What a checkpoint must keep of it, beside `get_figures`."""
        return dict(self._means)

    def get_figures(self) -> dict[str, Any]:
        """JSON values."""
        return {"taken": self._taken}

    def set_state(self, tensors: dict[str, Tensor], figures: dict[str, Any]) -> None:
        """Go on from what `get_tensors` and `get_figures` gave."""
        self._means, self._taken = tensors, figures["taken"]

    def _find(self) -> dict[str, Tensor]:
        return {name: value for name, value in self._model.get_learned().items() if value.is_floating_point()}

    def _swap(self) -> None:
        if not self._taken:
            return
        for name, value in self._find().items():
            stood = value.clone()
            value.copy_(self._means[name])
            self._means[name] = stood
