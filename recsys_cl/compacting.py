"""Compacting: comes in a store, goes out the same store without the runs and cached sources that nothing needs."""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from recsys_cl.config import Config
from recsys_cl.errors import StoreError
from recsys_cl.files import LEFTOVER_HOURS, TEMPORARY, measure_folder, remove_leftovers
from recsys_cl.interactions.raw import list_unused
from recsys_cl.publishing.seal import read_manifest
from recsys_cl.publishing.store import find_releases, list_versions, read_current
from recsys_cl.runs import Run, claim_run, list_run_ids


@dataclass(frozen=True)
class Compacted:
    """runs: ids of the deleted ones; n_sources: cached sources that were deleted; size_bytes: what all of it took;
    unreadable: releases whose manifest cannot be read, for the sake of which no run was deleted."""

    runs: list[str]
    n_sources: int
    size_bytes: int
    unreadable: list[str]

    def dump(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


def compact_store(store: Path, keep: int) -> Compacted:
    """Delete all but the newest `keep` runs, and cached sources that no run would read again.

    Never deleted are the run of the live release, runs of releases that are kept, and one that a process works on. A
    release whose manifest cannot be read does not name its run, from which it could be made again: all runs stay then.
    Raises StoreError without a store, or for a `keep` below 1.
    """
    if keep < 1:
        raise StoreError(f"--keep is {keep}", "1 or more")
    read_current(store)
    needed, unreadable = set(), []
    for version in list_versions(store):
        try:
            needed.add(read_manifest(find_releases(store) / version).run_id)
        except StoreError:
            unreadable.append(version)
    deleted, size = [], 0
    for run_id in list_run_ids(store)[:-keep]:
        if unreadable or run_id in needed:
            continue
        run = Run(store, run_id, Config())
        try:
            with claim_run(run):
                size += _delete(run.folder)
        except StoreError:  # somebody works on it
            continue
        deleted.append(run_id)
    unused = list_unused(store / "raw", LEFTOVER_HOURS)
    size += sum(_delete(folder) for folder in unused)
    for folder in (store / "runs", store / "raw"):
        if folder.is_dir():
            remove_leftovers(folder, LEFTOVER_HOURS)
    return Compacted(deleted, len(unused), size, unreadable)


def _delete(folder: Path) -> int:
    """Delete a folder, which goes at once under its name; gives what it took."""
    size = measure_folder(folder)
    aside = folder.with_name(f"{TEMPORARY}{folder.name}")
    folder.rename(aside)
    shutil.rmtree(aside)
    return size
