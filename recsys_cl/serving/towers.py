"""The query tower in lookup: comes in a bag of items, goes out its query vector; onnxruntime, no torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recsys_cl.bags import Bags
from recsys_cl.errors import SealError
from recsys_cl.serving.sessions import Session

_BLOCK_FLOATS = 1 << 24  # of padded vectors at a time: 64 MiB
_BLOCK_BAGS = 8192  # at most: each holds the hidden units of a layer, too


_LEAST_WEIGHT = 1e-30  # 0 would mean that the bag has ended


class QueryTower:
    """An open `query_tower.onnx`: vectors [b, L, bag_dim] and weights [b, L] in (0 is padding), query [b, dim] out.

    floats_per_pair: what the tower holds for each two places of a bag (a transformer: one for each of its heads).
    """

    def __init__(self, path: Path, bag_dim: int, dim: int, floats_per_pair: int = 0) -> None:
        # A bag is too small to share; threads would only wait for one another beside those of the index.
        self._session = Session(path)
        inputs, outputs = self._session.inputs, self._session.outputs
        if sorted(inputs) != ["vectors", "weights"] or outputs != ["query"]:
            raise SealError(path.name, f"inputs {inputs}, outputs {outputs}", "vectors and weights in, query out")
        self.name, self.bag_dim, self.dim, self.floats_per_pair = path.name, bag_dim, dim, floats_per_pair

    def encode(self, bags: Bags, bag_vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Query vectors [n_bags, dim] of bags over bag_vectors [n_items, bag_dim], in blocks of bounded memory."""
        out = np.empty((len(bags), self.dim), dtype=np.float32)
        longest = max(1, int(bags.sizes.max(initial=1)))
        floats = longest * (self.bag_dim + self.floats_per_pair * longest)
        block_bags = max(1, min(_BLOCK_BAGS, _BLOCK_FLOATS // floats))
        for start in range(0, len(bags), block_bags):
            stop = min(start + block_bags, len(bags))
            out[start:stop] = self._encode_block(bags.take(np.arange(start, stop)), bag_vectors)
        return out

    def encode_items(
        self, rows: NDArray[np.integer], bag_vectors: NDArray[np.float32], popularity_dim: int | None
    ) -> NDArray[np.float32]:
        """Query vectors [n, dim] with which the items at `rows` [n] ask for their neighbors: bags of one, without
        popularity, for an item's neighbors are about likeness."""
        queries = self.encode(Bags.of_items(rows), bag_vectors)
        if popularity_dim is not None:
            queries[:, popularity_dim] = 0.0
        return queries

    def _encode_block(self, bags: Bags, bag_vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        sizes = bags.sizes
        filled = np.arange(max(1, sizes.max())) < sizes[:, None]  # [b, L]
        vectors = np.zeros((*filled.shape, self.bag_dim), dtype=np.float32)
        weights = np.zeros(filled.shape, dtype=np.float32)
        vectors[filled] = bag_vectors[bags.item_rows]
        weights[filled] = np.maximum(bags.weights, _LEAST_WEIGHT)
        (query,) = self._session.run({"vectors": vectors, "weights": weights}, ["query"])
        if query.shape != (len(bags), self.dim) or not np.isfinite(query).all():
            raise SealError(self.name, f"answers {query.shape}, or NaN", f"finite queries {(len(bags), self.dim)}")
        return query
