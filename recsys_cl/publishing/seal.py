"""The seal of a release: comes in a folder, goes out its manifest, or the names of the parts that are not as sealed."""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from recsys_cl.errors import SealError, StoreError
from recsys_cl.files import hash_file
from recsys_cl.publishing.manifest import MANIFEST, MOST_MANIFEST_BYTES, FileSeal, Manifest, is_version, parse_manifest

_HASH_THREADS = 4  # hashing releases the interpreter
_LOOK = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK  # a pipe of that name would wait for a writer
_State = tuple[str, tuple[tuple[str, int, int, int], ...]]
_hashed: set[_State] = set()  # releases whose hashes this process has checked, and what their files looked like


@dataclass(frozen=True)
class Damage:
    """One part of a release that is not as sealed; `part` is its path inside the release."""

    part: str
    found: str
    expected: str


def check_seal(folder: Path) -> Manifest:
    """Check names, kinds and sizes of all files of a release always, their hashes at the first call of the process.

    Raises SealError naming a part that is missing, changed or too many; StoreError for another format.
    """
    manifest = read_manifest(folder)
    state = _describe_state(folder, manifest)
    damages = find_damages(folder, manifest, hashes=state not in _hashed)
    if damages:
        raise SealError(
            damages[0].part,
            damages[0].found,
            damages[0].expected,
            f"release {folder.name} is damaged: publish again with recsys-cl publish, or restore it from a copy",
        )
    _hashed.add(state)
    return manifest


def read_manifest(folder: Path, version: str | None = None) -> Manifest:
    """Read the manifest of the release in `folder`, sealed under `version` (by default, the folder's name)."""
    version = folder.name if version is None else version
    if not is_version(version):
        raise StoreError(f"{folder} is not a release", "a folder named after its time and its manifest's hash")
    path = folder / MANIFEST
    try:
        info = path.lstat()
        if not stat.S_ISREG(info.st_mode) or info.st_size > MOST_MANIFEST_BYTES:
            raise SealError(
                MANIFEST, f"{info.st_size} bytes or no regular file", f"at most {MOST_MANIFEST_BYTES} bytes"
            )
        data = path.read_bytes()
    except OSError as error:
        raise SealError(MANIFEST, f"cannot be read ({error.strerror})", f"the manifest of release {version}") from error
    return parse_manifest(data, version)


def find_damages(folder: Path, manifest: Manifest, hashes: bool) -> list[Damage]:
    """Every part that is not as sealed, in order of name: by kind and size, and with `hashes` by sha256."""
    found = _list_files(folder)
    damages = [
        Damage(name, "in the folder", "nothing: the manifest does not name it")
        for name in found
        if name != MANIFEST and name not in manifest.files
    ]
    whole = []
    for name, seal in manifest.files.items():
        info = found.get(name)
        if info is None:
            damages.append(Damage(name, "missing", f"{seal.size_bytes} bytes"))
        elif not stat.S_ISREG(info.st_mode):
            damages.append(Damage(name, "not a regular file", "a regular file"))
        elif info.st_size != seal.size_bytes:
            damages.append(Damage(name, f"{info.st_size} bytes", f"{seal.size_bytes} bytes"))
        else:
            whole.append(name)
    if hashes:
        with ThreadPoolExecutor(_HASH_THREADS) as pool:
            damages += [
                damage for damage in pool.map(lambda n: _check_hash(folder, n, manifest.files[n]), whole) if damage
            ]
    return sorted(damages, key=lambda damage: damage.part)


class Hold:
    """A release that is in use: nobody prunes it, until this is closed, or forgotten, or the process ends.

    What had begun to be pruned before may be gone all the same: look at the release after it is held, not before.
    Raises SealError where it has no manifest.
    """

    _handle = -1

    def __init__(self, folder: Path) -> None:
        try:
            self._handle = os.open(folder / MANIFEST, _LOOK)
        except OSError as error:
            expected = f"the manifest of release {folder.name}"
            raise SealError(MANIFEST, f"cannot be opened ({error.strerror})", expected) from error
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(self._handle, fcntl.LOCK_SH | fcntl.LOCK_NB)

    def close(self) -> None:
        """Let go."""
        handle, self._handle = self._handle, -1
        if handle >= 0:
            os.close(handle)

    def __del__(self) -> None:
        self.close()


def is_open(folder: Path) -> bool:
    """Whether a process holds this release."""
    try:
        handle = os.open(folder / MANIFEST, _LOOK)
    except OSError:  # without a manifest nobody can have opened it
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


def _check_hash(folder: Path, name: str, seal: FileSeal) -> Damage | None:
    try:
        digest = hash_file(folder / name)
    except OSError as error:
        return Damage(name, f"cannot be read ({error.strerror})", "a readable file")
    return None if digest == seal.sha256 else Damage(name, f"sha256 {digest[:12]}…", f"sha256 {seal.sha256[:12]}…")


def _list_files(folder: Path) -> dict[str, os.stat_result]:
    """Everything in the folder itself; folders within are listed, not entered: a release has none."""
    try:
        with os.scandir(folder) as entries:
            return {entry.name: entry.stat(follow_symlinks=False) for entry in entries}
    except OSError as error:
        raise StoreError(f"the release {folder} cannot be read ({error.strerror})") from error


def _describe_state(folder: Path, manifest: Manifest) -> _State:
    files = _list_files(folder)
    seen = sorted((name, info.st_size, info.st_mtime_ns, info.st_ino) for name, info in files.items())
    return f"{folder.resolve()} {manifest.created}", tuple(seen)
