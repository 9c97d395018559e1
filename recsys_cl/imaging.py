"""The stage of pictures: comes in a trained run and the pictures of its items, goes out an encoder of pictures, the
vectors that it gives, and how good they are.

In the run's folder: `images/` (ids, vectors, queries and places of pictured items, the encoder, the sheet, and
images.json), images.json once more, and refused_pictures.parquet. Decoded pictures are kept in the store.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys_cl.bags import Bags
from recsys_cl.cold_items import evaluate_cold
from recsys_cl.embeddings import EmbeddingTable
from recsys_cl.evaluation.labels import judge_labels
from recsys_cl.evaluation.topk import search_exact
from recsys_cl.files import expand_home, hash_file, write_file, write_folder, write_json
from recsys_cl.image_parts import FOLDER
from recsys_cl.image_sections import ImagesConfig
from recsys_cl.interactions.table import Interactions
from recsys_cl.model.scores import count_taste_floats
from recsys_cl.pictured import Before, PicturedItems, count_reasons, read_pictured
from recsys_cl.progress import Progress
from recsys_cl.publishing.parts import IMAGE_ENCODER, IMAGE_MODEL, IMAGE_RESULT, IMAGE_SHEET, QUERY_TOWER
from recsys_cl.runs import Run
from recsys_cl.serving.pictures import FrozenModel, PictureEncoder
from recsys_cl.serving.towers import QueryTower
from recsys_cl.sheet import draw_sheet
from recsys_cl.training.encode import encode_candidates
from recsys_cl.training.loop import Hooks
from recsys_cl.training.pictures import TrainedPictures, name_pictures, train_pictures
from recsys_cl.training.save import save_pictures

REFUSED = "refused_pictures.parquet"
_MOST_LISTED = 200  # pairs that look alike and behave differently, and groups of near-duplicates
_LOOKED_AT = 5  # nearest pictures of an item, among which such pairs are sought

Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class _Spaces:
    """Of the pictured items: vectors and queries by picture [n, dim]; places [n, dim]: their queries among the
    interactions by picture, of length place_length, 0 where none were learned; own [n, dim - 1]: the directions of
    their items there, NaN for new ones. n_taste: floats of a query by picture that tell taste."""

    vectors: Vectors
    queries: Vectors
    places: Vectors
    place_length: float
    own: Vectors
    n_taste: int


def make_images(run: Run, before: Before, progress: Progress) -> None:
    """Decode, train, evaluate and write, as the module says. Raises ConfigError and InputError of `read_pictured`."""
    config, images = run.config, run.config.images
    catalog = before.interactions.items
    pictured = read_pictured(images, before.attributes, catalog, run.store / "pictures", progress)
    with write_file(run.folder / REFUSED) as temporary:
        pictured.refused.write_parquet(temporary)
    frozen = _open_frozen(images)
    run_frozen = None if frozen is None else frozen.run
    places, place_length = _find_places(run, before.interactions)
    facts = pictured.describe(before.interactions, places)
    key = name_pictures(facts, config) + ("" if frozen is None else hash_file(frozen.path))
    checkpoint = run.open_work(key) / "pictures.safetensors"
    hooks = Hooks(progress=progress, checkpoint=checkpoint, steps=run.folder / "steps" / "pictures.jsonl")
    trained = train_pictures(facts, config, run_frozen, hooks, key)
    cold = evaluate_cold(pictured, before, config, run_frozen, progress)
    with write_folder(run.folder / FOLDER) as folder:
        save_pictures(trained.model, folder / IMAGE_ENCODER)
        if frozen is not None:
            shutil.copyfile(frozen.path, folder / IMAGE_MODEL)
        spaces = _encode(pictured, trained, folder / IMAGE_ENCODER, frozen, (facts.places, place_length))
        pictured.ids.write(folder / "ids.arrow")
        for name in ("vectors", "queries", "places"):
            EmbeddingTable(getattr(spaces, name), "query").write(folder / f"{name}.npy")
        draw_sheet(pictured, (spaces.vectors, spaces.queries, spaces.own), folder / IMAGE_SHEET)
        result = _describe(pictured, trained, images) | {"cold_items": cold}
        result |= {"labels": judge_labels(spaces.vectors, pictured.labels, config.training.seed)}
        result |= {"place_length": spaces.place_length} | _list_contrasts(pictured, spaces)
        write_json(folder / IMAGE_RESULT, result)
    write_json(run.folder / IMAGE_RESULT, result)
    run.close_work()


def _open_frozen(images: ImagesConfig) -> FrozenModel | None:
    if images.encoder != "onnx":
        return None
    return FrozenModel(expand_home(images.onnx), images.onnx_mean, images.onnx_std)


def _find_places(run: Run, interactions: Interactions) -> tuple[Vectors, float]:
    """Where the items of the published fit lie: the directions [n_items, dim - 1] of the queries with which they ask
    for their neighbors, NaN without any, and their median length."""
    bags = EmbeddingTable.read(run.folder / "published" / "bags.npy", "bag").vectors
    dim = run.config.model.dim
    tower = QueryTower(run.folder / "published" / QUERY_TOWER, bags.shape[1], dim)
    queries = tower.encode_items(np.arange(interactions.n_items), bags, dim - 1)[:, :-1]
    lengths = np.linalg.norm(queries, axis=1)
    places = np.where(lengths[:, None] > 0, queries / np.maximum(lengths[:, None], 1e-12), np.float32("nan"))
    return places.astype(np.float32), float(np.median(lengths))


def _encode(
    pictured: PicturedItems,
    trained: TrainedPictures,
    encoder: Path,
    frozen: FrozenModel | None,
    known: tuple[Vectors | None, float],
) -> _Spaces:
    """All vectors; queries and places by the exported encoder, which lookup will run."""
    opened = PictureEncoder(encoder, frozen)
    blocks = [
        opened.encode(pictured.pictures.take(np.arange(start, min(start + 1024, len(pictured)))))
        for start in range(0, len(pictured), 1024)
    ]
    queries = np.concatenate([block[0] for block in blocks])
    places, length = np.zeros_like(queries), known[1] if blocks[0][1] is not None else 0.0
    if length:
        places[:, :-1] = np.concatenate([block[1] for block in blocks if block[1] is not None]) * np.float32(length)
    assert known[0] is not None, "a run has items that lie somewhere"
    n_taste = count_taste_floats(trained.model.config)
    return _Spaces(encode_candidates(trained.model), queries, places, length, known[0], n_taste)


def _describe(pictured: PicturedItems, trained: TrainedPictures, images: ImagesConfig) -> dict[str, Any]:
    """Counts, and how fast it went."""
    n_views = 2 * min(images.batch_pictures, len(pictured)) * trained.n_steps
    pictures = pictured.pictures
    return {
        "n_pictures": len(pictured),
        "n_new_items": int((pictured.catalog_rows < 0).sum()),
        "refused": count_reasons(pictured.refused),
        "n_decoded": pictures.n_decoded,
        "decoded_per_second": round(pictures.n_decoded / max(pictures.decode_seconds, 1e-9), 1),
        "trained_per_second": round(n_views / max(trained.seconds, 1e-9), 1),
        "train_seconds": round(trained.seconds, 3),
        "waiting_share": round(trained.waited / max(trained.seconds, 1e-9), 4),
        "history": trained.history,
    }


def _list_contrasts(pictured: PicturedItems, spaces: _Spaces) -> dict[str, Any]:
    """Pairs that look alike and behave differently, and groups of near-duplicates; the most telling 200 of each.

    A pair: two touched items, one among the five nearest of the other by picture, no near-duplicates; by_picture and
    by_behavior: the cosines of their pictures, and of their places among the interactions.
    """
    known = np.flatnonzero(~np.isnan(spaces.own).any(axis=1))
    pairs: list[dict[str, Any]] = []
    if len(known) > 1:
        k = min(_LOOKED_AT, len(known) - 1)
        unit = (
            spaces.queries[:, : spaces.n_taste] / np.linalg.norm(spaces.queries[:, : spaces.n_taste], axis=1)[:, None]
        )
        found = search_exact(spaces.queries[known], spaces.vectors[known], k, Bags.of_items(np.arange(len(known))))
        ones, others = np.repeat(known, k), known[found.rows.ravel()]
        apart = pictured.groups[ones] != pictured.groups[others]
        ones, others = ones[apart], others[apart]
        looks = np.einsum("ij,ij->i", unit[ones], unit[others])
        behaves = np.einsum("ij,ij->i", spaces.own[ones], spaces.own[others])
        keys = np.minimum(ones, others) * len(pictured) + np.maximum(ones, others)
        order = np.argsort(behaves - looks, kind="stable")
        order = order[np.sort(np.unique(keys[order], return_index=True)[1])][:_MOST_LISTED]
        ids = [pictured.ids.get_ids(rows[order]).to_list() for rows in (ones, others)]
        names = ("item_id", "other_id", "by_picture", "by_behavior")
        values = zip(*ids, looks[order].tolist(), behaves[order].tolist(), strict=True)
        pairs = [dict(zip(names, line, strict=True)) for line in values]
    sizes = np.bincount(pictured.groups)
    several = np.argsort(-sizes, kind="stable")[: min(_MOST_LISTED, int((sizes > 1).sum()))]
    duplicates = [pictured.ids.get_ids(np.flatnonzero(pictured.groups == group)).to_list() for group in several]
    return {
        "alike_but_different": pairs,
        "near_duplicates": duplicates,
        "n_near_duplicates": int(sizes[sizes > 1].sum()),
    }
