"""The cache of pictures: comes in paths, goes out their pixels as one memory-mapped array, each decoded once.

A folder: `pixels.npy` [n, channels, side, side] uint8, and `known.arrow`, which tells for each path its line there, the
size and time of the file it was decoded from, and a checksum of the pixels. A file of another size or time is decoded
again, and so is one whose line no longer has its checksum. The folder is written whole or not at all.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from recsys_cl.errors import PictureError, StoreError
from recsys_cl.files import write_folder
from recsys_cl.ids import read_arrow, write_arrow
from recsys_cl.machine import count_cores
from recsys_cl.pictures import read_picture
from recsys_cl.progress import Progress, report_nothing

_PIXELS, _KNOWN, _PATH = "pixels.npy", "known.arrow", "path"
_BLOCK = 1024  # pictures copied or decoded at a time
_STAMP = ("size_bytes", "time_ns")


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
    paths: Sequence[Path], folder: Path, side: int, channels: int, progress: Progress = report_nothing
) -> PictureSet:
    """The pictures at `paths`, decoded into `folder` unless they lie there already.

    Memory: 2,048 pictures, and the one that each core decodes; disk: channels × side² bytes a picture, twice while the
    folder is replaced. A file that cannot be used is refused with its reason, and the others go on.
    """
    distinct = list(dict.fromkeys(paths))
    stamps, errors = _look(distinct)
    pixels, former = _read_former(folder, (channels, side, side))
    whole = _find_whole(pixels, former, stamps)
    fresh = [path for path in stamps if path not in whole]
    started = time.perf_counter()
    if fresh or len(whole) != len(former) or pixels is None:
        with write_folder(folder) as temporary:
            made = _Writer(temporary, (len(whole) + len(fresh), channels, side, side))
            if pixels is not None:
                made.copy(pixels, whole)
            errors |= made.decode(fresh, progress)
            made.finish(stamps)
        pixels, former = _read_former(folder, (channels, side, side))
    seconds = time.perf_counter() - started
    if pixels is None:
        raise StoreError(f"the cache of pictures at {folder} was changed while it was written", remedy="run it again")
    places = [place for place, path in enumerate(paths) if path in former]
    lines = [int(former[paths[place]]["line"]) for place in places]
    refused = [(place, path, errors[path]) for place, path in enumerate(paths) if path not in former]
    return PictureSet(
        pixels,
        np.array(lines, dtype=np.int64),
        np.array(places, dtype=np.int64),
        pl.DataFrame(
            [(place, str(path), error.reason, str(error)) for place, path, error in refused],
            schema={"place": pl.Int64, _PATH: pl.String, "reason": pl.String, "message": pl.String},
            orient="row",
        ),
        len(fresh) - sum(path in errors for path in fresh),
        seconds,
    )


_Known = dict[Path, dict[str, int]]  # path -> line, size_bytes, time_ns, checksum


class _Writer:
    """Fills a new folder, line after line."""

    def __init__(self, folder: Path, shape: tuple[int, ...]) -> None:
        self._folder, self._n = folder, 0
        self._pixels = np.lib.format.open_memmap(folder / _PIXELS, mode="w+", dtype=np.uint8, shape=shape)
        self._known: dict[Path, tuple[int, int]] = {}  # line, checksum

    def copy(self, pixels: NDArray[np.uint8], whole: _Known) -> None:
        """Take over lines whose checksum was found true."""
        for path, known in whole.items():
            self._put(path, pixels[known["line"]], known["checksum"])

    def decode(self, paths: Sequence[Path], progress: Progress) -> dict[Path, PictureError]:
        """Decode these files on all cores; why some of them could not be."""
        channels, side = self._pixels.shape[1:3]

        def read(path: Path) -> NDArray[np.uint8] | PictureError:
            try:
                return read_picture(path, side, channels)
            except PictureError as error:
                return error

        errors: dict[Path, PictureError] = {}
        with ThreadPoolExecutor(count_cores()) as pool:
            for start in range(0, len(paths), _BLOCK):
                block = paths[start : start + _BLOCK]
                for path, found in zip(block, pool.map(read, block), strict=True):
                    if isinstance(found, PictureError):
                        errors[path] = found
                    else:
                        self._put(path, found, zlib.crc32(found.tobytes()))
                progress("pictures", start + len(block), len(paths), f"{len(errors):,} refused")
        return errors

    def finish(self, stamps: dict[Path, tuple[int, int]]) -> None:
        """Write what is known of the lines."""
        self._pixels.flush()
        lines = [(str(path), line, *stamps[path], checksum) for path, (line, checksum) in self._known.items()]
        schema = {_PATH: pl.String} | dict.fromkeys(("line", *_STAMP, "checksum"), pl.Int64)
        write_arrow(
            self._folder / _KNOWN,
            pl.DataFrame(lines, schema=schema, orient="row").to_arrow(compat_level=pl.CompatLevel.oldest()),
        )

    def _put(self, path: Path, picture: NDArray[np.uint8], checksum: int) -> None:
        self._pixels[self._n] = picture
        self._known[path] = (self._n, checksum)
        self._n += 1


def _look(paths: Sequence[Path]) -> tuple[dict[Path, tuple[int, int]], dict[Path, PictureError]]:
    """Size and time of each file, or why there is none."""
    stamps, errors = {}, {}
    for path in paths:
        try:
            info = path.stat()
            stamps[path] = (info.st_size, info.st_mtime_ns)
        except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
            errors[path] = PictureError("missing", f"there is no picture at {path} ({error})")
    return stamps, errors


def _read_former(folder: Path, shape: tuple[int, ...]) -> tuple[NDArray[np.uint8] | None, _Known]:
    """What lies in the folder; nothing where that is no cache of pictures of this shape."""
    try:
        pixels = np.lib.format.open_memmap(folder / _PIXELS, mode="r")
        lines = pl.DataFrame(pl.from_arrow(read_arrow(folder / _KNOWN, _PATH)))
        if pixels.dtype != np.uint8 or pixels.shape[1:] != shape:
            return None, {}
        known = {Path(line.pop(_PATH)): line for line in lines.to_dicts()}
        fits = all(0 <= line["line"] < len(pixels) for line in known.values())
    except (OSError, ValueError, KeyError, EOFError, StoreError):
        return None, {}
    return (pixels, known) if fits else (None, {})


def _find_whole(pixels: NDArray[np.uint8] | None, former: _Known, stamps: dict[Path, tuple[int, int]]) -> _Known:
    """Those of the former lines whose file has not changed, and whose pixels are those of their checksum."""
    if pixels is None:
        return {}
    return {
        path: known
        for path, known in former.items()
        if stamps.get(path) == tuple(known[name] for name in _STAMP)
        and zlib.crc32(pixels[known["line"]].tobytes()) == known["checksum"]
    }
