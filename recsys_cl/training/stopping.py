"""Early stopping: comes in validations, goes out whether training should end, and the model as it should be kept."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recsys_cl.model.encoders import Trainable


class EarlyStop:
    """Keeps the model of the latest validation that is not worse than the best by more than chance, and stops after
    `patience` in a row that are: few users say little, and a longer training, its steps fallen further or averaged
    over more, is safer.

    Chance is the standard error of the mean paired difference over the users (Breiman et al. 1984, the 1-SE rule).
    """

    def __init__(self, model: Trainable, patience: int) -> None:
        self._model, self._patience = model, patience
        self._best, self._step, self._waited = np.array([-np.inf]), 0, 0
        self._kept: dict[str, Tensor] = {}

    @property
    def ended(self) -> bool:
        """Whether training should stop."""
        return self._waited >= self._patience

    def note(self, values: NDArray[np.float64], step: int) -> None:
        """Take note of a validation [n_users]."""
        if values.mean() >= self._best.mean():
            self._best = values
        lost = self._best - values
        if lost.mean() > lost.std() / np.sqrt(len(lost)):
            self._waited += 1
            return
        self._step, self._waited = step, 0
        self._kept = {name: value.clone() for name, value in self._model.get_learned().items()}

    def restore(self) -> int:
        """Put the kept model back, if any; gives the step it stood at, 0 where nothing was kept."""
        self._model.load_state_dict(self._kept, strict=False)  # the moments of the optimizer stay
        return self._step

    def describe(self) -> str:
        """The best value so far, for people."""
        return f", best recall {self._best.mean():.4f}" if self._kept else ""

    def get_tensors(self) -> dict[str, Tensor]:
        """What a checkpoint must keep of it, beside `get_figures`."""
        return {"best": torch.from_numpy(self._best)} | {f"kept.{name}": value for name, value in self._kept.items()}

    def get_figures(self) -> dict[str, Any]:
        """JSON values."""
        return {"step": self._step, "waited": self._waited}

    def set_state(self, tensors: dict[str, Tensor], figures: dict[str, Any]) -> None:
        """Go on from what `get_tensors` and `get_figures` gave."""
        self._best = tensors["best"].numpy()
        self._step, self._waited = figures["step"], figures["waited"]
        self._kept = {name.removeprefix("kept."): value for name, value in tensors.items() if name != "best"}
