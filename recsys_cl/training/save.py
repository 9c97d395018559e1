"""The towers as files: comes in a trained model, goes out ONNX for lookup and safetensors for training; no pickle."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.export import Dim

from recsys_cl.images.features import PictureTable
from recsys_cl.model.blend import Blend, PaddedBlend
from recsys_cl.model.scores import count_taste_floats, widen_queries
from recsys_cl.model.towers import PaddedQueryTower, PublishedCandidateTower, TwoTowers
from recsys_cl.training.encode import Model, list_members
from recsys_cl.training.pictures import get_pictures

Inputs = dict[str, tuple[Tensor, int]]
"""Name of an input -> (an example, how many of its leading dimensions may vary)."""
TOWERS = "towers.safetensors"


def save_towers(model: Model, folder: Path) -> None:
    """Write query_tower.onnx, candidate_tower.onnx and towers.safetensors into `folder`; some seconds.

    The candidates of a blend are a table that is ready as it is; its candidate tower joins taste and popularity float.
    """
    model.eval()
    widths = [count_taste_floats(member.config) for member in list_members(model)]
    query: nn.Module
    candidate: nn.Module
    if isinstance(model, Blend):
        query, candidate, dim = PaddedBlend(model, widths), _Joined(), model.dim - 1
    else:
        query, dim = PaddedQueryTower(model.query_tower, model.config.score), widths[0]
        candidate = PublishedCandidateTower(model.encoder, model.config, float(model.temperature.detach()))
    _save_onnx(
        query,
        {"vectors": (torch.rand(2, 3, sum(widths)), 2), "weights": (torch.ones(2, 3), 2)},
        ["query"],
        folder / "query_tower.onnx",
    )
    _save_onnx(
        candidate,
        {"vectors": (torch.rand(2, dim), 1), "log_popularity": (torch.rand(2), 1)},
        ["candidate"],
        folder / "candidate_tower.onnx",
    )
    save_weights(model, folder)


def save_pictures(model: TwoTowers, path: Path) -> None:
    """Write the encoder of pictures as ONNX: pictures (of a frozen model: its features) in; out come `query`, with
    which a picture asks for others [n, dim], and `place`, its place among the interactions, where it learned one."""
    model.eval()
    table = get_pictures(model)
    config = table.config
    if config.encoder == "onnx":
        example = torch.rand(2, table.encoder.width)
    else:
        example = torch.rand(2, config.channels, config.side, config.side)
    outputs = ["query"] if table.place is None else ["query", "place"]
    _save_onnx(_PublishedPictures(table, model), {"pictures": (example, 1)}, outputs, path)


class _PublishedPictures(nn.Module):
    """A picture's vectors as they are published."""

    def __init__(self, table: PictureTable, model: TwoTowers) -> None:
        super().__init__()
        self.encoder: nn.Module = nn.Identity() if table.config.encoder == "onnx" else table.encoder
        self.embed, self.place, self.score, self.finish = table.embed, table.place, model.config.score, model.encoder

    def forward(self, pictures: Tensor) -> tuple[Tensor, ...]:
        features = self.encoder(pictures)
        query = widen_queries(self.finish(self.embed(features)), self.score, with_length=False)
        query = torch.cat((query, torch.ones_like(query[:, :1])), dim=1)
        return (query,) if self.place is None else (query, nn.functional.normalize(self.place(features), dim=1))


class _Joined(nn.Module):
    def forward(self, vectors: Tensor, log_popularity: Tensor) -> Tensor:
        return torch.cat((vectors, log_popularity.unsqueeze(1)), dim=1)


def save_weights(model: Model, folder: Path) -> None:
    """Write towers.safetensors alone, from which `load_towers` reads."""
    save_file({name: value.contiguous() for name, value in model.get_learned().items()}, folder / TOWERS)


def load_towers(model: Model, folder: Path) -> None:
    """Give a model of the same configuration, users and items what `save_towers` or `save_weights` wrote.

    Raises ValueError where names or shapes are those of another one.
    """
    found = load_file(folder / TOWERS)
    expected = {name: tuple(value.shape) for name, value in model.get_learned().items()}
    if expected != {name: tuple(value.shape) for name, value in found.items()}:
        raise ValueError(f"{folder / TOWERS} holds {sorted(found)}, of a model with other settings, users or items")
    model.load_state_dict(found, strict=False)  # the moments of the optimizer are not part of it


def _save_onnx(module: nn.Module, inputs: Inputs, outputs: list[str], path: Path) -> None:
    shapes: Any = tuple(dict.fromkeys(range(n_dynamic), Dim.DYNAMIC) for _, n_dynamic in inputs.values())
    example = tuple(tensor for tensor, _ in inputs.values())
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it reports that torchvision is missing
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecations inside the exporter itself
        program = torch.onnx.export(
            module.eval(),
            example,
            input_names=list(inputs),
            output_names=outputs,
            dynamic_shapes=shapes,
            verbose=False,
        )
    assert program is not None
    program.save(str(path))
