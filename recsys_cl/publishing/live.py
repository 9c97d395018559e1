"""Which releases a store has, and which one is live: listed, and exchanged in one step.

Kept apart from publishing, so that what goes back in a hurry loads neither FAISS nor polars.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path
from typing import Any

from recsys_cl.errors import StoreError
from recsys_cl.files import TEMPORARY, sync_path
from recsys_cl.publishing.receipts import read_due
from recsys_cl.publishing.seal import find_damages, read_manifest
from recsys_cl.publishing.store import CURRENT, find_current, list_versions


def list_releases(store: Path) -> list[dict[str, Any]]:
    """The releases of a store, oldest first: `{"release", "live", "created", "metrics", "gate"}`, where sizes and the
    manifest are checked, `"broken"` with the reason for one that cannot be used, and for the live one
    `"retraining_due"`: since when it holds what was learned from users who are erased.

    Raises StoreError without a store.
    """
    live: str | None = None
    with contextlib.suppress(StoreError):  # a broken CURRENT makes no release unlistable
        live = find_current(store)
    found = []
    for version in list_versions(store):
        known: dict[str, Any] = {
            "release": version,
            "live": version == live,
            "created": None,
            "metrics": {},
            "gate": None,
        }
        folder = store / "releases" / version
        try:
            manifest = read_manifest(folder)
            gate = manifest.gate.model_dump(mode="json") | {"passed": manifest.gate.passed}
            known |= {"created": manifest.created, "metrics": manifest.metrics, "gate": gate}
            damages = find_damages(folder, manifest, hashes=False)
            if damages:
                known["broken"] = f"{damages[0].part}: {damages[0].found}; expected {damages[0].expected}"
        except StoreError as error:
            known["broken"] = str(error)
        found.append(known)
    due = read_due(store)
    for known in found:
        if known["live"] and due:
            known["retraining_due"] = due[0]
    return sorted(found, key=lambda known: (known["release"][:16], known["created"] or "", known["release"]))


def move_current(releases: Path, version: str) -> None:
    """Make a release that lies in `releases` the live one, in one atomic step. Raises OSError; what was live stays."""
    handle, name = tempfile.mkstemp(prefix=TEMPORARY, suffix=f"-{CURRENT}", dir=releases)
    pointer = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(version)
        pointer.chmod(0o644)
        sync_path(pointer)
        pointer.replace(releases / CURRENT)
        with contextlib.suppress(OSError):  # it is live; a power cut may bring back what was before, which is whole too
            sync_path(releases)
    finally:
        pointer.unlink(missing_ok=True)
