"""A small release from random vectors, for the tests of publishing and serving, and for their child processes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
import polars as pl
from onnx import TensorProto, helper
from PIL import Image
from safetensors.numpy import save_file

from recsys_cl.bags import Bags
from recsys_cl.catalog import Catalog
from recsys_cl.config import IndexConfig
from recsys_cl.ids import IdMap
from recsys_cl.index.build import build_index
from recsys_cl.publishing.manifest import GateResult, ImageFacts
from recsys_cl.publishing.parts import GIVEN_FILES, EvaluatedFit, ImageParts, ReleaseParts
from recsys_cl.publishing.release import ReleaseFacts

ODD_IDS = ("007", "  padded ", "a,b", "../up", "ünï", "Case", "x" * 300)


@dataclass(frozen=True)
class World:
    """What the parts are drawn from, for reference implementations."""

    n_items: int = 60
    n_users: int = 40
    dim: int = 8
    seed: int = 0
    kind: str = "flat"
    n_seen: int | None = None  # items that each user has seen; None for a share of them drawn at random
    odd_users: tuple[str, ...] = ()

    @property
    def popularity_dim(self) -> int:
        return self.dim - 1


def write_query_tower(path: Path) -> None:
    """The weighted mean of the bag at unit length, and a 1 for popularity."""
    f, t = TensorProto.FLOAT, helper.make_tensor
    nodes = [
        helper.make_node("Unsqueeze", ["weights", "last"], ["column"]),
        helper.make_node("Mul", ["vectors", "column"], ["weighted"]),
        helper.make_node("ReduceSum", ["weighted", "first"], ["sum"], keepdims=0),
        helper.make_node("ReduceL2", ["sum", "first"], ["norm"], keepdims=1),
        helper.make_node("Max", ["norm", "least"], ["length"]),
        helper.make_node("Div", ["sum", "length"], ["taste"]),
        helper.make_node("Div", ["length", "length"], ["one"]),
        helper.make_node("Concat", ["taste", "one"], ["query"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "query_tower",
        [
            helper.make_tensor_value_info("vectors", f, ["b", "L", "e"]),
            helper.make_tensor_value_info("weights", f, ["b", "L"]),
        ],
        [helper.make_tensor_value_info("query", f, ["b", "dim"])],
        [
            t("last", TensorProto.INT64, [1], [2]),
            t("first", TensorProto.INT64, [1], [1]),
            t("least", f, [1], [1e-9]),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))


def make_parts(folder: Path, world: World) -> ReleaseParts:
    """Parts of a release; the files other stages would have written go into `folder`."""
    rng = np.random.default_rng(world.seed)
    n_odd = min(len(ODD_IDS), world.n_items - 1)
    items = IdMap.build([*ODD_IDS[:n_odd], *(f"i{n}" for n in range(world.n_items - n_odd))])
    users = IdMap.build([*world.odd_users, *(f"u{n}" for n in range(world.n_users - len(world.odd_users)))])
    titles = pl.DataFrame({"item_id": items.to_series(), "title": [f"Title of {i}" for i in items.to_series()]})
    titles = titles.with_columns(genre=pl.Series([None if n % 3 else "crime" for n in range(world.n_items)]))

    def draw(n: int) -> np.ndarray:
        vectors = rng.normal(size=(n, world.dim - 1))
        return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)

    popularity = 0.2 * np.log(rng.dirichlet(np.ones(world.n_items)))
    item_vectors = np.column_stack((draw(world.n_items), popularity)).astype(np.float32)
    user_vectors = np.column_stack((draw(world.n_users), np.ones(world.n_users))).astype(np.float32)
    if world.n_seen is None:
        mask = rng.random((world.n_users, world.n_items)) < 0.3
        mask[0] = True  # the first user has seen everything
        mask[1] = False  # the second nothing
        sizes, seen_items = mask.sum(axis=1), np.nonzero(mask)[1].astype(np.int32)
    else:  # neighbors in the catalog, from anywhere
        sizes = np.full(world.n_users, world.n_seen)
        first = rng.integers(0, world.n_items - world.n_seen, size=(world.n_users, 1))
        seen_items = (first + np.arange(world.n_seen)).reshape(-1).astype(np.int32)
    offsets = np.concatenate(([0], np.cumsum(sizes))).astype(np.int64)
    folder.mkdir(parents=True, exist_ok=True)
    write_query_tower(folder / "query_tower.onnx")
    for name in GIVEN_FILES:
        if name == "towers.safetensors":
            tables = {"tables.user.table": user_vectors[:, :2] * 3, "tables.bag.table": item_vectors[:, :2] * 2}
            save_file({table: np.ascontiguousarray(values) for table, values in tables.items()}, str(folder / name))
        elif name != "query_tower.onnx":
            (folder / name).write_bytes(f"{name} of seed {world.seed}\n".encode() * 20)
    return ReleaseParts(
        catalog=Catalog.build(items, titles),
        users=users,
        item_vectors=item_vectors,
        bag_vectors=draw(world.n_items),
        user_vectors=user_vectors,
        seen=Bags(offsets, seen_items, np.ones(len(seen_items), dtype=np.float32)),
        evaluated=EvaluatedFit(item_vectors[::-1].copy(), user_vectors[::-1].copy(), seen_items % 2 == 0),
        rotation=np.eye(world.dim - 1),
        index=build_index(item_vectors, IndexConfig(kind=world.kind))[0],  # type: ignore[arg-type]
        files={name: folder / name for name in GIVEN_FILES},
        user_attributes=pl.DataFrame({"age": [str(n) for n in range(world.n_users)]}).to_arrow(
            compat_level=pl.CompatLevel.oldest()
        ),
    )


def add_pictures(folder: Path, parts: ReleaseParts, seed: int = 0) -> tuple[ReleaseParts, ImageFacts]:
    """The same release with a picture of every third item, and of `new`, which nobody has touched."""
    rng, dim, side = np.random.default_rng(seed), parts.item_vectors.shape[1], 8
    ids = [*parts.catalog.items.to_series().to_list()[::3], "new"]
    items = IdMap.build(ids)
    pixels = rng.integers(0, 256, size=(len(ids), side, side), dtype=np.uint8)
    paths = {}
    for number, item_id in enumerate(ids):
        paths[item_id] = str(folder / f"{number}.png")
        Image.fromarray(pixels[number]).save(paths[item_id])
    columns = parts.catalog.to_frame().with_columns(
        image_path=pl.Series([paths.get(item_id) for item_id in parts.catalog.items.to_series()], dtype=pl.String)
    )
    weights = rng.normal(size=(side * side, dim)).astype(np.float32)
    write_image_encoder(folder / "image_encoder.onnx", weights)
    order = [ids.index(item_id) for item_id in items.to_series()]
    queries = (pixels[order].reshape(len(ids), -1) / 255).astype(np.float32) @ weights
    places = np.column_stack((queries[:, :-1], np.zeros(len(ids)))).astype(np.float32)
    index = build_index(queries, IndexConfig(kind="flat"))[0]
    (folder / "images.json").write_text("{}")
    (folder / "image_sheet.png").write_bytes(b"sheet")
    names = ("image_encoder.onnx", "images.json", "image_sheet.png")
    turn = np.eye(queries.shape[1] - 1)
    images = ImageParts(items, queries, queries, places, turn, index, {name: folder / name for name in names})
    catalog = Catalog.build(parts.catalog.items, columns)
    facts = ImageFacts(n_items=len(ids), side=side, channels=1, place_length=1.0, index=index.facts)
    return replace(parts, catalog=catalog, images=images), facts


def write_image_encoder(path: Path, weights: np.ndarray) -> None:
    """Pixels times weights; a place is the query without its last float."""
    f, t = TensorProto.FLOAT, helper.make_tensor
    n_pixels, dim = weights.shape
    side = round(n_pixels**0.5)
    nodes = [
        helper.make_node("Flatten", ["pixels"], ["flat"], axis=1),
        helper.make_node("MatMul", ["flat", "weights"], ["query"]),
        helper.make_node("Slice", ["query", "from", "to", "axis"], ["place"]),
    ]
    graph = helper.make_graph(
        nodes,
        "image_encoder",
        [helper.make_tensor_value_info("pixels", f, ["n", 1, side, side])],
        [
            helper.make_tensor_value_info("query", f, ["n", dim]),
            helper.make_tensor_value_info("place", f, ["n", dim - 1]),
        ],
        [
            t("weights", f, weights.shape, weights.ravel()),
            t("from", TensorProto.INT64, [1], [0]),
            t("to", TensorProto.INT64, [1], [dim - 1]),
            t("axis", TensorProto.INT64, [1], [1]),
        ],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), str(path))


def make_facts(
    world: World, gate_reasons: list[str] | None = None, forced: str | None = None, run_id: str = "run-1"
) -> ReleaseFacts:
    """Facts beside the parts."""
    return ReleaseFacts(
        run_id=run_id,
        code_version="0.0.0",
        config={"training": {"seed": world.seed}},
        config_fingerprint="c" * 12,
        data_fingerprint="d" * 12,
        n_events=1000,
        popularity_dim=world.popularity_dim,
        history_length=None,
        floats_per_pair=0,
        ann_recall=1.0,
        metrics={"model": {"ndcg@10": 0.3}},
        gate=GateResult(reasons=tuple(gate_reasons or ()), forced=forced),
    )
