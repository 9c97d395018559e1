"""The towers as files: comes in a trained model, goes out ONNX for lookup and safetensors for training; no pickle."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.export import Dim

from recsys_cl.model.towers import PaddedQueryTower, PublishedCandidateTower, TwoTowers

Inputs = dict[str, tuple[Tensor, int]]
"""Name of an input -> (an example, how many of its leading dimensions may vary)."""


def save_towers(model: TwoTowers, folder: Path) -> None:
    """Write query_tower.onnx, candidate_tower.onnx and towers.safetensors into `folder`; some seconds."""
    dim = model.config.dim - 1
    _save_onnx(
        PaddedQueryTower(model.query_tower),
        {"vectors": (torch.rand(2, 3, dim), 2), "weights": (torch.ones(2, 3), 2)},
        "query",
        folder / "query_tower.onnx",
    )
    _save_onnx(
        PublishedCandidateTower(model.encoder, model.config),
        {"vectors": (torch.rand(2, dim), 1), "log_popularity": (torch.rand(2), 1)},
        "candidate",
        folder / "candidate_tower.onnx",
    )
    tensors = {f"{name}_table": table.table for name, table in model.tables.items()}
    tensors |= {"log_popularity": model.log_popularity, "item_weights": model.item_weights}
    save_file(tensors, folder / "towers.safetensors")


def _save_onnx(module: nn.Module, inputs: Inputs, output: str, path: Path) -> None:
    shapes: Any = tuple(dict.fromkeys(range(n_dynamic), Dim.DYNAMIC) for _, n_dynamic in inputs.values())
    example = tuple(tensor for tensor, _ in inputs.values())
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it reports that torchvision is missing
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecations inside the exporter itself
        program = torch.onnx.export(
            module.eval(),
            example,
            input_names=list(inputs),
            output_names=[output],
            dynamic_shapes=shapes,
            verbose=False,
        )
    assert program is not None
    program.save(str(path))
