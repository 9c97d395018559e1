"""The sheet of pictures: comes in pictured items and their vectors in both spaces, goes out one PNG for people.

A line an item: its picture, then the pictures of its neighbors by behavior, then those by picture.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from recsys_cl.bags import Bags
from recsys_cl.evaluation.topk import search_exact
from recsys_cl.pictured import PicturedItems

_N_ITEMS, _N_NEIGHBORS, _SIDE, _GAP, _HEAD = 10, 6, 64, 8, 24
_INK, _PAPER, _SOFT = (34, 34, 34), (255, 255, 255), (120, 120, 120)

Vectors = NDArray[np.float32]


def draw_sheet(pictured: PicturedItems, spaces: tuple[Vectors, Vectors, Vectors], path: Path) -> None:
    """Write the PNG. spaces: vectors and queries by picture [n, dim], and directions by behavior [n, d], NaN for an
    item that nobody has touched."""
    vectors, queries, own = spaces
    known = np.flatnonzero(~np.isnan(own).any(axis=1))
    shown = known[np.unique(np.linspace(0, max(len(known) - 1, 0), min(_N_ITEMS, len(known))).astype(int))]
    width = (1 + 2 * _N_NEIGHBORS) * (_SIDE + _GAP) + 5 * _GAP
    sheet = Image.new("RGB", (width, _HEAD + len(shown) * (_SIDE + _GAP) + _GAP), _PAPER)
    pen = ImageDraw.Draw(sheet)
    starts = (_GAP, 3 * _GAP + _SIDE, 5 * _GAP + _SIDE + _N_NEIGHBORS * (_SIDE + _GAP))
    for left, words in zip(starts, ("item", "neighbors by behavior", "neighbors by picture"), strict=True):
        pen.text((left, 6), words, fill=_SOFT)
    if len(shown):
        places = np.searchsorted(known, shown)
        k = min(_N_NEIGHBORS, len(known) - 1, len(pictured) - 1)
        if k > 0:
            by_behavior = known[search_exact(own[shown], own[known], k, Bags.of_items(places)).rows]
            by_picture = search_exact(queries[shown], vectors, k, Bags.of_items(shown)).rows
            for line, row in enumerate(shown):
                top = _HEAD + line * (_SIDE + _GAP)
                _paste(sheet, pictured, int(row), (starts[0], top))
                for start, rows in ((starts[1], by_behavior[line]), (starts[2], by_picture[line])):
                    for place, neighbor in enumerate(rows):
                        _paste(sheet, pictured, int(neighbor), (start + place * (_SIDE + _GAP), top))
    sheet.save(path, "PNG", optimize=True)


def _paste(sheet: Image.Image, pictured: PicturedItems, row: int, where: tuple[int, int]) -> None:
    pixels = pictured.pictures.take(np.array([row]))[0]
    flat = np.repeat(pixels, 3, axis=0) if len(pixels) == 1 else pixels
    image = Image.fromarray(np.ascontiguousarray(flat.transpose(1, 2, 0)))
    sheet.paste(image.resize((_SIDE, _SIDE), Image.Resampling.NEAREST), where)
