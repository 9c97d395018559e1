"""What a person reads at the end of a command: comes in what a run wrote, goes out text for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

import numpy as np

from recsys_cl.evaluation.report_data import describe_difference, list_slices, say
from recsys_cl.files import read_json
from recsys_cl.picture_summary import describe_images
from recsys_cl.publishing.seal import read_manifest
from recsys_cl.publishing.store import find_current
from recsys_cl.release_summary import describe_beside
from recsys_cl.runs import Run
from recsys_cl.serving.lookup import Release, open_release
from recsys_cl.texts import SHOWN, format_table, indent, show_figure, show_text

if TYPE_CHECKING:  # a lookup prints its answers with this module, and needs no pipeline
    from recsys_cl.pipeline import Outcome

_BEYOND = ("coverage", "novelty", "diversity", "popularity_share")
_TITLES = {"model": "model", "popularity": "popularity", "item_knn": "item-kNN"}
_MOST_SHOWN = 20  # of the lengths of lists that were judged, the greatest up to this one is shown
_N_ITEMS, _N_NEIGHBORS = 3, 3


def describe_outcome(outcome: Outcome) -> str:
    """The whole run: rows, metrics beside baselines, the release, examples from it, and what to try next."""
    release = open_release(outcome.run.store / "releases" / outcome.release)
    folder = outcome.run.folder
    examples = _describe_examples(release)
    return "\n\n".join(
        [
            _describe_ingest(read_json(folder / "ingest.json"), folder),
            _describe_train(read_json(folder / "train.json")),
            describe_metrics(read_json(folder / "evaluation.json")),
            *([describe_images(read_json(folder / "images.json"))] if outcome.run.config.images.enabled else []),
            _describe_release(outcome.run),
            *examples,
            _describe_next(outcome, release),
        ]
    )


def describe_stage(run: Run, stage: str) -> str:
    """What one stage did, and the next one."""
    if stage == "ingest":
        text = _describe_ingest(read_json(run.folder / "ingest.json"), run.folder)
    elif stage == "train":
        text = _describe_train(read_json(run.folder / "train.json"))
    elif stage == "evaluate":
        text = describe_metrics(read_json(run.folder / "evaluation.json"))
    elif stage == "images":
        text = describe_images(read_json(run.folder / "images.json"))
    else:
        return _describe_release(run)
    follows = run.stages[run.stages.index(stage) + 1]
    return f"{text}\n\nnext: recsys-cl {follows} --store {quote(str(run.store))} --run {run.run_id}"


def describe_metrics(evaluation: dict[str, Any]) -> str:
    """The model beside its baselines, the paired differences, both with their intervals, beyond accuracy, by slice."""
    rows = build_metric_rows(evaluation)
    head = (
        f"{evaluation['n_users']:,} users judged on {evaluation['n_targets']:,} held-out items, "
        f"{evaluation['n_items']:,} candidates (brackets: {evaluation['confidence']:.0%} bootstrap intervals)"
    )
    table = format_table([list(rows[0]), *(list(row.values()) for row in rows)])
    k = max((k for k in evaluation["ks"] if k <= _MOST_SHOWN), default=min(evaluation["ks"]))
    beyond, slices = _describe_beyond(evaluation["metrics"], k), _describe_slices(evaluation, k)
    return "\n\n".join(text for text in (f"{head}\n{table}", beyond, slices) if text)


def build_metric_rows(evaluation: dict[str, Any]) -> list[dict[str, str]]:
    """A row for the model, each baseline and each paired difference; its cells are texts with intervals."""
    metrics = evaluation["metrics"]
    shown = [name for name in SHOWN if name in metrics["model"]] or list(metrics["model"])[:4]
    rows = []
    for name, title in _TITLES.items():
        rows.append({"": title} | {metric: show_figure(metrics[name][metric]) for metric in shown})
    for name, title in (("popularity", "model − popularity"), ("item_knn", "model − item-kNN")):
        figures = evaluation["differences"][name]
        rows.append({"": title} | {m: show_figure(figures[m], "+") if m in figures else "" for m in shown})
    return rows


def describe_answers(answers: Sequence[dict[str, Any]]) -> str:
    """Neighbors or recommendations as a table; which space answered, where that is not behavior."""
    rows = [["rank", "score", "item_id", "title"]]
    rows += [
        [str(a["rank"]), f"{a['score']:.4f}", show_text(a["item_id"]), show_text(a.get("title", ""))] for a in answers
    ]
    table = format_table(rows if any("title" in a for a in answers) else [row[:3] for row in rows])
    notes = {"image": "by picture", "behavior_by_image": "placed among the interactions by its picture: no events yet"}
    note = notes.get(answers[0].get("space", "")) if answers else None
    return table if note is None else f"{note}\n{table}"


def describe_comparison(first: str, second: str, found: dict[str, Any]) -> str:
    """Two runs beside each other, metric by metric, and for each a sentence that says which is better."""
    lines = [
        f"first: run {first}, second: run {second}",
        f"{found['n_users']:,} users, whom both judged on the same held-out items "
        f"(brackets: {found['confidence']:.0%} bootstrap intervals of the paired difference)",
    ]
    left_out = {"the first alone": "n_first", "the second alone": "n_second", "both, on other items": "n_other_targets"}
    counts = [f"{found[name]:,} by {whom}" for whom, name in left_out.items() if found[name]]
    if counts:
        lines.append(f"left out, users that were judged: {'; '.join(counts)}")
    rows = [["", "first", "second", "first − second"]]
    sentences = []
    for metric, figures in found["metrics"].items():
        values = figures["first"], figures["second"]
        rows.append([metric, *(f"{value:.4f}" for value in values), show_figure(figures["difference"], "+")])
        sentences.append(describe_difference(("the first", "the second"), metric, values, figures["difference"]))
    return "\n".join([*lines, format_table(rows), "", *sentences])


def describe_benchmark(figures: dict[str, Any]) -> str:
    """The figures, one a line."""
    metrics = [f"{name:<14} {value:.4f}" for name, value in figures.items() if "@" in name]
    facts = ("n_users", "n_items", "n_train", "n_users_judged", "n_test_unknown")
    k = max(int(name.partition("@")[2]) for name in figures if name.startswith("recall@") and name[7:].isdigit())
    slices = [["", "users", f"recall@{k}", f"item-kNN recall@{k}", f"ndcg@{k}"]]
    for name, part in figures["slices"].items():
        if part["n_users"]:
            values = (part[f"{which}@{k}"] for which in ("recall", "item_knn_recall", "ndcg"))
            slices.append([name, f"{part['n_users']:,}", *(f"{value:.4f}" for value in values)])
    samplers = [["sampler", "negatives", "bias", "of which chance", "spread"]]
    for test in figures.get("samplers", ()):
        values = (test[name] for name in ("bias", "floor", "spread"))
        samplers.append([test["sampler"], f"{test['n_negatives']:,}", *(f"{value:.4f}" for value in values)])
    return "\n".join(
        [
            *metrics,
            f"{'trained in':<14} {figures['train_seconds']:.1f} s, evaluated in {figures['evaluate_seconds']:.1f} s, "
            f"peak memory {figures['peak_rss_bytes'] / 2**20:,.0f} MiB",
            *(f"{name:<14} {figures[name]:,}" for name in facts),
            *(f"{'chosen' if not n else '':<14} {why}" for n, why in enumerate(figures["settings"]["chosen_because"])),
            f"{'vectors':<14} sha256 {figures['embeddings_sha256']}",
            "",
            format_table(slices),
            *(["", format_table(samplers)] if len(samplers) > 1 else []),
        ]
    )


def _describe_ingest(report: dict[str, Any], folder: Path) -> str:
    lines = [f"rows read {report['n_read']:,}, kept {report['n_kept']:,}, refused {sum(report['refused'].values()):,}"]
    lines += [f"  refused, {reason}: {count:,}" for reason, count in sorted(report["refused"].items())]
    if report["refused"]:
        lines.append(f"  each with line, reason and content in {folder / 'refused.parquet'}")
    lines.append("columns: " + ", ".join(f"{role} = {name}" for role, name in report["columns"].items()))
    lines.append(f"{report['n_users']:,} users, {report['n_items']:,} items, {report['n_events']:,} events")
    return "\n".join([*lines, *report["notes"]])


def _describe_train(train: dict[str, Any]) -> str:
    reasons = [f"{'training:' if not n else ' ' * 9} {reason}" for n, reason in enumerate(train["choice"])]
    return "\n".join([*train["audit_lines"], *reasons])


def _describe_beyond(metrics: dict[str, Any], k: int) -> str:
    """What the lists of each model are like, beside whether they hit."""
    shown = [name for name in _BEYOND if f"{name}@{k}" in metrics["model"]]  # an earlier version measured fewer
    rows = [[f"lists of {k}", *(say(name) for name in shown)]]
    for model, title in _TITLES.items():
        rows.append([title, *(f"{metrics[model][f'{name}@{k}']['value']:.4f}" for name in shown)])
    return format_table(rows)


def _describe_slices(evaluation: dict[str, Any], k: int) -> str:
    """recall@k of the model and of item-kNN in each slice."""
    rows = [[f"recall@{k} of", "users", "held-out", "model", "item-kNN"]]
    for label, found in list_slices(evaluation):
        models = [found["metrics"][model] for model in ("model", "item_knn")] if found["n_users"] else []
        figures = [show_figure(figures[f"recall@{k}"]) for figures in models]
        rows.append([label, f"{found['n_users']:,}", f"{found['n_targets']:,}", *(figures or ["–", "–"])])
    return format_table(rows) if len(rows) > 1 else ""


def _describe_release(run: Run) -> str:
    release = run.read_result("publish")
    version = release["release"]
    path = run.store / "releases" / version
    size = f"{release['size_bytes'] / 2**20:.1f} MiB, ann_recall@10 {release['ann_recall']:.4f}"
    live = "is live" if find_current(run.store) == version else "is not the live one"
    beside = describe_beside(read_manifest(path))
    return "\n".join([f"release {version} {live}: {path}", f"  {size}; report: {path / 'report.html'}", *beside])


def _describe_examples(release: Release) -> list[str]:
    """Neighbors of three items that many users touched, and recommendations for one user of ordinary size."""
    popularity = np.bincount(release.parts.seen.item_rows, minlength=len(release.parts.catalog))
    shown = np.argsort(-popularity, kind="stable")[: 10 * _N_ITEMS : 10]
    texts = []
    for row in shown:
        item = release.parts.catalog.describe(int(row))
        k = min(_N_NEIGHBORS, len(release.parts.catalog) - 1)
        answers = describe_answers(release.answer_similar(item["item_id"], k)) if k else "no other item"
        texts.append(f"neighbors of {show_text(item['item_id'])}{_show_title(item)}\n{indent(answers)}")
    sizes = release.parts.seen.sizes
    user = int(np.argsort(sizes, kind="stable")[len(sizes) // 2])
    user_id = release.parts.users.get_id(user)
    k = min(5, len(release.parts.catalog) - int(sizes[user]))
    if k > 0:
        answers = describe_answers(release.answer_user(user_id, k))
        texts.append(
            f"recommendations for user {show_text(user_id)}, who touched {sizes[user]} items\n{indent(answers)}"
        )
    return texts


def _describe_next(outcome: Outcome, release: Release) -> str:
    store, ids = quote(str(outcome.run.store)), release.parts.catalog.items.get_ids(release.parts.seen.item_rows[:3])
    history = [item_id for item_id in ids if "," not in item_id]  # an id with a comma takes a --history-file
    whom = f"--history {quote(','.join(history))}" if history else f"--user {quote(release.parts.users.get_id(0))}"
    return "\n".join(
        [
            "next, try:",
            f"  recsys-cl similar {quote(ids[0])} --store {store}",
            f"  recsys-cl recommend {whom} --store {store}",
            f"  recsys-cl export recommendations --store {store} --out recommendations.parquet",
        ]
    )


def _show_title(item: dict[str, Any]) -> str:
    return f" ({show_text(item['title'])})" if "title" in item else ""
