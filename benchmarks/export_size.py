"""What an export of recommendations takes as users grow: seconds, and the peak memory of its process.

`python -m benchmarks.export_size [--items 100000] [--users 250000 500000 1000000]` writes `export_size.md`. Releases
are drawn, 64 floats wide. The command is the one that anybody would type; memory is the greatest resident set, mapped
files with it.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.drawn import N_SEEN, make_small, publish_large
from recsys_cl.machine import count_cores

HERE = Path(__file__).parent
K = 20


def main() -> None:
    """Measure each number of users, and write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--users", type=int, nargs="+", default=[250_000, 500_000, 1_000_000])
    given = parser.parse_args()
    lines = [
        f"# An export of recommendations, {given.items:,} items, top {K}, {count_cores()} cores",
        "",
        "Written by `python -m benchmarks.export_size`: `recsys-cl export recommendations --out shards`, 64 floats, "
        f"{N_SEEN} items seen by each user and left out, exact. Seconds of the whole command; peak: greatest resident "
        "set of its process, mapped files with it.",
        "",
        "| users | seconds | users a second | peak MiB | MiB written |",
        "| ---: | ---: | ---: | ---: | ---: |",
    ]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        small = make_small(folder)
        for n_users in given.users:
            store = folder / str(n_users)
            publish_large(small, store, n_users, given.items)
            lines.append(measure(store, folder / f"out-{n_users}", n_users))
            (HERE / "export_size.md").write_text("\n".join([*lines, ""]), encoding="utf-8")
    print("\n".join(lines))


def measure(store: Path, out: Path, n_users: int) -> str:
    """A line of the table."""
    command = [sys.executable, "-m", "recsys_cl.cli", "export", "recommendations", "--store", str(store)]
    command += ["--out", str(out), "-k", str(K)]
    started = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as child:
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - started
    if child.returncode:
        raise RuntimeError(f"the export ended with exit code {child.returncode}")
    written = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    figures = f"{seconds:,.0f} | {n_users / seconds:,.0f} | {usage.ru_maxrss / 2**10:,.0f} | {written / 2**20:,.0f}"
    return f"| {n_users:,} | {figures} |"


if __name__ == "__main__":
    main()
