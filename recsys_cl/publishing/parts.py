"""The parts of a release: go out as files, each written once, and come in again memory-mapped."""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recsys_cl.bags import Bags
from recsys_cl.catalog import ID, Catalog
from recsys_cl.errors import SealError, StoreError
from recsys_cl.evaluation.drift import Rotation
from recsys_cl.ids import IdMap, read_arrow, write_arrow
from recsys_cl.index.structure import Index, read_index
from recsys_cl.publishing.manifest import ArraySeal, ImageFacts, Manifest

USER_ID = "user_id"
_NPY = b"\x93NUMPY\x01\x00"  # the version of the format that needs no header of more than 64 KiB
_MOST_HEADER_BYTES = 1 << 16
CATALOG, USERS, INDEX = "catalog.arrow", "users.arrow", "index.faiss"
QUERY_TOWER = "query_tower.onnx"
IMAGE_ITEMS, IMAGE_INDEX, IMAGE_SHEET = "image_items.arrow", "image_index.faiss", "image_sheet.png"
IMAGE_ENCODER, IMAGE_MODEL, IMAGE_RESULT = "image_encoder.onnx", "image_model.onnx", "images.json"
GIVEN_FILES = (
    QUERY_TOWER,
    "candidate_tower.onnx",
    "towers.safetensors",
    "evaluation.json",
    "report.html",
    "model_card.md",
)
"""Files that other stages wrote; a release takes them over as they are."""
ARRAYS = {
    "item_embeddings": np.float32,
    "item_bags": np.float32,
    "user_embeddings": np.float32,
    "seen_offsets": np.int64,
    "seen_items": np.int32,
    "evaluated_items": np.float32,
    "evaluated_users": np.float32,
    "evaluated_seen": np.bool_,
    "rotation": np.float64,
}
"""Arrays of a release, each in a .npy file, and the kind of their numbers."""
IMAGE_ARRAYS = {
    "image_embeddings": np.float32,
    "image_queries": np.float32,
    "image_places": np.float32,
    "image_rotation": np.float64,
}
"""Those of a release with pictures, beside them."""


@dataclass(frozen=True)
class ImageParts:
    """What a release with pictures has beside the others; row i of each is the item of row i of `items`, ascending.

    vectors [n, dim]: candidates by picture. queries [n, dim]: with which pictures ask for others. places [n, dim]:
    queries among the interactions, where new items ask by their picture; zeros where no such places were learned.
    rotation [dim - 1, dim - 1]: by which vectors and queries were turned; places by that of the interactions.
    files: image_encoder.onnx, images.json, image_sheet.png, and image_model.onnx where a frozen model comes first.
    """

    items: IdMap
    vectors: NDArray[np.float32]
    queries: NDArray[np.float32]
    places: NDArray[np.float32]
    rotation: Rotation
    index: Index
    files: Mapping[str, Path]

    def __post_init__(self) -> None:
        shapes = {self.vectors.shape, self.queries.shape, self.places.shape}
        if len(shapes) > 1 or len(self.vectors) != len(self.items):
            raise ValueError(f"vectors, queries, places of pictures are {shapes}, for {len(self.items)} items")
        if (self.index.facts.n_items, self.index.facts.dim) != self.vectors.shape:
            raise ValueError(f"the index of pictures is over {self.index.facts}, their vectors {self.vectors.shape}")

    def get_arrays(self) -> dict[str, NDArray[Any]]:
        """As `ReleaseParts.get_arrays`."""
        arrays = (self.vectors, self.queries, self.places, self.rotation)
        named = zip(IMAGE_ARRAYS.items(), arrays, strict=True)
        return {name: np.asarray(array, dtype) for (name, dtype), array in named}


@dataclass(frozen=True)
class EvaluatedFit:
    """The fit that gave the metrics, over the rows of the release, to stand beside the next one.

    items [n_items, dim], users [n_users, dim]: its vectors. seen: for each item of the release's `seen`, whether it was
    trained on.
    """

    items: NDArray[np.float32]
    users: NDArray[np.float32]
    seen: NDArray[np.bool_]


@dataclass(frozen=True)
class ReleaseParts:
    """What a release is made of; rows of items are those of the catalog, rows of users those of `users`.

    item_vectors [n_items, dim]: candidates. bag_vectors [n_items, bag_dim]: what the query tower takes of an item.
    user_vectors [n_users, dim]: ready queries. seen: a bag for each user; its weights are not kept.
    rotation [d, d]: by which the first d coordinates of item and user vectors, and of the towers, were turned onto the
    release before; the identity for a first one. user_attributes: a line for each user, or None. files: a path for each
    of `GIVEN_FILES`. images: None where there are no pictures.
    """

    catalog: Catalog
    users: IdMap
    item_vectors: NDArray[np.float32]
    bag_vectors: NDArray[np.float32]
    user_vectors: NDArray[np.float32]
    seen: Bags
    evaluated: EvaluatedFit
    rotation: Rotation
    index: Index
    files: Mapping[str, Path]
    user_attributes: pa.Table | None = None
    images: ImageParts | None = None

    def __post_init__(self) -> None:
        n_items, n_users = len(self.catalog), len(self.users)
        found = (len(self.item_vectors), len(self.bag_vectors), len(self.user_vectors), len(self.seen))
        if found != (n_items, n_items, n_users, n_users):
            raise ValueError(f"(item, bag, user vectors, bags) are {found}, for {n_items} items and {n_users} users")
        if self.item_vectors.shape[1] != self.user_vectors.shape[1]:
            raise ValueError(f"item vectors {self.item_vectors.shape}, user vectors {self.user_vectors.shape}")
        if (self.index.facts.n_items, self.index.facts.dim) != self.item_vectors.shape:
            raise ValueError(f"the index is over {self.index.facts}, the item vectors are {self.item_vectors.shape}")
        evaluated, n_seen = self.evaluated, len(self.seen.item_rows)
        if (len(evaluated.items), len(evaluated.users), len(evaluated.seen)) != (n_items, n_users, n_seen):
            raise ValueError(f"the evaluated fit is of {evaluated.items.shape}, {evaluated.users.shape}, {n_seen} seen")
        if set(self.files) != set(GIVEN_FILES):
            raise ValueError(f"files are {sorted(self.files)}, expected {sorted(GIVEN_FILES)}")

    def get_arrays(self) -> dict[str, NDArray[Any]]:
        """The arrays under the names of their files, in the form in which they are stored."""
        vectors = (self.item_vectors, self.bag_vectors, self.user_vectors)
        evaluated = (self.evaluated.items, self.evaluated.users, self.evaluated.seen)
        arrays = (*vectors, self.seen.offsets, self.seen.item_rows, *evaluated, self.rotation)
        named = zip(ARRAYS.items(), arrays, strict=True)
        own: dict[str, NDArray[Any]] = {name: np.asarray(array, dtype) for (name, dtype), array in named}
        return own if self.images is None else own | self.images.get_arrays()


def write_parts(folder: Path, parts: ReleaseParts) -> None:
    """Write every part but the manifest into an existing folder. Raises OSError where the disk refuses."""
    parts.catalog.write(folder / CATALOG)
    attributes = parts.user_attributes if parts.user_attributes is not None else pa.table({})
    columns = {name: attributes.column(name) for name in attributes.column_names}
    write_arrow(folder / USERS, pa.table({USER_ID: parts.users.array, **columns}))
    for name, array in parts.get_arrays().items():
        np.save(folder / f"{name}.npy", array, allow_pickle=False)
    parts.index.write(folder / INDEX)
    files = dict(parts.files)
    if parts.images is not None:
        write_arrow(folder / IMAGE_ITEMS, pa.table({ID: parts.images.items.array}))
        parts.images.index.write(folder / IMAGE_INDEX)
        files |= parts.images.files
    for name, path in files.items():
        shutil.copyfile(path, folder / name)


def describe_arrays(parts: ReleaseParts) -> dict[str, ArraySeal]:
    """What the manifest says of each array."""
    return {name: ArraySeal(dtype=a.dtype.str, shape=a.shape) for name, a in parts.get_arrays().items()}


def read_parts(folder: Path, manifest: Manifest) -> ReleaseParts:
    """Map the parts of a release whose seal was checked. Raises SealError where they do not belong together."""
    arrays = {name: _map_array(folder / f"{name}.npy", manifest.arrays.get(name)) for name in ARRAYS}
    try:
        users = read_arrow(folder / USERS, USER_ID)
        catalog, index = Catalog.read(folder / CATALOG), read_index(folder / INDEX, manifest.index)
        images = None if manifest.images is None else _read_images(folder, manifest, manifest.images)
    except StoreError as error:
        raise SealError(folder.name, error.found, "the parts of one release") from error
    # One float for all: weights are not kept, and a full array would cost four bytes for each seen item.
    weights = np.broadcast_to(np.float32(1.0), arrays["seen_items"].shape)
    try:
        parts = ReleaseParts(
            catalog=catalog,
            users=IdMap.of_column(users.column(USER_ID)),
            item_vectors=arrays["item_embeddings"],
            bag_vectors=arrays["item_bags"],
            user_vectors=arrays["user_embeddings"],
            seen=Bags(arrays["seen_offsets"], arrays["seen_items"], weights),
            evaluated=EvaluatedFit(arrays["evaluated_items"], arrays["evaluated_users"], arrays["evaluated_seen"]),
            rotation=arrays["rotation"],
            index=index,
            files={name: folder / name for name in GIVEN_FILES},
            user_attributes=users.drop_columns([USER_ID]),
            images=images,
        )
    except ValueError as error:
        raise SealError(folder.name, f"its parts do not belong together ({error})", "parts of one run") from error
    found = (len(catalog), len(users), *parts.item_vectors.shape[1:], *parts.bag_vectors.shape[1:])
    expected = (manifest.n_items, manifest.n_users, manifest.dim, manifest.bag_dim)
    if found != expected:
        raise SealError(folder.name, f"items, users, dim, bag_dim are {found}", f"{expected}, as in its manifest")
    return parts


def _read_images(folder: Path, manifest: Manifest, facts: ImageFacts) -> ImageParts:
    arrays = (_map_array(folder / f"{name}.npy", manifest.arrays.get(name)) for name in IMAGE_ARRAYS)
    vectors, queries, places, rotation = arrays
    names = [name for name in (IMAGE_ENCODER, IMAGE_MODEL, IMAGE_RESULT, IMAGE_SHEET) if name in manifest.files]
    items = IdMap.of_column(read_arrow(folder / IMAGE_ITEMS, ID).column(ID))
    index = read_index(folder / IMAGE_INDEX, facts.index)
    try:
        files = {name: folder / name for name in names}
        return ImageParts(items, vectors, queries, places, rotation, index, files)
    except ValueError as error:
        raise StoreError(f"its pictures do not belong together ({error})") from error


def check_contents(parts: ReleaseParts) -> None:
    """Check what shapes do not tell: seen items lie in the catalog, bag after bag. Raises SealError naming the file."""
    offsets, items = parts.seen.offsets, parts.seen.item_rows
    if offsets[0] != 0 or (np.diff(offsets) < 0).any():
        raise SealError("seen_offsets.npy", "its offsets do not rise from 0", "the offsets of bags")
    if len(items) and (items.min() < 0 or items.max() >= len(parts.catalog)):
        raise SealError("seen_items.npy", f"rows {items.min()} to {items.max()}", f"rows below {len(parts.catalog)}")


def _map_array(path: Path, seal: ArraySeal | None) -> NDArray[Any]:
    expected = np.dtype((ARRAYS | IMAGE_ARRAYS)[path.stem])
    n_dims = 2 if expected.kind == "f" else 1  # tables of vectors, or lists of rows
    if seal is None or len(seal.shape) != n_dims or min(seal.shape) < 0:
        raise SealError(path.name, f"the manifest says {seal}", f"{n_dims} dimensions of {expected}")
    try:
        # The header is read whole, and its shape believed: both only where they fit the size of the file.
        more = path.stat().st_size - math.prod(seal.shape) * expected.itemsize
        with path.open("rb") as file:
            if not file.read(len(_NPY)) == _NPY or not 0 < more <= _MOST_HEADER_BYTES:
                raise ValueError(f"its size and head do not fit {seal}")
        array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # numpy's parser of headers raises whatever Python's own raises
        raise SealError(path.name, f"not an array ({error})", "a .npy file") from error
    if array.dtype.str != seal.dtype or array.shape != seal.shape or array.dtype != expected:
        raise SealError(path.name, f"{array.dtype} {array.shape}", f"{expected} as in the manifest: {seal}")
    return array
