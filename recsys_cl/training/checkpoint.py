"""Checkpoints: comes in all that a training holds, goes out one file from which it goes on as if never interrupted.

A safetensors file, written whole or not at all: arrays, and as its metadata the key of the training it belongs to, its
figures, and a hash of the arrays. What a batch holds follows from the step, so no state of chance needs to be kept.
"""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from recsys_cl.config import Config
from recsys_cl.files import dump_json, hash_text, write_file
from recsys_cl.interactions.table import Interactions

_SECTIONS = ("split", "sampling", "model", "loss", "training")
_BESIDE_THE_POINT = ("checkpoint_seconds", "n_threads")
_PATIENCE = 20.0  # one that took s seconds is not followed by another for 20 × s: a twentieth of the time


@dataclass(frozen=True)
class Snapshot:
    """tensors by name; figures: JSON values."""

    tensors: dict[str, Tensor]
    figures: dict[str, Any]


class Checkpoints:
    """Keeps the snapshots of one training in the file `path`; without a path it keeps none."""

    def __init__(self, path: Path | None, key: str, seconds: float) -> None:
        self._path, self._key, self._seconds = path if seconds else None, key, seconds
        self._due = time.monotonic() + seconds

    def read(self) -> Snapshot | None:
        """The last snapshot, or None where there is none of this very training, or it is damaged."""
        if self._path is None or not self._path.is_file():
            return None
        try:
            with safe_open(str(self._path), framework="pt") as file:
                about = json.loads((file.metadata() or {}).get("about", "{}"))
                if about.get("key") != self._key:
                    return None
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (OSError, ValueError, SafetensorError):
            return None
        return Snapshot(tensors, about["figures"]) if about["hash"] == _hash(tensors) else None

    def is_due(self) -> bool:
        """Whether it is time for another snapshot."""
        return self._path is not None and time.monotonic() >= self._due

    def write(self, snapshot: Snapshot) -> None:
        """Replace the last snapshot."""
        if self._path is None:
            return
        started = time.monotonic()
        tensors = {name: value.contiguous() for name, value in snapshot.tensors.items()}
        about = {"key": self._key, "figures": snapshot.figures, "hash": _hash(tensors)}
        with write_file(self._path) as temporary:
            save_file(tensors, temporary, {"about": json.dumps(about, allow_nan=False)})
        took = time.monotonic() - started
        self._due = started + took + max(self._seconds, _PATIENCE * took)


def name_training(interactions: Interactions, config: Config, *plan: int | None) -> str:
    """A key that tells one training from another: same events, same settings that bear on them, same plan.

    plan: numbers of steps, and of users that are judged, or whatever else bears on it.
    """
    digest = hashlib.blake2b(digest_size=16)
    for array in (interactions.offsets, interactions.item_rows, interactions.times, interactions.weights):
        digest.update(np.ascontiguousarray(array).data)
    values = config.dump()
    settings = {name: values[name] for name in _SECTIONS}
    for name in _BESIDE_THE_POINT:
        del settings["training"][name]
    sizes = [interactions.n_users, interactions.n_items, interactions.timed]
    told = [digest.hexdigest(), sizes, settings, plan, torch.__version__, version("recsys_cl")]
    return hash_text(dump_json(told))


def _hash(tensors: dict[str, Tensor]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].contiguous().numpy().data)
    return digest.hexdigest()
