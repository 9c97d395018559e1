"""ONNX files in bounded memory: a model that asks for more is refused when opened or run, and reads no other file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from recsys_cl.errors import SealError
from recsys_cl.serving import sessions
from recsys_cl.serving.sessions import Session


def write(path: Path, nodes: list[object], tensors: list[object]) -> Path:
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n"])
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n"])
    graph = helper.make_graph(nodes, "g", [given], [out], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    path.write_bytes(model.SerializeToString())
    return path


def test_a_model_gives_what_it_computes(tmp_path: Path) -> None:
    two = helper.make_tensor("two", TensorProto.FLOAT, [1], [2.0])
    session = Session(write(tmp_path / "m.onnx", [helper.make_node("Mul", ["x", "two"], ["y"])], [two]))
    assert (session.inputs, session.outputs, session.shapes) == (["x"], ["y"], [["n"]])
    np.testing.assert_array_equal(session.run({"x": np.ones(3, dtype=np.float32)})[0], [2, 2, 2])


@pytest.mark.parametrize("late", [False, True])
def test_a_model_that_asks_for_more_memory_than_all_may_have_is_refused_by_name(tmp_path: Path, late: bool) -> None:
    """4 TB, which an operating system may promise, and then ends the process that uses them."""
    shape = helper.make_tensor("shape", TensorProto.INT64, [2], [1_000_000, 1_000_000])
    nodes = [
        helper.make_node("Shape", ["x"], ["found"]) if late else helper.make_node("Identity", ["shape"], ["found"]),
        helper.make_node("Mul", ["found", "shape"] if late else ["shape", "shape"], ["large"])
        if late
        else helper.make_node("Identity", ["shape"], ["large"]),
        helper.make_node("ConstantOfShape", ["large"], ["zeros"]),
        helper.make_node("ReduceSum", ["zeros"], ["sum"], keepdims=0),
        helper.make_node("Mul", ["x", "sum"], ["y"]),
    ]
    path = write(tmp_path / "m.onnx", nodes, [shape])
    with pytest.raises(SealError, match=r"m\.onnx: onnxruntime cannot .*smaller than requested"):
        Session(path).run({"x": np.ones(1, dtype=np.float32)})


@pytest.mark.parametrize("place", ["near", "../far", "/etc/hostname"])
def test_weights_in_another_file_are_not_read(tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "in").mkdir()
    for name in ("in/near", "far"):
        (tmp_path / name).write_bytes(bytes(8))
    monkeypatch.chdir(tmp_path / "in")
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[2], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", place), ("offset", "0"), ("length", "8")):
        tensor.external_data.add(key=key, value=value)
    path = write(tmp_path / "in" / "m.onnx", [helper.make_node("Mul", ["x", "w"], ["y"])], [tensor])
    with pytest.raises(SealError, match=r"m\.onnx: onnxruntime cannot open it"):
        Session(path)


def test_a_broken_model_is_refused_without_a_word_on_standard_output(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    two = helper.make_tensor("two", TensorProto.FLOAT, [1], [2.0])
    data = write(tmp_path / "m.onnx", [helper.make_node("Mul", ["x", "two"], ["y"])], [two]).read_bytes()
    n_refused = 0
    for place in range(len(data)):
        (tmp_path / "m.onnx").write_bytes(data[:place] + b"\xff" + data[place + 1 :])
        try:
            Session(tmp_path / "m.onnx")
        except SealError:
            n_refused += 1
    assert n_refused > 10
    assert capfd.readouterr().out == ""


def test_a_file_beyond_the_bound_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "m.onnx").write_bytes(bytes(11))
    monkeypatch.setattr(sessions, "MOST_FILE_BYTES", 10)
    with pytest.raises(SealError, match=r"m\.onnx: 11 bytes; expected a model of at most 10"):
        Session(tmp_path / "m.onnx")
