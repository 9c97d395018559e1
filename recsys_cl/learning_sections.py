"""The sections of the configuration that the learning arm reads: sampling, model, loss, training and recipe; see
`sections.py`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from recsys_cl.sections import Count, Section, Share


class SamplingConfig(Section):
    """Positive pairs and negatives of a training batch."""

    window_days: Annotated[float, Field(ge=0, le=36_500)] = Field(
        0.0, description="A bag and its positives lie within so many days. 0: the whole history."
    )
    session_gap_minutes: Annotated[float, Field(ge=0, le=1e6)] = Field(
        0.0, description="A bag and its positives lie in one session, which a gap this long or longer ends. 0: off."
    )
    recency_half_life_days: Annotated[float, Field(ge=0, le=36_500)] = Field(
        0.0, description="A positive counts half as much for each so many days of age. 0: age plays no part."
    )
    positives: Literal["rest", "next"] = Field(
        "rest",
        description="rest: a random part of a user's items is the bag, the others its positives. next: whatever came "
        "before an item in time is a bag, the item its positive.",
    )
    bag_share: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.5, description="Chance of an item to be in the bag; the others are its positives (rest)."
    )
    most_items_per_user: Annotated[int, Field(ge=2)] = Field(
        256, description="Items of a user drawn for one batch, evenly; bounds heavy users (next: see history_length)."
    )
    voice_power: Annotated[float, Field(ge=0, le=1)] = Field(
        0.5, description="A user's n positives weigh n to this power together. 1: every event alike; 0: every user."
    )
    negatives: Literal["popularity", "uniform", "in_batch", "mixed", "hard"] = Field(
        "popularity",
        description="Where negatives come from: drawn by popularity or uniformly; the positives of the batch's other "
        "users; both (mixed); those that the model scores high, beside drawn ones (hard).",
    )
    n_negatives: Count = Field(
        4096, description="Negatives drawn for a batch; a catalog with no more items is used whole (but for in_batch)."
    )
    popularity_power: Annotated[float, Field(ge=0, le=1)] = Field(
        0.75, description="Negatives are drawn with popularity to this power; `uniform` is power 0."
    )
    n_hard: Count = Field(16, description="Hard negatives of a user (hard).")
    hard_margin: Annotated[float, Field(ge=0, le=100)] = Field(
        0.05,
        description="Hard negatives score below the mean of the user's own items by this much; what scores higher may "
        "well be a positive, and is left to the draws (hard).",
    )
    mine_every: Count = Field(2, description="Epochs between two searches for hard negatives (hard).")


class ModelConfig(Section):
    """The two towers and their score."""

    dim: int = Field(64, ge=3, le=4096, description="Floats of a published vector, one of them for popularity.")
    score: Literal["cosine", "dot", "euclidean"] = Field(
        "cosine",
        description="cosine: vectors of unit length. dot: of any length. euclidean: minus half the squared distance, "
        "one more float of `dim` makes it a dot product.",
    )
    temperature: Annotated[float, Field(ge=0.001, le=10)] = Field(0.2, description="Divisor of the score.")
    learn_temperature: bool = Field(False, description="`temperature` is only the start, and learned.")
    popularity_weight: Annotated[float, Field(ge=-1, le=2)] = Field(
        1.0, description="Weight of log popularity in the score. 0: none; below: less popular items are preferred."
    )
    tied: bool = Field(False, description="Query and candidate tower share one item table.")
    neighbor_weight: Annotated[float, Field(ge=0, le=100)] = Field(
        0.0,
        description="Weight in an item's vector of the items that share its users, trained through. 0: none.",
    )
    n_neighbors: Count = Field(5, description="How many such items.")
    user_weight: Annotated[float, Field(ge=0, le=1000)] = Field(
        0.5, description="Weight of a user's free embedding beside the bag of items. 0: no free embedding."
    )
    history: Literal["mean", "attention", "gru", "transformer"] = Field(
        "mean",
        description="How the query tower reads a bag: mean and attention without, gru and transformer with its order.",
    )
    query_hidden: Annotated[int, Field(ge=0, le=65_536)] = Field(
        0,
        description="Hidden units of a feed-forward layer through which what a history says becomes a query. 0: none.",
    )
    degree_power: Annotated[float, Field(ge=0, le=1)] = Field(
        0.5, description="An item counts in a bag with its number of users to minus this power (mean, attention)."
    )
    history_length: Annotated[int, Field(ge=1, le=10_000)] = Field(
        50,
        description="The last so many items of a bag are read (attention, gru, transformer); with sampling.positives "
        "next, any history learns from stretches of so many.",
    )
    n_blocks: Annotated[int, Field(ge=1, le=64)] = Field(1, description="Blocks (transformer) or layers (gru).")
    n_heads: Annotated[int, Field(ge=1, le=64)] = Field(2, description="Attention heads (transformer).")
    dropout: Share = Field(0.2, description="Share of activations dropped in training (gru, transformer).")

    @property
    def bag_length(self) -> int | None:
        """How many of a bag's last items are read; None: all."""
        return None if self.history == "mean" else self.history_length


class LossConfig(Section):
    """What training minimizes."""

    kind: Literal["softmax", "bilateral_softmax", "bpr", "cosine_contrastive"] = Field(
        "softmax",
        description="Softmax over the catalog or its sample (InfoNCE); the same for noisy positives too (BSL); pairs "
        "of a positive and a negative (BPR); scores above a margin (SimpleX).",
    )
    positive_temperature: Annotated[float, Field(ge=0.001, le=100)] = Field(
        2.0, description="Temperature of a user's positives among one another (bilateral_softmax, with rest)."
    )
    n_pair_negatives: Count = Field(16, description="Negatives that a positive is compared with (bpr).")
    margin: Annotated[float, Field(ge=-1, le=100)] = Field(
        0.4, description="Negatives with a smaller score cost nothing (cosine_contrastive)."
    )
    negative_weight: Annotated[float, Field(gt=0, le=1e6)] = Field(
        30.0, description="Weight of the mean cost of the negatives (cosine_contrastive)."
    )


class TrainingConfig(Section):
    """The training loop."""

    seed: int = Field(0, ge=0, le=2**31 - 1, description="Seed of everything that is drawn.")
    epochs: Count = Field(40, description="Passes over the users.")
    least_steps: int = Field(600, ge=0, description="Small logs are passed over more often, until so many steps.")
    batch_users: Count = Field(512, description="Users of a batch.")
    learning_rate: Annotated[float, Field(gt=0, le=1)] = Field(0.01, description="Greatest step size of embeddings.")
    tower_learning_rate: Annotated[float, Field(gt=0, le=1)] = Field(
        0.005,
        description="Greatest step size of what is no embedding: weights of a history and of a layer, a temperature.",
    )
    schedule: Literal["linear", "cosine", "constant"] = Field(
        "linear", description="How the step size falls to 0 at the last step; constant: it does not."
    )
    warmup_share: Share = Field(0.0, description="Share of the steps over which the step size rises first.")
    clip_norm: Annotated[float, Field(ge=0)] = Field(
        0.0, description="Gradients longer than this, all taken together, are shortened to it. 0: never."
    )
    weight_decay: Annotated[float, Field(ge=0, le=1)] = Field(0.0, description="Decoupled weight decay a step.")
    average_power: Annotated[float, Field(ge=0, le=100)] = Field(
        0.0,
        description="Above 0: what is kept is the average over every 16th step, the n-th of them counting with n to "
        "this power. 0: the last step alone.",
    )
    precision: Literal["float32", "bfloat16"] = Field(
        "float32", description="Numbers of the product that gives the logits; everything else is float32."
    )
    validate_every: Count = Field(
        2, description="Epochs between validations; more where a small log is passed over more often."
    )
    patience: Count = Field(3, description="Validations in a row, worse by more than chance, before training stops.")
    validation_users: Count = Field(10_000, description="Most users of a validation.")
    n_threads: int = Field(0, ge=0, description="Threads of torch. 0: one for each core that may be used.")
    checkpoint_seconds: Annotated[float, Field(ge=0)] = Field(
        30.0, description="Seconds between checkpoints, from which a killed run goes on. 0: none."
    )


class RecipeConfig(Section):
    """What is chosen on the validation part of the training events, and the time that may take."""

    search: bool = Field(
        True, description="Choose towers, temperature and blend; false: one model with the settings as they stand."
    )
    towers: tuple[Literal["bag", "sequence", "linear"], ...] = Field(
        ("bag", "sequence", "linear"),
        min_length=1,
        strict=False,
        description="Towers to choose from and to blend: without and with the order of a history, and the closed form.",
    )
    temperatures: tuple[Annotated[float, Field(ge=0.001, le=10)], ...] = Field(
        (0.07, 0.1, 0.14, 0.2), min_length=1, strict=False, description="Temperatures to choose from."
    )
    neighbor_weights: tuple[Annotated[float, Field(ge=0, le=100)], ...] = Field(
        (0.0, 2.0), min_length=1, strict=False, description="Values of model.neighbor_weight to choose from."
    )
    voice_powers: tuple[Annotated[float, Field(ge=0, le=1)], ...] = Field(
        (0.5, 1.0), min_length=1, strict=False, description="Values of sampling.voice_power to choose from."
    )
    popularity_weights: tuple[Annotated[float, Field(ge=0, le=2)], ...] = Field(
        (0.8, 1.0), min_length=1, strict=False, description="Values of model.popularity_weight to choose from."
    )
    screen_epochs: Count = Field(6, description="Epochs of the short trainings that compare settings.")
    bag_epochs: Count = Field(30, description="training.epochs of a tower that knows no order.")
    bag_learning_rate: Annotated[float, Field(gt=0, le=1)] = Field(
        0.02, description="training.learning_rate of a tower that knows no order."
    )
    sequence_epochs: Count = Field(30, description="training.epochs of a tower that reads in order.")
    sequence_learning_rate: Annotated[float, Field(gt=0, le=1)] = Field(
        0.005, description="training.learning_rate of a tower that reads in order."
    )
    sequence_dropout: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.3, description="model.dropout of a tower that reads in order."
    )
    ridges: tuple[Annotated[float, Field(gt=0, le=1e9)], ...] = Field(
        (50.0, 150.0, 450.0), min_length=1, strict=False, description="Ridges of the closed form to choose from."
    )
    user_power: Annotated[float, Field(ge=0, le=1)] = Field(
        0.3, description="A user counts in the closed form with their number of items to minus this power."
    )
    most_linear_items: Count = Field(
        8_000, description="Larger catalogs get no closed form: it takes items² memory and items³ time."
    )
    blend_weights: tuple[Annotated[float, Field(gt=0, le=1000)], ...] = Field(
        (0.25, 0.5, 1.0, 2.0, 4.0),
        strict=False,
        description="Weights to try of one more tower in a blend. Empty: none.",
    )
    budget_seconds: Annotated[float, Field(gt=0)] = Field(
        1200.0,
        description="Nominal seconds on two cores that choosing and training one fit may take; epochs are cut to suit.",
    )
    keep: tuple[str, ...] = Field(
        (), strict=False, description="Settings that are kept whatever validation says; those that are given, too."
    )
