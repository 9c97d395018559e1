"""Folding: the outputs that are named are multiplied, whatever else reads them; nothing else changes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from recsys_cl.publishing.folding import fold_matrices


def write_model(path: Path) -> None:
    """y = 2x, and z = y + x, which reads an output inside the graph."""
    f = TensorProto.FLOAT
    two = helper.make_tensor("two", f, [1], [2.0])
    nodes = [helper.make_node("Mul", ["x", "two"], ["y"]), helper.make_node("Add", ["y", "x"], ["z"])]
    ends = [helper.make_tensor_value_info(name, f, ["n", 3]) for name in "xyz"]
    graph = helper.make_graph(nodes, "model", ends[:1], ends[1:], [two])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), str(path))


@pytest.mark.parametrize("folded", [("y",), ("z",), ("y", "z"), (), ("absent",)])
def test_only_the_named_outputs_are_multiplied(tmp_path: Path, folded: tuple[str, ...]) -> None:
    write_model(tmp_path / "m.onnx")
    rng = np.random.default_rng(0)
    matrices = {name: rng.normal(size=(3, 3)) for name in folded}
    fold_matrices(tmp_path / "m.onnx", tmp_path / "folded.onnx", matrices)
    onnx.checker.check_model(onnx.load(tmp_path / "folded.onnx"))
    session = onnxruntime.InferenceSession(tmp_path / "folded.onnx", providers=["CPUExecutionProvider"])
    x = rng.normal(size=(5, 3)).astype(np.float32)
    plain = {"y": 2 * x, "z": 3 * x}
    for name, found in zip(("y", "z"), session.run(["y", "z"], {"x": x}), strict=True):
        np.testing.assert_allclose(found, plain[name] @ matrices.get(name, np.eye(3)), rtol=1e-5, atol=1e-5)
