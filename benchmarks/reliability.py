"""Whether releases can go wrong: each way of it tried many times, and counted; every last column has to be zero.

`python -m benchmarks.reliability` prints the table, and with `--json` its figures; some half an hour. Smaller ones of
the same run with the tests. Needs strace, and the right to trace a child process. Exit code 1 where a figure is not
zero; what went wrong is listed then.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.releases.damages import try_damages
from benchmarks.releases.escapes import try_escapes
from benchmarks.releases.forks import Forks
from benchmarks.releases.hostile import Fuzzing, try_hostile
from benchmarks.releases.kills import Tally, count_calls, make_scenes, try_full_disk, try_kills
from benchmarks.releases.readers import read_while_publishing
from benchmarks.releases.server import load_small
from recsys_cl.publishing.release import publish_release

KINDS = {"flat": 60, "ivf": 60, "hnsw": 60, "ivfpq": 10_000}
"""Kinds of index with how many items they are made of, for hostile releases."""


@dataclass(frozen=True)
class Row:
    """One line of the table. tried: how often `what` was done; wrong: how often that went wrong, each in words."""

    what: str
    tried: int
    must_be_zero: str
    wrong: list[str]
    more: dict[str, Any] = field(default_factory=dict)


def main() -> int:
    """Measure all or some rows; gives the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", choices=list(_ROWS), nargs="*", default=list(_ROWS), help="some of the rows")
    parser.add_argument("--publishes", type=int, default=1000, help="releases published beside readers")
    parser.add_argument("--corruptions", type=int, default=5000, help="damages of a release")
    parser.add_argument("--hostile", type=int, default=50, help="drawn hostile copies of each file")
    parser.add_argument("--folder", type=Path, help="where to work (default: the folder for temporary files)")
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")
    given = parser.parse_args()
    rows = []
    for name in given.only:
        started = time.perf_counter()
        with tempfile.TemporaryDirectory(dir=given.folder) as work:
            rows += _ROWS[name](Path(work), given)
        print(f"{name}: {time.perf_counter() - started:.0f} s", file=sys.stderr)
    print(json.dumps([asdict(row) for row in rows], indent=2) if given.json else _draw(rows))
    for wrong in [wrong for row in rows for wrong in row.wrong][:50]:
        print(wrong, file=sys.stderr)
    return int(any(row.wrong for row in rows))


def _kill_and_fill(work: Path, _: argparse.Namespace) -> list[Row]:
    """Kills and full disks, at every system call of each scene."""
    if shutil.which("strace") is None:
        raise SystemExit("strace is missing: install it, or name other rows with --only")
    killed, full, scenes = Tally(), Tally(), {}
    with Forks() as forks:
        for scene in make_scenes(forks, work):
            calls = count_calls(forks, scene, work)
            scenes[scene.name] = len(calls)
            killed.join(try_kills(forks, scene, [(call, n) for call, n, _ in calls], work))
            full.join(try_full_disk(forks, scene, calls, work))
    return [
        Row("kill points", killed.points, "unreadable states", killed.wrong, scenes | dict(killed.by_call)),
        Row("ENOSPC points", full.points, "live checksum changes", full.wrong, dict(full.by_call)),
    ]


def _damage(work: Path, given: argparse.Namespace) -> list[Row]:
    """Damages of one release."""
    good, other = (_publish(work / f"store-{seed}", work, seed=seed) for seed in range(2))
    found = try_damages(good, other, work, given.corruptions)
    return [Row("corruptions made", found.made, "undetected", found.undetected)]


def _forge(work: Path, given: argparse.Namespace) -> list[Row]:
    """Hostile releases whose hashes fit, of each kind of index."""
    found = Fuzzing()
    with Forks() as forks:
        for kind, n_items in KINDS.items():
            good = _publish(work / kind, work, kind=kind, n_items=n_items)
            try_hostile(forks, good, work, given.hostile, found)
    more = {"opened": found.opened, "refused": found.refused, "most_grown_mib": round(found.most_grown_mib)}
    return [Row("hostile releases whose hashes fit", found.tried, "crashes, too much memory", found.wrong, more)]


def _read(work: Path, given: argparse.Namespace) -> list[Row]:
    """Readers beside two publishers."""
    found = read_while_publishing(work, given.publishes // 2, n_readers=2, n_publishers=2)
    queries = sum(reading.queries for reading in found.readings)
    wrong = [wrong for reading in found.readings for wrong in (*reading.mixed, *reading.refused)]
    more = {"publishes": found.published, "releases_met": [reading.releases for reading in found.readings]}
    twice = [f"{name} appeared twice" for name in sorted(set(found.names)) if found.names.count(name) > 1]
    return [
        Row("readers' queries during publishes", queries, "mixed answers", wrong, more),
        Row("publishes by two at once", found.published, "lost or doubled", found.errors + twice),
    ]


def _escape(work: Path, _: argparse.Namespace) -> list[Row]:
    """Ids, names and links that lead out of the store."""
    found = try_escapes(work)
    return [Row("attempts to escape", found.attempts, "writes outside", found.outside + found.odd)]


def _publish(store: Path, work: Path, **world: Any) -> Path:
    small = load_small()
    made = small.World(**world)
    parts = small.make_parts(work / f"given-{store.name}", made)
    return store / "releases" / publish_release(parts, small.make_facts(made), store)


_ROWS: dict[str, Callable[[Path, argparse.Namespace], list[Row]]] = {
    "kills": _kill_and_fill,
    "damages": _damage,
    "hostile": _forge,
    "readers": _read,
    "escapes": _escape,
}
"""Each measures one or more rows of the table: another one is a function more."""


def _draw(rows: list[Row]) -> str:
    lines = ["| tried | times | must be zero | found |", "| --- | --- | --- | --- |"]
    return "\n".join([*lines, *(f"| {r.what} | {r.tried:,} | {r.must_be_zero} | {len(r.wrong)} |" for r in rows)])


if __name__ == "__main__":
    sys.exit(main())
