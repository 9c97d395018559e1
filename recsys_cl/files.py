"""Files, with no word of the domain: written whole or not at all, checksummed, and JSON.

A reader never sees half a file: everything is written under a temporary name in the same folder, fsynced, and
renamed. What is left under a temporary name by a killed process starts with `TEMPORARY` and may be deleted.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import json
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

TEMPORARY = ".partial-"
LEFTOVER_HOURS = 24.0
"""Nothing is written for longer: what is older under a temporary name was left by a killed process."""
_CHUNK_BYTES = 1 << 20


@contextlib.contextmanager
def write_file(path: Path) -> Iterator[Path]:
    """Give a temporary path to write to; on leaving without an error, fsync it and rename it to `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _name_temporary(path)
    try:
        temporary.touch(0o600, exist_ok=False)
        yield temporary
        temporary.chmod(0o644)
        sync_path(temporary)
        temporary.replace(path)
        sync_path(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def write_folder(path: Path) -> Iterator[Path]:
    """Give a temporary folder to fill; on leaving without an error, fsync all of it and rename it to `path`.

    An existing folder at `path` is replaced: in one step where the system can exchange two names (Linux), else moved
    aside first; deleted after.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _name_temporary(path)
    try:
        temporary.mkdir(0o700)
        yield temporary
        temporary.chmod(0o755)
        sync_tree(temporary)
        _put_in_place(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


class Swaps:
    """Files and folders written beside those that they replace. All take their places in `apply`, in the order in which
    they were named; what is to be deleted goes in its turn.

    Left before that, nothing has changed and nothing is left behind. Killed within it, the first of them are done.
    """

    def __init__(self) -> None:
        self._steps: list[tuple[Path | None, Path]] = []

    def __enter__(self) -> Swaps:
        return self

    def __exit__(self, *error: object) -> None:
        for temporary, _ in self._steps:
            if temporary is not None:
                remove_path(temporary)

    def replace(self, path: Path) -> Path:
        """A temporary path, under which the file or folder is to be written that takes the place of `path`."""
        temporary = _name_temporary(path)
        self._steps.append((temporary, path))
        return temporary

    def remove(self, path: Path) -> None:
        """Have `path` deleted."""
        self._steps.append((None, path))

    def apply(self) -> None:
        """Flush all that was written, then go through the steps. Raises OSError."""
        for temporary, _ in self._steps:
            if temporary is not None:
                temporary.chmod(0o755 if temporary.is_dir() else 0o644)
                sync_tree(temporary)
        for temporary, path in self._steps:
            if temporary is None:
                remove_path(path)
            else:
                _put_in_place(temporary, path)
                remove_path(temporary)


def remove_path(path: Path) -> None:
    """Delete a file, a link or a whole folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _put_in_place(new: Path, path: Path) -> None:
    """Rename `new` to `path`; where that is a folder, it comes to lie under the other name, or is deleted."""
    if not path.is_dir() or path.is_symlink():
        new.replace(path)
    elif not exchange_paths(new, path):
        _replace_folder(new, path)
    sync_path(path.parent)


def exchange_paths(first: Path, second: Path) -> bool:
    """Exchange what two names stand for, in one step; false where this system or this disk cannot."""
    call = getattr(ctypes.CDLL(None), "renameat2", None)
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return call is not None and call(here, os.fsencode(first), here, os.fsencode(second), exchange) == 0


def _replace_folder(new: Path, path: Path) -> None:
    """Move `path` aside, and `new` to its place; `path` comes back where that fails."""
    aside = _name_temporary(path)
    try:
        aside.mkdir(0o700)
        path.replace(aside / path.name)
        new.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            (aside / path.name).replace(path)
        raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def remove_leftovers(folder: Path, least_age_hours: float = 0.0) -> None:
    """Delete what a killed process left under a temporary name in `folder`.

    Where others may be writing, only what has not changed for `least_age_hours`.
    """
    for path in folder.glob(f"{TEMPORARY}*"):
        with contextlib.suppress(FileNotFoundError):  # another process has just finished it
            if least_age_hours and time.time() - path.stat().st_mtime < least_age_hours * 3600:
                continue
            remove_path(path)


def _name_temporary(path: Path) -> Path:
    """A temporary name beside `path`, of its name, but no longer than a name may be. Known before there is anything
    under it: ctrl-C between the making of a file and the learning of its name would leave it behind."""
    return path.parent / f"{TEMPORARY}{secrets.token_hex(6)}-{os.fsdecode(os.fsencode(path.name)[-100:])}"


def expand_home(text: str) -> Path:
    """The path, with `~` and `~name` as the folders of people; where nobody has that name, a file of that name."""
    try:
        return Path(text).expanduser()
    except RuntimeError:
        return Path(text)


def sync_path(path: Path) -> None:
    """Flush one file, or the names in one folder, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_tree(folder: Path) -> None:
    """Flush every file and folder below `folder`, and `folder` itself."""
    for path in folder.rglob("*"):
        sync_path(path)
    sync_path(folder)


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8, whole or not at all."""
    with write_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def append_line(path: Path, line: str) -> None:
    """Add one line to a file, flushed; a link is not followed. Raises OSError."""
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    try:
        os.write(handle, f"{line}\n".encode())
        os.fsync(handle)
    finally:
        os.close(handle)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as JSON with sorted keys, whole or not at all. NaN and infinity are refused."""
    write_text(path, dump_json(value))


def dump_json(value: Any) -> str:
    """One text for one value: sorted keys, two spaces, a newline at the end; NaN raises ValueError."""
    return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def read_json(path: Path) -> Any:
    """Read a JSON file written by `write_json`. Raises ValueError where it is not JSON."""
    return json.loads(path.read_text(encoding="utf-8"))


def hash_file(path: Path) -> str:
    """The sha256 of a file's bytes, in hexadecimal; reads in chunks of 1 MiB."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def hash_text(text: str) -> str:
    """The sha256 of a text's UTF-8 bytes, in hexadecimal."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def measure_folder(folder: Path) -> int:
    """The bytes of all files below `folder`."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
