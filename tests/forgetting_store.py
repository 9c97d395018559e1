"""A small store that names users everywhere, for the tests of forgetting and for their child processes: no training."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from recsys_cl.config import build_config
from recsys_cl.files import write_json
from recsys_cl.pipeline import Frames, run_stage
from recsys_cl.publishing.exported import record_export
from recsys_cl.publishing.release import publish_release
from recsys_cl.runs import Run, create_run
from recsys_cl.serving.export import export
from recsys_cl.serving.export_jobs import Request
from recsys_cl.serving.lookup import open_release
from recsys_cl.serving.sinks import FileSink

ODD = 'v,"d"\nü;{d}'
ERASED = (ODD, "u5")
N_USERS, N_ITEMS, START = 12, 8, 1_700_000_000


def load_small() -> Any:
    """The module that makes small releases."""
    if "small_release" not in sys.modules:
        path = Path(__file__).parent / "publishing" / "small_release.py"
        spec = importlib.util.spec_from_file_location("small_release", path)
        assert spec is not None
        assert spec.loader is not None
        sys.modules["small_release"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules["small_release"])
    return sys.modules["small_release"]


def write_log(folder: Path, left_out: tuple[str, ...] = ()) -> Path:
    """A log of two files that call the user by two names, with rows that are refused; without some users."""
    folder.mkdir(parents=True)
    users = [ODD, *(f"u{n}" for n in range(N_USERS))]
    rows = [
        {"user_id": user, "item_id": f"i{(n * n + place) % N_ITEMS}", "timestamp": START + 3600 * (place + n)}
        for place, user in enumerate(users)
        for n in range(4)
    ]
    rows += [{"user_id": "u5", "item_id": "only-u5", "timestamp": START}]
    rows += rows[::3]  # repeats
    rows += [{"user_id": user, "item_id": "i1", "timestamp": "never"} for user in (ODD, "u5", "u50", "u6")]
    lines = [json.dumps(row, ensure_ascii=False) for row in rows if row["user_id"] not in left_out]
    broken = [(ODD, f'{{"user_id": {json.dumps(ODD)}, '), ("u5", '{"user_id": "u5", '), ("u50", '{"user_id": "u50", ')]
    lines += [line for user, line in broken if user not in left_out]
    (folder / "a.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    table = pl.DataFrame([row for row in rows[0:30:2] if row["user_id"] not in left_out]).with_columns(
        item_id=pl.lit("i7")
    )
    table.rename({"user_id": "customer_id"}).write_ndjson(folder / "b.jsonl")
    return folder


def ingest(store: Path, log: Path) -> Run:
    """A run that has ingested the log, and attributes that were given in memory."""
    users = [ODD, *(f"u{n}" for n in range(N_USERS))]
    attributes = pl.DataFrame({"member": users, "age": [str(20 + n) for n in range(len(users))]})
    run = create_run(store, build_config({"ingest": {"log": str(log), "user_column": ""}}))
    run_stage(run, "ingest", frames=Frames(users=attributes))
    return run


def make_store(folder: Path) -> Path:
    """A store with a published run, three releases of which the second lacks the erased, and exports, in `folder`."""
    small, store = load_small(), folder / "store"
    run = ingest(store, write_log(folder / "log"))
    for seed, odd in enumerate(((ODD,), (), (ODD,))):
        world = small.World(seed=seed, n_users=N_USERS if odd else 4, odd_users=odd)
        facts = small.make_facts(world, run_id=run.run_id)
        version = publish_release(small.make_parts(folder / f"given-{seed}", world), facts, store)
    np.save(run.folder / "published.npy", np.zeros(3))
    pl.DataFrame({"user_id": [ODD, "u1"], "recall@10": [0.5, 0.1]}).write_parquet(run.folder / "per_user.parquet")
    for stage in ("train", "evaluate", "publish"):
        run.finish(stage, 1.0)
    write_json(run.folder / "release.json", {"release": version})
    write_exports(store, folder / "outside")
    return store


def write_exports(store: Path, outside: Path) -> None:
    """Exports of each form in the store, and two outside it, of which one names users."""
    release = open_release(store)
    (store / "exports").mkdir()
    outside.mkdir()
    inside = store / "exports" / "recommendations.parquet"
    for path in (inside, store / "exports" / "r.csv", store / "exports" / "r.jsonl"):
        export(release, Request("recommendations", 3), FileSink(path), block_rows=5)
    (store / "mine").mkdir()
    shutil.copy(inside, store / "mine" / "part-0.parquet")
    shutil.copy(inside, outside / "r.parquet")
    export(release, Request("neighbors", 3), FileSink(outside / "n.parquet"))
    for path in (inside, store / "mine", outside / "r.parquet"):
        assert record_export(store, path, release.version, "recommendations")
    record_export(store, outside / "n.parquet", release.version, "neighbors")
    record_export(store, "table 'r' of sqlite:///there.db", release.version, "recommendations")
