"""What `recsys-cl run --dry-run` says beside what the run then takes, on three sizes of log.

`python -m benchmarks.dry_run` writes `dry_run.md`: the sample data, MovieLens-1M (looked for in RECSYS_CL_DATA), and a
world of three million events, with one model, for three epochs and with one thread: it is what a run takes that is
measured, not how good it gets. Then the first two again with the default recipe. Memory is the greatest resident set of
the process, disk what its store holds; figures are held to `MOST_OFF`, minutes to the range that was said.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from recsys_cl.files import measure_folder, read_json
from recsys_cl.interactions.world import WorldConfig, build_world, draw_events

ROOT = Path(__file__).parents[1]
MOST_OFF = 0.25
SETTINGS = ["recipe.search=false", "training.epochs=3", "training.least_steps=100", "training.validate_every=1"]
SETTINGS += ["training.n_threads=1", "evaluation.n_resamples=100", "publishing.require_gain=false"]
SETTINGS += ["publishing.least_effective_rank=0"]
_TOLD_ONLY = {"share of the log read", "seconds of the dry run"}
WORLD = WorldConfig(n_users=50_000, n_items=10_000, n_events=3_000_000, seed=1)


def main() -> None:
    """Forecast and run each log, and write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "dry_run.md")
    given = parser.parse_args()
    data = Path(os.environ.get("RECSYS_CL_DATA", ROOT.parent / "shared" / "data"))
    with tempfile.TemporaryDirectory() as folder:
        world = Path(folder) / "world.csv"
        _write_world(world)
        sample, movies = ROOT / "data" / "sample" / "events.csv", data / "ml-1m-split" / "train.txt"
        split = ["ingest.format=lines", "split.by=random"]
        logs: dict[str, tuple[Path, list[str]]] = {"sample data": (sample, SETTINGS)}
        if movies.is_file():
            logs["MovieLens-1M"] = movies, SETTINGS + split
        logs["world of 3,000,000 events"] = world, SETTINGS
        logs["sample data, default recipe"] = sample, []
        if movies.is_file():
            logs["MovieLens-1M, default recipe"] = movies, split
        found = {name: _measure(*log, Path(folder) / str(place)) for place, (name, log) in enumerate(logs.items())}
    given.out.write_text(_render(found), encoding="utf-8")
    print(given.out.read_text(encoding="utf-8"))


def _write_world(path: Path) -> None:
    with path.open("wb") as file:
        for place, rows in enumerate(draw_events(build_world(WORLD))):
            file.write(rows.write_csv(include_header=place == 0).encode())


def _measure(log: Path, settings: list[str], store: Path) -> dict[str, tuple[Any, float]]:
    """Each figure: what was said, and what it was."""
    command = [sys.executable, "-m", "recsys_cl.cli", "run", "--log", str(log), "--store", str(store), "--json"]
    command += ["--set", *settings] if settings else []
    started = time.perf_counter()
    said = json.loads(subprocess.run([*command, "--dry-run"], check=True, capture_output=True, text=True).stdout)
    forecast_seconds = time.perf_counter() - started
    if store.exists():
        raise AssertionError("a dry run has written to the store")
    started = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as child:
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    minutes = (time.perf_counter() - started) / 60
    (run,) = (store / "runs").iterdir()
    if not (run / "release.json").is_file():  # one that a gate refused has taken what another takes
        raise RuntimeError(f"the run over {log} ended with exit code {child.returncode}")
    ingest = read_json(run / "ingest.json")
    return {
        "rows": (said["n_read"], ingest["n_read"]),
        "events": (said["n_events"], ingest["n_events"]),
        "users": (said["n_users"], ingest["n_users"]),
        "items": (said["n_items"], ingest["n_items"]),
        "pairs": (said["n_pairs"], _count_pairs(run / "interactions")),
        "steps": (said["steps"], _count_steps(run / "steps")),
        "memory, MiB": (said["memory_bytes"] / 2**20, usage.ru_maxrss / 2**10),
        "disk, MiB": (said["disk_bytes"] / 2**20, measure_folder(store) / 2**20),
        "minutes": (said["minutes"], minutes),
        "share of the log read": (said["share"], 1.0),
        "seconds of the dry run": (forecast_seconds, 60 * minutes),
    }


def _count_pairs(folder: Path) -> int:
    """Distinct pairs of user and item."""
    rows, offsets = np.load(folder / "item_rows.npy"), np.load(folder / "offsets.npy")
    users = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    return len(np.unique(users * (int(rows.max()) + 1) + rows))


def _count_steps(folder: Path) -> int:
    lines = [json.loads(line) for path in folder.glob("*.jsonl") for line in path.read_text().splitlines()]
    return sum("loss" in line for line in lines)


def _render(found: dict[str, dict[str, tuple[Any, float]]]) -> str:
    parts = ["# What a dry run says, and what the run takes", "", "Made by `python -m benchmarks.dry_run`.", ""]
    parts += [
        f"Settings, where no recipe is named: {', '.join(f'`{setting}`' for setting in SETTINGS)}.",
        f"{os.cpu_count()} cores. Figures are to be within {MOST_OFF:.0%} of what a run takes, steps and minutes",
        "in the range that was said. The last two lines have what of the log was read, and how long the dry run",
        "took beside the run.",
        "",
    ]
    for name, figures in found.items():
        parts += [f"## {name}", "", "| | said | was | off by |", "| --- | ---: | ---: | ---: |"]
        for figure, (said, was) in figures.items():
            if isinstance(said, dict):
                off = "within" if said["low"] <= was <= said["high"] else "OUTSIDE"
                parts.append(f"| {figure} | {_show(said['low'])} to {_show(said['high'])} | {_show(was)} | {off} |")
            else:
                beyond = " OUTSIDE" if abs(said / was - 1) > MOST_OFF else ""
                off = "" if figure in _TOLD_ONLY else f"{said / was - 1:+.1%}{beyond}"
                parts.append(f"| {figure} | {_show(said)} | {_show(was)} | {off} |")
        parts.append("")
    return "\n".join(parts)


def _show(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"


if __name__ == "__main__":
    main()
