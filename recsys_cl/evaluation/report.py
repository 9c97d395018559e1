"""The report for people: comes in as `ReportData`, goes out as one HTML page that needs nothing else.

Works offline, in light and dark, on a phone; holds no script, and no text in it is trusted.
"""

from __future__ import annotations

import html
from typing import Any

from recsys_cl.evaluation.charts import Point, draw_intervals, draw_line, draw_lines
from recsys_cl.evaluation.figures import COMPARED, MODEL
from recsys_cl.evaluation.page import (
    bullets,
    cells_table,
    isolate,
    pairs_table,
    paragraph,
    picture,
    render_page,
    section,
    sheet,
)
from recsys_cl.evaluation.report_beside import render_beside
from recsys_cl.evaluation.report_data import (
    COLD_MODELS,
    METRICS,
    MODELS,
    SLICES_MEAN,
    ReportData,
    ShownItem,
    describe_counts,
    describe_verdict,
    list_metrics,
    list_slices,
    say,
    say_metric,
    show_interval,
    show_number,
)
from recsys_cl.evaluation.report_index import render_index

_CHARTED = ("recall", "ndcg", "mrr", "hit_rate")


def render_report(data: ReportData) -> str:
    """The whole report as one HTML document."""
    return render_page(
        f"Report of {data.name}",
        [
            f"<header><small>Report of a recommendation model</small><h1>{isolate(data.name)}</h1></header>",
            _render_outcome(data),
            render_beside(data.beside),
            _render_metrics(data.evaluation),
            _render_slices(data.evaluation),
            _render_data(data),
            _render_split(data),
            _render_training(data),
            _render_popularity(data),
            _render_vectors(data),
            _render_neighbors(data),
            _render_images(data),
            _render_settings(data),
        ],
    )


def _render_outcome(data: ReportData) -> str:
    against = [paragraph("The gate spoke against this release:", "bad"), bullets(data.gate)] if data.gate else []
    return section("In short", bullets(describe_verdict(data.evaluation)), *against, pairs_table(data.facts))


def _render_metrics(evaluation: Any) -> str:
    k = max(evaluation["ks"])
    names = [name for name in MODELS if name in evaluation["metrics"]]
    groups = [
        (say_metric(f"{metric}@{k}"), [Point(**evaluation["metrics"][name][f"{metric}@{k}"]) for name in names])
        for metric in _CHARTED
    ]
    keys = "".join(
        f'<span><i class="key c{color}"></i>{html.escape(MODELS[name])}</span>' for color, name in enumerate(names)
    )
    meanings = bullets([f"{name}: {meaning}." for name, meaning in METRICS.values()])
    rows = [
        [say_metric(metric), *(_render_figure(evaluation["metrics"][name][metric]) for name in names)]
        for metric in list_metrics(evaluation)
    ]
    differences = [
        [say_metric(metric), *(_render_figure(found[metric], "+") for found in evaluation["differences"].values())]
        for metric in evaluation["differences"][names[-1]]
    ]
    minus = ["", *(f"minus “{html.escape(MODELS[name])}”" for name in evaluation["differences"])]
    return section(
        "How good the lists are",
        paragraph(describe_counts(evaluation)),
        f'<p class="keys">{keys}</p>',
        f'<div class="pair"><div>{draw_intervals(groups, [MODELS[name] for name in names])}</div>'
        f"<div><h3>What the figures mean</h3>{meanings}</div></div>",
        cells_table(["", *(html.escape(MODELS[name]) for name in names)], rows),
        f"<h3>{html.escape(MODELS[MODEL])} minus each baseline, on the same users</h3>",
        paragraph("An interval that does not hold 0 means a difference that is not chance.", "soft"),
        cells_table(minus, differences),
    )


def _render_slices(evaluation: Any) -> str:
    """A table for recall and one for ndcg, at the greatest k; a line a slice."""
    slices = list_slices(evaluation)
    if not slices:
        return ""
    names = [name for name in MODELS if name in evaluation["metrics"]]
    minus = [f"minus “{html.escape(MODELS[name])}”" for name in evaluation["differences"]]
    head = ["", "users", "held-out items", *(html.escape(MODELS[name]) for name in names), *minus]
    parts = []
    for metric in (f"{name}@{max(evaluation['ks'])}" for name in COMPARED):
        rows = []
        for label, found in slices:
            # In the order of the head: in a file models lie in another.
            figures = [_render_figure(found["metrics"][name][metric]) for name in names if name in found["metrics"]]
            figures += [
                _render_figure(found["differences"][name][metric], "+")
                for name in evaluation["differences"]
                if name in found["differences"]
            ]
            counts = [show_number(found["n_users"]), show_number(found["n_targets"])]
            rows.append([label, *counts, *(figures or ["–"] * (len(head) - 3))])
        parts += [f"<h3>{say_metric(metric)}</h3>", cells_table(head, rows)]
    return section("For whom, and with what", paragraph(SLICES_MEAN, "soft"), *parts)


def _render_figure(figure: Any, sign: str = "") -> str:
    interval = show_interval(figure, sign)
    return f"{figure['value']:{sign}.4f}" + (f"<small>{interval}</small>" if interval else "")


def _render_data(data: ReportData) -> str:
    ingest = data.ingest
    if not ingest:
        return ""
    counts = {
        "rows read": show_number(ingest["n_read"]),
        "rows kept": show_number(ingest["n_kept"]),
        "rows refused": show_number(sum(ingest["refused"].values())),
        "users": show_number(ingest["n_users"]),
        "items": show_number(ingest["n_items"]),
    }
    if ingest["timed"]:
        counts |= {"first event": str(ingest["first_time"]), "last event": str(ingest["last_time"])}
    refused = {say(reason): show_number(count) for reason, count in sorted(ingest["refused"].items())}
    columns = {f"{role} is read from": str(column) for role, column in ingest["columns"].items()}
    right = ["<h3>Refused, by reason</h3>", pairs_table(refused)] if refused else []
    return section(
        "What went in",
        f'<div class="pair"><div>{pairs_table(counts)}</div>'
        f"<div>{''.join(right)}<h3>Columns</h3>{pairs_table(columns)}</div></div>",
        bullets(ingest["notes"]),
    )


def _render_split(data: ReportData) -> str:
    dropped = {say(name): show_number(count) for name, count in data.evaluation["dropped"].items() if count}
    left_out = ["<h3>Left out of the judgment</h3>", pairs_table(dropped)] if dropped else []
    return section("Split, and what leaks", bullets(data.audit), *left_out)


def _render_training(data: ReportData) -> str:
    """A chart of the loss and one of recall, a line a tower."""
    towers = list(dict.fromkeys(entry.get("tower", "") for entry in data.training))
    charts = []
    for name, label in (("loss", "Loss"), ("recall", "Recall on validation")):
        lines = {
            color: [
                (float(entry["epoch"]), float(entry[name]))
                for entry in data.training
                if entry.get("tower", "") == tower and entry.get(name) is not None
            ]
            for color, tower in enumerate(towers)
        }
        drawn = {color: points for color, points in lines.items() if points}
        if drawn:
            charts.append(f"<div><h3>{label}</h3>{draw_lines(drawn, ('epoch', label))}</div>")
    keys = "".join(
        f'<span><i class="key c{color}"></i>{isolate(f"{tower} tower")}</span>'
        for color, tower in enumerate(towers)
        if tower and charts
    )
    legend = f'<p class="keys">{keys}</p>' if keys else ""
    return section(
        "Training", bullets(data.choice), legend, f'<div class="pair">{"".join(charts)}</div>' if charts else ""
    )


def _render_popularity(data: ReportData) -> str:
    counts = sorted((count for count in data.popularity if count > 0), reverse=True)
    if not counts:
        return ""
    fifth = -(-len(counts) // 5)
    points = [(float(place), float(count)) for place, count in enumerate(counts, 1)]
    return section(
        "How popular items are",
        paragraph(
            f"The most popular fifth of the items ({fifth:,}) holds {sum(counts[:fifth]) / sum(counts):.0%} of all "
            f"pairs of user and item; half of the items have at most {counts[len(counts) // 2]:,} users."
        ),
        "<h3>Users of an item</h3>",
        draw_line(points, ("place of the item by popularity", "users of the item"), log=True),
        paragraph("Both axes are logarithmic.", "soft"),
    )


def _render_vectors(data: ReportData) -> str:
    parts = []
    if data.health:
        names = list(next(iter(data.health.values())))
        rows = [[say(name), *(show_number(table[name]) for table in data.health.values())] for name in names]
        parts += [
            cells_table(["", *(isolate(name) for name in data.health)], rows),
            paragraph(
                "Effective rank: over how many directions the vectors spread; near 1 they have collapsed to a line.",
                "soft",
            ),
        ]
    parts += render_index(data.index)
    return section("Vectors and index", *parts)


def _render_neighbors(data: ReportData) -> str:
    rows = []
    for sample in data.neighbors:
        by_image = sample.get("by_image", [])
        asked = _render_item(sample["item"], "asked")
        for words, items in (("by behavior", sample["neighbors"]), ("by picture", by_image)):
            if items:
                cards = "".join(_render_item(item) for item in items)
                rows.append((f"<h4>{words}</h4>" if by_image else "") + f'<div class="items">{asked}{cards}</div>')
    return section("Neighbors of some items", *rows)


def _render_images(data: ReportData) -> str:
    if not data.images:
        return ""
    images, cold = data.images, data.images["cold_items"]
    counts = {
        "pictures": show_number(images["n_pictures"]),
        "of items without events": show_number(images["n_new_items"]),
        "near-duplicates": show_number(images["n_near_duplicates"]),
    }
    counts |= {f"refused: {say(reason)}": show_number(count) for reason, count in images["refused"].items()}
    if images["labels"] is not None:
        names = {"knn": "labels told by the five nearest", "linear_probe": "labels told by a linear probe"}
        counts |= {words: show_number(images["labels"][name]) for name, words in names.items()}
    if cold.get("users"):
        counts["recall at 20 of users' later items, by pictures alone"] = show_number(cold["users"]["recall@20"])
        counts["the same by chance"] = show_number(cold["users"]["recall@20_by_chance"])
    parts = [
        pairs_table(counts),
        paragraph(f"New items were not judged: {cold['reason']}." if "reason" in cold else ""),
    ]
    if "metrics" in cold:
        metrics = list(cold["metrics"][MODEL])
        rows = [
            [html.escape(title), *(_render_figure(cold["metrics"][name][metric]) for metric in metrics)]
            for name, title in COLD_MODELS.items()
        ]
        parts += [
            f"<h3>New items: {cold['n_cold']:,} taken out of the log, found by their picture</h3>",
            paragraph("Share found of the ten items that share most users with it in the whole log.", "soft"),
            cells_table(["", *(say_metric(metric) for metric in metrics)], rows),
        ]
    words = "An item, its neighbors by behavior, and its neighbors by picture."
    return section(
        "Pictures", *parts, "<h3>Two kinds of neighbors</h3>", paragraph(words, "soft"), sheet(images["sheet"])
    )


def _render_item(item: ShownItem, kind: str = "") -> str:
    image = picture(item["image"]) if "image" in item else ""
    title = isolate(item["title"]) if item.get("title") else ""
    score = f"<small>score {item['score']:.4f}</small>" if "score" in item else "<small>asked for</small>"
    return f'<div class="item {kind}">{image}{title}<small>{isolate(item["item_id"])}</small>{score}</div>'


def _render_settings(data: ReportData) -> str:
    if not data.settings:
        return ""
    rows = {f"{part}.{key}": str(value) for part, keys in data.settings.items() for key, value in keys.items()}
    return section("Settings", f"<details><summary>All {len(rows)} settings</summary>{pairs_table(rows)}</details>")
