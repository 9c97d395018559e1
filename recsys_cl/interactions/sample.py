"""The sample as files: the log of a synthetic world, its items with pictures, and its users.

Comes in a `WorldConfig`; goes out a folder with `sample.json` (what it is), `events.csv`, `items.csv`, `users.csv` and
`pictures/`. The same config gives the same files. Each file is written whole or not at all, and `sample.json` first:
it marks the folder as ours, so that an interrupted or older sample may be written over, and nothing else.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from PIL import Image

from recsys_cl.errors import InputError
from recsys_cl.files import TEMPORARY, write_file, write_folder, write_json
from recsys_cl.interactions.digits import N_STYLES
from recsys_cl.interactions.world import (
    DAY_S,
    World,
    WorldConfig,
    build_world,
    draw_events,
)
from recsys_cl.progress import Progress, report_nothing

MARK = "sample.json"
_PICTURE_SIDE = 32
_CHUNK_ROWS = 500_000
_DIGITS = ("Zero", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine")
_STYLES = ("upright light", "upright bold", "slanted light", "slanted bold")
# Two tables of words, so that titles vary; a word belongs to one style.
_WORDS = (
    ("Slender", "Quiet", "Careful", "Pale"),
    ("Sturdy", "Solemn", "Heavy", "Proud"),
    ("Breezy", "Swift", "Leaning", "Airy"),
    ("Stormy", "Dashing", "Bold", "Headlong"),
)
_MATERIALS = ("Oak", "Brass", "Linen", "Slate", "Copper", "Walnut", "Ivory", "Cork")
_COUNTRIES = (
    "AT",
    "BR",
    "CA",
    "DE",
    "ES",
    "FI",
    "FR",
    "IN",
    "IT",
    "JP",
    "KE",
    "KR",
    "MX",
    "NG",
    "PL",
    "SE",
    "TR",
    "US",
)
_LEFT_HANDED_SHARE = (0.08, 0.3)  # of those who mostly like upright digits, and slanted ones


def write_sample(folder: Path, config: WorldConfig, progress: Progress = report_nothing) -> World:
    """Draw a world and write all of it below `folder`; gives the world back.

    Memory as `draw_events`, whatever the number of events. Raises InputError where `folder` holds anything and is not
    an earlier sample, or cannot be written.
    """
    _check_folder(folder)
    world = build_world(config)
    try:
        write_json(folder / MARK, {"format": 1, "kind": "synthetic", **asdict(config)})
        _write_pictures(folder / "pictures", world)
        _write_frame(folder / "items.csv", describe_items(world))
        _write_frame(folder / "users.csv", describe_users(world))
        _write_events(folder / "events.csv", world, progress)
    except OSError as error:
        raise InputError(f"{folder} cannot be written ({error})", remedy="choose another folder") from error
    return world


def describe_items(world: World) -> pl.DataFrame:
    """One line an item: item_id, title (unique), category (the digit), style, material (tied to nothing), released
    (date), image_path (relative to the file)."""
    rng = np.random.default_rng([world.config.seed, 2])
    n = world.config.n_items
    digits, styles = np.divmod(world.item_topics, N_STYLES)
    words = np.array(_WORDS)[styles, rng.integers(4, size=n)]
    materials = np.array(_MATERIALS)[rng.integers(len(_MATERIALS), size=n)]
    frame = pl.DataFrame(
        {
            "item_id": world.item_ids,
            "category": np.array(_DIGITS)[digits],
            "style": np.array(_STYLES)[styles],
            "material": materials,
            "released": _to_dates(world.item_born_s),
            "image_path": pl.Series(_name_pictures(np.arange(len(world.pictures.digits)))).gather(world.item_pictures),
            "word": words,
        }
    )
    number = pl.int_range(1, pl.len() + 1).over("category")
    title = pl.format("{} {} in {}, No. {}", "word", "category", "material", number)
    return frame.select(
        "item_id",
        title.alias("title"),
        pl.col("category").str.to_lowercase(),
        "style",
        pl.col("material").str.to_lowercase(),
        "released",
        "image_path",
    )


def describe_users(world: World) -> pl.DataFrame:
    """One line a user: user_id, country (tied to nothing), hand (left-handed users somewhat prefer slanted digits),
    joined (date)."""
    rng = np.random.default_rng([world.config.seed, 3])
    n = world.config.n_users
    main = world.tastes[np.arange(n), np.argmax(world.first, axis=1)]
    left = rng.random(n) < np.array(_LEFT_HANDED_SHARE)[(main % N_STYLES) // 2]
    return pl.DataFrame(
        {
            "user_id": world.user_ids,
            "country": np.array(_COUNTRIES)[rng.integers(len(_COUNTRIES), size=n)],
            "hand": np.where(left, "left", "right"),
            "joined": _to_dates(world.user_joined_s),
        }
    )


def _check_folder(folder: Path) -> None:
    """Raise InputError unless the folder is missing, empty but for leftovers of a killed process, or a sample."""
    try:
        held = sorted(p.name for p in folder.iterdir()) if folder.is_dir() else []
        blocked = folder.exists() and not folder.is_dir()
    except OSError as error:
        raise InputError(f"{folder} cannot be read ({error})", remedy="choose another folder") from error
    if blocked:
        raise InputError(f"{folder} is a file", "a folder", "choose another name")
    others = [name for name in held if not name.startswith(TEMPORARY)]
    if others and MARK not in held:
        more = " …" if len(others) > 3 else ""
        raise InputError(
            f"{folder} holds {', '.join(others[:3])}{more}", f"an empty folder, or an earlier sample ({MARK})",
            "choose another folder",
        )  # fmt: skip


def _write_pictures(folder: Path, world: World) -> None:
    """One PNG for each picture that an item shows: gray, 32 x 32, white ink on black."""
    shown = np.unique(world.item_pictures)
    with write_folder(folder) as temporary:
        for picture, path in zip(shown, _name_pictures(shown), strict=True):
            # 0..16 becomes 0..255; the enlarging keeps the strokes smooth, so that a person can read the digit.
            small = Image.fromarray((world.pictures.images[picture].astype(np.int64) * 255 // 16).astype(np.uint8))
            large = small.resize((_PICTURE_SIDE, _PICTURE_SIDE), Image.Resampling.BICUBIC)
            large.save(temporary / Path(path).name, optimize=True)


def _write_frame(path: Path, frame: pl.DataFrame) -> None:
    with write_file(path) as temporary:
        frame.write_csv(temporary)


def _write_events(path: Path, world: World, progress: Progress) -> None:
    total, done = world.config.n_events, 0
    with write_file(path) as temporary, temporary.open("wb") as file:
        for frame in draw_events(world, _CHUNK_ROWS):
            frame.write_csv(file, include_header=done == 0)
            done += frame.height
            progress("sample", done, total, "")


def _name_pictures(pictures: NDArray[np.integer]) -> list[str]:
    return [f"pictures/p{picture:04d}.png" for picture in pictures]


def _to_dates(time_s: NDArray[np.float64]) -> pl.Series:
    days = np.floor(time_s / DAY_S).astype(np.int32)
    return pl.Series(days).cast(pl.Date)
