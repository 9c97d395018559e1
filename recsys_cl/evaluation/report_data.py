"""What a report is made of, and the words in which it says it: comes in as JSON values that the stages wrote."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NotRequired, TypedDict

from recsys_cl.evaluation.figures import ITEM_KNN, MODEL, POPULARITY


class ShownItem(TypedDict):
    """An item as a report shows it. image: a `data:image/…;base64,…` URI; score: for a neighbor."""

    item_id: str
    title: NotRequired[str]
    image: NotRequired[str]
    score: NotRequired[float]


class Sample(TypedDict):
    """An item and its neighbors, best first; by_image: those by picture."""

    item: ShownItem
    neighbors: list[ShownItem]
    by_image: NotRequired[list[ShownItem]]


@dataclass(frozen=True)
class ReportData:
    """Everything that `render_report` and `render_model_card` show; what is empty is left out of them.

    name: of the run or release. facts: what identifies it, label -> text. ingest: `IngestReport.dump()`. audit: lines
    for people (`Audit.describe()`). choice: what was chosen, and why. evaluation: `Evaluation.dump()`.
    training: `{"epoch", "loss", "recall"?, "tower"?}` an epoch, of at most three towers. popularity: the number of
    users of each item, in any order. health: name of a table of vectors -> `measure_health`. index: kind, n_items, dim,
    parameters, ann_recall, and trade_off and held_out as in `IndexFacts`; any other figure is shown under its name.
    gate: the reasons against a release. beside: what it was compared with, as in a manifest's `gate.beside`, with
    `drift`; or `alone`, why it was not. settings: `Config.dump()`.
    images: what the stage of pictures found, and `sheet`, a `data:image/…;base64,…` URI.
    """

    name: str
    facts: Mapping[str, str]
    ingest: Mapping[str, Any]
    audit: Sequence[str]
    choice: list[str]
    evaluation: Mapping[str, Any]
    training: Sequence[Mapping[str, Any]] = ()
    popularity: Sequence[int] = ()
    health: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    index: Mapping[str, Any] = field(default_factory=dict)
    neighbors: Sequence[Sample] = ()
    gate: Sequence[str] = ()
    beside: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    images: Mapping[str, Any] = field(default_factory=dict)


MODELS = {MODEL: "This model", POPULARITY: "Most popular items", ITEM_KNN: "Item-kNN (cosine)"}

METRICS = {
    "recall": ("Recall", "share of a user's held-out items that the list finds"),
    "ndcg": ("NDCG", "the same, hits near the top counting more; 1 is a perfect order"),
    "mrr": ("MRR", "one over the place of the first hit"),
    "hit_rate": ("Hit rate", "share of users with at least one hit"),
    "coverage": ("Coverage", "share of the catalog that is shown to somebody"),
    "novelty": ("Novelty", "how rare the shown items are, in bits: 1 where half of the users have one, 10 where 0.1%"),
    "diversity": ("Diversity", "how few users the items of one list share: 1 where no two of them have one in common"),
    "popularity_share": ("Popular share", "share of shown items that belong to the most popular fifth"),
}

SLICES = {
    "light_users": "light users",
    "heavy_users": "heavy users",
    "history_1_4": "users with 1 to 4 items",
    "history_5_19": "users with 5 to 19 items",
    "history_20_99": "users with 20 to 99 items",
    "history_100_up": "users with 100 items or more",
    "head_items": "popular items",
    "tail_items": "tail items",
    "new_items": "new items",
}

SLICES_MEAN = (
    "Light and heavy users: the third with the fewest and with the most items in training, ties included. Popular "
    "items: the most popular fifth; tail items: the others; new items: first touched in the last tenth of training. "
    "In a slice of items, the held-out items of that slice are what is to be found; the full catalog is ranked always."
)

COLD_MODELS = {
    MODEL: "By the place of its picture",
    "pictures_alone": "Pictures alone",
    "raw_pixels": "Raw pixels",
    POPULARITY: "Most popular items",
}
"""What places a new item; see `cold_items.py`."""

_WORDS = {
    "kind_not_counted": "kind of event that does not count",
    "below_least_rating": "rating below the least",
    "outside_date_window": "outside the date window",
    "bot": "user with too many events a day (bot)",
    "duplicate": "repeats another event",
    "core_user": "user with too few items",
    "core_item": "item with too few users",
    "missing_user_id": "no user id",
    "missing_item_id": "no item id",
    "bad_time": "time that cannot be read",
    "absurd_time": "time that cannot be true",
    "bad_weight": "weight that is not a number",
    "weight_not_positive": "weight that is not above 0",
    "ragged_row": "wrong number of columns",
    "open_quote": "quote that is never closed",
    "bad_json": "not valid JSON",
    "users_without_training": "users with nothing in training",
    "users_without_targets": "users with nothing left to find",
    "targets_not_in_catalog": "held-out items that nobody has in training",
    "targets_seen_in_training": "held-out items that the user has in training already",
    "n": "vectors",
    "dim": "dimensions",
    "n_nonfinite": "vectors with NaN or infinity",
    "norm_min": "shortest",
    "norm_median": "median length",
    "norm_max": "longest",
    "effective_rank": "effective rank",
    "kind": "kind",
    "n_items": "items",
    "ann_recall": "share of the exact top 10 that it finds",
    "flat": "exact search",
    "ivf": "inverted lists",
    "n_lists": "lists that items are put into",
    "n_probe": "lists looked at for a query",
    "links": "links of an item",
    "ef_construction": "candidates looked at to link an item",
    "ef_search": "candidates looked at for a query",
    "n_codes": "codes of a vector",
    "hnsw": "HNSW graph",
    "ivfpq": "IVF-PQ with refinement",
}


def say(name: str) -> str:
    """A name of ours in a person's words."""
    return _WORDS.get(name, name.replace("_", " "))


def say_metric(metric: str) -> str:
    """`ndcg@20` as `NDCG at 20`."""
    name, _, k = metric.partition("@")
    return f"{METRICS[name][0] if name in METRICS else say(name)} at {k}"


def show_number(value: Any) -> str:
    """Whole numbers with thousands separators, others with four digits that count; None as a dash."""
    if value is None:
        return "–"
    if isinstance(value, float) and not value.is_integer():
        return f"{value:.4f}" if abs(value) < 10 else f"{value:,.1f}"
    return f"{value:,.0f}" if isinstance(value, (int, float)) and not isinstance(value, bool) else say(str(value))


def show_interval(figure: Mapping[str, float | None], sign: str = "") -> str:
    """The ends of an interval, or nothing where the figure has none."""
    low, high = figure["low"], figure["high"]
    return "" if low is None or high is None else f"{low:{sign}.4f}\u00a0to {high:{sign}.4f}"


def list_metrics(evaluation: Mapping[str, Any]) -> list[str]:
    """Names of all metrics, kind by kind, each from its smallest k to its greatest; those there are, for an earlier
    version measured fewer."""
    names = [f"{name}@{k}" for name in METRICS for k in sorted(evaluation["ks"])]
    return [name for name in names if name in evaluation["metrics"][MODEL]]


def list_slices(evaluation: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """The slices that were judged, each as what it is called and its figures; in a file they lie in no such order. An
    earlier version judged none."""
    slices = evaluation.get("slices", {})
    return [(label, slices[name]) for name, label in SLICES.items() if name in slices]


def describe_verdict(evaluation: Mapping[str, Any]) -> list[str]:
    """A sentence for each baseline: whether the model is better, by NDCG at the greatest k."""
    metric = f"ndcg@{max(evaluation['ks'])}"
    value = evaluation["metrics"][MODEL][metric]["value"]
    return [
        describe_difference(
            ("the model", f"“{MODELS[name]}”"),
            metric,
            (value, evaluation["metrics"][name][metric]["value"]),
            differences[metric],
        )
        for name, differences in evaluation["differences"].items()
    ]


def describe_difference(
    names: tuple[str, str], metric: str, values: tuple[float, float], difference: Mapping[str, Any]
) -> str:
    """A sentence: whether the first of two is better by `metric`; difference: the Figure of first minus second."""
    first, second = names
    if difference["low"] > 0:
        verdict = f"{first[0].upper()}{first[1:]} is better than"
    elif difference["high"] < 0:
        verdict = f"{first[0].upper()}{first[1:]} is worse than"
    else:
        verdict = f"These users cannot tell {first} from"
    return (
        f"{verdict} {second}: {say_metric(metric)} is {values[0]:.4f} against {values[1]:.4f}, a difference of "
        f"{difference['value']:+.4f} (from {show_interval(difference, '+')})."
    )


def describe_counts(evaluation: Mapping[str, Any]) -> str:
    """Who was judged on what."""
    n_users, n_eligible = evaluation["n_users"], evaluation["n_users_eligible"]
    drawn = "" if n_users == n_eligible else f", drawn evenly from {n_eligible:,}"
    return (
        f"{n_users:,} users{drawn}, {evaluation['n_targets']:,} held-out items, all {evaluation['n_items']:,} items of "
        f"the catalog ranked for each user. Intervals hold {evaluation['confidence']:.0%} of bootstrap resamples of "
        "the users."
    )
