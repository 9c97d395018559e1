"""The gate on a real log: bad candidates that must be refused, and other seeds that must pass.

    python -m benchmarks.gate DATA/ml-100k/ml-100k.inter [--seeds 20] [--json]

A model of MovieLens-100K goes live; beside it stand a random and a collapsed embedding, shuffled ids (of the published
fit, of both, and of the log), a model of a tenth of the data, by events and by users, and the same model with other
seeds, each of which is then live for the next. Each run chooses its recipe, as every run does; some half an hour.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from recsys_cl.config import Config, apply_settings, build_config
from recsys_cl.errors import RefusedError
from recsys_cl.pipeline import run_all, run_stage
from recsys_cl.runs import Run, create_run, open_run
from recsys_cl.serving.lookup import open_release

Change = Callable[[NDArray[np.float32]], NDArray[np.float32]]
_SETTINGS = ["ingest.incremental=false"]


@dataclass(frozen=True)
class Verdict:
    """What the gate said of one candidate; reasons is empty for one that passed."""

    candidate: str
    reasons: list[str]


def judge_bad(live: Run, log: pl.DataFrame, folder: Path) -> list[Verdict]:
    """Each bad candidate beside the live release, in a store of its own."""
    rng = np.random.default_rng(0)
    changes: dict[str, dict[str, Change]] = {
        "random item vectors, both fits": dict.fromkeys(("evaluated", "published"), lambda v: _draw_like(v, rng)),
        "random item vectors, evaluated fit": {"evaluated": lambda v: _draw_like(v, rng)},
        "random item vectors, published fit": {"published": lambda v: _draw_like(v, rng)},
        "collapsed item vectors": dict.fromkeys(("evaluated", "published"), lambda v: 0.001 * v + v[:1]),
        "shuffled rows, both fits": dict.fromkeys(("evaluated", "published"), rng.permutation),
        "shuffled rows, published fit": {"published": rng.permutation},
    }
    verdicts = []
    for number, (name, places) in enumerate(changes.items()):
        shutil.copytree(live.store, folder / f"changed-{number}")
        run = open_run(folder / f"changed-{number}", live.run_id)
        for place, change in places.items():
            path = run.folder / place / "candidates.npy"
            np.save(path, change(np.load(path)).astype(np.float32))
        verdicts.append(_judge(name, lambda run=run: run_stage(run, "publish")))  # type: ignore[misc]
    users, items = (log[log.columns[0]], log[log.columns[1]])
    names = items.unique().sort()
    tenth = users.unique().sort().sample(fraction=0.1, seed=1)
    logs = {
        "a tenth of the events": log.sample(fraction=0.1, seed=1),
        "a tenth of the users": log.filter(users.is_in(tenth.implode())),
        "items under the names of others": log.with_columns(
            items.replace(names, names.sample(fraction=1, shuffle=True, seed=1))
        ),
        "items dealt out anew": log.with_columns(items.sample(fraction=1, shuffle=True, seed=1)),
    }
    for number, (name, changed) in enumerate(logs.items()):
        store = folder / f"log-{number}"
        shutil.copytree(live.store, store)
        changed.write_csv(folder / f"log-{number}.csv")
        config = apply_settings(live.config, [f'ingest.log="{folder}/log-{number}.csv"'])
        verdicts.append(_judge(name, lambda s=store, c=config: run_all(create_run(s, c))))  # type: ignore[misc]
    return verdicts


def judge_seeds(live: Run, n_seeds: int) -> list[Verdict]:
    """The same log with other seeds, one after the other in the store of the live one."""
    return [
        _judge(
            f"seed {seed}",
            lambda seed=seed: run_all(  # type: ignore[misc]
                create_run(live.store, apply_settings(live.config, [f"training.seed={seed}"]))
            ),
        )
        for seed in range(1, n_seeds + 1)
    ]


def _judge(name: str, publish: Callable[[], object]) -> Verdict:
    try:
        publish()
    except RefusedError as error:
        return Verdict(name, error.reasons)
    return Verdict(name, [])


def _draw_like(vectors: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """As long as they are, in directions of chance; popularity stays."""
    drawn = rng.normal(size=vectors.shape).astype(np.float32)
    lengths = np.linalg.norm(vectors[:, :-1], axis=1) / np.linalg.norm(drawn[:, :-1], axis=1)
    drawn[:, :-1] *= lengths[:, None]
    drawn[:, -1] = vectors[:, -1]
    return drawn


def _start(log: Path, folder: Path) -> tuple[Config, pl.DataFrame]:
    """The log as CSV, user and item first, and the settings."""
    frame = pl.read_csv(log, separator="\t")
    frame = frame.rename({name: name.partition(":")[0] for name in frame.columns})
    frame.write_csv(folder / "log.csv")
    config = build_config({"ingest": {"log": str(folder / "log.csv")}})
    return apply_settings(config, _SETTINGS), frame


def main() -> None:
    """Run, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("log", type=Path, help="MovieLens-100K as ml-100k.inter")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config, frame = _start(given.log, folder)
        live = create_run(folder / "store", config)
        run_all(live)
        bad, seeds = judge_bad(live, frame, folder), judge_seeds(live, given.seeds)
        drift = open_release(live.store).manifest.drift
    passed = [verdict.candidate for verdict in bad if not verdict.reasons]
    alarms = [verdict.candidate for verdict in seeds if verdict.reasons]
    if given.json:
        found = {"bad": [asdict(verdict) for verdict in bad], "seeds": [asdict(verdict) for verdict in seeds]}
        print(json.dumps(found | {"bad_passed": passed, "false_alarms": alarms}))
        return
    for verdict in (*bad, *seeds):
        print(f"{verdict.candidate}: {'; '.join(verdict.reasons) or 'passed'}")
    print(f"bad candidates {len(bad)}, passed {len(passed)}; other seeds {len(seeds)}, refused {len(alarms)}")
    if drift is not None:
        print(
            f"churn of the last seed: {drift.churn:.3f}; of stored queries {drift.stored_before:.3f} before and "
            f"{drift.stored_after:.3f} after the rotation"
        )


if __name__ == "__main__":
    main()
