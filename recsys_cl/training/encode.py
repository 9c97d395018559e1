"""Encoding: comes in a trained model, goes out vectors of all users and items as float32 arrays, in blocks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray

from recsys_cl.bags import Bags
from recsys_cl.model.blend import Blend, Compressed, compress, find_history_length
from recsys_cl.model.scores import widen_queries
from recsys_cl.model.towers import PublishedCandidateTower, TwoTowers

_BLOCK_BAGS = 8192
_BLOCK_FLOATS = 1 << 24  # of padded bags: 64 MiB


Model = TwoTowers | Blend


def build_blend(
    members: Sequence[TwoTowers], weights: Sequence[float], dim: int, bags: Bags, user_rows: NDArray[np.int64]
) -> Blend:
    """Blend the logits of members, each by its weight, in `dim` floats that suit the queries of `bags` [n_users].

    All members read as many of a bag's last items as the one that reads fewest: there is one bag to ask with.
    """
    length = find_history_length(members)
    bags = bags if length is None else bags.keep_last(length)
    compressed = blend_vectors(
        [(encode_queries(m, bags, user_rows), encode_candidates(m)) for m in members],
        [w / float(m.temperature.detach()) for m, w in zip(members, weights, strict=True)],
        dim,
    )[1]
    return Blend(members, weights, compressed)


def blend_vectors(
    members: Sequence[tuple[NDArray[np.float32], NDArray[np.float32]]], weights: Sequence[float], dim: int
) -> tuple[NDArray[np.float32], Compressed]:
    """The taste vectors of (queries, candidates) side by side, and what brings weight × score, summed, to `dim`."""
    joined = np.concatenate([queries[:, :-1] for queries, _ in members], axis=1)
    scaled = [w * candidates[:, :-1] for w, (_, candidates) in zip(weights, members, strict=True)]
    popularity = sum(w * candidates[:, -1] for w, (_, candidates) in zip(weights, members, strict=True))
    return joined, compress(joined, np.concatenate(scaled, axis=1).astype(np.float32), np.asarray(popularity), dim)


@torch.no_grad()
def encode_candidates(model: Model) -> NDArray[np.float32]:
    """Vectors of all items [n_items, dim]: taste, then the popularity float."""
    if isinstance(model, Blend):
        known: NDArray[np.float32] = model.candidates.numpy()
        return known
    tower = PublishedCandidateTower(model.encoder, model.config, float(model.temperature.detach()))
    vectors: NDArray[np.float32] = tower(model.item_features.read(), model.log_popularity).numpy()
    return vectors


@torch.no_grad()
def encode_bag_vectors(model: Model) -> NDArray[np.float32]:
    """What the query tower takes of each item [n_items, bag_dim], weighted by `item_weights`; of a blend, what each
    member takes, side by side."""
    if isinstance(model, Blend):
        return np.concatenate([encode_bag_vectors(member) for member in list_members(model)], axis=1)
    vectors: NDArray[np.float32] = (model.bag_features.read() * model.item_weights.unsqueeze(1)).numpy()
    return vectors


@torch.no_grad()
def encode_queries(model: Model, bags: Bags, user_rows: NDArray[np.int64] | None) -> NDArray[np.float32]:
    """Vectors of queries [n_bags, dim]; user_rows [n_bags] are the users with a free embedding, None for strangers.

    A user without any event has no direction: the taste part is zero (or the free embedding), popularity decides.
    """
    if isinstance(model, Blend):
        if model.history_length is not None:
            bags = bags.keep_last(model.history_length)
        joined = np.concatenate([encode_queries(m, bags, user_rows)[:, :-1] for m in list_members(model)], axis=1)
        return Compressed(model.mix.numpy(), model.shift.numpy(), model.candidates.numpy()).encode(joined)
    training = model.training
    model.eval()
    out = np.empty((len(bags), model.config.dim), dtype=np.float32)
    table = (model.bag_features.read(), model.item_weights)
    for rows in _list_blocks(model, bags):
        users = None
        if model.user_table is not None and user_rows is not None:
            users = model.user_table.table[torch.from_numpy(user_rows[rows])]
        taste = model.encode_bags(table, bags.take(rows), users)
        out[rows, :-1] = widen_queries(taste, model.config.score, with_length=False).numpy()
    out[:, -1] = 1.0
    model.train(training)
    return out


def list_members(model: Model) -> list[TwoTowers]:
    """The members of a blend, or the model itself."""
    return [cast(TwoTowers, member) for member in model.members] if isinstance(model, Blend) else [model]


def _list_blocks(model: TwoTowers, bags: Bags) -> list[NDArray[np.int64]]:
    """Rows of bags to encode together; where bags are padded, those of like size, as many as memory allows."""
    rows, step = np.arange(len(bags)), _BLOCK_BAGS
    if model.history_length is not None:
        rows = np.argsort(bags.sizes, kind="stable")
        longest = max(1, min(int(bags.sizes.max(initial=1)), model.history_length))
        floats = longest * (longest * model.config.n_heads + 4 * model.config.dim)
        step = max(1, min(_BLOCK_BAGS, _BLOCK_FLOATS // floats))
    return [rows[start : start + step] for start in range(0, len(rows), step)]
