"""The model card (Mitchell et al., FAT* 2019): comes in as `ReportData`, goes out as Markdown."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from recsys_cl.evaluation.figures import ITEM_KNN, MODEL
from recsys_cl.evaluation.report_data import (
    MODELS,
    SLICES,
    SLICES_MEAN,
    ReportData,
    describe_counts,
    describe_verdict,
    list_metrics,
    list_slices,
    say,
    say_metric,
    show_interval,
    show_number,
)

_INTENDED = """\
Ranking the items of one catalog for the people who use it: items like an item, items for a user, items for a session.
A query is the bag of items that somebody touched, so that new users and sessions are answered without training anew.

Not intended: decisions about people, inferring traits of a person, items that the log has never seen, or catalogs and
populations other than the one it was trained on.
"""

_LIMITS = (
    "It learns what people did among what they were shown; it does not know why, and repeats the habits of the log.",
    "Offline figures compare rankings of past events. They do not foretell the effect on people: test that online.",
    "No fairness between groups of users or of providers was measured.",
    "An item with few events has a vector that says little.",
)


def render_model_card(data: ReportData) -> str:
    """The model card as one Markdown document; every text of the log's is escaped."""
    evaluation = data.evaluation
    names = [name for name in MODELS if name in evaluation["metrics"]]
    rows = [
        [say_metric(metric), *(_show_figure(evaluation["metrics"][name][metric]) for name in names)]
        for metric in list_metrics(evaluation)
    ]
    dropped = [f"{say(name)}: {count:,}" for name, count in evaluation["dropped"].items() if count]
    parts = [
        f"# Model card of {_escape(data.name)}",
        _list([f"{label}: {value}" for label, value in data.facts.items()]),
        "## Intended use",
        _INTENDED.rstrip(),
        "## Data",
        _list(_describe_data(data)),
        "## Evaluation",
        _escape(describe_counts(evaluation)),
        _list(describe_verdict(evaluation)),
        _table(["", *(MODELS[name] for name in names)], rows),
        *_describe_slices(evaluation),
        "Left out of the judgment:" if dropped else "",
        _list(dropped),
        *_describe_beside(data.beside),
        "## Training",
        _list(data.choice),
        "## Vectors",
        _list(_describe_vectors(data)),
        "## Limits",
        _list([*_LIMITS, *_describe_limits(data), *data.gate]),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _describe_data(data: ReportData) -> list[str]:
    ingest = data.ingest
    if not ingest:
        return list(data.audit)
    lines = [
        f"{ingest['n_read']:,} rows read, {ingest['n_kept']:,} kept",
        *(f"refused, {say(reason)}: {count:,}" for reason, count in sorted(ingest["refused"].items())),
        f"{ingest['n_users']:,} users, {ingest['n_items']:,} items",
    ]
    if ingest["timed"]:
        lines.append(f"events from {ingest['first_time']} to {ingest['last_time']}")
    return [*lines, *ingest["notes"], *data.audit]


def _describe_slices(evaluation: Mapping[str, Any]) -> list[str]:
    """Recall at the greatest k by slice, of the model and item-kNN; slices of nobody are left out."""
    metric = f"recall@{max(evaluation['ks'])}"
    rows = [
        [label, show_number(found["n_users"])]
        + [_show_figure(found["metrics"][model][metric]) for model in (MODEL, ITEM_KNN)]
        for label, found in list_slices(evaluation)
        if found["n_users"]
    ]
    if not rows:
        return []
    return [
        f"{say_metric(metric)} by slice. {SLICES_MEAN}",
        _table(["", "users", MODELS[MODEL], MODELS[ITEM_KNN]], rows),
    ]


def _describe_vectors(data: ReportData) -> list[str]:
    lines = [
        f"{name}: " + ", ".join(f"{say(key)} {show_number(value)}" for key, value in table.items())
        for name, table in data.health.items()
    ]
    if "ann_recall" in data.index:
        lines.append(f"the index finds {data.index['ann_recall']:.4f} of the exact top 10")
    held_out = data.index.get("held_out")
    if held_out:
        lines.append(
            f"{say_metric('recall@' + str(held_out['k']))} of held-out items, {held_out['n_users']:,} users: "
            f"{held_out['exact']:.4f} by exact search, {held_out['index']:.4f} by an index built in this way, "
            f"a loss of {held_out['exact'] - held_out['index']:.4f}"
        )
    return lines


def _describe_beside(beside: Mapping[str, Any]) -> list[str]:
    """The comparison with the release that was live, or why there is none; nothing where neither is known."""
    if not beside:
        return []
    heading = "## Beside the previous release"
    if "release" not in beside:
        return [heading, _escape(f"Not compared: {beside['alone']}.")]
    lines = [f"compared with {beside['release']}", f"{beside['items_lost']:.1%} of its items are gone"]
    drift = beside.get("drift")
    if drift and drift["n_items"]:
        lines.append(f"top 10 neighbors that changed, over {drift['n_items']:,} items: {drift['churn']:.1%}")
    compared = beside["compared"]
    if compared is None:
        return [heading, _list([*lines, "no user could be judged by both"])]
    rows = [
        [
            f"{say_metric(change['metric'])}, {SLICES.get(change['part'], change['part'])}",
            f"{change['n_users']:,}",
            f"{change['earlier']:.4f}",
            f"{change['candidate']:.4f}",
            f"{change['candidate'] - change['earlier']:+.4f} ({show_interval(change, '+')})",
        ]
        for change in compared["changes"]
    ]
    return [heading, _list(lines), _table(["", "users", "Live", "This one", "Difference"], rows)]


def _describe_limits(data: ReportData) -> list[str]:
    """Limits that the figures of this model show."""
    k = max(data.evaluation["ks"])
    found = data.evaluation["metrics"]["model"]
    return [
        f"Its lists of {k} show {found[f'coverage@{k}']['value']:.1%} of the catalog to the judged users, and "
        f"{found[f'popularity_share@{k}']['value']:.1%} of what they show belongs to the most popular fifth."
    ]


def _show_figure(figure: dict[str, float | None]) -> str:
    interval = show_interval(figure)
    return f"{figure['value']:.4f}" + (f" ({interval})" if interval else "")


def _list(lines: Sequence[str]) -> str:
    return "\n".join(f"- {_escape(line)}" for line in lines)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---", *("---:" for _ in head[1:])], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _escape(text: str) -> str:
    """A text on one line, its Markdown and HTML signs made plain."""
    plain = " ".join(text.encode("utf-8", "replace").decode("utf-8").split())
    return re.sub(r"([\\`*_\[\]<>|#~&])", r"\\\1", plain)
