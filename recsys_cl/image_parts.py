"""What the stage of pictures has written: comes in a run's folder, goes out the parts of a release, and its facts."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from recsys_cl.config import Config
from recsys_cl.embeddings import EmbeddingTable
from recsys_cl.evaluation.drift import Rotation, find_rotation, rotate, widen_rotation
from recsys_cl.files import read_json
from recsys_cl.ids import IdMap
from recsys_cl.index.tune import build_tuned
from recsys_cl.publishing.folding import fold_matrices
from recsys_cl.publishing.manifest import ImageFacts
from recsys_cl.publishing.parts import IMAGE_ENCODER, IMAGE_MODEL, IMAGE_RESULT, IMAGE_SHEET, ImageParts

FOLDER, SETTLED = "images", "settled"


def read_image_parts(
    folder: Path, config: Config, place_rotation: Rotation, live: ImageParts | None
) -> tuple[ImageParts, ImageFacts]:
    """The parts of a release that are about pictures, rotated onto the live ones, their index built, and what its
    manifest says of them. place_rotation: of the interactions among which pictures find their places."""
    made, images = folder / FOLDER, config.images
    tables = {
        name: EmbeddingTable.read(made / f"{name}.npy", "query").vectors for name in ("vectors", "queries", "places")
    }
    items, dim = IdMap.read(made / "ids.arrow"), tables["vectors"].shape[1]
    rotation = np.eye(dim - 1)
    if live is not None:
        rotation = find_rotation(items, tables["vectors"], live.items, live.vectors, dim - 1)
    rotated = rotate(tables["vectors"], rotation), rotate(tables["queries"], rotation)
    index = build_tuned(rotated[0], [rotated[1]], config.index, config.training.seed)
    encoder = folder / SETTLED / IMAGE_ENCODER
    fold_matrices(made / IMAGE_ENCODER, encoder, {"query": widen_rotation(rotation, dim), "place": place_rotation})
    names = [IMAGE_RESULT, IMAGE_SHEET] + ([IMAGE_MODEL] if images.encoder == "onnx" else [])
    parts = ImageParts(
        items,
        *rotated,
        rotate(tables["places"], place_rotation),
        rotation,
        index,
        {name: made / name for name in names} | {IMAGE_ENCODER: encoder},
    )
    length = float(read_json(made / IMAGE_RESULT)["place_length"])
    frozen = images.encoder == "onnx"
    facts = ImageFacts(
        n_items=len(parts.items),
        side=images.side,
        channels=images.channels,
        place_length=length,
        mean=images.onnx_mean if frozen else (),
        std=images.onnx_std if frozen else (),
        index=index.facts,
    )
    return parts, facts
