"""Training on pictures: comes in pictures of items, and what is known of those, goes out a trained model.

The towers, the pairs, the losses and the loop are those of the interactions; an item is known by its picture instead of
its row. Batches of pictures, each in two views, teach `views`, `labels` and `collaborative`; batches of users teach
`co_interaction`. All that are wanted are taken in every step, and their losses added by weight.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recsys_cl.bags import Bags
from recsys_cl.config import Config, ModelConfig
from recsys_cl.files import dump_json, hash_text
from recsys_cl.images.encoders import Run, build_encoder
from recsys_cl.images.features import PictureTable, Take
from recsys_cl.images.objectives import contrast_labels, contrast_places, contrast_views
from recsys_cl.interactions.table import Interactions
from recsys_cl.model.losses import Logits, compute_loss
from recsys_cl.model.scores import count_taste_floats
from recsys_cl.model.towers import TwoTowers
from recsys_cl.sampling.batches import Batch, BatchDrawer
from recsys_cl.training.checkpoint import name_training
from recsys_cl.training.encode import encode_candidates, encode_queries
from recsys_cl.training.loop import Course, Hooks, Vectors, run_loop, set_threads
from recsys_cl.training.trainer import build_drawer

_ORDER, _VIEWS = 4, 5  # streams of chance beside those of the batches of users
_BLOCK = 1024  # pictures read at a time
_MOST_ITEMS = 8  # of a user in a batch for co_interaction: each is a picture to encode


@dataclass(frozen=True)
class PictureFacts:
    """What is known of n pictures. take: brings their pixels. groups [n]: near-duplicates have the same.

    interactions: the log of their items, a catalog of the same n rows. places [n, d]: where their items lie by
    interactions, NaN for an item that lies nowhere. labels [n], -1: none. Each of them is None where there is none.
    """

    take: Take
    n_pictures: int
    groups: NDArray[np.int64]
    interactions: Interactions | None = None
    places: NDArray[np.float32] | None = None
    labels: NDArray[np.int64] | None = None


@dataclass(frozen=True)
class TrainedPictures(Course):
    """seconds: of the whole training; waited: of those, the seconds in which it waited for pixels."""

    model: TwoTowers
    seconds: float
    waited: float

    @property
    def table(self) -> PictureTable:
        """The encoder, its heads, and the pictures."""
        return get_pictures(self.model)


def train_pictures(
    facts: PictureFacts, config: Config, run: Run | None = None, hooks: Hooks = Hooks(), key: str = ""
) -> TrainedPictures:
    """Train as `config.images` says; run: the frozen model where the encoder is `onnx`; key: names this training, of
    whose checkpoint it goes on.

    Cost of a step: 2 × batch_pictures pictures forth and back, and with co_interaction at most some 3 × as many more.
    Raises InputError where co_interaction is wanted and no user holds a pair.
    """
    own = configure_pictures(config)
    set_threads(own.training)
    model = build_picture_model(facts, own, run)
    drawer = None
    if own.images.co_interaction and facts.interactions is not None:
        drawer = build_drawer(facts.interactions, own)
    learner = _PictureLearner(model, facts, drawer, own)
    course = run_loop(learner, own.training, key, hooks, None, None)
    seconds = course.history[-1]["seconds"] if course.history else 0.0
    return TrainedPictures(course.n_steps, course.n_planned, course.history, model, seconds, learner.table.seconds)


def name_pictures(facts: PictureFacts, config: Config) -> str:
    """A key that tells one training from another: same pictures, same facts, same settings that bear on them."""
    digest = hashlib.blake2b(digest_size=16)
    for start in range(0, facts.n_pictures, _BLOCK):
        digest.update(np.ascontiguousarray(facts.take(np.arange(start, min(start + _BLOCK, facts.n_pictures)))).data)
    for array in (facts.groups, facts.places, facts.labels):
        digest.update(b"none" if array is None else np.ascontiguousarray(array).data)
    own = configure_pictures(config)
    log = "" if facts.interactions is None else name_training(facts.interactions, own)
    return hash_text(dump_json([digest.hexdigest(), log, own.images.model_dump(mode="json"), own.model.dim]))


def configure_pictures(config: Config) -> Config:
    """The same configuration with the settings of pictures where the towers and the loop look for theirs.

    A batch of users touches at most some 3 × batch_pictures pictures; hard negatives are by popularity here.
    """
    images = config.images
    model = ModelConfig(
        dim=config.model.dim,
        score=images.score,
        temperature=images.temperature,
        popularity_weight=0.0,
        degree_power=0.0,
        tied=True,
        user_weight=0.0,
    )
    training = config.training.model_copy(
        update={
            "batch_users": min(config.training.batch_users, max(2, images.batch_pictures // _MOST_ITEMS)),
            "epochs": images.epochs,
            "least_steps": images.least_steps,
            "tower_learning_rate": images.learning_rate,
            "weight_decay": images.weight_decay,
            "schedule": "cosine",
            "warmup_share": 0.05,
        }
    )
    sampling = config.sampling.model_copy(
        update={
            "n_negatives": min(config.sampling.n_negatives, 2 * images.batch_pictures),
            "most_items_per_user": min(config.sampling.most_items_per_user, _MOST_ITEMS),
            "negatives": "popularity" if config.sampling.negatives == "hard" else config.sampling.negatives,
        }
    )
    return config.model_copy(update={"model": model, "training": training, "sampling": sampling})


def build_picture_model(facts: PictureFacts, config: Config, run: Run | None = None) -> TwoTowers:
    """The untrained model of a configuration that `configure_pictures` gave."""
    generator = torch.Generator().manual_seed(config.training.seed)
    place_dim = None if facts.places is None or not config.images.collaborative else facts.places.shape[1]
    table = PictureTable(
        facts.take,
        facts.n_pictures,
        build_encoder(config.images, generator, run),
        config.images,
        (count_taste_floats(config.model), place_dim),
        generator,
    )
    n_users, popularity = 0, np.zeros(facts.n_pictures, dtype=np.int64)
    if facts.interactions is not None:
        n_users, popularity = facts.interactions.n_users, facts.interactions.count_users()
    return TwoTowers(n_users, popularity, config.model, generator, table)


def get_pictures(model: TwoTowers) -> PictureTable:
    """The pictures of a model whose items are known by them."""
    table = model.tables["bag"]
    assert isinstance(table, PictureTable)
    return table


class _PictureLearner:
    """Learns pictures; see `Learner`."""

    def __init__(self, model: TwoTowers, facts: PictureFacts, drawer: BatchDrawer | None, config: Config) -> None:
        self.model, self.table = model, get_pictures(model)
        self._facts, self._drawer, self._config = facts, drawer, config
        self._groups = torch.from_numpy(facts.groups)
        self._has_duplicates = len(np.unique(facts.groups)) < facts.n_pictures
        self._order: tuple[int, NDArray[np.int64]] = (-1, np.arange(facts.n_pictures))

    @property
    def steps_an_epoch(self) -> int:
        if not self._looks_twice and self._drawer is not None:
            return self._drawer.steps_an_epoch
        return max(1, self._facts.n_pictures // self._config.images.batch_pictures)

    @property
    def _looks_twice(self) -> bool:
        images = self._config.images
        return bool(images.views or images.labels or (images.collaborative and self.table.place is not None))

    def begin_epoch(self, epoch: int) -> None:
        """Nothing: what a step sees follows from its number."""

    def compute_loss(self, step: int) -> tuple[Tensor, int]:
        seed = np.random.SeedSequence([self._config.training.seed, _VIEWS, step])
        chance = seed.generate_state(2)
        self.table.generator.manual_seed(int(chance[0]))
        loss, n_positives = torch.zeros(()), 0
        if self._looks_twice:
            loss, n_positives = self._look_twice(self._draw(step), int(chance[1]))
        if self._drawer is not None:
            batch = self._drawer.draw(step)
            if self._has_duplicates:
                batch = mask_duplicates(batch, self._facts.groups)
            logits = self.model.compute_logits(batch, self._config.training.precision)
            loss = loss + self._config.images.co_interaction * compute_loss(logits, self._config.loss)
            n_positives += batch.n_positives
        return loss, n_positives

    def _look_twice(self, rows: NDArray[np.int64], shift: int) -> tuple[Tensor, int]:
        """The losses of two views of the pictures at rows [b], by weight, and how many positives they have."""
        images, facts, temperature = self._config.images, self._facts, self.model.temperature
        features = self.table.look(np.concatenate((rows, rows)))  # [2b, width]
        groups = self._groups[torch.from_numpy(rows)]
        wanted: list[tuple[float, Logits | None]] = []
        if images.views or images.labels:
            vectors = self.table.embed(features)
            if images.views:
                wanted.append((images.views, contrast_views(vectors, groups, temperature, images.score, shift)))
            if images.labels and facts.labels is not None:
                labels = torch.from_numpy(facts.labels[rows])
                wanted.append(
                    (images.labels, contrast_labels(vectors, groups, labels, temperature, images.score, shift))
                )
        if self.table.place is not None and facts.places is not None:
            places = torch.from_numpy(facts.places[rows])
            known = ~places.isnan().any(dim=1)
            logits = contrast_places(self.table.place(features), groups, places, known, temperature, shift)
            wanted.append((images.collaborative, logits))
        loss, n_positives = features.sum() * 0.0, 0
        for weight, logits in wanted:
            if logits is not None:
                n_positives += len(logits.owners)
                loss = loss + weight * compute_loss(logits, self._config.loss)
        return loss, n_positives

    def _draw(self, step: int) -> NDArray[np.int64]:
        """The pictures of a step; the few left over of an epoch are left out of it, others each time."""
        epoch, place = divmod(step, self.steps_an_epoch)
        if self._order[0] != epoch:
            rng = np.random.default_rng([self._config.training.seed, _ORDER, epoch])
            self._order = (epoch, rng.permutation(self._facts.n_pictures))
        size = self._config.images.batch_pictures
        return self._order[1][place * size : (place + 1) * size]

    def encode(self, user_rows: NDArray[np.int64]) -> tuple[Vectors, Vectors]:
        assert self._facts.interactions is not None, "users to validate on come with interactions"
        queries = encode_queries(self.model, self._facts.interactions.to_bags().take(user_rows), user_rows)
        return queries, encode_candidates(self.model)

    def get_tensors(self) -> dict[str, Tensor]:
        return {}

    def set_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Nothing is kept."""


def mask_duplicates(batch: Batch, groups: NDArray[np.int64]) -> Batch:
    """The same batch, where a candidate that looks like an item of the bag, or like a positive, is no negative either.

    groups [n_items]: near-duplicates have the same.
    """
    n_groups = np.int64(groups.max(initial=0)) + 1
    of_bags = groups[batch.bag_items[batch.bags.item_rows]] + n_groups * _own(batch.bags)
    queries = np.arange(len(batch.positives))
    bag_of = np.repeat(np.arange(len(batch.bags)), batch.bags.sizes) if batch.every_place else queries
    of_positives = groups[batch.items[batch.positives.item_rows]] + n_groups * bag_of[_own(batch.positives)]
    touched = np.unique(np.concatenate((of_bags, of_positives)))
    of_candidates = groups[batch.items[batch.candidates]]
    bags, candidates = np.nonzero(
        np.isin(n_groups * np.arange(len(batch.bags))[:, None] + of_candidates[None, :], touched)
    )
    keys = np.union1d(
        bags * len(of_candidates) + candidates, batch.hit_bags * len(of_candidates) + batch.hit_candidates
    )
    return replace(batch, hit_bags=keys // len(of_candidates), hit_candidates=keys % len(of_candidates))


def _own(bags: Bags) -> NDArray[np.int64]:
    """The bag of each of the items."""
    return np.repeat(np.arange(len(bags)), bags.sizes)
