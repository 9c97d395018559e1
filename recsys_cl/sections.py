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
        "auto",
        description="auto: flat below `exact_below` items, ivf above; ivfpq where lists need full precision, for which "
        "`most_mib` is too little.",
    )
    exact_below: Count = Field(5_000, description="Catalogs smaller than this are searched exactly (auto).")
    most_mib: Count = Field(4096, description="MiB that the index may take (auto).")
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
