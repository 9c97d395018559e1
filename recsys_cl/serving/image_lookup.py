"""Lookup by picture: comes in a release that has pictures, goes out neighbors by picture, and places of new items.

Which space answered is part of each answer: `behavior` (an item's own place among the interactions), `image` (pictures
beside pictures), `behavior_by_image` (the place that a picture gives to an item that nobody has touched, or to a file).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from recsys_cl.bags import Bags
from recsys_cl.catalog import ID
from recsys_cl.errors import InputError
from recsys_cl.evaluation.topk import Neighbors
from recsys_cl.pictures import read_picture
from recsys_cl.publishing.manifest import ImageFacts
from recsys_cl.publishing.parts import IMAGE_ENCODER, IMAGE_MODEL, IMAGE_RESULT, ImageParts
from recsys_cl.serving.filters import ANY, Filters, find_allowed
from recsys_cl.serving.lookup import Release, empty_bags
from recsys_cl.serving.members import Answer, bound_k, build_answer, describe_known
from recsys_cl.serving.pictures import FrozenModel, PictureEncoder
from recsys_cl.serving.search import search_unseen
from recsys_cl.serving.spaces import BEHAVIOR, BY_IMAGE, IMAGE
from recsys_cl.serving.suggest import explain_unknown

By = Literal["behavior", "image"]


def answer_item(
    release: Release,
    item_id: str,
    k: int = 10,
    by: By = "behavior",
    include_seen: bool = False,
    filters: Filters = ANY,
) -> list[Answer]:
    """The k nearest items of one, best first, without itself unless include_seen, each with the `space` that answered.

    By behavior an item without an event is answered from the place of its picture. Raises UnknownIdError, and
    InputError for a k below 1, a bad filter, or where the release has no pictures and they are asked for.
    """
    if by == "behavior" and (release.parts.images is None or release.parts.catalog.items.find_row(item_id) is not None):
        return _mark(release.answer_similar(item_id, k, include_seen, filters), BEHAVIOR)
    images, _ = get_images(release)
    row = images.items.find_row(item_id)
    if row is None:
        if release.parts.catalog.items.find_row(item_id) is not None:
            raise InputError(f"item {item_id!r} has no picture in release {release.version}", "an item with one")
        raise explain_unknown("item", release.parts.catalog.items, [item_id], release.version)
    if by == "image":
        seen = empty_bags(1) if include_seen else Bags.of_items(np.array([row]))
        return answer_by_image(release, images.queries[[row]], k, seen, filters)
    return _answer_place(release, images.places[[row]], k, filters)


def answer_file(release: Release, path: Path, k: int = 10, by: By = "image", filters: Filters = ANY) -> list[Answer]:
    """The k items nearest to a picture that may never have been seen; see `answer_item`. Raises PictureError for a file
    that is no picture, InputError as there."""
    images, facts = get_images(release)
    pixels = read_picture(path, facts.side, facts.channels)
    return answer_pixels(release, open_encoder(images, facts), pixels, k, by, filters)


def answer_pixels(
    release: Release, encoder: PictureEncoder, pixels: NDArray[np.uint8], k: int, by: By, filters: Filters = ANY
) -> list[Answer]:
    """The k items nearest to a picture [channels, side, side], as it is encoded by the open encoder of the release."""
    _, facts = get_images(release)
    query, place = encoder.encode(pixels[None])
    if by == "image":
        return answer_by_image(release, query, k, empty_bags(1), filters)
    places = np.zeros_like(query)
    if place is not None:
        places[:, :-1] = place * np.float32(facts.place_length)
    return _answer_place(release, places, k, filters)


def describe_agreement(release: Release, item_id: str, k: int = 10) -> dict[str, Any]:
    """An item's neighbors by behavior and by picture, side by side: `{"item_id", "behavior", "image", "shared"}`, with
    the items that are in both."""
    answers = {by: answer_item(release, item_id, k, by) for by in ("behavior", "image")}
    both = {answer[ID] for answer in answers["behavior"]} & {answer[ID] for answer in answers["image"]}
    return {ID: item_id} | answers | {"shared": sorted(both)}


def list_contrasts(release: Release) -> dict[str, Any]:
    """Pairs that look alike and behave differently, and near-duplicates, as the run of the release found them."""
    images, _ = get_images(release)
    found = json.loads(images.files[IMAGE_RESULT].read_text(encoding="utf-8"))
    return {name: found[name] for name in ("alike_but_different", "near_duplicates", "n_near_duplicates")}


def get_images(release: Release) -> tuple[ImageParts, ImageFacts]:
    """The pictures of a release. Raises InputError where it has none."""
    images, facts = release.parts.images, release.manifest.images
    if images is None or facts is None:
        remedy = "publish one with: recsys-cl run CONFIG --set images.enabled=true"
        raise InputError(f"release {release.version} has no pictures", "a release with pictures", remedy)
    return images, facts


def open_encoder(images: ImageParts, facts: ImageFacts, n_threads: int | None = None) -> PictureEncoder:
    """What turns a picture into vectors; n_threads: of a frozen model, None for all cores."""
    frozen = images.files.get(IMAGE_MODEL)
    model = None if frozen is None else FrozenModel(frozen, facts.mean, facts.std, n_threads)
    return PictureEncoder(images.files[IMAGE_ENCODER], model)


def answer_by_image(
    release: Release, queries: NDArray[np.float32], k: int, seen: Bags, filters: Filters = ANY
) -> list[Answer]:
    """The k pictured items nearest to one query [1, dim] by picture, without `seen`."""
    images, _ = get_images(release)
    k = bound_k(k, len(images.items))
    allowed = find_allowed(release.parts.catalog, filters, images.items)
    found = search_unseen(images.index, images.vectors, queries, k, seen, allowed)
    answers: list[Answer] = []
    for row, score in zip(found.rows[0], found.scores[0], strict=True):
        if row >= 0:
            item_id = images.items.get_id(int(row))
            place = release.parts.catalog.items.find_row(item_id)
            known = {} if place is None else describe_known(release.parts.catalog, place)
            answers.append(build_answer(item_id, float(score), len(answers) + 1, known))
    return _mark(answers, IMAGE)


def _answer_place(release: Release, places: NDArray[np.float32], k: int, filters: Filters) -> list[Answer]:
    if not np.any(places):
        raise InputError(
            f"release {release.version} places no picture among the interactions",
            "one that was trained with images.collaborative above 0",
            "ask by picture: --by image",
        )
    found: Neighbors = release.search(places, release.bound_k(k), empty_bags(1), release.find_allowed(filters))
    return _mark(release.describe(found), BY_IMAGE)


def _mark(answers: list[Answer], space: str) -> list[Answer]:
    return [answer | {"space": space} for answer in answers]
