"""What lies on the disk after a run: files of known kinds, each read as that kind, none of them a pickle."""

from __future__ import annotations

import io
import json
import pickle
import pickletools
import zipfile
from collections import Counter
from pathlib import Path

import faiss
import numpy as np
import onnx
import polars as pl
import pyarrow as pa
import pytest
from safetensors.numpy import load

from recsys_cl.pipeline import Outcome


def is_pickle(data: bytes) -> bool:
    """Whether these bytes are one or more pickles of any protocol, or an archive that holds one."""
    if zipfile.is_zipfile(io.BytesIO(data)):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return any(is_pickle(archive.read(name)) for name in archive.namelist())
    try:
        return [opcode.name for opcode, _, _ in pickletools.genops(data)][-1] == "STOP"
    except (ValueError, IndexError, UnicodeDecodeError):
        return False


def identify(path: Path) -> str:
    """The kind of a file, by reading all of it as that kind. Raises ValueError where it is none of those we write."""
    data = path.read_bytes()
    if is_pickle(data):
        return "pickle"
    if data.startswith(b"\x93NUMPY"):
        assert not np.load(io.BytesIO(data), allow_pickle=False).dtype.hasobject
        return "numpy"
    if data.startswith(b"PAR1"):
        kinds = pl.read_parquet(data).dtypes
        assert not any(kind in (pl.Binary, pl.Object) for kind in kinds)
        return "parquet"
    if data.startswith(b"ARROW1"):
        table = pa.ipc.open_file(data).read_all()
        assert all(pa.types.is_large_string(kind) for kind in table.schema.types)
        return "arrow"
    if path.suffix == ".faiss":
        faiss.deserialize_index(np.frombuffer(data, dtype=np.uint8))
        return "faiss"
    if path.suffix == ".safetensors":
        assert all(array.dtype.kind in "fiu" for array in load(data).values())
        return "safetensors"
    if path.suffix == ".onnx":
        onnx.checker.check_model(onnx.load_from_string(data))
        return "onnx"
    text = data.decode("utf-8")
    if path.suffix in (".json", ".jsonl"):
        for part in [text] if path.suffix == ".json" else text.splitlines():
            json.loads(part)
        return "json"
    if path.suffix in (".html", ".md") or path.name in ("CURRENT", ".lock", ".claim", "key"):
        return "text"
    raise ValueError(f"{path} is of no known kind")


def test_nothing_on_the_disk_is_a_pickle(tiny_outcome: Outcome) -> None:
    store = tiny_outcome.run.store
    kinds = Counter(identify(path) for path in store.rglob("*") if path.is_file())
    assert set(kinds) == {"numpy", "parquet", "arrow", "faiss", "safetensors", "onnx", "json", "text"}


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_of_any_protocol_would_be_found(protocol: int) -> None:
    data = pickle.dumps({"a": [1, 2.0, "x"]}, protocol)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:  # as torch.save and np.savez of objects do
        archive.writestr("archive/data.pkl", data)
    assert is_pickle(data)
    assert is_pickle(out.getvalue())
