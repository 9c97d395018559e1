"""What the stage of pictures has written: comes in a run's folder, goes out the parts of a release, and its facts."""

from __future__ import annotations

from pathlib import Path

from recsys_cl.config import Config
from recsys_cl.embeddings import EmbeddingTable
from recsys_cl.files import read_json
from recsys_cl.ids import IdMap
from recsys_cl.index.build import build_index
from recsys_cl.publishing.manifest import ImageFacts
from recsys_cl.publishing.parts import IMAGE_ENCODER, IMAGE_MODEL, IMAGE_RESULT, IMAGE_SHEET, ImageParts

FOLDER = "images"


def read_image_parts(folder: Path, config: Config) -> tuple[ImageParts, ImageFacts]:
    """The parts of a release that are about pictures, their index built, and what its manifest says of them."""
    made, images = folder / FOLDER, config.images
    tables = {
        name: EmbeddingTable.read(made / f"{name}.npy", "query").vectors for name in ("vectors", "queries", "places")
    }
    index, index_facts = build_index(tables["vectors"], config.index)
    names = [IMAGE_ENCODER, IMAGE_RESULT, IMAGE_SHEET] + ([IMAGE_MODEL] if images.encoder == "onnx" else [])
    parts = ImageParts(
        IdMap.read(made / "ids.arrow"),
        tables["vectors"],
        tables["queries"],
        tables["places"],
        index,
        {name: made / name for name in names},
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
        index=index_facts,
    )
    return parts, facts
