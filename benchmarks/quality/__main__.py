"""Writes `benchmarks/quality/<data>.md`: ours over three seeds, and at other dims, beside peers that are fitted in the
same run and figures that were published; then the default recipe with one part removed at a time, on validation; then
what its tail costs, by weight of popularity and by floats.

`python -m benchmarks.quality [data …] [figures|ablation|tail …]`; data lies in RECSYS_CL_DATA (default
../shared/data). Each model is a process of its own: its seconds are those of training (choosing included), its memory
the peak of the process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.contenders import ease
from benchmarks.quality.peer import PEERS, read_train
from benchmarks.quality.published import DATA
from recsys_cl.config import Config

HERE = Path(__file__).parent
SEEDS = (0, 1, 2)
DIMS = (128, 256)
TAIL = [f"model.popularity_weight={weight}" for weight in (-0.4, -0.2, 0.0, 0.4, 0.8)] + ["model.dim=256"]
REMOVED = {
    "the default": [],
    "no blend: the best tower alone": ["recipe.blend_weights=[]"],
    "no closed form": ['recipe.towers=["bag","sequence"]'],
    "no tower without order": ['recipe.towers=["sequence","linear"]'],
    "no tower with order": ['recipe.towers=["bag","linear"]'],
    "the closed form alone": ['recipe.towers=["linear"]'],
    "temperature .2 for all": ["recipe.temperatures=[0.2]"],
    "no neighbors of items": ["recipe.neighbor_weights=[0.0]"],
    "a user's events weigh their root together": ["sampling.voice_power=0.5"],
    "no popularity in the score": ["model.popularity_weight=0.0"],
    "popularity weight 1 for all": ["recipe.popularity_weights=[1.0]"],
    "every item alike in a bag": ["model.degree_power=0.0"],
    "no layer behind a history": ["model.query_hidden=0"],
    "steps that shrink, none averaged": ["training.schedule=linear", "training.average_power=0"],
    "untied tables": ["model.tied=false"],
    "a free embedding of each user": ["model.user_weight=0.5"],
    "batches of 512 users": ["training.batch_users=512"],
}


def main() -> None:
    """Measure, and write the tables."""
    arguments = [a for a in sys.argv[1:] if a in DATA] or list(DATA)
    parts = [part for part in PARTS if part in sys.argv] or list(PARTS)
    root = Path(os.environ.get("RECSYS_CL_DATA", "../shared/data"))
    for data in arguments:
        if not (root / data).exists():
            print(f"{data}: not at hand in {root} (set RECSYS_CL_DATA)")
            continue
        for part in parts:
            path = HERE / f"{data}{'' if part == 'figures' else '-' + part}.md"
            with path.open("w", encoding="utf-8") as file:
                for line in PARTS[part](root, data):
                    print(line, file=file, flush=True)
            print(path.read_text(encoding="utf-8"))


def run_ours(root: Path, data: str, settings: list[str]) -> dict[str, Any]:
    """`recsys-cl benchmark` on one split, as its JSON."""
    files = [part for name, file in DATA[data].files.items() for part in (name, str(root / data / file))]
    command = [sys.executable, "-m", "recsys_cl.cli", "benchmark", *files, "--json"]
    command += [part for setting in settings for part in ("--set", setting)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _measure_figures(root: Path, data: str) -> list[str]:
    about = DATA[data]
    k = about.k
    runs = [run_ours(root, data, [f"training.seed={seed}"]) for seed in SEEDS]
    rows = [_row(f"**recsys_cl**, dim 64, {len(SEEDS)} seeds", runs, k)]
    rows += [_row(f"recsys_cl, dim {dim}", [run_ours(root, data, [f"model.dim={dim}"])], k) for dim in DIMS]
    for name in PEERS:
        if name == ease.name and runs[0]["n_items"] > ease.MOST_ITEMS:
            rows.append(f"| {name} | too many items | | | |")
            continue
        command = [sys.executable, "-m", "benchmarks.quality.peer", str(root), data, name]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True, text=True)
        peer = json.loads(done.stdout.splitlines()[-1])
        figures = f"{peer['recall']:.4f} | {peer['ndcg']:.4f} | {peer['seconds']:.1f} | {peer['peak_mib']:,.0f}"
        rows.append(f"| {name} | {figures} |")
    rows += [f"| {name}, published | {recall} | {ndcg} | | |" for name, (recall, ndcg) in about.published.items()]
    head = [
        f"# {data}",
        "",
        f"`python -m benchmarks.quality {data}`. Test part, read once a model; two CPU cores. Brackets: lowest and",
        "highest of the seeds. Seconds: choosing and training. Published figures are marked; most of them picked their",
        "epoch on the test part. Peers have the settings their documentation starts from; tuned ones do better.",
        "",
        f"| model | recall@{k} | ndcg@{k} | seconds | peak MiB |",
        "| --- | --- | --- | --- | --- |",
    ]
    return [*head, *rows, "", *_list_slices(runs, k), "", *_list_reasons(runs[0])]


def _row(name: str, runs: list[dict[str, Any]], k: int) -> str:
    cells = []
    for metric in (f"recall@{k}", f"ndcg@{k}"):
        values = [run[metric] for run in runs]
        spread = f" ({min(values):.4f}–{max(values):.4f})" if len(values) > 1 else ""
        cells.append(f"{np.mean(values):.4f}{spread}")
    seconds = float(np.median([run["train_seconds"] for run in runs]))
    peak = max(run["peak_rss_bytes"] for run in runs) / 2**20
    return f"| {name} | {' | '.join(cells)} | {seconds:.0f} | {peak:,.0f} |"


def _list_slices(runs: list[dict[str, Any]], k: int) -> list[str]:
    lines = [
        "## Slices",
        "",
        f"| slice | users | recall@{k} | item-kNN recall@{k} | ndcg@{k} | item-kNN ndcg@{k} |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    names = (f"recall@{k}", f"item_knn_recall@{k}", f"ndcg@{k}", f"item_knn_ndcg@{k}")
    for slice_name, part in runs[0]["slices"].items():
        if part["n_users"]:
            means = [np.mean([run["slices"][slice_name][name] for run in runs]) for name in names]
            lines.append(f"| {slice_name} | {part['n_users']:,} | {' | '.join(f'{mean:.4f}' for mean in means)} |")
    loss = [run[f"recall@{k}"] - run[f"recall@{k}_new_users"] for run in runs]
    return [
        *lines,
        "",
        f"A user whom training did not know, by their items alone, loses recall@{k} {np.mean(loss):.4f}.",
    ]


def _list_reasons(run: dict[str, Any]) -> list[str]:
    return ["## What was chosen, and why (seed 0)", "", *(f"- {why}" for why in run["settings"]["chosen_because"])]


def _measure_ablation(root: Path, data: str) -> Iterator[str]:
    yield f"# {data}: one part removed at a time"
    yield ""
    yield f"`python -m benchmarks.quality {data} ablation`. Validation part alone, seed 0; seconds of choosing."
    yield ""
    yield "| recipe | recall@20 | ndcg@20 | seconds | chosen |"
    yield "| --- | --- | --- | --- | --- |"
    n_items = read_train(root, data).n_items
    for name, settings in REMOVED.items():
        if "order" in name and "--sequences" not in DATA[data].files:
            continue
        if "closed form" in name and n_items > Config().recipe.most_linear_items:
            continue
        command = [sys.executable, "-m", "benchmarks.quality.choice", str(root), data, *settings]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True, text=True)
        value = json.loads(done.stdout.splitlines()[-1])
        figures = f"{value['recall']:.4f} | {value['ndcg']:.4f} | {value['seconds']:.0f}"
        yield f"| {name} | {figures} | {', '.join(value['members'])} |"


def _measure_tail(root: Path, data: str) -> Iterator[str]:
    k = DATA[data].k
    yield f"# {data}: the price of the tail"
    yield ""
    yield f"`python -m benchmarks.quality {data} tail`. Test part, seed 0. One setting is given instead of chosen; the"
    yield "rest is chosen as ever. Tail items are those outside the most popular fifth."
    yield ""
    yield f"| given | recall@{k} | ndcg@{k} | tail recall@{k} | head recall@{k} |"
    yield "| --- | --- | --- | --- | --- |"
    run: dict[str, Any] = {}
    for setting in TAIL:
        run = run_ours(root, data, [setting])
        tail, head = (run["slices"][name] for name in ("tail_items", "head_items"))
        found = (run[f"recall@{k}"], run[f"ndcg@{k}"], tail[f"recall@{k}"], head[f"recall@{k}"])
        yield f"| {setting} | {' | '.join(f'{value:.4f}' for value in found)} |"
    tail, head = (run["slices"][name][f"item_knn_recall@{k}"] for name in ("tail_items", "head_items"))
    yield f"| item-kNN | | | {tail:.4f} | {head:.4f} |"


PARTS = {"figures": _measure_figures, "ablation": _measure_ablation, "tail": _measure_tail}


if __name__ == "__main__":
    main()
