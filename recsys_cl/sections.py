"""The sections of the configuration: one frozen class a stage, each field bounded and described.

The descriptions are the documentation: `docs/configuration.md` is generated from them.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0.0, lt=1.0)]


class Section(BaseModel):
    """A part of the configuration: it cannot be changed, knows its keys, and takes no value for another."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, protected_namespaces=())

    @field_validator("*")
    @classmethod
    def _check_text(cls, value: Any) -> Any:
        """What cannot be stored as UTF-8, or name a file, is refused here rather than half-way through a run."""
        if isinstance(value, str):
            if "\0" in value:
                raise ValueError("it holds a NUL character")
            try:
                value.encode()
            except UnicodeEncodeError:
                raise ValueError("it is not valid UTF-8; a file with such a name must be renamed") from None
        return value


class IngestConfig(Section):
    """Reading the log: where it lies, what its columns mean, which events count."""

    log: str = Field("", description="File, folder, glob, or SQLAlchemy URL (`${NAME}` is read from the environment).")
    items: str = Field("", description="File with one line an item: titles and attributes. Empty: none.")
    users: str = Field("", description="File with one line a user: attributes. Empty: none.")
    query: str = Field("", description="SQL query to run where `log` is a database URL.")
    format: Literal["auto", "csv", "parquet", "jsonl", "lines"] = Field(
        "auto", description="Form of the log; `lines` is `user item item …`. auto: from the file names."
    )
    delimiter: str = Field(
        "", max_length=1, description="Between the columns of a csv. Empty: comma for .csv, else tab."
    )
    quoted: bool = Field(True, description="Double quotes of a csv enclose values; false: they are part of them.")
    user_column: str = Field("", description="Column with the user's id. Empty: recognized by name.")
    item_column: str = Field("", description="Column with the item's id. Empty: recognized by name.")
    time_column: str = Field("", description="Column with the time. Empty: recognized by name; may be missing.")
    kind_column: str = Field("", description="Column with the kind of event. Empty: recognized; may be missing.")
    weight_column: str = Field("", description="Column with a rating or weight. Empty: recognized; may be missing.")
    time_unit: Literal["auto", "s", "ms", "us"] = Field(
        "auto", description="Unit of numeric times. auto: by magnitude of each file's first batch."
    )
    kind_weights: dict[str, Annotated[float, Field(ge=1e-6, le=1e6)]] = Field(
        default_factory=dict, description="Kinds of event that count, each with its weight. Empty: all, each 1."
    )
    least_rating: Annotated[float, Field(ge=0)] = Field(
        0.0, description="Events with a smaller rating or weight are refused."
    )
    most_events_per_day: int = Field(
        5_000, ge=0, description="Users with more events on one day (UTC) are bots, and refused. 0: no limit."
    )
    duplicates: Literal["event", "pair", "keep"] = Field(
        "event", description="Refuse repeats of the same user, item, kind and time (event), of user and item (pair)."
    )
    core_users: Count = Field(1, description="k-core: users with fewer distinct items are refused, repeatedly.")
    core_items: Count = Field(1, description="k-core: items with fewer distinct users are refused, repeatedly.")
    since: str = Field("", description="ISO 8601 time; earlier events are refused. Empty: no bound.")
    until: str = Field("", description="ISO 8601 time; events at or after it are refused. Empty: no bound.")
    window: str = Field(
        "",
        pattern=r"^(\d{4}-\d{2}-\d{2}(T\d{2})?)?$",
        description="Read only files whose names hold no later day or hour than this one, such as 2026-11-26; of a "
        "database, events before its end. Scheduled runs set it. Empty: everything.",
    )
    incremental: bool = Field(
        True, description="Keep what earlier runs of this store have read, and read only new or changed files."
    )
    batch_rows: Count = Field(500_000, description="Rows read at a time: memory of reading.")
    bucket_rows: Count = Field(5_000_000, description="Rows of one bucket of users, spilled to disk: memory of rules.")


class SplitConfig(Section):
    """What is held out: for the test that gives the metrics, and for the validation that stops training."""

    by: Literal["time", "leave_last", "random", "file"] = Field(
        "time",
        description="One cut in time for all; the last events of each user; random events of each user; a test file.",
    )
    test_share: Annotated[float, Field(gt=0, lt=1)] = Field(0.2, description="Share of events in the test (time).")
    cut: str = Field("", description="ISO 8601 time of the cut. Empty: set by `test_share`.")
    n_last: Count = Field(1, description="Events of each user that are held out (leave_last).")
    test: str = Field("", description="Log with the test events (file).")
    validation_share: Share = Field(
        0.1, description="Share of the training events held out to choose the number of epochs. 0: run them all."
    )
    most_leaked_share: Share = Field(
        0.001, description="Audit: the run stops when a larger share of test events leaks into training."
    )


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
    popularity_weight: Annotated[float, Field(ge=0, le=2)] = Field(
        1.0, description="Weight of log popularity in the score. 0: none."
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
        0.005, description="Greatest step size of what is no embedding: weights of a history, a learned temperature."
    )
    schedule: Literal["linear", "cosine", "constant"] = Field(
        "linear", description="How the step size falls to 0 at the last step; constant: it does not."
    )
    moments: Literal["touched", "all"] = Field(
        "touched",
        description="Rows of a table that a step moves: those it touched, or all, by the momentum they have.",
    )
    warmup_share: Share = Field(0.0, description="Share of the steps over which the step size rises first.")
    clip_norm: Annotated[float, Field(ge=0)] = Field(
        0.0, description="Gradients longer than this, all taken together, are shortened to it. 0: never."
    )
    weight_decay: Annotated[float, Field(ge=0, le=1)] = Field(0.0, description="Decoupled weight decay a step.")
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
    bag_epochs: Count = Field(20, description="training.epochs of a tower that knows no order.")
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


class EvaluationConfig(Section):
    """Metrics over the full catalog, beside baselines."""

    ks: tuple[Count, ...] = Field(
        (5, 10, 20), min_length=1, strict=False, description="Lengths of the lists that are judged."
    )
    knn_neighbors: Count = Field(100, description="Neighbors of the item-kNN baseline.")
    n_resamples: Annotated[int, Field(ge=100)] = Field(1000, description="Bootstrap resamples of the users.")
    confidence: Annotated[float, Field(gt=0, lt=1)] = Field(0.95, description="Coverage of the intervals.")
    most_users: Count = Field(100_000, description="Users that are judged at most, drawn evenly.")
    block_mib: Count = Field(256, description="MiB of scores held at a time.")


class IndexConfig(Section):
    """The FAISS index over the item embeddings."""

    kind: Literal["auto", "flat", "ivf", "hnsw", "ivfpq"] = Field(
        "auto", description="auto: flat below `exact_below` items, ivf above, ivfpq where memory forbids ivf."
    )
    exact_below: Count = Field(5_000, description="Catalogs smaller than this are searched exactly (auto).")
    most_mib: Count = Field(4096, description="MiB that the index may take before ivfpq is chosen (auto).")
    wanted_ann_recall: Annotated[float, Field(gt=0, le=1)] = Field(
        0.99, description="Share of the exact top 10 that the index is to find, at the least cost."
    )
    n_lists: int = Field(0, ge=0, description="Lists that items are put into (ivf, ivfpq); 0: chosen by their number.")
    n_probe: int = Field(0, ge=0, description="Lists looked at to answer a query (ivf, ivfpq); 0: tuned.")
    hnsw_links: int = Field(32, ge=4, le=128, description="Links of an item in the hnsw graph.")
    ef_construction: Count = Field(200, description="Candidates looked at to link an item (hnsw).")
    ef_search: int = Field(0, ge=0, description="Candidates looked at to answer a query (hnsw); 0: tuned.")


class PublishingConfig(Section):
    """The store, and the gate that a release must pass."""

    store: str = Field("data", description="Folder that holds raw, runs and releases.")
    least_ann_recall: Annotated[float, Field(ge=0, le=1)] = Field(
        0.95, description="Gate: least share of the exact top 10 that the index finds."
    )
    least_effective_rank: Annotated[float, Field(ge=0)] = Field(
        2.0, description="Gate: least effective rank of the vectors; collapsed ones lie near 1."
    )
    require_gain: bool = Field(
        True, description="Gate: refuse a model whose NDCG lies below popularity's by more than chance."
    )
    least_users: Count = Field(50, description="Gate: judge NDCG only with at least this many test users.")
    most_auc_loss: Share = Field(
        0.07,
        description="Gate: how much less often than the evaluated fit the published one may rank its users' own items "
        "above others; and the evaluated fit than that of the live release.",
    )
    compare_live: bool = Field(True, description="Gate: compare with the live release, as the settings below say.")
    live_confidence: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.95,
        description="Gate: chance that all intervals of what users would lose beside the live release hold together.",
    )
    most_loss: Share = Field(
        0.05, description="Gate: share of the live release's recall and NDCG that may be lost, beyond chance."
    )
    most_slice_loss: Share = Field(
        0.5,
        description="Gate: the same for new items, tail items and light users, each by itself; another seed may choose "
        "another recipe, which moves these most.",
    )
    least_coverage_kept: Share = Field(
        0.5, description="Gate: least share of the live release's coverage of the catalog."
    )
    most_popularity_gain: Share = Field(
        0.25, description="Gate: how much more of what is shown may be among the most popular fifth."
    )
    least_rank_kept: Share = Field(0.5, description="Gate: least share of the live release's effective ranks.")
    most_norm_growth: Annotated[float, Field(ge=1)] = Field(
        5.0, description="Gate: how many times as far as in the live release the longest vector may be from the median."
    )
    most_items_lost: Share = Field(0.1, description="Gate: share of the live release's items that may be missing.")
    most_churn: Share = Field(
        0.9, description="Gate: share of the top 10 neighbors that may change for items that both have."
    )
