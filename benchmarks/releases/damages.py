"""Damages: comes in a whole release, goes out how many of its spoiled copies were taken for whole.

One part at a time is flipped by a bit, cut, lengthened, emptied, lost, made a link, or replaced by one of another
release; the seal has to name that part, and only that one.
"""

from __future__ import annotations

import random
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from recsys_cl.errors import StoreError
from recsys_cl.publishing.manifest import MANIFEST
from recsys_cl.publishing.seal import check_seal
from recsys_cl.publishing.upkeep import find_all_damages

KINDS = ("flip", "flip", "flip", "cut", "longer", "empty", "missing", "link", "other")


@dataclass
class Corruptions:
    """made: damages; undetected: those that a reader or `verify` took for whole, or did not name, in words."""

    made: int = 0
    undetected: list[str] = field(default_factory=list)


def try_damages(good: Path, other: Path, work: Path, n: int, seed: int = 0) -> Corruptions:
    """Spoil a copy of release `good` n times, partly with the parts of release `other`; `work` is a folder."""
    found, rng = Corruptions(), random.Random(seed)
    folder = work / "damaged" / good.name
    shutil.rmtree(folder.parent, ignore_errors=True)
    shutil.copytree(good, folder)
    names = sorted(path.name for path in good.iterdir())
    while found.made < n:
        name, kind = rng.choice(names), rng.choice(KINDS)
        path = folder / name
        if not _spoil(path, kind, other, rng):
            continue
        found.made += 1
        named = [damage.part for damage in find_all_damages(folder)]
        if named != [name]:
            found.undetected.append(f"{name}, {kind}: verify names {named}")
        try:
            check_seal(folder)
            found.undetected.append(f"{name}, {kind}: opened")
        except StoreError as error:  # another format is no SealError, but names the manifest too
            if name not in str(error):
                found.undetected.append(f"{name}, {kind}: {error}")
        path.unlink(missing_ok=True)
        shutil.copyfile(good / name, path)
    return found


def _spoil(path: Path, kind: str, other: Path, rng: random.Random) -> bool:
    """Spoil one file; false where that would have left it as it was."""
    data = bytearray(path.read_bytes())
    if kind in ("missing", "link"):
        path.unlink()
        if kind == "link":
            path.symlink_to(other.parent / path.parent.name / path.name)
        return True
    if kind == "flip":
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    elif kind == "cut":
        del data[rng.randrange(len(data)) :]
    elif kind == "longer":
        data += rng.randbytes(rng.randint(1, 9))
    elif kind == "empty":
        data.clear()
    else:
        data = bytearray((other / (path.name if path.name == MANIFEST else _pick(other, rng))).read_bytes())
    changed = bytes(data) != path.read_bytes()
    path.write_bytes(data)
    return changed


def _pick(folder: Path, rng: random.Random) -> str:
    return rng.choice(sorted(path.name for path in folder.iterdir()))
