"""Files, with no word of the domain: written whole or not at all, checksummed, and JSON.

A reader never sees half a file: everything is written under a temporary name in the same folder, fsynced, and
renamed. What is left under a temporary name by a killed process starts with `TEMPORARY` and may be deleted.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

TEMPORARY = ".partial-"
_CHUNK_BYTES = 1 << 20


@contextlib.contextmanager
def write_file(path: Path) -> Iterator[Path]:
    """Give a temporary path to write to; on leaving without an error, fsync it and rename it to `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=TEMPORARY, suffix=f"-{path.name}"[-100:], dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
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

    An existing folder at `path` is replaced: moved aside first, deleted after.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=TEMPORARY, suffix=f"-{path.name}"[-100:], dir=path.parent))
    try:
        yield temporary
        temporary.chmod(0o755)
        sync_tree(temporary)
        if path.exists():
            aside = Path(tempfile.mkdtemp(prefix=TEMPORARY, dir=path.parent))
            path.replace(aside / path.name)
            temporary.replace(path)
            shutil.rmtree(aside, ignore_errors=True)
        else:
            temporary.replace(path)
        sync_path(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


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
