"""What a person reads of pictures: comes in what their stage or a lookup found, goes out text for a terminal."""

from __future__ import annotations

import itertools
from typing import Any

from recsys_cl.texts import format_table, indent, show_figure, show_text


def describe_both(found: dict[str, Any]) -> str:
    """Neighbors by behavior and by picture, side by side; those in both are marked."""
    shared = set(found["shared"])
    rows = [["rank", "by behavior", "", "by picture", ""]]
    for one, other in itertools.zip_longest(found["behavior"], found["image"]):
        cells = []
        for answer in (one, other):
            if answer is None:
                cells += ["", ""]
                continue
            mark = "*" if answer["item_id"] in shared else ""
            cells += [f"{show_text(answer['item_id'])}{mark}", show_text(answer.get("title", ""))]
        rows.append([str(len(rows)), *cells])
    return f"{format_table(rows)}\n{len(shared)} in both (*)"


def describe_contrasts(found: dict[str, Any], k: int) -> str:
    """The first k pairs that look alike and behave differently, and the first k groups of near-duplicates."""
    rows = [["item_id", "other_id", "by picture", "by behavior"]]
    for pair in found["alike_but_different"][:k]:
        ids = [show_text(pair["item_id"]), show_text(pair["other_id"])]
        rows.append([*ids, f"{pair['by_picture']:.3f}", f"{pair['by_behavior']:.3f}"])
    groups = [", ".join(show_text(item_id) for item_id in group[:8]) for group in found["near_duplicates"][:k]]
    lines = ["look alike, behave differently (cosines)", indent(format_table(rows))]
    lines += [f"near-duplicate pictures: {found['n_near_duplicates']:,}", *(f"  {group}" for group in groups)]
    return "\n".join(lines)


def describe_images(found: dict[str, Any]) -> str:
    """What the stage of pictures did, and how new items fare by their picture."""
    refused = sum(found["refused"].values())
    lines = [f"{found['n_pictures']:,} pictures, {found['n_new_items']:,} of items without events, {refused:,} refused"]
    lines += [f"  refused, {reason}: {count:,}" for reason, count in found["refused"].items()]
    pace = f"{found['trained_per_second']:,.0f} views/s, {found['waiting_share']:.1%} of the time waiting for pixels"
    lines.append(f"training: {found['train_seconds']:.0f} s, {pace}")
    labels = found["labels"]
    if labels is not None:
        figures = f"kNN {labels['knn']:.4f}, linear probe {labels['linear_probe']:.4f}"
        lines.append(
            f"{labels['n_kinds']} labels told from pictures: {figures} ({labels['n_labeled']:,} of five folds)"
        )
    cold = found["cold_items"]
    if "reason" in cold:
        return "\n".join([*lines, f"new items: not judged ({cold['reason']})"])
    names = {"model": "by the place of its picture", "pictures_alone": "pictures alone", "raw_pixels": "raw pixels"}
    names["popularity"] = "popularity"
    metrics = list(cold["metrics"]["model"])
    rows = [[f"true neighbors of {cold['n_cold']} new items", *metrics]]
    for name, title in names.items():
        rows.append([title, *(show_figure(cold["metrics"][name][metric]) for metric in metrics)])
    for name, difference in cold["differences"].items():
        rows.append([f"model − {names[name]}", *(show_figure(difference[metric], "+") for metric in metrics)])
    users = cold["users"]
    told = []
    if users:
        shares = f"{users['recall@20']:.4f} by pictures alone, {users['recall@20_by_chance']:.4f} by chance"
        told = [f"recall@20 of what {users['n_users']:,.0f} users touched later: {shares}"]
    return "\n".join([*lines, format_table(rows), *told])
