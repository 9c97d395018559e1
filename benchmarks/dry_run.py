"""What `recsys-cl run --dry-run` says beside what the run then takes, on three sizes of log.

`python -m benchmarks.dry_run` writes `dry_run.md`: the sample data, MovieLens-1M (looked for in RECSYS_CL_DATA), and a
world of three million events. One model is trained, for three epochs and with one thread: it is what a run takes that
is measured here, not how good it gets. Memory is the greatest resident set of the process, disk what its store holds.
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

from recsys_cl.files import measure_folder, read_json
from recsys_cl.interactions.world import WorldConfig, build_world, draw_events

ROOT = Path(__file__).parents[1]
SETTINGS = ["recipe.search=false", "training.epochs=3", "training.least_steps=100", "training.validate_every=1"]
SETTINGS += ["training.n_threads=1", "evaluation.n_resamples=100", "publishing.require_gain=false"]
SETTINGS += ["publishing.least_effective_rank=0"]
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
        logs: dict[str, tuple[Path, list[str]]] = {"sample data": (ROOT / "data" / "sample" / "events.csv", [])}
        if (data / "ml-1m-split").is_dir():
            split = ["ingest.format=lines", "split.by=random"]
            logs["MovieLens-1M"] = (data / "ml-1m-split" / "train.txt", split)
        logs["world of 3,000,000 events"] = (world, [])
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
    command += ["--set", *SETTINGS, *settings]
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
    if child.returncode:
        raise RuntimeError(f"the run over {log} ended with exit code {child.returncode}")
    (run,) = (store / "runs").iterdir()
    ingest = read_json(run / "ingest.json")
    return {
        "rows": (said["n_read"], ingest["n_read"]),
        "events": (said["n_events"], ingest["n_events"]),
        "users": (said["n_users"], ingest["n_users"]),
        "items": (said["n_items"], ingest["n_items"]),
        "steps": (said["steps"], _count_steps(run / "steps")),
        "memory, MiB": (said["memory_bytes"] / 2**20, usage.ru_maxrss / 2**10),
        "disk, MiB": (said["disk_bytes"] / 2**20, measure_folder(store) / 2**20),
        "minutes": (said["minutes"], minutes),
        "share of the log read": (said["share"], 1.0),
        "seconds of the dry run": (forecast_seconds, 60 * minutes),
    }


def _count_steps(folder: Path) -> int:
    lines = [json.loads(line) for path in folder.glob("*.jsonl") for line in path.read_text().splitlines()]
    return sum("loss" in line for line in lines)


def _render(found: dict[str, dict[str, tuple[Any, float]]]) -> str:
    parts = ["# What a dry run says, and what the run takes", "", "Made by `python -m benchmarks.dry_run`.", ""]
    parts += [
        "Settings: "
        + ", ".join(f"`{setting}`" for setting in SETTINGS)
        + f". {os.cpu_count()} cores, used by others too.",
        "The last two lines have what of the log was read, and how long the dry run took beside the run.",
        "",
    ]
    for name, figures in found.items():
        parts += [f"## {name}", "", "| | said | was | off by |", "| --- | ---: | ---: | ---: |"]
        for figure, (said, was) in figures.items():
            if isinstance(said, dict):
                off = "within" if said["low"] <= was <= said["high"] else "OUTSIDE"
                parts.append(f"| {figure} | {_show(said['low'])} to {_show(said['high'])} | {_show(was)} | {off} |")
            else:
                off = f"{said / was - 1:+.1%}" if "read" not in figure and "dry" not in figure else ""
                parts.append(f"| {figure} | {_show(said)} | {_show(was)} | {off} |")
        parts.append("")
    return "\n".join(parts)


def _show(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"


if __name__ == "__main__":
    main()
