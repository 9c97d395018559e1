"""The part of a report about the live release: comes in what the gate saw beside it, goes out HTML."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recsys_cl.evaluation.page import cells_table, isolate, pairs_table, paragraph, section
from recsys_cl.evaluation.report_data import SLICES, say_metric

_MEANING = (
    "Both models rank their own catalog for the same users; counted are held-out items on which neither was trained. "
    "Differences are paired, with their bootstrap interval."
)


def render_beside(beside: Mapping[str, Any]) -> str:
    """The section; nothing where nothing is known. beside: as in `ReportData`."""
    heading = "Beside the live release"
    if not beside:
        return ""
    if "release" not in beside:
        return section(heading, paragraph(f"Not compared: {beside['alone']}.", "soft"))
    compared, drift = beside["compared"], beside["drift"]
    facts = {"compared with": beside["release"], "items that are gone": f"{beside['items_lost']:.1%}"}
    if drift["n_items"]:
        facts |= {
            f"top 10 neighbors that changed, over {drift['n_items']:,} items": f"{drift['churn']:.1%}",
            "the same for stored queries, before the rotation": f"{drift['stored_before']:.1%}",
            "after the rotation": f"{drift['stored_after']:.1%}",
        }
    if compared is None:
        return section(heading, paragraph("No user could be judged by both.", "soft"), pairs_table(facts))
    names = {"coverage": "share of the catalog that is shown", "popularity_share": "shown items that are popular"}
    for name, label in names.items():
        before, after = compared[name]
        facts[label] = f"{after:.1%}, was {before:.1%}"
    head = ["", "users", "Live", "This one", "Difference"]
    rows = [
        [
            isolate(f"{say_metric(change['metric'])}, {SLICES.get(change['part'], change['part'])}"),
            f"{change['n_users']:,}",
            f"{change['earlier']:.4f}",
            f"{change['candidate']:.4f}",
            _show_difference(change),
        ]
        for change in compared["changes"]
    ]
    return section(heading, paragraph(_MEANING, "soft"), cells_table(head, rows), pairs_table(facts))


def _show_difference(change: Mapping[str, Any]) -> str:
    interval = f"[{change['low']:+.4f}, {change['high']:+.4f}]"
    return f"{change['candidate'] - change['earlier']:+.4f}<small>{interval}</small>"
