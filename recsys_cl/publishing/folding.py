"""Folding: comes in an ONNX file, goes out one whose named outputs are multiplied by a matrix."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recsys_cl.errors import MissingExtraError
from recsys_cl.files import write_file


def fold_matrices(source: Path, target: Path, matrices: Mapping[str, NDArray[np.float64]]) -> None:
    """Write the model at `source` to `target`, each of its outputs [n, d] named in matrices times that matrix [d, d].

    Outputs that the model does not have are passed over. Raises MissingExtraError without the package `onnx`; OSError.
    """
    try:
        import onnx
        from onnx import helper, numpy_helper
    except ImportError as error:
        raise MissingExtraError("train", "onnx") from error
    model = onnx.load(source)
    graph = model.graph
    for name in {output.name for output in graph.output} & matrices.keys():
        inner = f"{name}_unrotated"
        for node in graph.node:
            for names in (node.input, node.output):
                for place, given in enumerate(names):
                    if given == name:
                        names[place] = inner
        graph.initializer.append(numpy_helper.from_array(matrices[name].astype(np.float32), f"{name}_rotation"))
        graph.node.append(helper.make_node("MatMul", [inner, f"{name}_rotation"], [name]))
    with write_file(target) as temporary:
        temporary.write_bytes(model.SerializeToString())
