"""Publishing: comes in what a run has made, goes out an immutable folder of the store that is live, or nothing.

Staged under a temporary name, flushed, read back, renamed; then `CURRENT` is replaced. Whatever stops this on the
way, a reader finds the release that was live before, whole.
"""

from __future__ import annotations

import contextlib
import errno
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from recsys_cl.errors import MovedError, SealError, StoreError
from recsys_cl.files import TEMPORARY, hash_file, sync_path, sync_tree
from recsys_cl.publishing.audit import write_audit
from recsys_cl.publishing.gate import enforce_gate
from recsys_cl.publishing.live import move_current
from recsys_cl.publishing.manifest import MANIFEST, Drift, FileSeal, GateResult, ImageFacts, Manifest, name_version
from recsys_cl.publishing.parts import ReleaseParts, check_contents, describe_arrays, read_parts, write_parts
from recsys_cl.publishing.seal import find_damages, read_manifest
from recsys_cl.publishing.store import CURRENT, find_current, lock_store

ANY = "*"  # whichever release is live


@dataclass(frozen=True)
class ReleaseFacts:
    """What the manifest says beyond the parts themselves; see `Manifest` for each."""

    run_id: str
    code_version: str
    config: dict[str, Any]
    config_fingerprint: str
    data_fingerprint: str
    n_events: int
    popularity_dim: int | None
    history_length: int | None
    floats_per_pair: int
    ann_recall: float
    metrics: dict[str, Any]
    gate: GateResult = field(default_factory=GateResult)
    cut: int | None = None
    drift: Drift | None = None
    images: ImageFacts | None = None


def publish_release(
    parts: ReleaseParts, facts: ReleaseFacts, store: Path, wait_seconds: float = 60.0, beside: str | None = ANY
) -> str:
    """Write a release into `store` and make it live; gives its name. beside: the release, or None, that must still be
    live, for the gate and the rotation have looked at that one.

    Raises RefusedError where the gate speaks against it and nothing forces it, before anything is written; MovedError
    where another release is live by now; StoreError where the store cannot be written, or another process publishes for
    longer than `wait_seconds`. After an error the live release is what it was, and nothing of the new one is left.
    """
    enforce_gate(facts.gate)
    try:
        with lock_store(store, wait_seconds) as releases:
            parent = find_current(store)
            if beside not in (ANY, parent):
                raise MovedError(store, parent, beside)
            with make_staging(releases) as staging:
                version = _stage(staging, parts, facts, parent)
                _make_live(staging, releases, version)
            with contextlib.suppress(OSError):  # it is live, whether or not there is room for a line that says so
                write_audit(store, "publish", parent, version, {"run": facts.run_id, "forced": facts.gate.forced})
    except OSError as error:
        raise StoreError(
            f"nothing was published into {store} ({error.strerror or error})",
            "a folder that can be written, with room for the release",
            _explain(error),
        ) from error
    return version


@contextlib.contextmanager
def make_staging(releases: Path) -> Iterator[Path]:
    """A folder in which a release is made; deleted on leaving, unless it was renamed by then."""
    staging = Path(tempfile.mkdtemp(prefix=TEMPORARY, dir=releases))
    try:
        staging.chmod(0o755)
        yield staging
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _stage(staging: Path, parts: ReleaseParts, facts: ReleaseFacts, parent: str | None) -> str:
    """Write all files and seal them; gives the release's name."""
    write_parts(staging, parts)
    return seal_staging(staging, _describe(staging, parts, facts, parent))


def seal_staging(staging: Path, manifest: Manifest) -> str:
    """Write the manifest of a staged release, flush all its files, read them back; gives the release's name.

    Raises SealError where they do not come back as they are sealed, or do not belong together.
    """
    version = name_version(manifest)
    (staging / MANIFEST).write_text(manifest.dump(), encoding="utf-8")
    sync_tree(staging)
    written = read_manifest(staging, version)
    damages = find_damages(staging, written, hashes=True)
    if damages:  # the disk returned other bytes than it was given
        raise SealError(damages[0].part, damages[0].found, damages[0].expected, "check the disk, then publish again")
    check_contents(read_parts(staging, written))
    return version


def _describe(staging: Path, parts: ReleaseParts, facts: ReleaseFacts, parent: str | None) -> Manifest:
    return Manifest(
        created=datetime.now(UTC).isoformat(timespec="microseconds"),
        run_id=facts.run_id,
        code_version=facts.code_version,
        parent=parent,
        config=facts.config,
        config_fingerprint=facts.config_fingerprint,
        data_fingerprint=facts.data_fingerprint,
        n_users=len(parts.users),
        n_items=len(parts.catalog),
        n_events=facts.n_events,
        dim=parts.item_vectors.shape[1],
        bag_dim=parts.bag_vectors.shape[1],
        popularity_dim=facts.popularity_dim,
        history_length=facts.history_length,
        floats_per_pair=facts.floats_per_pair,
        index=parts.index.facts,
        ann_recall=facts.ann_recall,
        metrics=facts.metrics,
        images=facts.images,
        gate=facts.gate,
        cut=facts.cut,
        drift=facts.drift,
        files=describe_files(staging),
        arrays=describe_arrays(parts),
    )


def describe_files(staging: Path) -> dict[str, FileSeal]:
    """What the manifest says of each file in the folder of a release without one."""
    paths = sorted(staging.iterdir())
    return {path.name: FileSeal(sha256=hash_file(path), size_bytes=path.stat().st_size) for path in paths}


def _make_live(staging: Path, releases: Path, version: str) -> None:
    """Rename the staged folder, then replace CURRENT; undo the first where the second fails."""
    folder = releases / version
    moved = False
    try:
        staging.rename(folder)
        moved = True
        sync_path(releases)
        move_current(releases, version)
    except BaseException:
        # Once CURRENT names the folder it is live, whatever came after.
        if moved and _read_pointer(releases) != version:
            folder.rename(staging)
        raise


def _read_pointer(releases: Path) -> str | None:
    try:
        return (releases / CURRENT).read_text(encoding="ascii", errors="replace")
    except FileNotFoundError:
        return None


def _explain(error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return "free some space, then publish again"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return "give this user the right to write there, then publish again"
    return "the live release, if any, is unchanged"
