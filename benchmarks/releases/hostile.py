"""Hostile releases: comes in a good one, goes out copies whose files lie about themselves and whose hashes all fit.

Whoever can write into a store can seal what they like. Such a release must open, or be refused with a message that says
which release; it must not take memory that its files do not have, nor end the process.
"""

from __future__ import annotations

import contextlib
import json
import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.releases.crafts import CRAFTS, Craft, MissingPartError, Values
from benchmarks.releases.forks import Forks
from benchmarks.releases.server import DONE
from recsys_cl.files import dump_json, hash_file, hash_text
from recsys_cl.publishing.manifest import MANIFEST

MEMORY_MIB = 512
"""Address space that opening and asking a release of some 100 KiB may take beyond what the process has."""
_BATCH = 20  # releases that one process asks
_EXTREMES = (0, 1, 2, 0x7F, 0xFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 1 << 33, 1 << 40, (1 << 63) - 1, (1 << 64) - 1)


@dataclass
class Fuzzing:
    """tried: hostile releases; opened, refused: how many; wrong: what ended otherwise; most_grown_mib: the largest
    resident memory of any."""

    tried: int = 0
    opened: int = 0
    refused: int = 0
    wrong: list[str] = field(default_factory=list)
    most_grown_mib: float = 0.0


def try_hostile(forks: Forks, good: Path, work: Path, n_random: int, found: Fuzzing, seed: int = 0) -> None:
    """Open and ask hostile copies of the release `good`: all crafted ones, and `n_random` drawn ones of each file."""
    rng = random.Random(seed)
    drawn = ((f"{name}, cut and changed {n}", _draw(name, rng)) for name, n in _list(good, n_random))
    crafts = [*CRAFTS.items(), *drawn]
    for start in range(0, len(crafts), _BATCH):
        made: dict[str, Path] = {}
        for n, (name, craft) in enumerate(crafts[start : start + _BATCH]):
            folder = work / "hostile" / str(n) / good.name
            shutil.copytree(good, folder)
            with contextlib.suppress(MissingPartError):
                made[name] = reseal(folder, craft)
        _ask(forks, made, found, good.name)
        shutil.rmtree(work / "hostile")


def _ask(forks: Forks, made: dict[str, Path], found: Fuzzing, release: str) -> None:
    """One process for all; where it does not come to its end, one for each, to know for which."""
    ending = forks.run("ask", folders=list(made.values()), memory_mib=MEMORY_MIB)
    if ending.code != DONE and len(made) > 1:
        for name, folder in made.items():
            _ask(forks, {name: folder}, found, release)
        return
    found.tried += len(made)
    found.most_grown_mib = max(found.most_grown_mib, ending.grown_mib)
    if ending.code == DONE:
        answered = ending.said.count("True")
        found.opened, found.refused = found.opened + answered, found.refused + len(made) - answered
    else:
        found.wrong += [f"{release}, {name}: ended with {ending.code}: {ending.said[-600:]}" for name in made]


def reseal(folder: Path, craft: Craft) -> Path:
    """Change files and manifest, and seal anew; gives the folder under its new name."""
    values = json.loads((folder / MANIFEST).read_text())
    craft(folder, values)
    for name in values["files"]:
        path = folder / name
        if path.is_file():
            values["files"][name] = {"sha256": hash_file(path), "size_bytes": path.stat().st_size}
    text = values["text"] if "text" in values else dump_json(values)
    (folder / MANIFEST).write_text(text)
    return folder.rename(folder.with_name(f"{folder.name[:17]}{hash_text(text)[:12]}"))


def _list(good: Path, n: int) -> Iterator[tuple[str, int]]:
    for name in sorted(path.name for path in good.iterdir()):
        if name.endswith((".npy", ".arrow", ".faiss", ".onnx")) and name != "candidate_tower.onnx":
            yield from ((name, number) for number in range(n))


def _draw(name: str, rng: random.Random) -> Craft:
    """Numbers of a file's head, or anywhere, replaced by extreme ones; a .npy keeps what the manifest says of it."""

    def craft(folder: Path, values: Values) -> None:
        data = bytearray((folder / name).read_bytes())
        for _ in range(rng.choice((1, 1, 2, 4))):
            size = rng.choice((1, 2, 4, 8))
            near = rng.choice((min(256, len(data)), len(data)))
            place = rng.randrange(near) if rng.random() < 0.7 else len(data) - 1 - rng.randrange(near)
            number = rng.choice(_EXTREMES) if rng.random() < 0.8 else rng.getrandbits(64)
            data[place : place + size] = (number & (1 << 8 * size) - 1).to_bytes(size, "little")
        if rng.random() < 0.1:
            del data[rng.randrange(len(data)) :]
        (folder / name).write_bytes(data)

    return craft
