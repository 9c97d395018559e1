"""Users taken out of a run: comes in its folder, goes out what has to take the place of what, so that it is as if it
had been ingested without them, and nothing was done since.

What training and evaluation made of their events is deleted: only `ingest` counts as done, and the run can go on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from recsys_cl.catalog import ID
from recsys_cl.files import Swaps, read_json, write_json
from recsys_cl.ids import IdMap
from recsys_cl.interactions.attributes import USER_ID
from recsys_cl.interactions.erasing import hash_ingested, write_without
from recsys_cl.interactions.ingest import INTERACTIONS_FOLDER, OPENED, REFUSED_FILE
from recsys_cl.interactions.table import Interactions
from recsys_cl.interactions.times import format_times
from recsys_cl.interactions.user_tables import UserTable
from recsys_cl.runs import CLAIM, keep_ingest
from recsys_cl.whereabouts import GIVEN_USERS, INGESTED, USER_ATTRIBUTES

STATE = "run.json"
_ITEMS, _GIVEN_ITEMS = "items.parquet", "given-items.parquet"
_OF_INGEST = {STATE, INGESTED, INTERACTIONS_FOLDER, OPENED, REFUSED_FILE}
_OF_INGEST |= {USER_ATTRIBUTES, GIVEN_USERS, _ITEMS, _GIVEN_ITEMS}
_NOTE = "users were erased since the log was read: files are counted as they were read, all else without these users"


def is_ingested(folder: Path) -> bool:
    """Whether the run in a folder has read its log to the end."""
    return (folder / STATE).is_file() and "ingest" in read_json(folder / STATE)["stages"]


def stage_run(folder: Path, tables: Sequence[UserTable], ids: pl.Series, swaps: Swaps) -> None:
    """Write what is left of a run beside it, and have the rest deleted, in an order that lets one process be killed and
    another one do it all again: the interactions come last. Raises StoreError, OSError."""
    if is_ingested(folder):
        write_json(swaps.replace(folder / STATE), keep_ingest(read_json(folder / STATE)))
    kept = {CLAIM} | (_OF_INGEST if is_ingested(folder) else {STATE})  # what was half ingested is ingested again
    for path in sorted(folder.iterdir()):
        if path.name not in kept:
            swaps.remove(path)
    if not is_ingested(folder):
        return
    refused: Counter[str] = Counter()
    ingested = {_ITEMS: folder / _ITEMS}
    for table in tables:
        if table.path.parent == folder and table.path.name in kept:
            target = swaps.replace(table.path)
            left = table.drop(ids, target)
            refused |= left.reasons
            if table.path.name == USER_ATTRIBUTES:
                ingested[USER_ATTRIBUTES] = target
    report = swaps.replace(folder / INGESTED)
    interactions = swaps.replace(folder / INTERACTIONS_FOLDER)
    write_without(Interactions.read(folder / INTERACTIONS_FOLDER), ids, interactions)
    ingested |= {f"{INTERACTIONS_FOLDER}/{path.name}": path for path in interactions.iterdir()}
    found = {name: path for name, path in ingested.items() if path.is_file()}
    write_json(report, _count_anew(read_json(folder / INGESTED), Interactions.read(interactions), refused, found))


def _count_anew(
    report: dict[str, Any], interactions: Interactions, refused: Counter[str], files: dict[str, Path]
) -> dict[str, Any]:
    """What ingest.json says, of what is left alone: the same however often it is counted."""
    first, last = report["first_time"], report["last_time"]
    if interactions.timed and interactions.n_events:
        first, last = format_times(pl.Series([interactions.times.min(), interactions.times.max()]))
    attributes = {}
    for name, file, column, known in (
        ("items", _ITEMS, ID, interactions.items),
        ("users", USER_ATTRIBUTES, USER_ID, interactions.users),
    ):
        if report[name] is not None and file in files:
            attributes[name] = report[name] | {"n_missing": _count_missing(known, files[file], column)}
    return (
        report
        | attributes
        | {
            "n_read": interactions.n_events + refused.total(),
            "n_kept": interactions.n_events,
            "refused": dict(sorted(refused.items())),
            "first_time": first,
            "last_time": last,
            "n_users": interactions.n_users,
            "n_items": interactions.n_items,
            "n_events": interactions.n_events,
            "notes": [note for note in report["notes"] if note != _NOTE] + [_NOTE],
            "fingerprint": hash_ingested(files),
        }
    )


def _count_missing(ids: IdMap, path: Path, column: str) -> int:
    """How many of the ids an attribute file does not hold."""
    named = pl.read_parquet(path, columns=[column])[column]
    return int(np.count_nonzero(~ids.to_series().is_in(named.implode()).to_numpy()))
