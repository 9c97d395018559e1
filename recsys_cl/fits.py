"""Fits on disk: comes in a trained fit, goes out the folder of its vectors (and towers), from which the stages behind
training read; what lookup will run is checked against what was trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys_cl.bags import Bags
from recsys_cl.embeddings import EmbeddingTable
from recsys_cl.errors import RefusedError
from recsys_cl.files import write_folder
from recsys_cl.publishing.parts import QUERY_TOWER
from recsys_cl.recipe import Fit
from recsys_cl.serving.towers import QueryTower
from recsys_cl.training.encode import Model, encode_bag_vectors, encode_queries, list_members
from recsys_cl.training.save import save_towers

_CHECKED_BAGS, _MOST_APART = 64, 1e-3


def write_evaluated(fit: Fit, path: Path) -> None:
    """The vectors by which a model is judged: queries.npy and candidates.npy, whole or not at all."""
    with write_folder(path) as folder:
        _write_vectors(fit, folder)


def write_published(fit: Fit, bags: Bags, path: Path) -> None:
    """The same, and what lookup needs of new queries: bags.npy and the towers; bags [n_users]: of the users.

    Raises RefusedError where the exported query tower does not answer as the trained one.
    """
    with write_folder(path) as folder:
        _write_vectors(fit, folder)
        table = encode_bag_vectors(fit.model)
        EmbeddingTable(table, "bag").write(folder / "bags.npy")
        save_towers(fit.model, folder)
        _check_tower(fit.model, table, bags.take(np.arange(min(_CHECKED_BAGS, len(bags)))), folder / QUERY_TOWER)


def describe_tower(model: Model) -> dict[str, Any]:
    """What a reader of the query tower must know: `history_length` and `floats_per_pair`, as in a manifest."""
    heads = [m.config.n_heads for m in list_members(model) if m.config.history == "transformer"]
    return {"history_length": model.history_length, "floats_per_pair": sum(heads)}


def _write_vectors(fit: Fit, folder: Path) -> None:
    EmbeddingTable(fit.queries, "query").write(folder / "queries.npy")
    EmbeddingTable(fit.candidates, "candidate").write(folder / "candidates.npy")


def _check_tower(model: Model, table: NDArray[np.float32], bags: Bags, path: Path) -> None:
    """Some exporters have written units of another kind without a word; so the file is asked, and compared."""
    if model.history_length is not None:
        bags = bags.keep_last(model.history_length)
    trained = encode_queries(model, bags, None)
    exported = QueryTower(path, table.shape[1], trained.shape[1]).encode(bags, table)
    apart = float(np.abs(trained - exported).max(initial=0.0)) / max(1.0, float(np.abs(trained).max(initial=0.0)))
    if apart > _MOST_APART:
        raise RefusedError(
            "the query tower was not exported as it was trained",
            [f"of {len(bags)} queries one differs by {apart:.2g}, at most {_MOST_APART} may be"],
            "install the versions of torch and onnxruntime that constraints.txt names",
        )
