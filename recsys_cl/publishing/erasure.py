"""Erasure: comes in a release and users, goes out its successor: the same release without them, under a new name.

The items' vectors, the index and the towers are copied: what was learned with these users' events stays in them until
the next training. So the answers for everybody else are what they were, byte for byte. A successor keeps the time of
the release whose place it takes, and with it that release's place among the others; the same release without the same
users has the same name, whoever makes it and however often. Memory: the distinct ids, and one block.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save

from recsys_cl.errors import SealError
from recsys_cl.ids import read_arrow, write_arrow
from recsys_cl.interactions.arrays import copy_ranges, leave_out
from recsys_cl.publishing.manifest import ArraySeal, Erasure, Manifest
from recsys_cl.publishing.parts import USER_ID, USERS, read_parts
from recsys_cl.publishing.release import describe_files, seal_staging
from recsys_cl.publishing.seal import read_manifest
from recsys_cl.publishing.store import list_versions
from recsys_cl.publishing.upkeep import find_all_damages

TOWERS = "towers.safetensors"
OF_USERS = ("user_embeddings", "evaluated_users")
"""Arrays of a release with a row for each user."""
OF_SEEN = ("seen_items", "evaluated_seen")
"""Those with a row for each item that a user has seen, one user behind the other."""
OFFSETS = "seen_offsets"
"""Where in the latter each user begins."""
_USER_TABLE = "tables.user.table"  # the name, or its end, of the free embeddings of users in towers.safetensors


def find_affected(store: Path, ids: pl.Series) -> dict[str, int]:
    """The releases of a store that need a successor without these users, each behind its parent: those that hold one,
    and those that follow them; and how many of the users each holds. Every byte of them is checked.

    Raises StoreError, SealError for one that cannot be read or is damaged: it can neither be rewritten nor kept.
    """
    releases = store / "releases"
    manifests = {version: read_manifest(releases / version) for version in list_versions(store)}
    held = {version: len(find_rows(releases / version, ids)) for version in manifests}
    found: dict[str, int] = {}
    for version in _order_parents_first(manifests):
        if held[version] or manifests[version].parent in found:
            _check_whole(releases / version)
            found[version] = held[version]
    return found


def _check_whole(folder: Path) -> None:
    for damage in find_all_damages(folder)[:1]:
        remedy = f"release {folder.name} is damaged and cannot be rewritten: publish another one, then delete it"
        raise SealError(damage.part, damage.found, damage.expected, remedy)


def find_rows(folder: Path, ids: pl.Series) -> NDArray[np.int64]:
    """The rows of those of the users that a release holds, ascending."""
    users = pl.Series(read_arrow(folder / USERS, USER_ID).column(USER_ID))
    return np.flatnonzero(users.is_in(ids.implode()).to_numpy())


def stage_successor(folder: Path, staging: Path, ids: pl.Series, renamed: Mapping[str, str]) -> str:
    """Write the successor of the release in `folder` into the folder `staging`, sealed; gives its name.

    renamed: releases to their successors, for the parent. Raises OSError where the disk refuses, SealError where it
    returns other bytes.
    """
    manifest, rows = read_manifest(folder), find_rows(folder, ids)
    parts = read_parts(folder, manifest)
    users = leave_out(manifest.n_users, rows)
    offsets = parts.seen.offsets
    seen = [(int(offsets[start]), int(offsets[stop])) for start, stop in users]
    arrays = parts.get_arrays()
    for name in manifest.files:
        array = name.removesuffix(".npy")
        if array in OF_USERS:
            copy_ranges(arrays[array], users, staging / name)
        elif array in OF_SEEN:
            copy_ranges(arrays[array], seen, staging / name)
        elif array == OFFSETS:
            sizes = np.delete(parts.seen.sizes, rows)
            np.save(staging / name, np.concatenate(([0], np.cumsum(sizes))).astype(np.int64), allow_pickle=False)
        elif name == USERS:
            _write_users(folder / name, staging / name, rows)
        elif name == TOWERS:
            _write_towers(folder / name, staging / name, manifest.n_users, users)
        else:
            shutil.copyfile(folder / name, staging / name)
    return seal_staging(staging, _describe(manifest, folder.name, staging, len(rows), renamed))


def _describe(manifest: Manifest, version: str, staging: Path, n_erased: int, renamed: Mapping[str, str]) -> Manifest:
    before = 0 if manifest.erasure is None else manifest.erasure.n_users
    shapes = {name: np.load(staging / f"{name}.npy", mmap_mode="r").shape for name in manifest.arrays}
    return manifest.model_copy(
        update={
            "parent": None if manifest.parent is None else renamed.get(manifest.parent, manifest.parent),
            "erasure": Erasure(of=version, n_users=before + n_erased),
            "n_users": manifest.n_users - n_erased,
            "files": describe_files(staging),
            "arrays": {name: ArraySeal(dtype=manifest.arrays[name].dtype, shape=shapes[name]) for name in shapes},
        }
    )


def _write_users(path: Path, target: Path, rows: NDArray[np.int64]) -> None:
    table = read_arrow(path, USER_ID)
    kept = np.ones(len(table), dtype=bool)
    kept[rows] = False
    write_arrow(target, table.filter(pa.array(kept)))


def _write_towers(path: Path, target: Path, n_users: int, users: Sequence[tuple[int, int]]) -> None:
    """The tensors without the rows of users in those that are tables of users."""
    with safe_open(str(path), framework="numpy") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
        about = file.metadata()
    for name, tensor in tensors.items():
        if name.endswith(_USER_TABLE) and len(tensor) == n_users:
            tensors[name] = np.concatenate([tensor[:0], *(tensor[start:stop] for start, stop in users)])
    target.write_bytes(save(tensors, about))  # not `save_file`, whose errors of a full disk are no OSError


def _order_parents_first(manifests: Mapping[str, Manifest]) -> list[str]:
    """The releases, each behind its parent; a name holds its parent's hash, so there is no circle."""
    order: dict[str, None] = {}
    for version in manifests:
        line, current = [], version
        while current in manifests and current not in order:
            line.append(current)
            current = manifests[current].parent or ""
        order |= dict.fromkeys(reversed(line))
    return list(order)
