"""Upkeep of a store: comes in a store, goes out an earlier release live again, damages by name, or old releases gone.

Each change holds the store's lock, and leaves a line in the audit trail.
"""

from __future__ import annotations

import contextlib
import shutil
from dataclasses import asdict
from pathlib import Path

from recsys_cl.errors import RefusedError, SealError, StoreError
from recsys_cl.files import TEMPORARY
from recsys_cl.publishing.audit import write_audit
from recsys_cl.publishing.live import list_releases, move_current
from recsys_cl.publishing.manifest import MANIFEST
from recsys_cl.publishing.seal import Damage, find_damages, is_open, read_manifest
from recsys_cl.publishing.store import find_releases, list_versions, lock_store, name_some, read_current


def roll_back(store: Path, to: str | None = None, wait_seconds: float = 60.0) -> dict[str, str]:
    """Make an earlier release live again: `to`, or the one that the live one followed; gives `{"from", "to"}`.

    Its hashes are checked first. Raises StoreError where there is no such release, SealError where it is damaged; what
    was live stays live then.
    """
    read_current(store)
    with lock_store(store, wait_seconds) as releases:
        live = read_current(store)
        target = to or read_manifest(releases / live).parent
        known = list_versions(store)
        if target is None:
            raise StoreError(f"release {live} is the first of {store}", "one that follows another", name_some(known))
        if target not in known:
            raise StoreError(f"there is no release {target} in {store}", "a release that was kept", name_some(known))
        if target == live:
            raise StoreError(f"release {live} is live already", "another one", name_some(known))
        check_whole(releases / target)
        move_current(releases, target)
        with contextlib.suppress(OSError):  # it is live, whether or not there is room for a line that says so
            write_audit(store, "rollback", live, target)
    return {"from": live, "to": target}


def verify_store(store: Path) -> dict[str, list[Damage]]:
    """Every file of every release that is not as it was sealed, hashes included: release -> damages, none for a whole
    one. Raises StoreError without a store."""
    find_releases(store)
    return {version: find_all_damages(store / "releases" / version) for version in list_versions(store)}


def check_store(store: Path) -> dict[str, list[Damage]]:
    """As `verify_store`, but raises RefusedError naming every damaged file."""
    found = verify_store(store)
    reasons = [
        f"{version}/{damage.part}: {damage.found}; expected {damage.expected}"
        for version, damages in found.items()
        for damage in damages
    ]
    if reasons:
        undo = f"go back to a whole one with: recsys-cl rollback --store {store} --to RELEASE"
        raise RefusedError(f"releases of {store} are damaged", reasons, f"{undo}; or publish again")
    return found


def find_all_damages(folder: Path) -> list[Damage]:
    """Every part of a release that is not as it was sealed; where the manifest is not, that one alone."""
    try:
        return find_damages(folder, read_manifest(folder), hashes=True)
    except SealError as error:
        return [Damage(error.part, error.found.removeprefix(f"{error.part}: "), error.expected)]
    except StoreError as error:
        return [Damage(MANIFEST, error.found, error.expected)]


def check_whole(folder: Path) -> None:
    """Raise SealError naming the first part of a release that is not as it was sealed."""
    damages = find_all_damages(folder)
    if damages:
        remedy = f"release {folder.name} is damaged: choose another one"
        raise SealError(damages[0].part, damages[0].found, damages[0].expected, remedy)


def prune_store(store: Path, keep: int, wait_seconds: float = 60.0) -> dict[str, list[str]]:
    """Delete all but the newest `keep` releases; never the live one, nor one that a process has open; gives
    `{"deleted", "in_use"}`. Raises StoreError."""
    if keep < 1:
        raise StoreError(f"--keep is {keep}", "1 or more")
    live = read_current(store)
    found: dict[str, list[str]] = {"deleted": [], "in_use": []}
    with lock_store(store, wait_seconds) as releases:
        versions = [known["release"] for known in list_releases(store)]  # oldest first
        for version in versions[:-keep]:
            folder = releases / version
            if version == live:
                continue
            if is_open(folder):
                found["in_use"].append(version)
                continue
            delete_release(folder)
            found["deleted"].append(version)
            with contextlib.suppress(OSError):
                write_audit(store, "prune", version, None)
    return found


def delete_release(folder: Path) -> None:
    """Delete a release under the store's lock; renamed first, so that it is whole or gone. Raises OSError."""
    aside = folder.with_name(f"{TEMPORARY}{folder.name}")
    folder.rename(aside)
    shutil.rmtree(aside)


def dump_damages(found: dict[str, list[Damage]]) -> list[dict[str, str]]:
    """As JSON values: `{"release", "part", "found", "expected"}`."""
    return [{"release": version} | asdict(damage) for version, damages in found.items() for damage in damages]
