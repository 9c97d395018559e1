"""Pictured items: comes in the items of a run and where their pictures lie, goes out what a training on pictures needs.

Items that have a picture are numbered anew, those of the catalog and new ones together; events of other items are left
out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from recsys_cl.catalog import ID, IMAGE
from recsys_cl.errors import ConfigError, InputError
from recsys_cl.files import expand_home
from recsys_cl.ids import IdMap
from recsys_cl.image_sections import ImagesConfig
from recsys_cl.images.duplicates import group_duplicates
from recsys_cl.interactions.split import Split
from recsys_cl.interactions.table import Interactions
from recsys_cl.picture_cache import PictureSet, cache_pictures
from recsys_cl.plan import Plan
from recsys_cl.progress import Progress, report_nothing
from recsys_cl.training.pictures import PictureFacts

_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp")


@dataclass(frozen=True)
class Before:
    """What the stages before the pictures have made: the log, its split, what was chosen, attributes of the items."""

    interactions: Interactions
    split: Split
    plan: Plan
    attributes: pl.DataFrame | None


@dataclass(frozen=True)
class PicturedItems:
    """n items that have a picture; row i of each part is that of ids i, ascending.

    catalog_rows [n]: -1 for an item that nobody has touched. groups [n]: of near-duplicates. labels [n]: -1 without
    one. refused: `item_id, path, reason, message` of the pictures that could not be used.
    """

    ids: IdMap
    pictures: PictureSet
    catalog_rows: NDArray[np.int64]
    groups: NDArray[np.int64]
    labels: NDArray[np.int64]
    refused: pl.DataFrame

    def __len__(self) -> int:
        return len(self.ids)

    def describe(self, interactions: Interactions | None, places: NDArray[np.float32] | None) -> PictureFacts:
        """What a training needs. interactions: over the catalog; places [n_items, d]: of the catalog, NaN for an item
        that lies nowhere."""
        projected = None if interactions is None else self.project(interactions)
        own = None
        if places is not None:
            own = np.where(self.catalog_rows[:, None] >= 0, places[self.catalog_rows], np.float32("nan"))
        return PictureFacts(self.pictures.take, len(self), self.groups, projected, own, self.labels)

    def project(self, interactions: Interactions) -> Interactions:
        """The events of pictured items, over these in the place of the catalog."""
        rows = np.full(interactions.n_items, -1, dtype=np.int32)
        known = np.flatnonzero(self.catalog_rows >= 0)
        rows[self.catalog_rows[known]] = known
        kept = interactions.select(rows[interactions.item_rows] >= 0)
        return replace(kept, items=self.ids, item_rows=rows[kept.item_rows])


def read_pictured(
    config: ImagesConfig,
    attributes: pl.DataFrame | None,
    catalog: IdMap,
    cache: Path,
    progress: Progress = report_nothing,
) -> PicturedItems:
    """Find, decode and compare the pictures of all items; cache: a folder that keeps what was decoded.

    Raises ConfigError where neither a column nor a folder names a picture, InputError where none can be used.
    """
    found, odd = _find_paths(config, attributes)
    if not found:
        expected = (
            "a column of the items file with paths (images.column), or images.folder with a picture `item_id.png`"
        )
        raise ConfigError("images.enabled is true, but no item has a picture", expected)
    ids = IdMap.build(list(found))
    ordered = ids.to_series().to_list()
    pictures = cache_pictures([found[item_id] for item_id in ordered], cache, config.side, config.channels, progress)
    refused = pictures.refused.select(
        pl.Series(ID, [ordered[place] for place in pictures.refused["place"]], dtype=pl.String),
        "path",
        "reason",
        "message",
    )
    refused = pl.concat([refused, pl.DataFrame(odd, schema=refused.schema, orient="row")])
    if len(pictures) < 2:
        counts = ", ".join(f"{reason}: {n:,}" for reason, n in count_reasons(refused).items())
        raise InputError(f"{len(pictures)} of {len(found):,} pictures can be used ({counts})", "two or more")
    kept = IdMap.build([ordered[place] for place in pictures.kept])
    labels = _read_labels(config, attributes, kept)
    groups = group_duplicates(pictures.take, len(kept), config.duplicate_correlation)
    return PicturedItems(kept, pictures, catalog.find_rows(kept.to_series()), groups, labels, refused)


def count_reasons(refused: pl.DataFrame) -> dict[str, int]:
    """How many pictures were refused for each reason."""
    return dict(sorted(refused["reason"].value_counts().iter_rows()))


def _find_paths(
    config: ImagesConfig, attributes: pl.DataFrame | None
) -> tuple[dict[str, Path], list[tuple[str, str, str, str]]]:
    """The picture of each item, what a column says before what lies in the folder; and what cannot be one, as lines of
    `refused`."""
    found: dict[str, Path] = {}
    odd = []
    if config.folder:
        folder = expand_home(config.folder)
        if not folder.is_dir():
            raise ConfigError(f"there is no folder {folder}", "a folder of pictures", "check images.folder")
        for path in sorted(path for path in folder.iterdir() if path.suffix.lower() in _SUFFIXES):
            shown = str(path).encode("utf-8", "replace").decode()
            if shown != str(path):
                odd.append(("", shown, "bad_name", f"{shown} is no name in UTF-8, and no item_id"))
            elif path.is_symlink() and not path.resolve().is_relative_to(folder.resolve()):
                odd.append((path.stem, shown, "outside", f"{shown} is a link that leads out of images.folder"))
            elif path.stem in found:
                odd.append((path.stem, shown, "repeated", f"item {path.stem!r} has {found[path.stem].name} already"))
            else:
                found[path.stem] = path
    if attributes is not None and IMAGE in attributes.columns:
        named = attributes.select(ID, IMAGE).drop_nulls()
        found |= {item_id: Path(path) for item_id, path in named.iter_rows()}
    return found, odd


def _read_labels(config: ImagesConfig, attributes: pl.DataFrame | None, ids: IdMap) -> NDArray[np.int64]:
    labels = np.full(len(ids), -1, dtype=np.int64)
    if not config.label_column:
        return labels
    columns: Sequence[str] = () if attributes is None else attributes.columns
    if attributes is None or config.label_column not in columns:
        raise ConfigError(f"the items have no attribute {config.label_column!r}", f"one of: {', '.join(columns)}")
    named = attributes.select(ID, config.label_column).drop_nulls()
    rows = ids.find_rows(named[ID])
    codes = named[config.label_column].rank("dense").to_numpy().astype(np.int64) - 1
    labels[rows[rows >= 0]] = codes[rows >= 0]
    return labels
