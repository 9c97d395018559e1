"""Two towers: a query is a bag of items (beside a user's free embedding), a candidate is an item; both end in one
space.

The score of a candidate is the dot product of vectors of `dim` floats: the score of the taste parts (see `scores`) plus
temperature × popularity_weight × log popularity, carried by the candidate's last float, against which a query has 1.
Divided by the temperature this is the logit that the loss sees.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from recsys_cl.bags import Bags, expand_ranges
from recsys_cl.config import ModelConfig
from recsys_cl.model.encoders import IdEncoder, ItemFeatures, RowTable, Trainable, normalize
from recsys_cl.model.histories import LEAST_WEIGHT, MeanHistory, build_history, sum_bags
from recsys_cl.model.losses import Logits
from recsys_cl.model.scores import count_taste_floats, widen_candidates, widen_queries
from recsys_cl.sampling.batches import Batch

_LENGTHS = np.ceil(3 * 1.4 ** np.arange(25))  # 3, 5, 6, 9, 12, …: bags of one group are padded to its longest
_SPREAD = 0.1  # spread of fresh embeddings; only directions matter to the cosine, but small vectors turn faster


class FeedForward(nn.Module):
    """x + W₂ gelu(W₁ √d x): what several items say together beyond their mean. It begins as x; of 0 it makes 0."""

    def __init__(self, dim: int, hidden: int, generator: torch.Generator) -> None:
        super().__init__()
        self.wide, self.narrow = nn.Linear(dim, hidden, bias=False), nn.Linear(hidden, dim, bias=False)
        with torch.no_grad():
            nn.init.normal_(self.wide.weight, std=dim**-0.5, generator=generator)
            self.narrow.weight.zero_()

    def forward(self, vectors: Tensor) -> Tensor:
        """vectors [n, d], of unit length where the score is the cosine -> [n, d]."""
        told: Tensor = self.narrow(nn.functional.gelu(self.wide(vectors * vectors.shape[1] ** 0.5)))
        return vectors + told


class QueryTower(nn.Module):
    """What a bag says, through `layer` where there is one, plus `user_weight` × the user's free embedding; each at unit
    length where the score is the cosine."""

    def __init__(self, history: nn.Module, user_weight: float, unit: bool, layer: FeedForward | None = None) -> None:
        super().__init__()
        self.history, self.user_weight, self.unit, self.layer = history, user_weight, unit, layer

    def forward(self, states: Tensor, user_vectors: Tensor | None = None) -> Tensor:
        """states [n, d] of the history, user_vectors [n, d] or None for users without an embedding -> [n, d]."""
        taste = normalize(states) if self.unit else states
        if self.layer is not None:
            taste = normalize(self.layer(taste)) if self.unit else self.layer(taste)
        if user_vectors is None:
            return taste
        mixed = taste + self.user_weight * user_vectors
        return normalize(mixed) if self.unit else mixed


class TwoTowers(Trainable):
    """The whole model: tables, towers, and the popularity of the items.

    tables: `bag` (what a query takes of an item), `item` (candidates; the same table where tied), `user` (where
    `user_weight` is above 0). item_weights [n_items]: how much an item counts in a bag. log_popularity [n_items]:
    natural log of an item's users over the mean, with half a user for items with none.
    """

    log_popularity: Tensor
    item_weights: Tensor

    def __init__(
        self,
        n_users: int,
        popularity: NDArray[np.int64],
        config: ModelConfig,
        generator: torch.Generator,
        features: nn.Module | None = None,
    ) -> None:
        """features: `ItemFeatures` of items that are known by more than their row, for bags and candidates alike."""
        super().__init__(config.temperature, config.learn_temperature)
        self.config = config
        n_items, dim = len(popularity), count_taste_floats(config)
        unit, ordered = config.score == "cosine", config.history in ("gru", "transformer")
        seen = np.maximum(popularity, 0.5)
        power = 0.0 if ordered else config.degree_power
        self.register_buffer("log_popularity", torch.from_numpy(np.log(seen / seen.mean()).astype(np.float32)))
        self.register_buffer("item_weights", torch.from_numpy((seen**-power).astype(np.float32)))
        tables = {"bag": features or RowTable(n_items, dim, _SPREAD, generator)}
        if not config.tied:
            tables["item"] = RowTable(n_items, dim, _SPREAD, generator)
        if config.user_weight:
            tables["user"] = RowTable(n_users, dim, _SPREAD / 3, generator)
        self.tables = nn.ModuleDict(tables)
        self.encoder = IdEncoder(unit)
        history = build_history(dim, config, generator)
        layer = FeedForward(dim, config.query_hidden, generator) if config.query_hidden else None
        self.query_tower = QueryTower(history, config.user_weight, unit, layer)

    @property
    def bag_features(self) -> ItemFeatures:
        """What a query takes of an item."""
        return cast(ItemFeatures, self.tables["bag"])

    @property
    def item_features(self) -> ItemFeatures:
        """Candidates."""
        return cast(ItemFeatures, self.tables["bag" if self.config.tied else "item"])

    @property
    def bag_table(self) -> RowTable:
        """What a query takes of an item that is known by its row."""
        return cast(RowTable, self.tables["bag"])

    @property
    def item_table(self) -> RowTable:
        """Candidates that are known by their row."""
        return cast(RowTable, self.tables["bag" if self.config.tied else "item"])

    @property
    def user_table(self) -> RowTable | None:
        """Free embeddings of users."""
        return cast(RowTable, self.tables["user"]) if self.config.user_weight else None

    @property
    def history_length(self) -> int | None:
        """How many of a bag's last items are read; None: all."""
        return self.config.bag_length

    def smooth(self, neighbors: Bags) -> None:
        """Train on with items that are read as themselves plus `neighbor_weight` × what their neighbors [n_items] say;
        weights of neighbors sum to 1."""
        joined = _join_itself(neighbors, self.config.neighbor_weight)
        self.bag_table.neighbors = self.item_table.neighbors = joined

    def settle(self) -> None:
        """Make the tables what is read of them: what was trained needs no neighbors to be used."""
        for table in self.tables.values():
            cast(RowTable, table).settle()

    def encode_bags(
        self, table: tuple[Tensor, Tensor], bags: Bags, users: Tensor | None, every_place: bool = False
    ) -> Tensor:
        """Queries [n, d] of bags over local rows of a table: vectors [t, d], and how much each item counts [t].

        users: free embeddings, one a query, or None. every_place: a query for each place in a bag, in order; else one a
        bag, an empty bag being a zero state. Of a bag that is one query the last history_length items are read.
        """
        if self.history_length is not None and not every_place:
            bags = bags.keep_last(self.history_length)
        items = torch.from_numpy(bags.item_rows).long()
        vectors, counts = table
        weights = torch.from_numpy(np.ascontiguousarray(bags.weights)).to(vectors.dtype)
        history = self.query_tower.history
        if isinstance(history, MeanHistory) and not every_place:
            totals = np.bincount(np.repeat(np.arange(len(bags)), bags.sizes), bags.weights, len(bags))
            summed = sum_bags(vectors, bags, weights * counts[items])
            states = summed / torch.from_numpy(np.maximum(totals, 1e-30)).to(vectors.dtype).unsqueeze(1)
            return cast(Tensor, self.query_tower(states, users))
        states = _read_padded(history, vectors * counts.unsqueeze(1), bags, every_place)
        return cast(Tensor, self.query_tower(states, users))

    def compute_logits(self, batch: Batch, precision: str = "float32") -> Logits:
        """Logits of one batch: score / temperature + popularity_weight × log popularity, log_q subtracted."""
        bag_items, items = torch.from_numpy(batch.bag_items), torch.from_numpy(batch.items)
        bag_vectors = self.bag_features.gather(bag_items)  # [t, d]
        candidates = bag_vectors if self.config.tied else self.item_features.gather(items)  # [u, d]
        users = None if self.user_table is None else self.user_table.gather(torch.from_numpy(batch.user_rows))
        n_others, bag_of = torch.from_numpy(batch.n_others), None
        if batch.every_place:
            bag_of = torch.from_numpy(np.repeat(np.arange(len(batch.bags)), batch.bags.sizes))  # [q]
            users = None if users is None else users.index_select(0, bag_of)
        table = (bag_vectors, self.item_weights[bag_items])
        queries = self.encode_bags(table, batch.bags, users, batch.every_place)  # [q, d]
        queries = widen_queries(queries, self.config.score) / self.temperature
        vectors = widen_candidates(self.encoder(candidates), self.config.score)  # [u, d or d + 2]
        bias = self.config.popularity_weight * self.log_popularity[items]  # [u]
        offered = torch.from_numpy(batch.candidates)  # [c]
        log_q = torch.from_numpy(batch.log_q).to(bias.dtype)
        sizes = batch.positives.sizes
        owners = torch.from_numpy(np.repeat(np.arange(len(sizes)), sizes))  # [p]
        positives, columns = None, None
        if batch.columns is None:
            wanted = torch.from_numpy(batch.positives.item_rows).long()  # [p]
            asked, found = queries.index_select(0, owners), vectors.index_select(0, wanted)
            positives = (asked * found).sum(dim=1) + bias[wanted]
        else:
            columns = torch.from_numpy(batch.columns)
        if len(offered) < len(vectors):  # else the candidates are all items of the batch, in their order
            vectors, bias = vectors.index_select(0, offered), bias[offered]
        return Logits(
            candidates=_multiply(queries, vectors, bias - log_q, precision),
            log_q=log_q,
            hits=(torch.from_numpy(batch.hit_bags), torch.from_numpy(batch.hit_candidates)),
            owners=owners,
            weights=torch.from_numpy(batch.positives.weights).to(bias.dtype),
            total_weight=batch.total_weight,
            n_others=n_others if bag_of is None else n_others.index_select(0, bag_of),
            shift=batch.shift,
            temperature=self.temperature,
            positives=positives,
            columns=columns,
            bag_of=bag_of,
        )


class PaddedQueryTower(nn.Module):
    """The query tower as it is published: padded bags in, no user embedding, the popularity float added."""

    def __init__(self, tower: QueryTower, score: str) -> None:
        super().__init__()
        self.tower, self.score = tower, score

    def forward(self, vectors: Tensor, weights: Tensor) -> Tensor:
        """vectors [b, L, bag_dim], weights [b, L] (0 where a bag has ended) -> queries [b, dim]."""
        taste = self.tower(_take_last(self.tower.history(vectors, weights), weights))
        taste = widen_queries(taste, self.score, with_length=False)
        return torch.cat((taste, torch.ones_like(taste[:, :1])), dim=1)


class PublishedCandidateTower(nn.Module):
    """The candidate tower as it is published: an item's embedding and log popularity in, its vector out."""

    def __init__(self, encoder: Callable[[Tensor], Tensor], config: ModelConfig, temperature: float) -> None:
        super().__init__()
        self.encoder, self.score = encoder, config.score
        self.scale = temperature * config.popularity_weight

    def forward(self, vectors: Tensor, log_popularity: Tensor) -> Tensor:
        """vectors [n, d], log_popularity [n] -> candidates [n, dim]."""
        taste = widen_candidates(self.encoder(vectors), self.score, with_length=False)
        return torch.cat((taste, (self.scale * log_popularity).unsqueeze(1)), dim=1)


def _join_itself(neighbors: Bags, weight: float) -> Bags:
    """Each item's neighbors at `weight` times their share, behind the item itself at 1."""
    starts = neighbors.offsets[:-1]
    return Bags(
        neighbors.offsets + np.arange(len(neighbors.offsets)),
        np.insert(neighbors.item_rows, starts, np.arange(len(starts), dtype=np.int32)),
        np.insert(neighbors.weights * np.float32(weight), starts, np.float32(1.0)),
    )


def _read_padded(history: nn.Module, vectors: Tensor, bags: Bags, every_place: bool) -> Tensor:
    """States [n, d] of each place, or of each bag, over vectors [t, d]. Bags of like length are padded together: most
    bags are short, and one long one would make padding of nearly everything."""
    group_of = np.searchsorted(_LENGTHS, bags.sizes)
    groups = [np.flatnonzero(group_of == group) for group in np.unique(group_of)] or [np.zeros(0, dtype=np.int64)]
    states = [_read_group(history, vectors, bags.take(rows), every_place) for rows in groups]
    if len(groups) == 1:
        return states[0]
    rows = np.concatenate(groups)
    places = expand_ranges(bags.offsets[rows], bags.sizes[rows]) if every_place else rows
    return torch.cat(states).index_select(0, torch.from_numpy(np.argsort(places)))


def _read_group(history: nn.Module, vectors: Tensor, bags: Bags, every_place: bool) -> Tensor:
    items = torch.from_numpy(bags.item_rows).long()
    weights = torch.from_numpy(np.ascontiguousarray(bags.weights)).to(vectors.dtype)
    padded, filled = _pad(vectors, items, weights, bags.sizes)
    states = history(*padded)  # [b, L, d]
    return cast(Tensor, states[filled]) if every_place else _take_last(states, padded[1])


def _pad(
    vectors: Tensor, items: Tensor, weights: Tensor, sizes: NDArray[np.int64]
) -> tuple[tuple[Tensor, Tensor], Tensor]:
    """Bags as (vectors [b, L, d], weights [b, L]) and which places are filled [b, L]."""
    length = max(1, int(sizes.max(initial=0)))
    filled = torch.from_numpy(np.arange(length) < sizes[:, None])
    rows, heard = torch.zeros(filled.shape, dtype=torch.long), torch.zeros(filled.shape, dtype=weights.dtype)
    rows[filled], heard[filled] = items, weights.clamp_min(LEAST_WEIGHT)
    spread = nn.functional.embedding(rows, vectors) if len(vectors) else vectors.new_zeros(*filled.shape, 0)
    return (spread, heard), filled


def _take_last(states: Tensor, weights: Tensor) -> Tensor:
    """The state of each bag at its last filled place [b, d]; 0 for a bag without any."""
    n_filled = (weights > 0).sum(dim=1)  # [b]
    last = (n_filled - 1).clamp_min(0).view(-1, 1, 1).expand(-1, 1, states.shape[2])
    return states.gather(1, last).squeeze(1) * (n_filled > 0).unsqueeze(1)


def _multiply(queries: Tensor, vectors: Tensor, bias: Tensor, precision: str) -> Tensor:
    """queries [q, d] · vectors [c, d] + bias [c]: logits [q, c]."""
    if precision == "bfloat16":
        return (queries.bfloat16() @ vectors.bfloat16().T).to(bias.dtype) + bias
    # As they are published, popularity in one more float: so `dim` floats are multiplied, 64 of them at full speed.
    return torch.cat((queries, torch.ones_like(queries[:, :1])), 1) @ torch.cat((vectors, bias.unsqueeze(1)), 1).T
