"""Hostile files, made by hand: comes in a copy of a release, goes out with one part that lies about itself."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from onnx import TensorProto, helper

Values = dict[str, Any]
Craft = Callable[[Path, Values], None]
"""Changes a copy of a release, and what its manifest says of it; the seal is renewed afterwards."""


class MissingPartError(Exception):
    """A crafted file that this release has not."""


def _npy(name: str, shape: object, dtype: str = "<f4", more: str = "", rows: int = 8) -> Craft:
    """An array whose header claims a shape, and a manifest that agrees."""

    def craft(folder: Path, values: Values) -> None:
        head = f"{{'descr': {dtype!r}, 'fortran_order': False, 'shape': {shape!r}, {more}}}".encode()
        head += b" " * (64 - (len(head) + 11) % 64) + b"\n"
        data = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head) & 0xFFFF) + head + bytes(4 * rows)
        (folder / f"{name}.npy").write_bytes(data)
        if isinstance(shape, tuple) and all(isinstance(n, int) for n in shape):
            values["arrays"][name] = {"dtype": dtype, "shape": shape}

    return craft


def _pickled(folder: Path, values: Values) -> None:
    out = io.BytesIO()
    np.save(out, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    (folder / "item_bags.npy").write_bytes(out.getvalue())
    values["arrays"]["item_bags"] = {"dtype": "|O", "shape": (1,)}


def _seen(offsets: list[int] | None, items: list[int] | None) -> Craft:
    """Seen items that lead out of their arrays; shapes stay."""

    def craft(folder: Path, values: Values) -> None:
        for name, numbers in (("seen_offsets", offsets), ("seen_items", items)):
            array = np.load(folder / f"{name}.npy")
            if numbers is not None:
                array[: len(numbers)] = numbers
                np.save(folder / f"{name}.npy", array)

    return craft


def _arrow(name: str, make: Callable[[pa.Table], pa.Table], **options: Any) -> Craft:
    """Another table in place of one, such as one whose columns are bombs."""

    def craft(folder: Path, values: Values) -> None:
        table = make(pa.ipc.open_file((folder / name).read_bytes()).read_all())
        with pa.OSFile(str(folder / name), "wb") as sink:
            writer = pa.ipc.new_file(sink, table.schema, options=pa.ipc.IpcWriteOptions(**options))
            writer.write_table(table)
            writer.close()

    return craft


def _add_lists(table: pa.Table) -> pa.Table:
    """A column of lists of nulls, which take no byte: each claims half a billion."""
    sizes = np.zeros(len(table) + 1, dtype=np.int32)
    sizes[1:] = 1 << 29
    lists = pa.ListArray.from_arrays(pa.array(sizes), pa.nulls(1 << 29))
    return table.append_column("bomb", lists)


def _add_zeros(table: pa.Table) -> pa.Table:
    """600 MiB of zeros in one text, for a file that is compressed."""
    texts = pa.array(["\0" * (600 << 20)] + [""] * (len(table) - 1), pa.large_string())
    return table.append_column("bomb", texts)


def _offsets(name: str, column: int, numbers: dict[int, int]) -> Craft:
    """Offsets of texts, eight bytes each, changed in the file: found there by their own bytes."""

    def craft(folder: Path, values: Values) -> None:
        data = bytearray((folder / name).read_bytes())
        table = pa.ipc.open_file(bytes(data)).read_all()
        raw = table.column(column).chunk(0).buffers()[1].to_pybytes()
        start = data.index(raw)
        for place, number in numbers.items():
            struct.pack_into("<q", data, start + 8 * (place % (len(table) + 1)), number)
        (folder / name).write_bytes(data)

    return craft


def _tower(nodes: Callable[[], list[Any]], initializers: Callable[[], list[Any]] = list) -> Craft:
    """A query tower that computes something else, `query` in the end."""

    def craft(folder: Path, values: Values) -> None:
        f = TensorProto.FLOAT
        inputs = [
            helper.make_tensor_value_info("vectors", f, ["b", "L", "e"]),
            helper.make_tensor_value_info("weights", f, ["b", "L"]),
        ]
        outputs = [helper.make_tensor_value_info("query", f, ["b", "dim"])]
        graph = helper.make_graph(nodes(), "tower", inputs, outputs, initializers())
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
        (folder / "query_tower.onnx").write_bytes(model.SerializeToString())

    return craft


def _int64(name: str, numbers: list[int]) -> Any:
    return helper.make_tensor(name, TensorProto.INT64, [len(numbers)], numbers)


def _fill_constant() -> list[Any]:
    """40 GB of zeros that do not depend on what goes in: made where constants are folded, at the opening."""
    return [
        helper.make_node("ConstantOfShape", ["shape"], ["zeros"]),
        helper.make_node("ReduceSum", ["zeros"], ["sum"], keepdims=0),
        helper.make_node("Mul", ["weights", "sum"], ["query"]),
    ]


def _fill_later() -> list[Any]:
    """A shape that depends on what goes in: made where it is asked."""
    return [
        helper.make_node("Shape", ["weights"], ["found"]),
        helper.make_node("Mul", ["found", "shape"], ["large"]),
        helper.make_node("ConstantOfShape", ["large"], ["zeros"]),
        helper.make_node("ReduceSum", ["zeros"], ["sum"], keepdims=0),
        helper.make_node("Mul", ["weights", "sum"], ["query"]),
    ]


def _outside() -> list[Any]:
    """A tensor whose numbers lie in a file outside the release."""
    tensor = TensorProto(name="shape", data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", "../../../../../../etc/hostname"), ("offset", "0"), ("length", "16")):
        tensor.external_data.add(key=key, value=value)
    return [tensor]


def _set(path: str, value: object) -> Craft:
    """One value of the manifest."""

    def craft(folder: Path, values: Values) -> None:
        *parents, last = path.split(".")
        for key in parents:
            values = values[key]
        values[last] = value

    return craft


def _text(text: str) -> Craft:
    """A manifest of any text."""
    return lambda folder, values: values.update(text=text)


def _parameters(**numbers: int) -> Craft:
    """Parameters of an approximate index, where this one has them."""

    def craft(folder: Path, values: Values) -> None:
        known = values["index"]["parameters"]
        if not set(numbers) <= set(known):
            raise MissingPartError
        known.update(numbers)

    return craft


def _nest(n: int) -> Craft:
    """An index in an index in an index …: FAISS reads them by calling itself."""

    def craft(folder: Path, values: Values) -> None:
        head = b"IxPT" + struct.pack("<iqqqbii", 8, 0, 1 << 20, 1 << 20, 1, 0, 0)
        (folder / "index.faiss").write_bytes(head * n)

    return craft


_HUGE = (1 << 40, 1 << 62, (1 << 63) - 1, 1 << 64, -1)
CRAFTS: dict[str, Craft] = {
    **{f"an array of {n} rows": _npy("item_embeddings", (n, 8)) for n in _HUGE},
    **{f"an array of {n} columns": _npy("user_embeddings", (1, n)) for n in _HUGE},
    "an array without a dimension": _npy("item_embeddings", ()),
    "an array of one dimension": _npy("item_embeddings", (8,)),
    "an array of many dimensions": _npy("item_bags", (1,) * 64),
    "offsets of two dimensions": _npy("seen_offsets", (2, 2), "<i8"),
    "offsets without a number": _npy("seen_offsets", (0,), "<i8", rows=0),
    "a shape that is a text": _npy("item_bags", "x"),
    "a type of a million fields": _npy("item_bags", (1,), "(1000000000,)<f4"),
    "a header that is nested": _npy("item_bags", (1,), more="(" * 5000),
    "a header that is cut": _npy("item_bags", (1,), more="'" * 3),
    "a pickle": _pickled,
    "bags that end before they begin": _seen([0, 50, 3, 1 << 40, -5], None),
    "bags that are as long as the memory": _seen([-(1 << 60), 1 << 60, 1 << 61], None),
    "seen items outside the catalog": _seen(None, [1 << 30, -7, -(1 << 31), (1 << 31) - 1]),
    "texts behind the end": _offsets("catalog.arrow", 0, {-1: 1 << 40}),
    "texts before the beginning": _offsets("catalog.arrow", 0, {0: -(1 << 40), 5: -1}),
    "titles behind the end": _offsets("catalog.arrow", 1, {7: 1 << 50}),
    "users behind the end": _offsets("users.arrow", 0, {3: 1 << 45, 4: 7}),
    "a bomb of lists": _arrow("catalog.arrow", _add_lists),
    "a bomb of zeros, zstd": _arrow("catalog.arrow", _add_zeros, compression="zstd"),
    "a bomb of zeros, lz4": _arrow("users.arrow", _add_zeros, compression="lz4"),
    "a column of another type": _arrow("catalog.arrow", lambda t: t.set_column(0, "item_id", pa.nulls(len(t)))),
    "no column": _arrow("catalog.arrow", lambda t: pa.table({})),
    "no row": _arrow("catalog.arrow", lambda t: t.slice(0, 0)),
    "a tower that fills the memory when opened": _tower(_fill_constant, lambda: [_int64("shape", [100_000, 100_000])]),
    "a tower that fills the memory when asked": _tower(_fill_later, lambda: [_int64("shape", [100_000, 100_000])]),
    "a tower that reads a file outside": _tower(
        lambda: [helper.make_node("Mul", ["weights", "shape"], ["query"])], _outside
    ),
    "a tower that answers another shape": _tower(lambda: [helper.make_node("Relu", ["weights"], ["query"])]),
    "an index in itself, 100 times": _nest(100),
    "an index in itself, a million times": _nest(1_000_000),
    "an index for more links than there are": _parameters(ef_search=1 << 40),
    "a negative ef_search": _parameters(ef_search=-1),
    "more lists than there are": _parameters(n_lists=1 << 40, n_probe=1 << 40),
    "no parameters": _set("index.parameters", {}),
    "more items than there are": _set("n_items", 1 << 60),
    "popularity nowhere": _set("popularity_dim", 1 << 40),
    "popularity from behind": _set("popularity_dim", -3),
    "a wide bag": _set("bag_dim", 1 << 40),
    "pairs of many floats": _set("floats_per_pair", 1 << 60),
    "a long history": _set("history_length", 1 << 62),
    "a configuration of another kind": _set("config", {"training": [1], "images": {"root": 3}}),
    "a file outside": lambda folder, values: values["files"].update(
        {"../../../etc/hostname": values["files"]["users.arrow"]}
    ),
    "a deep manifest": _text("[" * 1_000_000),
    "a wide manifest": _text('{"format": 1, "x": [' + "[]," * 15_000_000 + "[]]}"),
    "a manifest of one number": _text('{"format": 1, "n_items": ' + "9" * 1_000_000 + "}"),
    "a manifest of NaN": _text('{"format": NaN}'),
}
