"""The cache of pictures: comes in paths, goes out their pixels as one memory-mapped array, each decoded once.

A folder for each size, with `pixels.npy` [n, channels, side, side] uint8, and `known.arrow`, which tells for each path
its line there, size and times of the file it was decoded from, and a checksum of the pixels; or why it was refused. A
file of another size or time is decoded again, and so is one whose line no longer has its checksum. The folder is
written whole or not at all, by one process at a time.
"""

from __future__ import annotations

import contextlib
import fcntl
import math
import os
import time
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import polars as pl
from numpy.typing import NDArray

from recsys_cl.errors import PictureError, StoreError
from recsys_cl.files import remove_leftovers, write_folder
from recsys_cl.ids import read_arrow, write_arrow
from recsys_cl.machine import count_cores
from recsys_cl.pictures import read_picture
from recsys_cl.progress import Progress, report_nothing

_PIXELS, _KNOWN, _PATH = "pixels.npy", "known.arrow", "path"
_BLOCK = 1024  # pictures copied or decoded at a time
_STAMP = ("size_bytes", "time_ns", "change_ns")
_VERSION = 1  # of what decoding gives: raised where the same file would give other pixels
_REFUSED = -1  # the line of a file that was refused


@dataclass(frozen=True)
class PictureSet:
    """pixels [m, channels, side, side] uint8, a memory-mapped file. Of the n pictures that could be read: lines [n],
    where they stand in it; kept [n], their places among the paths that were asked for.

    refused: a line `place, path, reason, message` for each other one. n_decoded, decode_seconds: how many were decoded
    this time, and how long that took.
    """

    pixels: NDArray[np.uint8]
    lines: NDArray[np.int64]
    kept: NDArray[np.int64]
    refused: pl.DataFrame
    n_decoded: int
    decode_seconds: float

    def __len__(self) -> int:
        return len(self.lines)

    def take(self, rows: NDArray[np.integer]) -> NDArray[np.uint8]:
        """The pictures at rows [b], among the n that could be read: [b, channels, side, side]."""
        taken: NDArray[np.uint8] = self.pixels[self.lines[rows]]
        return taken


def cache_pictures(
    paths: Sequence[Path], cache: Path, side: int, channels: int, progress: Progress = report_nothing
) -> PictureSet:
    """The pictures at `paths`, decoded into a folder below `cache` unless they lie there already.

    Memory: 2,048 pictures, and what decoding takes; disk: channels × side² bytes a picture, twice while the folder is
    replaced. What is not asked for is dropped. A file that cannot be used is refused with its reason, and the others go
    on; what was decoded when a process is killed is decoded again.
    """
    folder = cache / f"{side}x{side}x{channels}-{_VERSION}"
    stamps, errors = _look(list(dict.fromkeys(paths)))
    started = time.perf_counter()
    with _hold(folder):
        former = _read_former(folder, (channels, side, side))
        whole = {path: known for path, known in former.known.items() if _is_whole(known, stamps.get(path), former)}
        fresh = [path for path in stamps if path not in whole]
        if fresh or len(whole) != len(former.known) or former.pixels is None:
            with write_folder(folder) as temporary, (temporary / _PIXELS).open("wb") as file:
                made = _Writer(temporary, file, (len(whole) + len(fresh), channels, side, side))
                made.copy(former, whole)
                made.decode(fresh, progress)
                made.finish(stamps)
            former = _read_former(folder, (channels, side, side))
    seconds = time.perf_counter() - started
    if former.pixels is None:
        raise StoreError(f"the cache of pictures at {folder} cannot be read", remedy="delete it, and run this again")
    for path, known in former.known.items():
        if known["line"] == _REFUSED:
            errors[path] = PictureError(known["reason"], known["message"])
    kept = [place for place, path in enumerate(paths) if path not in errors]
    refused = [(place, path, errors[path]) for place, path in enumerate(paths) if path in errors]
    return PictureSet(
        former.pixels,
        np.array([former.known[paths[place]]["line"] for place in kept], dtype=np.int64),
        np.array(kept, dtype=np.int64),
        pl.DataFrame(
            [(place, str(path), error.reason, str(error)) for place, path, error in refused],
            schema={"place": pl.Int64, _PATH: pl.String, "reason": pl.String, "message": pl.String},
            orient="row",
        ),
        sum(path not in errors for path in fresh),
        seconds,
    )


_Stamp = tuple[int, ...]  # as _STAMP says
_Line = dict[str, Any]  # line, _STAMP, checksum, reason, message


@dataclass(frozen=True)
class _Former:
    """What lies in a folder; pixels is None where that is no cache of these pictures."""

    pixels: NDArray[np.uint8] | None = None
    known: dict[Path, _Line] = field(default_factory=dict)


class _Writer:
    """Fills a new folder, line after line. Not through a mapping: there a full disk is a signal, and no error."""

    def __init__(self, folder: Path, file: BinaryIO, shape: tuple[int, ...]) -> None:
        self._folder, self._file, self._shape, self._n = folder, file, shape, 0
        self._known: dict[Path, _Line] = {}
        header = {"descr": "|u1", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)

    def copy(self, former: _Former, whole: dict[Path, _Line]) -> None:
        """Take over lines whose checksum was found true, and refusals."""
        for path, known in whole.items():
            if known["line"] == _REFUSED or former.pixels is None:
                self._known[path] = known
            else:
                self._put(path, former.pixels[known["line"]])

    def decode(self, paths: Sequence[Path], progress: Progress) -> None:
        """Decode these files on all cores."""
        channels, side = self._shape[1:3]
        n_refused = 0

        def read(path: Path) -> NDArray[np.uint8] | PictureError:
            try:
                return read_picture(path, side, channels)
            except PictureError as error:
                return error

        with ThreadPoolExecutor(count_cores()) as pool:
            for start in range(0, len(paths), _BLOCK):
                block = paths[start : start + _BLOCK]
                for path, found in zip(block, pool.map(read, block), strict=True):
                    if isinstance(found, PictureError):
                        n_refused += 1
                        self._known[path] = _describe(_REFUSED, 0, found.reason, str(found))
                    else:
                        self._put(path, found)
                progress("pictures", start + len(block), len(paths), f"{n_refused:,} refused")

    def finish(self, stamps: dict[Path, _Stamp]) -> None:
        """Write zeros for the lines of refused files, and what is known of all."""
        blank = bytes(math.prod(self._shape[1:]))
        for _ in range(self._n, self._shape[0]):
            self._file.write(blank)
        lines = [
            {_PATH: str(path)} | known | dict(zip(_STAMP, stamps[path], strict=True))
            for path, known in self._known.items()
        ]
        texts = dict.fromkeys((_PATH, "reason", "message"), pl.String)
        schema = texts | dict.fromkeys(("line", "checksum", *_STAMP), pl.Int64)
        frame = pl.DataFrame(lines, schema=schema, orient="row")
        write_arrow(self._folder / _KNOWN, frame.to_arrow(compat_level=pl.CompatLevel.oldest()))

    def _put(self, path: Path, picture: NDArray[np.uint8]) -> None:
        data = picture.tobytes()
        self._file.write(data)
        self._known[path] = _describe(self._n, zlib.crc32(data))
        self._n += 1


def _describe(line: int, checksum: int, reason: str = "", message: str = "") -> _Line:
    return {"line": line, "checksum": checksum, "reason": reason, "message": message}


@contextlib.contextmanager
def _hold(folder: Path) -> Iterator[None]:
    """Wait until no other process fills this folder, and take away what killed ones have left beside it."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder.parent / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        remove_leftovers(folder.parent)
        yield
    finally:
        os.close(handle)


def _look(paths: Sequence[Path]) -> tuple[dict[Path, _Stamp], dict[Path, PictureError]]:
    """Size and times of each file, or why there is none."""
    stamps: dict[Path, _Stamp] = {}
    errors = {}
    for path in paths:
        try:
            info = path.stat()
            stamps[path] = (info.st_size, info.st_mtime_ns, info.st_ctime_ns)
        except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
            errors[path] = PictureError("missing", f"there is no picture at {path} ({error})")
    return stamps, errors


def _read_former(folder: Path, shape: tuple[int, ...]) -> _Former:
    try:
        pixels = np.lib.format.open_memmap(folder / _PIXELS, mode="r")
        lines = pl.DataFrame(pl.from_arrow(read_arrow(folder / _KNOWN, _PATH)))
        known = {Path(line.pop(_PATH)): line for line in lines.to_dicts()}
        fits = all(
            _REFUSED <= line["line"] < len(pixels) and {*_STAMP, "reason"} <= set(line) for line in known.values()
        )
        if pixels.dtype != np.uint8 or pixels.shape[1:] != shape or not fits:
            return _Former()
    except (OSError, ValueError, KeyError, EOFError, StoreError):
        return _Former()
    return _Former(pixels, known)


def _is_whole(known: _Line, stamp: _Stamp | None, former: _Former) -> bool:
    """Whether the file has not changed, and its pixels are those of their checksum."""
    if former.pixels is None or stamp != tuple(known[name] for name in _STAMP):
        return False
    if known["line"] == _REFUSED:
        return True
    return bool(zlib.crc32(former.pixels[known["line"]].tobytes()) == known["checksum"])
