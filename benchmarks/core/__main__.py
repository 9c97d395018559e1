"""Loss, negatives and tower kind, one varied at a time around the default, then the best three of each crossed.

`python -m benchmarks.core [--seconds 60]` trains every variant for the same time, one thread each, on MovieLens-1M
(the reference split's training part, a random tenth held out) and MovieLens-100K (cut in time), and writes `<data>.md`
beside this file. Only validation parts are looked at: no test part is read. Variants that were measured before with
the same settings are taken from `results.jsonl`, so that the command goes on where it was stopped; delete it to measure
other code. Towers are also varied on Amazon Beauty (the last item of each user held out, 4,096 negatives), where the
order of events is known. Data is looked for in RECSYS_CL_DATA.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.core.variants import AXES, DATA, DEFAULT, Variant, configure, measure
from recsys_cl.machine import count_cores

HERE = Path(__file__).parent
RESULTS = HERE / "results.jsonl"
NAMES = tuple(AXES)
TOWERS_ONLY = "amazon-beauty"
N_BEST = 3


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
        axes = [2] if data == TOWERS_ONLY else [0, 1, 2]
        alone = list(_list_single(axes))
        found = _measure_all(root, data, alone, seconds)
        best = [_choose_best(found, axis) for axis in axes]
        if data != TOWERS_ONLY:
            crossed = [variant for variant in itertools.product(*best) if variant not in alone]
            found |= _measure_all(root, data, crossed, seconds)
        (HERE / f"{data}.md").write_text(_render(data, found, axes, seconds), encoding="utf-8")
        print(f"{HERE / data}.md")


def _list_single(axes: list[int]) -> Iterator[Variant]:
    """The default, and every variant that differs from it in one of the axes."""
    yield DEFAULT
    for axis in axes:
        for kind in list(AXES[NAMES[axis]])[1:]:
            yield _vary(axis, kind)


def _vary(axis: int, kind: str) -> Variant:
    return (*DEFAULT[:axis], kind, *DEFAULT[axis + 1 :])


def _measure_all(root: Path, data: str, variants: list[Variant], seconds: float) -> dict[Variant, dict[str, Any]]:
    """The figures of each variant; those not yet in results.jsonl are measured, one on each core."""
    known = {}
    for line in RESULTS.read_text().splitlines() if RESULTS.exists() else []:
        entry = json.loads(line)
        variant = tuple(entry["variant"])
        same = entry["data"] == data and entry["budget_seconds"] == seconds and variant in variants
        if same and entry["fingerprint"] == configure(data, variant).fingerprint:
            known[variant] = entry
    missing = [variant for variant in variants if variant not in known]
    n_workers = count_cores()
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


def _choose_best(found: dict[Variant, dict[str, Any]], axis: int) -> list[str]:
    return sorted(AXES[NAMES[axis]], key=lambda kind: -found[_vary(axis, kind)]["recall"])[:N_BEST]


def _render(data: str, found: dict[Variant, dict[str, Any]], axes: list[int], seconds: float) -> str:
    base = found[DEFAULT]
    lines = [
        f"# {data}: {seconds:.0f} seconds of training each, one thread",
        "",
        "Written by `python -m benchmarks.core`. Recall@20 of the best epoch on a validation part, with the",
        "standard error over its users: comparable, and slightly high. Every variant trains to the end of its time.",
        "No test part is read. Epochs are planned from a pace measured before: seconds tell what they took.",
        "",
        *(_say(found, axis) for axis in axes),
        "",
    ]
    for axis in axes:
        head = ("recall@20", "beside the default", "positives a second", "best epoch", "seconds")
        lines += [f"| {NAMES[axis]} | {' | '.join(head)} |", "| --- " * 6 + "|"]
        for kind in AXES[NAMES[axis]]:
            entry = found[_vary(axis, kind)]
            cells = (
                f"{entry['recall']:.4f} ± {entry['error']:.4f}",
                f"{entry['recall'] - base['recall']:+.4f}",
                f"{entry['positives_per_second']:,}",
                f"{entry['best_epoch']} of {entry['epochs']}",
                f"{entry['seconds']:.0f}",
            )
            lines.append(f"| {kind} | {' | '.join(cells)} |")
        lines.append("")
    if len(axes) == len(AXES):
        lines += ["The best three of each, crossed:", "", "| loss | negatives | tower | recall@20 |"]
        lines.append("| --- " * 4 + "|")
        crossed = itertools.product(*(_choose_best(found, axis) for axis in axes))
        for variant in sorted(crossed, key=lambda variant: -found[variant]["recall"]):
            entry = found[variant]
            lines.append(f"| {' | '.join(variant)} | {entry['recall']:.4f} ± {entry['error']:.4f} |")
    return "\n".join(lines).rstrip() + "\n"


def _say(found: dict[Variant, dict[str, Any]], axis: int) -> str:
    """What one axis says, in a line."""
    kinds = {kind: found[_vary(axis, kind)] for kind in AXES[NAMES[axis]]}
    order = sorted(kinds, key=lambda kind: -kinds[kind]["recall"])
    best, worst = kinds[order[0]], kinds[order[-1]]
    near = [kind for kind in order[1:] if kinds[kind]["recall"] >= best["recall"] - best["error"]]
    beside = f"within a standard error of it: {', '.join(near)}" if near else "ahead by more than a standard error"
    last = "" if order[-1] in near else f"; {order[-1]} is worst ({worst['recall']:.4f})"
    return f"- {NAMES[axis].capitalize()}: {order[0]} is best ({best['recall']:.4f}), {beside}{last}."


if __name__ == "__main__":
    main()
