"""Answers of the service: comes in the live release and what is asked of it, goes out JSON values; no HTTP here.

An answer is `{"release", "items"}`, its items as those of `lookup.py`, but with the address of a picture instead of its
place on this machine, and with `why` where that is asked for.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import numpy as np
import polars as pl
from numpy.typing import NDArray

from recsys_cl.bags import Bags
from recsys_cl.catalog import ID, IMAGE
from recsys_cl.pictures import read_picture
from recsys_cl.serving.explain import explain_history
from recsys_cl.serving.filters import ANY, Filters
from recsys_cl.serving.holder import Live
from recsys_cl.serving.image_lookup import By, answer_item, answer_pixels, get_images
from recsys_cl.serving.limits import TOLD, Limits
from recsys_cl.serving.lookup import WEIGHT, empty_bags, find_rows
from recsys_cl.serving.members import Answer, build_answer, describe_known

Reply = dict[str, Any]


@dataclass(frozen=True)
class Ask:
    """How to answer. exclude_seen: leave out what is asked with; why: say what brought each answer; by: as in
    `answer_item`."""

    k: int = 10
    filters: Filters = ANY
    exclude_seen: bool = True
    why: bool = False
    by: By = "behavior"

    @property
    def include_seen(self) -> bool:
        """What lookup and the command line call the opposite."""
        return not self.exclude_seen


def answer_neighbors(live: Live, item_id: str, ask: Ask) -> Reply:
    """The neighbors of an item; why: `{"n_users"}`, who touched both. Raises UnknownIdError and InputError."""
    answers = answer_item(live.release, item_id, ask.k, ask.by, ask.include_seen, ask.filters)
    row = live.release.parts.catalog.items.find_row(item_id)
    if ask.why:
        counts = np.zeros(len(answers), dtype=np.int64)
        rows = live.release.parts.catalog.items.find_texts([answer[ID] for answer in answers])
        if row is not None:  # else an item that nobody has touched yet
            known = rows >= 0
            counts[known] = live.touches.get().count_both(row, rows[known])
        answers = [answer | {"why": {"n_users": int(n)}} for answer, n in zip(answers, counts, strict=True)]
    return _reply(live, answers)


def answer_user(live: Live, user_id: str, ask: Ask) -> Reply:
    """The best items for a known user. why: see `explain_history`, by the score that the query tower gives what they
    have touched. Raises UnknownIdError and InputError."""
    release = live.release
    row = find_rows(release.parts.users, [user_id], "user", release.version)
    seen = release.get_seen(row)
    return _recommend(live, (release.parts.user_vectors[row], seen), ask)


def answer_history(live: Live, history: Sequence[str], weights: Sequence[float] | None, ask: Ask) -> Reply:
    """The best items for somebody with this history. Raises UnknownIdError and InputError."""
    release = live.release
    frame = None if weights is None else pl.DataFrame({ID: list(history), WEIGHT: list(weights)})
    bag = release.read_history(list(history) if frame is None else frame)
    return _recommend(live, (release.encode_bags(bag), bag), ask)


def answer_picture(live: Live, picture: bytes, ask: Ask, limits: Limits) -> Reply:
    """The items nearest to a picture that was sent. Raises PictureError and InputError."""
    _, facts = get_images(live.release)
    pixels = read_picture(picture, facts.side, facts.channels, limits.most_pixels)
    return _reply(live, answer_pixels(live.release, live.encoder.get(), pixels, ask.k, ask.by, ask.filters))


def find_items(live: Live, query: str, ask: Ask) -> Reply:
    """Items by title or id, best first, score: see `Titles.find`; each with its row on the map. Raises InputError."""
    allowed = live.release.find_allowed(ask.filters)
    rows, scores = live.titles.get().find(query, live.release.bound_k(ask.k), allowed)
    answers = []
    for rank, (row, score) in enumerate(zip(rows.tolist(), scores.tolist(), strict=True), 1):
        known = describe_item(live, row)
        answers.append(build_answer(known[ID], score, rank, known))
    return {"release": live.release.version, "items": answers}


def describe_item(live: Live, row: int) -> Reply:
    """What the catalog knows of an item, and its row on the map."""
    return _address_picture(describe_known(live.release.parts.catalog, row)) | {"row": row}


def describe_release(live: Live, limits: Limits) -> Reply:
    """The live release: what it holds, how it was judged, how old it is; and the limits of what may be asked of it."""
    manifest, images = live.release.manifest, live.release.manifest.images
    known = manifest.model_dump(
        mode="json",
        include={"created", "run_id", "parent", "n_users", "n_items", "n_events", "dim", "ann_recall", "metrics"},
    )
    gate = manifest.gate.model_dump(mode="json") | {"passed": manifest.gate.passed}
    return (
        {"release": live.release.version, "age_seconds": measure_age(live)}
        | known
        | {
            "index": {"kind": manifest.index.kind, "parameters": manifest.index.parameters},
            "gate": gate,
            "attributes": live.release.parts.catalog.attributes,
            "pictures": live.pictured,
            "n_pictures": 0 if images is None else images.n_items,
            "thumbnails": live.shown,
            "limits": {name: getattr(limits, name) for name in TOLD},
        }
    )


def measure_age(live: Live) -> float:
    """Seconds since the release was made."""
    created = datetime.fromisoformat(live.release.manifest.created).astimezone(UTC)
    return round(time.time() - created.timestamp(), 3)


def _recommend(live: Live, asking: tuple[NDArray[np.float32], Bags], ask: Ask) -> Reply:
    """asking: the query [1, dim] and the bag of the history."""
    query, bag = asking
    release = live.release
    seen = empty_bags(1) if ask.include_seen else bag
    found = release.search(query, release.bound_k(ask.k), seen, release.find_allowed(ask.filters))
    answers = release.describe(found)
    if ask.why:
        whys = explain_history(release, bag, found.rows[0][found.rows[0] >= 0])
        answers = [answer | {"why": why} for answer, why in zip(answers, whys, strict=True)]
    return _reply(live, answers)


def _reply(live: Live, answers: list[Answer]) -> Reply:
    return {"release": live.release.version, "items": [_address_picture(answer) for answer in answers]}


def _address_picture(known: Answer) -> Answer:
    """With `image`, the address of the picture, instead of its place on this machine."""
    if known.pop(IMAGE, None) is not None:
        known["image"] = f"/images/{quote(known[ID], safe='')}"
    return known
