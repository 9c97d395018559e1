"""Loss, negatives and tower kind, one varied at a time around the default, then the best three of each crossed.

`python -m benchmarks.core [--seconds 60]` trains every variant for the same time, one thread each, on MovieLens-1M
(the reference split's training part, a random tenth held out) and MovieLens-100K (cut in time), and writes `<data>.md`
beside this file. Only validation parts are looked at: no test part is read. Variants that were measured before are
taken from `results.jsonl`, so that the command goes on where it was stopped. Data is looked for in RECSYS_CL_DATA.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import os
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from recsys_cl.benchmark import read_events
from recsys_cl.config import Config, apply_settings
from recsys_cl.interactions.split import split_interactions
from recsys_cl.interactions.table import Interactions
from recsys_cl.progress import report_nothing

HERE = Path(__file__).parent
RESULTS = HERE / "results.jsonl"
DATA = {"ml-1m-split": ("train.txt", "random"), "ml-100k": ("ml-100k.inter", "time")}
SAMPLED = "sampling.n_negatives=512"
AXES: dict[str, dict[str, list[str]]] = {
    "loss": {
        "softmax": [],
        "softmax, learned temperature": ["model.learn_temperature=true"],
        "bilateral softmax": ["loss.kind=bilateral_softmax"],
        "BPR": ["loss.kind=bpr"],
        "cosine contrastive": ["loss.kind=cosine_contrastive"],
    },
    "negatives": {
        "whole catalog": [],
        "popularity": [SAMPLED],
        "uniform": [SAMPLED, "sampling.negatives=uniform"],
        "in batch": ["sampling.negatives=in_batch"],
        "mixed": [SAMPLED, "sampling.negatives=mixed"],
        "hard": [SAMPLED, "sampling.negatives=hard"],
    },
    "tower": {
        "mean": [],
        "mean, tied": ["model.tied=true"],
        "mean, no user embedding": ["model.user_weight=0.0"],
        "mean, dot": ["model.score=dot"],
        "mean, Euclidean": ["model.score=euclidean"],
        "attention": ["model.history=attention"],
        "GRU": ["model.history=gru"],
        "GRU, next item": ["model.history=gru", "sampling.positives=next"],
        "transformer": ["model.history=transformer"],
        "transformer, next item": ["model.history=transformer", "sampling.positives=next"],
    },
}
DEFAULT = tuple(next(iter(kinds)) for kinds in AXES.values())
Variant = tuple[str, ...]
N_BEST = 3
_PACE_STEPS = 20


def main() -> None:
    """Measure what is not yet measured, and write the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60.0, help="training of each variant")
    seconds = parser.parse_args().seconds
    root = Path(os.environ.get("RECSYS_CL_DATA", "../shared/data"))
    for data in DATA:
        if not (root / data).exists():
            print(f"{data}: not at hand in {root} (set RECSYS_CL_DATA)")
            continue
        alone = list(_list_single())
        found = _measure_all(root, data, alone, seconds)
        best = [_choose_best(found, axis) for axis in range(3)]
        crossed = [variant for variant in itertools.product(*best) if variant not in alone]
        found |= _measure_all(root, data, crossed, seconds)
        (HERE / f"{data}.md").write_text(_render(data, found, best, seconds), encoding="utf-8")
        print(f"{HERE / data}.md")


def _list_single() -> Iterator[Variant]:
    """The default, and every variant that differs from it in one."""
    yield DEFAULT
    for axis, kinds in enumerate(AXES.values()):
        for kind in list(kinds)[1:]:
            yield (*DEFAULT[:axis], kind, *DEFAULT[axis + 1 :])


def _measure_all(root: Path, data: str, variants: list[Variant], seconds: float) -> dict[Variant, dict[str, Any]]:
    """The figures of each variant; those not yet in results.jsonl are measured, one on each core."""
    known = {}
    for line in RESULTS.read_text().splitlines() if RESULTS.exists() else []:
        entry = json.loads(line)
        if entry["data"] == data and entry["budget_seconds"] == seconds:
            known[tuple(entry["variant"])] = entry
    missing = [variant for variant in variants if variant not in known]
    n_workers = len(os.sched_getaffinity(0))
    with ProcessPoolExecutor(n_workers, multiprocessing.get_context("spawn")) as pool:
        jobs = [pool.submit(measure, root, data, variant, seconds) for variant in missing]
        for place, job in enumerate(jobs):
            entry = job.result()
            with RESULTS.open("a") as file:
                file.write(json.dumps(entry) + "\n")
            known[tuple(entry["variant"])] = entry
            left = (len(jobs) - place - 1) * seconds / n_workers / 60
            print(f"{data}: {entry['variant']}: {entry['recall']:.4f}, {left:.0f} minutes left", flush=True)
    return {variant: known[variant] for variant in variants}


def measure(root: Path, data: str, variant: Variant, seconds: float) -> dict[str, Any]:
    """Train one variant for so many seconds on one thread, and judge the epoch that its validation chose."""
    from recsys_cl.recipe import choose_steps

    name, by = DATA[data]
    settings = [s for kinds, kind in zip(AXES.values(), variant, strict=True) for s in kinds[kind]]
    config = apply_settings(Config(), [f"split.by={by}", "training.n_threads=1", "training.least_steps=0", *settings])
    log = read_events(root / data / name, config, report_nothing)
    train = log if by == "random" else split_interactions(log, config.split, config.training.seed).train
    pace, steps_an_epoch = _measure_pace(train, config)
    epochs = max(1, int(seconds / pace / steps_an_epoch))
    config = apply_settings(config, [f"training.epochs={epochs}", f"training.validate_every={max(1, epochs // 20)}"])
    started = time.perf_counter()
    choice = choose_steps(train, config)
    chosen = next(entry for entry in choice.history if entry["step"] == choice.n_steps)
    return {
        "data": data,
        "variant": variant,
        "budget_seconds": seconds,
        "recall": chosen["recall"],
        "error": chosen["recall_error"],
        "seconds": round(time.perf_counter() - started, 1),
        "epochs": epochs,
        "chosen_epoch": chosen["epoch"],
        "positives_per_second": round(chosen["n_positives"] / chosen["seconds"]),
    }


def _measure_pace(train: Interactions, config: Config) -> tuple[float, int]:
    """Seconds of a step behind the first few, and steps of an epoch."""
    from recsys_cl.index.mine import mine_items
    from recsys_cl.training.trainer import Hooks
    from recsys_cl.training.trainer import train as run

    times: list[float] = []

    def tell(*told: object) -> None:
        del told
        times.append(time.perf_counter())

    run(train, config, n_steps=_PACE_STEPS, hooks=Hooks(mine=mine_items, progress=tell))
    n_users = int(np.count_nonzero(train.to_bags().sizes >= 2))
    steps_an_epoch = -(-n_users // config.training.batch_users)
    return (times[-1] - times[4]) / (len(times) - 5), steps_an_epoch


def _choose_best(found: dict[Variant, dict[str, Any]], axis: int) -> list[str]:
    kinds = {v[axis]: entry["recall"] for v, entry in found.items() if v[:axis] + v[axis + 1 :] == _rest(axis)}
    return sorted(kinds, key=lambda kind: -kinds[kind])[:N_BEST]


def _rest(axis: int) -> tuple[str, ...]:
    return DEFAULT[:axis] + DEFAULT[axis + 1 :]


def _render(data: str, found: dict[Variant, dict[str, Any]], best: list[list[str]], seconds: float) -> str:
    base = found[DEFAULT]
    lines = [
        f"# {data}: {seconds:.0f} seconds of training each, one thread",
        "",
        "Written by `python -m benchmarks.core`. Validation recall@20 with the standard error over its users; every",
        "epoch was chosen on the same part, so that figures are comparable and slightly high. No test part was read.",
        "",
    ]
    for axis, (name, kinds) in enumerate(AXES.items()):
        lines += [
            f"| {name} | recall@20 | beside the default | positives a second | epoch chosen |",
            "| --- " * 5 + "|",
        ]
        for kind in kinds:
            variant = (*DEFAULT[:axis], kind, *DEFAULT[axis + 1 :])
            entry = found[variant]
            lines.append(
                f"| {kind} | {entry['recall']:.4f} ± {entry['error']:.4f} | {entry['recall'] - base['recall']:+.4f} | "
                f"{entry['positives_per_second']:,} | {entry['chosen_epoch']} of {entry['epochs']} |"
            )
        lines.append("")
    lines += ["The best three of each, crossed:", "", "| loss | negatives | tower | recall@20 |", "| --- " * 4 + "|"]
    crossed = sorted(itertools.product(*best), key=lambda variant: -found[variant]["recall"])
    for variant in crossed:
        entry = found[variant]
        lines.append(f"| {' | '.join(variant)} | {entry['recall']:.4f} ± {entry['error']:.4f} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
