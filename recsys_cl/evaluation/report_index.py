"""The part of a report about the index: comes in what is known of it and what was tried, goes out HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from recsys_cl.evaluation.charts import draw_line
from recsys_cl.evaluation.page import cells_table, isolate, pairs_table, paragraph
from recsys_cl.evaluation.report_data import say, show_number

_MEANING = (
    "Each setting that was tried, for 1,000 users and 1,000 items that ask for their neighbors; the lower share of the "
    "two counts. The least work that finds enough was chosen. Microseconds are those of the machine that published."
)


def render_index(index: Mapping[str, Any]) -> list[str]:
    """The parts of the section; none where nothing is known. index: as in `ReportData`."""
    if not index:
        return []
    apart = ("parameters", "trade_off", "held_out")
    flat = {name: value for name, value in index.items() if name not in apart} | index.get("parameters", {})
    shown = {say(name): show_number(value) for name, value in flat.items()}
    held_out = index.get("held_out")
    if held_out:
        k = held_out["k"]
        shown[f"recall at {k} of held-out items, {held_out['n_users']:,} users, by exact search"] = _share(
            held_out["exact"]
        )
        shown["the same by an index built in this way"] = _share(held_out["index"])
    return ["<h3>Index</h3>", pairs_table(shown), *_render_trade_off(index.get("trade_off", ()))]


def _render_trade_off(trade_off: Sequence[Mapping[str, Any]]) -> list[str]:
    if len(trade_off) < 2:
        return []
    chosen = next(trial for trial in trade_off if trial["chosen"])
    alike = [trial for trial in trade_off if _layout(trial) == _layout(chosen)]
    points = [(float(round(trial["n_compared"])), float(trial["ann_recall"])) for trial in alike]
    labels = ("vectors compared with a query", "share of the exact top 10")
    rows = [
        [
            isolate(_describe(trial) + (", chosen" if trial["chosen"] else "")),
            _share(trial["ann_recall"]),
            f"{trial['n_compared']:,.0f}",
            f"{trial['microseconds']:,.1f}",
            f"{trial['mib']:,.1f}",
        ]
        for trial in trade_off
    ]
    head = ["", "of the exact top 10", "vectors compared", "microseconds a query", "MiB"]
    return [
        "<h3>Index trade-off curve</h3>",
        paragraph(_MEANING, "soft"),
        paragraph("" if chosen["reached"] else "Nothing that was tried finds the share that is wanted.", "bad"),
        draw_line(sorted(points), labels),
        cells_table(head, rows),
    ]


def _layout(trial: Mapping[str, Any]) -> tuple[str, int]:
    return trial["kind"], trial["parameters"].get("n_lists", 0)


def _describe(trial: Mapping[str, Any]) -> str:
    """`inverted lists: 12 of 404 lists`, or the like."""
    known = trial["parameters"]
    if "n_lists" in known:
        return f"{say(trial['kind'])}: {known['n_probe']:,} of {known['n_lists']:,}"
    if "ef_search" in known:
        return f"{say(trial['kind'])}: {known['ef_search']:,} candidates"
    return say(trial["kind"])


def _share(value: float) -> str:
    return f"{value:.4f}"
