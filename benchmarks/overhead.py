"""What Prefect costs: the daily flow beside the same stages by `recsys-cl run`, and one task that does nothing.

`python -m benchmarks.overhead [--rounds 3] [--tasks 200] [--json]`: whole processes in turns on the tracked sample, one
model with settings as they stand, each with a store of its own; of each the median of the rounds. The flow also
exports, so the other side exports with a command of its own. Prefect keeps its state in a folder made for this.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SAMPLE = Path(__file__).parents[1] / "data" / "sample"
_FILES = {"log": "events.csv", "items": "items.csv", "users": "users.csv"}
_TASKS = """
import sys, time
from prefect import flow, task

@task
def nothing() -> None:
    return None

@flow
def many(n: int) -> float:
    nothing()
    began = time.perf_counter()
    for _ in range(n):
        nothing()
    return (time.perf_counter() - began) / n

print(many(int(sys.argv[1])))
"""


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tasks", type=int, default=200)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        home = os.environ | {"PREFECT_HOME": name, "PREFECT_PROFILES_PATH": str(folder / "profiles.toml")}
        home |= {"DO_NOT_TRACK": "1", "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
        files = [f'{name} = "{SAMPLE / file}"' for name, file in _FILES.items()]
        lines = ["[ingest]", *files, "[recipe]", "search = false"]
        (folder / "config.toml").write_text("\n".join(lines), encoding="utf-8")
        bare, flows = [], []
        for number in range(given.rounds):
            store = folder / f"bare-{number}"
            out = str(store / "recommendations.parquet")
            run = _time([["recsys_cl.cli", "run", str(folder / "config.toml"), "--store", str(store)]], home)
            export = ["recsys_cl.cli", "export", "recommendations", "--store", str(store), "--out", out]
            bare.append(run + _time([export], home))
            store = folder / f"flow-{number}"
            flows.append(_time([["flows.daily", str(folder / "config.toml"), "--store", str(store)]], home))
        told = subprocess.run(
            [sys.executable, "-c", _TASKS, str(given.tasks)], env=home, check=True, capture_output=True, text=True
        ).stdout
    found = {
        "bare_seconds": statistics.median(bare),
        "flow_seconds": statistics.median(flows),
        "difference_seconds": statistics.median(flows) - statistics.median(bare),
        "task_milliseconds": 1000 * float(told.split()[-1]),
        "rounds": given.rounds,
    }
    print(json.dumps(found) if given.json else "\n".join(f"{name:<20} {value:.4g}" for name, value in found.items()))


def _time(commands: list[list[str]], env: dict[str, str]) -> float:
    began = time.perf_counter()
    for command in commands:
        subprocess.run([sys.executable, "-m", *command], env=env, check=True, capture_output=True)
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
