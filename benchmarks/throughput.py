"""Positives trained a second, and seconds to one validation recall, beside a two-tower model as tutorials write it.

`python -m benchmarks.throughput` writes `core/throughput.md`. Same data, same 64 floats, same threads, arrays in
memory, one process, all in turn. A positive is one (user, item) pair whose loss has been stepped on. The tutorial
takes batches of 1,024 pairs, its step size and temperature the best of .001, .01, .03 and .1, .3, 1 on MovieLens-1M
(at .001, the optimizer's own, it had learned nothing after two minutes). Ours takes users, with all that they give:
its default number, 1,024, and as few as give about 1,024 positives (that one for its pace alone). The recall to be
reached is the best of the tutorial's within its time; ours is timed until its first validation that is not below.
Validations are not timed. Data is looked for in RECSYS_CL_DATA.
"""

from __future__ import annotations

import argparse
import os
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from benchmarks.contenders.tutorial import PairDataset, TwoTower
from recsys_cl.benchmark import read_events
from recsys_cl.config import Config, apply_settings
from recsys_cl.evaluation.evaluate import find_targets, judge_model
from recsys_cl.interactions.split import Split, split_validation
from recsys_cl.interactions.table import Interactions
from recsys_cl.machine import count_cores
from recsys_cl.progress import report_nothing
from recsys_cl.training.loop import Hooks, Validation
from recsys_cl.training.trainer import train

HERE = Path(__file__).parent
SPLITS = ("ml-1m-split", "gowalla")
BATCH_PAIRS, DIM, TEMPERATURE, LEARNING_RATE = 1024, 64, 0.3, 3e-2
VALIDATE_SECONDS = 3.0
OURS: dict[str, list[str]] = {
    "recsys_cl, defaults": [],
    "recsys_cl, 1,024 users": ["training.batch_users=1024"],
}
FEW = "recsys_cl, few users"


@dataclass(frozen=True)
class Course:
    """recalls: (seconds of training, recall@20) at each validation."""

    positives_per_second: float
    positives_per_batch: float
    recalls: list[tuple[float, float]]

    def find_seconds(self, recall: float) -> float | None:
        """When a recall was reached, None where it was not."""
        return next((seconds for seconds, found in self.recalls if found >= recall), None)


class Judge:
    """Recall@20 of held-out items over all users that have one."""

    def __init__(self, parts: Split) -> None:
        targets, self.seen = find_targets(parts.train, parts.test), parts.train.to_bags()
        self.users = np.flatnonzero((targets.sizes > 0) & (self.seen.sizes > 0))
        self.seen, self.targets = self.seen.take(self.users), targets.take(self.users)
        self.known = parts.train.count_users() > 0

    def measure(self, queries: NDArray[np.float32], candidates: NDArray[np.float32]) -> NDArray[np.float64]:
        """The recall of each judged user; queries [n_judged, dim]."""
        return judge_model(queries, candidates, self.seen, self.targets, (20,), self.known)["recall@20"]


def main() -> None:
    """Measure both on each split that is at hand, and write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=180.0, help="training of the tutorial's model")
    parser.add_argument("--rounds", type=int, default=3, help="turns of the paired measurement of pace")
    given = parser.parse_args()
    root = Path(os.environ.get("RECSYS_CL_DATA", "../shared/data"))
    lines = [
        f"# Positives a second, {count_cores()} cores",
        "",
        "Written by `python -m benchmarks.throughput`.",
        "",
    ]
    for split in SPLITS:
        if (root / split).exists():
            lines += _compare(split, read_events(root / split / "train.txt", Config(), report_nothing), given)
    (HERE / "core" / "throughput.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


def _compare(split: str, log: Interactions, given: argparse.Namespace) -> list[str]:
    config = apply_settings(Config(), ["split.by=random"])
    parts = split_validation(log, config.split, config.training.seed)
    judge = Judge(parts)
    a_user = _run_ours(parts.train, None, config, 10).positives_per_batch / config.training.batch_users
    few = max(1, round(BATCH_PAIRS / a_user))
    variants = {name: apply_settings(config, settings) for name, settings in OURS.items()}
    variants[FEW] = apply_settings(config, [f"training.batch_users={few}"])
    turns: dict[str, list[Course]] = {name: [] for name in ("tutorial", *variants)}
    for _ in range(given.rounds):
        turns["tutorial"].append(_run_tutorial(parts.train, None, 8.0))
        for name, changed in variants.items():
            turns[name].append(_run_ours(parts.train, None, changed, 60))
    courses = {"tutorial": _run_tutorial(parts.train, judge, given.seconds)}
    for name in OURS:
        changed = apply_settings(variants[name], ["training.validate_every=1"])
        courses[name] = _run_ours(parts.train, judge, changed, None)
    goal = max(recall for _, recall in courses["tutorial"].recalls)
    lines = [
        f"## {split}: {log.n_users:,} users, {log.n_items:,} items, {parts.train.n_events:,} training events",
        "",
        f"| model | positives a batch | positives a second, median of {given.rounds} | ratio, pair by pair | "
        f"seconds to recall@20 {goal:.4f} | best recall@20 | after s |",
        "| --- " * 7 + "|",
    ]
    for name, found in turns.items():
        paces = [course.positives_per_second for course in found]
        ratios = [pace / base.positives_per_second for pace, base in zip(paces, turns["tutorial"], strict=True)]
        lines.append(
            f"| {name} | {found[0].positives_per_batch:,.0f} | {median(paces):,.0f} | "
            f"{median(ratios):.1f} ({min(ratios):.1f} to {max(ratios):.1f}) | {_describe(courses.get(name), goal)} |"
        )
    return [*lines, ""]


def _describe(course: Course | None, goal: float) -> str:
    """The cells about recall: when the goal was reached, the best, and when the training ended."""
    if course is None:
        return " | ".join("–" * 3)
    reached = course.find_seconds(goal)
    best = max(recall for _, recall in course.recalls)
    return f"{'–' if reached is None else f'{reached:.1f}'} | {best:.4f} | {course.recalls[-1][0]:.0f}"


def _run_tutorial(part: Interactions, judge: Judge | None, seconds: float) -> Course:
    """Train for so many seconds, validating now and then where there is a judge."""
    torch.set_num_threads(count_cores())
    torch.manual_seed(0)
    pairs = PairDataset(torch.from_numpy(part.expand_users()).long(), torch.from_numpy(part.item_rows).long())
    model = TwoTower(part.n_users, part.n_items, DIM, TEMPERATURE)
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
    recalls: list[tuple[float, float]] = []
    trained, n_pairs, started = 0.0, 0, time.perf_counter()
    while True:
        for users, items in DataLoader(pairs, batch_size=BATCH_PAIRS, shuffle=True):
            loss = model(users, items)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            n_pairs += len(users)
            trained_now = trained + time.perf_counter() - started
            due = judge is not None and trained_now >= VALIDATE_SECONDS * (len(recalls) + 1)
            if due or trained_now >= seconds:
                trained = trained_now
                if judge is not None:
                    tables = [
                        torch.nn.functional.normalize(table.weight.detach(), dim=1).numpy()
                        for table in (model.users, model.items)
                    ]
                    recalls.append((trained, float(judge.measure(tables[0][judge.users], tables[1]).mean())))
                started = time.perf_counter()
                if trained >= seconds:
                    return Course(n_pairs / trained, BATCH_PAIRS, recalls)


def _run_ours(part: Interactions, judge: Judge | None, config: Config, n_steps: int | None) -> Course:
    """Train for so many steps, or, with a judge, all epochs, each validated."""
    validation = None if judge is None else Validation(judge.users, judge.measure)
    history = train(part, config, n_steps=n_steps, hooks=Hooks(validation)).history
    last = history[-1]
    recalls = [(entry["seconds"], entry["recall"]) for entry in history if "recall" in entry]
    return Course(last["n_positives"] / last["seconds"], last["n_positives"] / last["step"], recalls)


if __name__ == "__main__":
    main()
