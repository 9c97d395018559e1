"""Towers on disk: what lookup runs from ONNX is what training encoded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import torch
from safetensors.numpy import load_file

from recsys_cl.bags import Bags
from recsys_cl.config import ModelConfig
from recsys_cl.model.towers import TwoTowers
from recsys_cl.training.encode import encode_bag_vectors, encode_candidates, encode_queries
from recsys_cl.training.save import save_towers


def test_onnx_towers_agree_with_the_model(tmp_path: Path) -> None:
    popularity = np.array([4, 2, 7, 1, 3])
    model = TwoTowers(2, popularity, ModelConfig(dim=9), torch.Generator().manual_seed(3))
    save_towers(model, tmp_path)
    bags = Bags(np.array([0, 2, 3, 6]), np.array([0, 3, 4, 1, 2, 3], dtype=np.int32), np.arange(1, 7, dtype=np.float32))
    table = encode_bag_vectors(model)
    vectors, weights = np.zeros((3, 4, 8), dtype=np.float32), np.zeros((3, 4), dtype=np.float32)
    for bag in range(3):
        part = slice(bags.offsets[bag], bags.offsets[bag + 1])
        vectors[bag, : bags.sizes[bag]] = table[bags.item_rows[part]]
        weights[bag, : bags.sizes[bag]] = bags.weights[part]
    query = onnxruntime.InferenceSession(str(tmp_path / "query_tower.onnx"))
    (found,) = query.run(["query"], {"vectors": vectors, "weights": weights})
    assert np.allclose(found, encode_queries(model, bags, None), atol=1e-6)

    tensors = load_file(tmp_path / "towers.safetensors")
    candidate = onnxruntime.InferenceSession(str(tmp_path / "candidate_tower.onnx"))
    inputs = {"vectors": tensors["item_table"], "log_popularity": tensors["log_popularity"]}
    (items,) = candidate.run(["candidate"], inputs)
    assert np.allclose(items, encode_candidates(model), atol=1e-6)
