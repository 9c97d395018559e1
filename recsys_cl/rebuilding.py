"""Rebuilding: comes in a release, goes out whether its recorded configuration and data give the same vectors and index
again, bit for bit; or what has changed since.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from recsys_cl.config import Config, IndexConfig, build_config
from recsys_cl.errors import StoreError
from recsys_cl.evaluation.drift import Rotation, rotate
from recsys_cl.files import LEFTOVER_HOURS, TEMPORARY, hash_file, read_json, remove_leftovers
from recsys_cl.indexing import repeat_index
from recsys_cl.pipeline import run_stage
from recsys_cl.progress import Progress, report_nothing
from recsys_cl.publishing.manifest import Manifest
from recsys_cl.publishing.parts import IMAGE_INDEX, INDEX
from recsys_cl.publishing.seal import read_manifest
from recsys_cl.publishing.store import find_release
from recsys_cl.publishing.upkeep import check_whole
from recsys_cl.runs import create_run

_VECTORS = {"item_embeddings": "candidates", "item_bags": "bags", "user_embeddings": "queries"}
_PICTURES = {"image_embeddings": "vectors", "image_queries": "queries", "image_places": "places"}


@dataclass(frozen=True)
class Rebuilt:
    """changed: inputs that are no longer those of the release, in words; where there are any, nothing was trained.
    differing: arrays that came out otherwise; where there are none, indexes."""

    release: str
    changed: list[str]
    differing: list[str]

    @property
    def same(self) -> bool:
        """Whether every vector, and every index, came out as it is in the release."""
        return not self.changed and not self.differing

    def dump(self) -> dict[str, Any]:
        """As JSON values."""
        return {"release": self.release, "same": self.same, "changed": self.changed, "differing": self.differing}


def rebuild(store: Path, name: str, progress: Progress = report_nothing) -> Rebuilt:
    """Read the log and train anew, as the manifest of release `name` says, in a folder that is deleted afterwards.

    Costs what ingesting and training cost. Raises StoreError where there is no such release or its log was not a file,
    SealError where it is damaged; what ingesting and training raise.
    """
    folder = find_release(store, name)
    check_whole(folder)
    manifest = read_manifest(folder)
    config = build_config(manifest.config)
    if not config.ingest.log or "***" in config.ingest.log:
        raise StoreError(
            f"release {name} was made from a log that is not recorded",
            "a log in files, or in a database whose URL has no password (`${NAME}` is read from the environment)",
        )
    remove_leftovers(store, LEFTOVER_HOURS)
    work = Path(tempfile.mkdtemp(prefix=TEMPORARY, dir=store))
    try:
        return _rebuild(store, folder, manifest, config, work, progress)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _rebuild(store: Path, folder: Path, manifest: Manifest, config: Config, work: Path, progress: Progress) -> Rebuilt:
    changed = []
    if manifest.code_version != version("recsys_cl"):
        changed.append(f"the package: {manifest.code_version} then, {version('recsys_cl')} now")
    if (store / "raw").is_dir():  # what was read from files that may be gone
        shutil.copytree(store / "raw", work / "raw", copy_function=os.link)
    run = create_run(work, config)
    run_stage(run, "ingest", progress=progress)
    found = read_json(run.folder / "ingest.json")["fingerprint"]
    if found != manifest.data_fingerprint:
        changed.append(f"the data: fingerprint {manifest.data_fingerprint[:12]} then, {found[:12]} now")
    if changed:
        return Rebuilt(folder.name, changed, [])
    run_stage(run, "train", progress=progress)
    rotation = np.load(folder / "rotation.npy", allow_pickle=False)
    rotations = dict.fromkeys(("item_embeddings", "user_embeddings", "image_places"), rotation)
    pairs = {name: run.folder / "published" / f"{file}.npy" for name, file in _VECTORS.items()}
    if manifest.images is not None:
        run_stage(run, "evaluate", progress=progress)
        run_stage(run, "images", progress=progress)
        pairs |= {name: run.folder / "images" / f"{file}.npy" for name, file in _PICTURES.items()}
        turned = np.load(folder / "image_rotation.npy", allow_pickle=False)
        rotations |= dict.fromkeys(("image_embeddings", "image_queries"), turned)
    differing = [name for name, path in pairs.items() if not _are_same(folder, name, path, rotations.get(name))]
    return Rebuilt(folder.name, [], differing or _list_differing_indexes(folder, manifest, config.index, work))


def _list_differing_indexes(folder: Path, manifest: Manifest, config: IndexConfig, work: Path) -> list[str]:
    """Files of indexes that are others when they are built anew, of the recorded kind and parameters."""
    indexes = {INDEX: (manifest.index, "item_embeddings")}
    if manifest.images is not None:
        indexes[IMAGE_INDEX] = (manifest.images.index, "image_embeddings")
    for name, (facts, table) in indexes.items():
        vectors = np.load(folder / f"{table}.npy", mmap_mode="r", allow_pickle=False)
        repeat_index(facts, vectors, config).write(work / name)
    return [name for name in indexes if hash_file(work / name) != manifest.files[name].sha256]


def _are_same(folder: Path, name: str, path: Path, rotation: Rotation | None) -> bool:
    """Whether the array of the release is that of the file, rotated where there is a rotation, bit for bit."""
    one, other = (np.load(file, mmap_mode="r", allow_pickle=False) for file in (folder / f"{name}.npy", path))
    if rotation is not None:
        other = rotate(other, rotation)
    return bool(one.shape == other.shape and one.dtype == other.dtype and one.tobytes() == other.tobytes())
